"""Definitions as data: what is stored, what the fingerprint stands for, what live code may change."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from squidmesh.definition import (
    COMPLETE,
    FORMAT,
    Definition,
    Options,
    Parameter,
    Step,
    StepKind,
    Transition,
    Trigger,
    TriggerKind,
)
from squidmesh.retry import Constant, Exponential, Retry

ORDERS = Definition(
    "orders",
    (
        Step(
            name="load",
            takes=(Parameter("order_id", required=True), Parameter("currency", required=False)),
            options=Options(retry=Retry(max_attempts=3, backoff=Exponential(min=1, max=8)), queue="fast", priority=-2),
        ),
        Step(name="pause", kind=StepKind.WAIT, settings={"seconds": 1.5}),
        Step(name="note", kind=StepKind.LOG, settings={"message": "größer", "level": "info"}),
        Step(name="ship", takes_all=True, output="parcel", after=("pause", "note"), irreversible=True, visit_limit=2),
    ),
    (
        Transition("load", "ok", "pause"),
        Transition("load", "error", "note", "undo"),
        Transition("pause", "ok", COMPLETE),
    ),
    (Trigger(name="manual"), Trigger(name="daily", kind=TriggerKind.CRON, expression="@daily", timezone="UTC")),
)


def test_the_fingerprint_of_a_graph_never_changes() -> None:
    """Stored runs find their graph by it: whoever changes this number strands them, unless FORMAT changes too."""
    assert FORMAT == 2
    assert ORDERS.fingerprint == "0fee0849525a5e7f"
    assert Definition("one", (Step(name="a"),), ()).fingerprint == "f281e411ea58b0a7"


def test_what_is_stored_leaves_out_what_has_its_default() -> None:
    """So that a field that is added later changes no fingerprint of a graph that does not use it."""
    assert Definition("one", (Step(name="a"),), ()).graph_json == {
        "format": 1,
        "workflow": "one",
        "steps": {"a": {"kind": "function", "visit_limit": 1000}},
        "transitions": [],
    }


def test_what_is_stored_is_in_canonical_order() -> None:
    assert ORDERS.graph_json == {
        "format": 1,
        "workflow": "orders",
        "steps": {
            "load": {"kind": "function", "takes": [["currency", False], ["order_id", True]], "visit_limit": 1000},
            "note": {"kind": "log", "settings": {"message": "größer", "level": "info"}, "visit_limit": 1000},
            "pause": {"kind": "wait", "settings": {"seconds": 1.5}, "visit_limit": 1000},
            "ship": {
                "kind": "function",
                "takes_all": True,
                "output": "parcel",
                "after": ["note", "pause"],
                "irreversible": True,
                "visit_limit": 2,
            },
        },
        "transitions": [
            ["load", "error", "note", "undo"],
            ["load", "ok", "pause", None],
            ["pause", "ok", COMPLETE, None],
        ],
    }
    assert list(ORDERS.graph_json["steps"]) == ["load", "note", "pause", "ship"]


def test_a_stored_definition_comes_back_without_its_triggers() -> None:
    stored = json.loads(json.dumps(ORDERS.to_json()))
    back = Definition.from_json(stored)
    assert back.fingerprint == ORDERS.fingerprint
    assert back.to_json() == ORDERS.to_json()
    assert back.triggers == ()
    assert back.by_name["load"].options == ORDERS.by_name["load"].options
    assert {p.name: p.required for p in back.by_name["load"].takes} == {"order_id": True, "currency": False}
    assert [step.name for step in back.entries] == ["load"]


def test_what_the_database_does_to_numbers_keeps_the_fingerprint() -> None:
    """jsonb keeps 1.5 and 5.0 as they are written."""
    nap = Definition("nap", (Step(name="w", kind=StepKind.WAIT, settings={"seconds": 5.0}),), ())
    assert '"seconds": 5.0' in json.dumps(nap.to_json())
    assert Definition.from_json(json.loads(json.dumps(nap.to_json()))).fingerprint == nap.fingerprint


def test_a_newer_format_is_refused() -> None:
    stored = {**ORDERS.to_json(), "format": FORMAT + 1}
    with pytest.raises(ValueError, match="graph format 3 is newer than 2, the newest this code knows"):
        Definition.from_json(stored)


def test_options_come_from_live_code_for_the_steps_that_it_still_has() -> None:
    old = Definition.from_json(ORDERS.to_json())
    changed = Options(retry=Retry(max_attempts=9, backoff=Constant(1)), queue="slow", priority=5)
    live = Definition("orders", (Step(name="load", options=changed, visit_limit=7), Step(name="new")), ())
    mixed = old.with_options_of(live)
    assert mixed.by_name["load"].options == changed
    assert mixed.by_name["ship"].options == old.by_name["ship"].options
    assert set(mixed.by_name) == {"load", "pause", "note", "ship"}
    assert mixed.fingerprint == old.fingerprint


def test_entries_are_what_nothing_leads_to_unless_they_are_declared() -> None:
    assert [step.name for step in ORDERS.entries] == ["load"]
    load, *others = ORDERS.steps
    back = Transition("ship", "again", "load")
    looping = replace(ORDERS, steps=(replace(load, start=True), *others), transitions=(*ORDERS.transitions, back))
    assert [step.name for step in looping.entries] == ["load"]


def test_a_definition_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        ORDERS.workflow = "other"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        ORDERS.steps[0].start = True  # type: ignore[misc]
