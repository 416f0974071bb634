"""Definitions of every shape: whatever an author declares is refused in one way only, and what is accepted keeps."""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from squidmesh.definition import COMPLETE, Definition, Options, Parameter, StepKind, Transition, Trigger
from squidmesh.errors import DefinitionError
from squidmesh.retry import Constant, Exponential, Retry
from squidmesh.workflow import Workflow
from tests.effort import EXAMPLES
from tests.property.strategies import OUTCOMES, definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from squidmesh.definition import Step

# -- declarations ------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f"])

NONSENSE: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.sampled_from(["a", "__complete__", "ok", "OK", "schedule", "\ud800", "\0", "x" * 200, "1a", "a b"]),
    st.lists(st.one_of(NAMES, st.none(), st.integers()), max_size=3),
    st.just(object()),
    st.just(Retry),
)


HUGE = st.just(10**5000)
"""More digits than Python writes."""


def nothing() -> None:
    """A step."""


def returns_anything(*_: object) -> dict[str, object]:
    return {}


def needs(x: int, /) -> int:
    return x


class AsyncCallable:
    async def __call__(self, y: str, *more: str, **rest: bytes) -> None: ...


FUNCTIONS: list[Any] = [
    returns_anything,
    needs,
    AsyncCallable(),
    AsyncCallable,
    dict,
    len,
    print,
    copy.copy,
    iter(()),
    object(),
    None,
    "name",
    Workflow.step,
    classmethod(returns_anything),
    staticmethod(returns_anything),
]


@st.composite
def options(draw: st.DrawFn, sensible: dict[str, st.SearchStrategy[Any]]) -> dict[str, Any]:
    """Some of these options, now and then with a nonsensical value."""
    return {name: draw(st.one_of(values, values, NONSENSE)) for name, values in sensible.items() if draw(st.booleans())}


REFERENCE = st.one_of(NAMES, NAMES, NONSENSE)
STEP = {
    "output": st.sampled_from(["x", "y", None]),
    "after": st.lists(NAMES, min_size=1, max_size=3),
    "start": st.booleans(),
    "retry": st.sampled_from([None, Retry(max_attempts=3), Retry(max_attempts=0, backoff=Constant(-1))]),
    "queue": st.sampled_from(["default", "mail"]),
    "priority": st.one_of(st.integers(-10, 10), HUGE),
    "irreversible": st.booleans(),
    "visit_limit": st.one_of(st.integers(1, 5), HUGE),
}


NAME = st.one_of(NAMES, NAMES, NAMES, NONSENSE)
MAYBE_NONSENSE = st.one_of(st.sampled_from(["hello", "@daily", "61 * * * *", "UTC", "Mars"]), NONSENSE)
CALLS: dict[str, tuple[list[st.SearchStrategy[Any]], dict[str, st.SearchStrategy[Any]]]] = {
    "wait": ([NAME], {"seconds": st.one_of(st.integers(1, 60), HUGE), "after": STEP["after"], "start": st.booleans()}),
    "log": ([NAME, MAYBE_NONSENSE], {"level": st.just("info"), "start": st.booleans()}),
    "sequence": ([REFERENCE, REFERENCE, REFERENCE], {}),
    "transition": (
        [REFERENCE],
        {
            "to": st.one_of(NAMES, st.just(COMPLETE)),
            "on": st.sampled_from([*OUTCOMES, "Error"]),
            "recovery": st.just("undo"),
        },
    ),
    "manual": ([NAME], {"payload": NONSENSE}),
    "cron": ([NAME, MAYBE_NONSENSE], {"timezone": MAYBE_NONSENSE}),
}
REQUIRED: dict[str, dict[str, Any]] = {"wait": {"seconds": 5}, "transition": {"to": "a"}}


@st.composite
def declare_something(draw: st.DrawFn) -> Callable[[Workflow], object]:
    """One call of the authoring surface."""
    kind = draw(st.sampled_from(["step", "step", *CALLS]))
    if kind == "step":
        given_options, function = draw(options({"name": NAME, **STEP})), draw(st.sampled_from([nothing, *FUNCTIONS]))
        return lambda workflow: workflow.step(**given_options)(function)
    positional, named = CALLS[kind]
    arguments, given_options = [draw(each) for each in positional], draw(options(named))
    return lambda workflow: getattr(workflow, kind)(*arguments, **{**REQUIRED.get(kind, {}), **given_options})


@settings(max_examples=5 * EXAMPLES, deadline=None)
@given(st.one_of(st.just("orders"), NONSENSE), NONSENSE, st.lists(declare_something(), max_size=12))
def test_nothing_but_a_definition_error_comes_out_of_whatever_is_declared(
    name: Any, payload: Any, calls: list[Callable[[Workflow], object]]
) -> None:
    refusal: DefinitionError | None = None
    try:
        workflow = Workflow(name, payload=payload)
        for call in calls:
            call(workflow)
        definition = checked(workflow)
    except DefinitionError as error:
        refusal = error
    if refusal is None:
        assert_lasting(definition)
    else:
        assert all(refusal.problems)
        json.dumps(refusal.details)


def assert_lasting(definition: Definition) -> None:
    assert definition.entries
    stored = Definition.from_json(definition.to_json())
    assert stored.fingerprint == definition.fingerprint
    assert {s.name: s.options for s in stored.steps} == {s.name: s.options for s in definition.steps}
    assert stored.to_json() == definition.to_json()


# -- definitions -------------------------------------------------------------------------------------------------


def something_else() -> None:
    """Another docstring, another function, the same parameters."""


def declare(definition: Definition, steps: list[Step], edges: list[Transition], function: Any = nothing) -> Workflow:
    """A workflow that declares a definition, in this order."""
    workflow = Workflow(definition.workflow)
    for edge in edges:
        workflow.transition(edge.source, on=edge.outcome, to=edge.target, recovery=edge.recovery)  # type: ignore[arg-type]
    for step in steps:
        after = list(reversed(step.after)) or None
        if step.kind is StepKind.WAIT:
            workflow.wait(step.name, seconds=float(step.settings["seconds"]), after=after, start=step.start)
            continue
        workflow.step(
            name=step.name,
            after=after,
            start=step.start,
            irreversible=step.irreversible,
            visit_limit=step.visit_limit,
            retry=step.options.retry,
        )(function)
    return workflow


def checked(workflow: Workflow) -> Definition:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return workflow.check()


def with_plain_waits(definition: Definition) -> Definition:
    """A wait has no visit limit of its own in the authoring surface."""
    steps = (replace(s, visit_limit=1000) if s.kind is StepKind.WAIT else s for s in definition.steps)
    return replace(definition, steps=tuple(steps))


@settings(max_examples=EXAMPLES, deadline=None)
@given(definitions().map(with_plain_waits))
def test_every_definition_can_be_declared_and_stored(definition: Definition) -> None:
    declared = checked(declare(definition, list(definition.steps), list(definition.transitions)))
    assert declared.fingerprint == definition.fingerprint
    assert {s.name for s in declared.entries} == {s.name for s in definition.entries}
    assert_lasting(declared)


@settings(max_examples=EXAMPLES, deadline=None)
@given(definitions(), st.data())
def test_the_fingerprint_ignores_order_options_functions_and_triggers(
    definition: Definition, data: st.DataObject
) -> None:
    steps = data.draw(st.permutations(definition.steps))
    edges = data.draw(st.permutations(definition.transitions))
    options = Options(retry=Retry(max_attempts=9, backoff=Exponential(min=1, max=2)), queue="mail", priority=7)
    other = checked(
        declare(with_plain_waits(definition), [replace(s, options=options) for s in steps], edges, something_else)
    )
    other = replace(other, triggers=(Trigger(name="by_hand"),))
    assert other.fingerprint == with_plain_waits(definition).fingerprint


def changes(definition: Definition) -> Iterator[tuple[str, Definition]]:
    """The definition with each covered field changed, one at a time."""
    yield "workflow", replace(definition, workflow="other")
    yield "a step less", replace(definition, steps=definition.steps[1:])
    step, *others = definition.steps
    changed: dict[str, Any] = {
        "name": "z",
        "kind": StepKind.LOG,
        "takes": (Parameter("key", required=True),),
        "takes_all": not step.takes_all,
        "output": "other",
        "after": (*step.after, "z"),
        "start": not step.start,
        "irreversible": not step.irreversible,
        "visit_limit": step.visit_limit + 1,
        "settings": {"seconds": 61.0},
    }
    for field, value in changed.items():
        yield field, replace(definition, steps=(replace(step, **{field: value}), *others))
    optional = replace(step, takes=(Parameter("key", required=False),))
    yield "required", replace(definition, steps=(optional, *others))
    yield "an edge more", replace(definition, transitions=(*definition.transitions, Transition("z", "ok", "z")))
    for number, edge in enumerate(definition.transitions):
        before, after = definition.transitions[:number], definition.transitions[number + 1 :]
        for field in ("source", "outcome", "target", "recovery"):
            altered = replace(edge, **{field: "z"})
            yield f"edge's {field}", replace(definition, transitions=(*before, altered, *after))


@settings(max_examples=EXAMPLES, deadline=None)
@given(definitions())
def test_the_fingerprint_changes_with_whatever_the_graph_is_made_of(definition: Definition) -> None:
    assert [what for what, changed in changes(definition) if changed.fingerprint == definition.fingerprint] == []
