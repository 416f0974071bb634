"""The context that a body is given: its own, and copied only when it is looked at."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from squidmesh import Context
from squidmesh.worker.own import OwnContext


def shared() -> Context:
    """What all bodies of a run share."""
    state: dict[str, Any] = {"items": [1, {"deep": [2]}], "id": 7}
    return Context(
        run_id=UUID(int=1), workflow="w", trigger="manual", step="s", visit=1, attempt=2, payload={"id": 7}, state=state
    )


def test_what_a_body_changes_is_its_own() -> None:
    before = shared()
    mine = OwnContext.of(before)
    assert mine.state == before.state
    mine.state["items"][1]["deep"].append(3)
    assert mine.state["items"] == [1, {"deep": [2, 3]}], "it stays changed"
    assert before.state["items"] == [1, {"deep": [2]}]
    assert type(mine.state) is dict


def test_nothing_is_copied_that_nobody_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[object] = []
    monkeypatch.setattr("squidmesh.worker.own.own", copied.append)
    mine = OwnContext.of(shared())
    assert (mine.step, mine.attempt, mine.cancelled) == ("s", 2, False)
    assert copied == []


def test_it_is_a_context_like_any_other() -> None:
    mine = OwnContext.of(shared())
    assert isinstance(mine, Context)
    assert mine.idempotency_key == shared().idempotency_key
    assert replace(mine, attempt=3).state == shared().state
    assert copy.deepcopy(mine).payload == pickle.loads(pickle.dumps(mine)).payload == {"id": 7}
    with pytest.raises(AttributeError):
        _ = mine.nothing
