"""Statements about the transaction that a step's body runs in."""

from __future__ import annotations

from squidmesh.store.statements import Statement, nothing


def read_transaction() -> Statement[str]:
    """The id of the current transaction."""
    return Statement("read_transaction", {}, lambda rows: str(rows[0][0]))


def limit_wait(seconds: float) -> Statement[None]:
    """Wait for no lock longer than this, until the transaction ends."""
    return Statement("limit_wait", {"milliseconds": round(seconds * 1000)}, nothing)
