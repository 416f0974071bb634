"""The resilience and soak scripts in short: everything goes down and comes back, and everything happens at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from examples.verification import bloat, resilience, soak
from tests.effort import FULL_CHAOS

if TYPE_CHECKING:
    from examples.verification.kit import Place

pytestmark = pytest.mark.chaos


def test_every_kind_of_work_survives_the_death_of_all_workers_and_of_the_server() -> None:
    resilience.run(rounds=4 if FULL_CHAOS else 1)


def test_after_all_has_happened_at_once_every_promise_holds(dsn: str) -> None:
    soak.run(30 if FULL_CHAOS else 2, workers=2, clients=3, dsn=dsn)


def test_the_soak_notices_what_no_client_was_told(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def forget_the_signals(place: Place, told: soak.Told) -> None:
        assert told.signals
        soak.compare(place, replace(told, signals=set()))

    monkeypatch.setattr(soak, "CHECKS", [forget_the_signals])
    with pytest.raises(AssertionError, match="signals"):
        soak.run(0.5, seed=1, workers=1, clients=2, dsn=dsn)


def test_what_passes_through_leaves_no_space_behind(dsn: str) -> None:
    bloat.run(rounds=80 if FULL_CHAOS else 8, dsn=dsn)


def test_the_soak_for_space_notices_what_is_not_reclaimed(dsn: str) -> None:
    """A transaction that is older than the load might still look at all of it."""
    with psycopg.connect(dsn) as old:
        old.execute("SELECT pg_current_xact_id()")
        with pytest.raises(AssertionError, match=r"jobs.* grows"):
            bloat.run(rounds=8, dsn=dsn)
