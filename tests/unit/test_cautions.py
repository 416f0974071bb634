"""What is allowed but probably not meant is warned of, once, by what it is and what to do; and only that."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import pytest

from squidmesh.authoring.cautions import WorkflowWarning
from squidmesh.definition import COMPLETE
from squidmesh.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Amount:
    amount: int


class Invoice(TypedDict):
    invoice: str
    total: int


def work() -> None: ...


def bill() -> Invoice: ...  # type: ignore[empty-body]


def bill_again() -> Invoice | None: ...


def anything() -> dict[str, Any]: ...  # type: ignore[empty-body]


def misspelt(amuont: int) -> None: ...


def wants_context(ctx: Any) -> None: ...


def steps(workflow: Workflow, *names: str, **options: Any) -> None:
    for name in names:
        workflow.step(name=name, **options)(work)


def cautions_of(workflow: Workflow) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        workflow.check()
    assert all(warning.category is WorkflowWarning for warning in caught)
    assert all(warning.filename == __file__ for warning in caught), "the warning points at who checked"
    said = [str(warning.message) for warning in caught]
    assert all(text.startswith("workflow 'orders': ") for text in said)
    return [text.removeprefix("workflow 'orders': ") for text in said]


def endless(workflow: Workflow) -> None:
    steps(workflow, "a", start=True)
    steps(workflow, "b")
    workflow.sequence("a", "b", "a")


def endless_although_something_else_follows(workflow: Workflow) -> None:
    steps(workflow, "a", start=True)
    workflow.transition("a", to="a")
    steps(workflow, "beside", after=["a"])


def irreversible_loop(workflow: Workflow) -> None:
    steps(workflow, "a", start=True, irreversible=True)
    workflow.transition("a", on="again", to="a")


def fork(workflow: Workflow, function: Callable[..., object] = work, **options: Any) -> None:
    steps(workflow, "begin", **options)
    workflow.step(name="left", after=["begin"])(function)
    workflow.step(name="right", after=["begin"])(function)


def merge_by_transitions(workflow: Workflow) -> None:
    fork(workflow)
    steps(workflow, "end")
    workflow.transition("left", to="end")
    workflow.transition("right", on="other", to="end")


def merge_into_the_short_cut(workflow: Workflow) -> None:
    steps(workflow, "begin", "end")
    steps(workflow, "beside", after=["begin"])
    workflow.transition("begin", to="end")
    workflow.transition("beside", to="end")


def two_writers(workflow: Workflow) -> None:
    fork(workflow)
    workflow.step(name="bill", after=["left"])(bill)
    workflow.step(after=["right"])(bill_again)


def two_writers_of_an_output(workflow: Workflow) -> None:
    steps(workflow, "begin")
    workflow.step(name="one", after=["begin"], output="it")(anything)
    workflow.step(name="two", after=["begin"], output="it")(anything)


def two_entries_that_write(workflow: Workflow) -> None:
    workflow.step(start=True)(bill)
    workflow.step(start=True)(bill_again)


CAUTIONS: dict[str, tuple[Callable[[Workflow], object], list[str]]] = {
    "endless loop": (
        endless,
        [r"^steps 'a', 'b': a loop with no way out, .* visit_limit; add a transition that leaves the loop"],
    ),
    "loop that only starts other things": (
        endless_although_something_else_follows,
        [r"^step 'a': a loop with no way out"],
    ),
    "irreversible step in a loop": (
        irreversible_loop,
        [r"^step 'a': is irreversible and part of a loop, so one run may do it many times; .* set its visit_limit$"],
    ),
    "branches that meet by transitions": (
        merge_by_transitions,
        [
            r"^step 'end': 'left', 'right' can be live at once and both have a transition to it, .* declare it with after="
        ],
    ),
    "branch that meets the way past it": (
        merge_into_the_short_cut,
        [r"^step 'end': 'begin', 'beside' can be live at once"],
    ),
    "two writers at once": (
        two_writers,
        [
            r"^steps 'bill', 'bill_again': can run at the same time, and both return 'invoice', .* give each its own key$",
            r"^steps 'bill', 'bill_again': can run at the same time, and both return 'total'",
        ],
    ),
    "two writers of one output": (two_writers_of_an_output, [r"^steps 'one', 'two': .* both return 'it'"]),
    "two entries that write": (two_entries_that_write, [r"both return 'invoice'", r"both return 'total'"]),
    "misspelt instant": (
        lambda workflow: workflow.sequence(workflow.step(bill), workflow.wait("rest", until="totl")),
        [r"^step 'rest': needs 'totl', but no payload has it and no step before returns it; did you mean 'total'\?$"],
    ),
    "misspelt key": (
        lambda workflow: workflow.step(misspelt),
        [
            r"^step 'misspelt': needs 'amuont', but no payload has it and no step before returns it; did you mean 'amount'\?"
        ],
    ),
    "misspelt key, twice": (
        lambda workflow: workflow.sequence(workflow.step(misspelt), workflow.step(name="again")(misspelt)),
        [r"^steps 'misspelt', 'again': needs 'amuont'"],
    ),
    "key that a later step may return": (
        lambda workflow: workflow.sequence(workflow.step(misspelt), workflow.step(anything)),
        [r"^step 'misspelt': needs 'amuont'"],
    ),
    "context without its annotation": (
        lambda workflow: workflow.step(wants_context),
        [r"needs 'ctx', .*; to receive the context object, annotate the parameter with Context"],
    ),
    "output of nothing": (
        lambda workflow: workflow.step(output="it")(work),
        [r"^step 'work': has output='it', but is annotated to return None; return the value, or take output= away$"],
    ),
    "schedule that never comes": (
        lambda workflow: (workflow.cron("boot", "@reboot"), workflow.step(work)),  # type: ignore[func-returns-value]
        [r"^trigger 'boot': @reboot names no time, so it never fires; use manual\(\)$"],
    ),
}


@pytest.mark.parametrize("case", CAUTIONS)
def test_it_is_warned_of(case: str) -> None:
    declare, expected = CAUTIONS[case]
    workflow = Workflow("orders", payload=Amount)
    declare(workflow)
    said = cautions_of(workflow)
    assert len(said) == len(expected), said
    assert [pattern for pattern, text in zip(expected, said, strict=True) if not re.search(pattern, text)] == []


def poll(workflow: Workflow) -> None:
    """Ends when ``look`` does, with an ok that leads nowhere."""
    steps(workflow, "look", start=True)
    workflow.wait("pause", seconds=1)
    workflow.transition("look", on="again", to="pause")
    workflow.transition("pause", to="look")


def loop_to_complete(workflow: Workflow) -> None:
    steps(workflow, "look", start=True)
    workflow.transition("look", to="look")
    workflow.transition("look", on="enough", to=COMPLETE)


def loop_out_by_an_error(workflow: Workflow) -> None:
    steps(workflow, "look", start=True)
    steps(workflow, "after")
    workflow.transition("look", to="look")
    workflow.transition("look", on="error", to="after")


def irreversible_with_a_limit(workflow: Workflow) -> None:
    steps(workflow, "a", start=True, irreversible=True, visit_limit=3)
    workflow.transition("a", on="again", to="a")


def diamond(workflow: Workflow) -> None:
    fork(workflow)
    workflow.step(after=["left", "right"])(bill)
    workflow.sequence("bill", workflow.step(bill_again))


def either_way(workflow: Workflow) -> None:
    """One of two ways, both of which lead to the end and return the same keys."""
    steps(workflow, "begin", "end")
    workflow.transition("begin", to=workflow.step(bill))
    workflow.transition("begin", on="other", to=workflow.step(bill_again))
    workflow.transition("bill", to="end")
    workflow.transition("bill_again", to="end")


def shared_error_handler(workflow: Workflow) -> None:
    """A join cannot wait for errors, so both branches lead to the handler by transitions."""
    fork(workflow)
    steps(workflow, "handler")
    workflow.transition("left", on="error", to="handler")
    workflow.transition("right", on="error", to="handler")


def skipped_or_not(workflow: Workflow) -> None:
    """What runs when a join is skipped never runs beside it."""
    fork(workflow)
    workflow.step(name="both", after=["left", "right"])(bill)
    workflow.transition("left", on="refused", to=workflow.step(bill_again))


def any_key(workflow: Workflow) -> None:
    workflow.sequence(workflow.step(anything), workflow.step(misspelt), workflow.step(wants_context))


def schedule_key(workflow: Workflow) -> None:
    def reads(schedule: dict[str, Any], amount: int = 3) -> None: ...

    workflow.cron("daily", "@daily")
    workflow.step(reads)


def optional_keys(workflow: Workflow) -> None:
    def reads(other: str = "", **state: str) -> None: ...

    workflow.step(reads)


FINE = [
    poll,
    loop_to_complete,
    loop_out_by_an_error,
    irreversible_with_a_limit,
    diamond,
    either_way,
    shared_error_handler,
    skipped_or_not,
    any_key,
    schedule_key,
    optional_keys,
]


@pytest.mark.parametrize("declare", FINE)
def test_it_is_not_warned_of(declare: Callable[[Workflow], object]) -> None:
    workflow = Workflow("orders", payload=Amount)
    declare(workflow)
    assert cautions_of(workflow) == []


def test_it_is_said_once() -> None:
    workflow = Workflow("orders")
    endless(workflow)
    assert len(cautions_of(workflow)) == 1
    assert cautions_of(workflow) == []


def test_the_first_look_at_the_definition_warns_too() -> None:
    workflow = Workflow("orders")
    endless(workflow)
    with pytest.warns(WorkflowWarning, match="no way out") as caught:
        assert workflow.definition.workflow == "orders"
    assert caught[0].filename == __file__


def test_a_warning_made_an_error_leaves_the_workflow_open() -> None:
    workflow = Workflow("orders")
    endless(workflow)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(WorkflowWarning):
                workflow.check()
    assert not workflow.frozen


def test_who_means_it_filters_it_by_its_text() -> None:
    workflow = Workflow("orders")
    endless(workflow)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="workflow 'orders': .* no way out", category=WorkflowWarning)
        workflow.check()
