"""How a step's function is called with what a run has."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from squidmesh.context import Context
from squidmesh.errors import InvalidInput
from squidmesh.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from squidmesh.authoring.functions import StepFunction


@dataclass
class Invoice:
    number: int
    due: date


def step(function: Callable[..., object]) -> StepFunction[..., object]:
    workflow = Workflow("orders")
    declared = workflow.step(name="it")(function)
    workflow.check()
    return declared


def context(**payload: Any) -> Context:
    return Context(
        run_id=UUID(int=1),
        workflow="orders",
        trigger="manual",
        step="it",
        visit=1,
        attempt=1,
        payload=payload,
        state={},
    )


CONTEXT = context()


def typed(  # type: ignore[no-untyped-def]
    *, invoice: Invoice, price: float, tags: list[str], anything, none: str | None, deep: Any
) -> None: ...


def optional(a: int, b: int = 2, *, c: str = "three") -> None: ...


def with_context(a: int, context: Context, state: str) -> None: ...


def everything(a: int, context: Context, **state: Any) -> None: ...


def all_texts(**state: str) -> None: ...


def nothing() -> None: ...


pytestmark = pytest.mark.filterwarnings("ignore::squidmesh.authoring.cautions.WorkflowWarning")


def test_parameters_are_filled_by_name_and_read_by_their_annotations() -> None:
    """What storage changes is undone: text becomes a date, an object a dataclass, an int stands for a float."""
    state = {
        "invoice": {"number": 7, "due": "2025-03-31"},
        "price": 3,
        "tags": ["a"],
        "anything": {"x": [1]},
        "none": None,
        "deep": 1,
        "unwanted": object(),
    }
    arguments = step(typed).bind(state, lambda: CONTEXT)
    assert arguments == {
        "invoice": Invoice(7, date(2025, 3, 31)),
        "price": 3.0,
        "tags": ["a"],
        "anything": {"x": [1]},
        "none": None,
        "deep": 1,
    }
    assert type(arguments["price"]) is float


def test_an_absent_key_with_a_default_is_left_to_the_function() -> None:
    assert step(optional).bind({"a": 1}, lambda: CONTEXT) == {"a": 1}
    assert step(optional).bind({"a": 1, "c": "c", "b": 5}, lambda: CONTEXT) == {"a": 1, "b": 5, "c": "c"}


def test_a_null_is_a_value_and_needs_to_fit() -> None:
    with pytest.raises(InvalidInput, match="'b' must be an int, not null"):
        step(optional).bind({"a": 1, "b": None}, lambda: CONTEXT)


def test_the_context_goes_to_the_parameter_annotated_with_it_and_is_no_key() -> None:
    declared = step(with_context)
    assert [taken.name for taken in declared.takes] == ["a", "state"]
    assert declared.bind({"a": 1, "state": "CA", "context": "a key of that name"}, lambda: CONTEXT) == {
        "a": 1,
        "state": "CA",
        "context": CONTEXT,
    }


def test_two_stars_take_every_key_that_no_parameter_takes() -> None:
    declared = step(everything)
    assert declared.takes_all
    bound = declared.bind({"a": 1, "b": 2, "context": "a key of that name", "c": None}, lambda: CONTEXT)
    assert bound == {"a": 1, "b": 2, "c": None, "context": CONTEXT}


def test_the_annotation_of_two_stars_holds_for_each_value() -> None:
    assert step(all_texts).bind({"a": "x"}, lambda: CONTEXT) == {"a": "x"}
    with pytest.raises(InvalidInput, match="'b' must be text, not int; 'c' must be text, not a list"):
        step(all_texts).bind({"a": "x", "b": 1, "c": []}, lambda: CONTEXT)


def test_a_step_without_parameters_takes_nothing() -> None:
    assert step(nothing).bind({"a": 1}, lambda: CONTEXT) == {}


def test_all_that_is_missing_or_does_not_fit_is_told_at_once_with_what_is_there() -> None:
    """And the run cannot mend it by trying again."""
    state = {"account": "a1", "price": "much", "invoice": {"number": "7", "due": "soon"}, "none": None, "deep": 1}
    with pytest.raises(InvalidInput) as caught:
        step(typed).bind(state, lambda: context(account="a1", price="much"))
    error = caught.value
    assert error.retryable is False
    assert error.details == {
        "step": "it",
        "missing_keys": ["tags", "anything"],
        "invalid_keys": {
            "invoice.number": "must be an int, not text",
            "invoice.due": error.details["invalid_keys"]["invoice.due"],
            "price": "must be a float, not text",
        },
        "payload_keys": ["account", "price"],
        "returned_keys": ["invoice", "none", "deep"],
    }
    assert str(error).startswith(
        "step 'it' cannot be run with what is there: 'tags' is missing; 'anything' is missing; "
        "'invoice.number' must be an int, not text; 'invoice.due' must be a date"
    )
    assert str(error).endswith("The payload has: account, price. Steps that ran returned: invoice, none, deep")
    json.dumps(error.to_json())


def test_with_nothing_there_the_message_says_so() -> None:
    with pytest.raises(InvalidInput, match=r"The payload has: nothing\. Steps that ran returned: nothing$"):
        step(optional).bind({}, lambda: CONTEXT)


def test_what_was_bound_is_what_the_function_is_called_with() -> None:
    def add(a: int, context: Context, **more: int) -> dict[str, int]:
        return {"sum": a + sum(more.values()) + context.attempt}

    declared = step(add)
    assert declared.call(**declared.bind({"a": 1, "b": 2}, lambda: CONTEXT)) == {"sum": 4}
