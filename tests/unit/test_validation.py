"""Every rule that a definition is checked by: what breaks it is refused, with its place and a remedy.

The rules R1..R38 are those of the original's validation:

====  =================================================================================================================
R1    at least one trigger: cannot be broken, a workflow without one has "manual" (test_workflow)
R2    ``duplicate triggers``
R3    ``payload field of two types``
R4    one type each: cannot be broken, a trigger is declared by ``manual()`` or ``cron()``
R5    known types: cannot be broken, as R4
R6    ``empty expression``, ``empty zone``, and what D17 lacked: ``bad expression``, ``unknown zone``
R7    ``default of another type``
R8    ``no steps``
R9    ``wait of nothing`` and its neighbours
R10   ``empty message``
R11   ``unknown level``
R12   transactions of built-ins: cannot be written, ``wait`` and ``log`` have no such option
R13   does not apply: joins, transitions and every kind of step mix
R14   does not apply before there are approvals
R15   does not apply: a step's parameters are its input; what they may be is ``TestParameters``
R16   ``output of two names`` and its neighbours
R17   does not apply before there are transactional steps
R18   ``irreversible of another type``; the second marker does not exist
R19   does not apply: there is one marker
R20   does not apply before there are compensations
R21   as R20
R22   ``duplicate steps``
R23   ``empty after``, ``after as text``; repeats collapse (test_workflow)
R24   ``after an unknown step``
R25   ``after itself``
R26   ``joins in a circle``; a circle through a transition is a loop and fine (test_loops_are_allowed)
R27   ``two transitions on one outcome``
R28   ``transition from an unknown step``
R29   any name is an outcome, so: ``outcome in capitals``, ``outcome that is no name``, ``outcome of a wait``
R30   ``recovery of an ok``
R31   ``unknown recovery``
R32   ``transition to an unknown step``
R33   replaced by the entry rule: ``two entries``, ``no entry``, ``loop back to the first``
R34   as R33
R35   does not apply: joins and transitions mix; but ``join with a transition``
R36   ``retry as a number``, ``no attempts``
R37   ``backoff out of range``
R38   cannot be written: fields are those of a dataclass
====  =================================================================================================================

Of the original's gaps, D2 is ``loops``, D13 is a rule of the planner (an ``ok`` without a transition ends the path) and
D14 is Python's own TypeError for options that do not exist (test_an_option_that_does_not_exist_is_refused_by_python).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict, cast

import pytest

from squidmesh.authoring.reading import StepReference
from squidmesh.context import Context, Outcome  # noqa: TC001 - looked up when a step is declared
from squidmesh.definition import COMPLETE
from squidmesh.errors import DefinitionError
from squidmesh.retry import Exponential, Retry
from squidmesh.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from somewhere import Elsewhere  # type: ignore[import-not-found]


@dataclass
class Order:
    order_id: str


@dataclass
class OtherOrder:
    order_id: int


@dataclass
class WithDefault:
    order_id: str = 3  # type: ignore[assignment]


@dataclass
class Reserved:
    schedule: str


@dataclass
class Defaulted:
    items: list[str] = field(default_factory=list)


def work() -> None:
    """A step's function."""


def problems_of(workflow: Workflow) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        workflow.check()
    assert not workflow.frozen
    return list(caught.value.problems)


def steps(workflow: Workflow, *names: str, **options: Any) -> None:
    for name in names:
        workflow.step(name=name, **options)(work)


def all_of(*calls: Callable[[Workflow], object]) -> Callable[[Workflow], object]:
    return lambda workflow: [call(workflow) for call in calls]


def chain(workflow: Workflow) -> None:
    """Three valid steps: a, b, c."""
    steps(workflow, "a", "b", "c")
    workflow.sequence("a", "b", "c")


# -- each rule, alone --------------------------------------------------------------------------------------------

BROKEN_STEPS: dict[str, tuple[Callable[[Workflow], object], str]] = {
    # names
    "name with a space": (lambda w: steps(w, "a b"), r"step 'a b': its name 'a b' cannot be used; a name has letters"),
    "name of nothing": (lambda w: steps(w, ""), r"step '': its name '' cannot be used"),
    "name that is a number": (lambda w: w.wait(5, seconds=1), r"wait 5: its name must be text, not 5"),  # type: ignore[arg-type]
    "name too long": (lambda w: steps(w, "a" * 101), r"its name 'a+\.\.\.a+' cannot be used; .*at most 100 characters"),
    "name with half a surrogate pair": (lambda w: steps(w, "a\ud800"), r"cannot be used"),
    "reserved step": (
        lambda w: steps(w, "__complete__"),
        r"step '__complete__': .* is reserved: names that begin with __",
    ),
    "function without a name": (
        lambda w: w.step(lambda: None),
        r"the function has no name; give the step one: step\(name=",
    ),
    "partial without a name": (lambda w: w.step(functools.partial(work)), r"the function has no name"),
    # built-in steps
    "wait of nothing": (lambda w: w.wait("w", seconds=0), r"wait 'w': seconds=0 must be a positive number of seconds"),
    "wait of less than nothing": (lambda w: w.wait("w", seconds=-1), r"seconds=-1 must be a positive number"),
    "wait of ages": (lambda w: w.wait("w", seconds=1e9), r"seconds=1000000000.0 must be .* at most 366 days"),
    "wait of no number": (lambda w: w.wait("w", seconds=float("nan")), r"seconds=nan must be a positive number"),
    "wait of more than a float": (lambda w: w.wait("w", seconds=10**400), r"must be a positive number"),
    "wait of yes": (lambda w: w.wait("w", seconds=True), r"seconds=True must be a positive number"),
    "wait of text": (lambda w: w.wait("w", seconds="5"), r"seconds='5' must be a positive number"),  # type: ignore[arg-type]
    "empty message": (lambda w: w.log("l", ""), r"log 'l': message='' must be text, and not empty"),
    "message that cannot be stored": (lambda w: w.log("l", "a\0b"), r"log 'l': message contains a NUL .* leave it out"),
    "unknown level": (
        lambda w: w.log("l", "hello", level="loud"),  # type: ignore[arg-type]
        r"log 'l': level='loud' must be one of: 'debug', 'info', 'warning', 'error'",
    ),
    # options of steps
    "output of two names": (lambda w: steps(w, "d", output=["x"]), r"step 'd': output=\['x'\] must be one key"),
    "output that is no parameter": (
        lambda w: steps(w, "d", output="a-b"),
        r"output='a-b' must be one key that a parameter",
    ),
    "output that is a keyword": (lambda w: steps(w, "d", output="class"), r"output='class' must be one key"),
    "output of a schedule": (
        lambda w: steps(w, "d", output="schedule"),
        r"output='schedule' is reserved; choose another",
    ),
    "start of another type": (lambda w: steps(w, "d", start=1), r"step 'd': start=1 must be True or False"),
    "irreversible of another type": (
        lambda w: steps(w, "d", irreversible="no"),
        r"irreversible='no' must be True or False",
    ),
    "visits of none": (lambda w: steps(w, "d", visit_limit=0), r"visit_limit=0 must be a whole number from 1 to"),
    "visits of yes": (lambda w: steps(w, "d", visit_limit=True), r"visit_limit=True must be a whole number"),
    "priority of a half": (
        lambda w: steps(w, "d", priority=0.5),
        r"priority=0.5 must be a whole number from -32767 to 32767",
    ),
    "priority beyond all": (lambda w: steps(w, "d", priority=40000), r"priority=40000 must be a whole number"),
    "queue of nothing": (lambda w: steps(w, "d", queue=""), r"queue='' must be text, and not empty"),
    "queue of another type": (lambda w: steps(w, "d", queue=None), r"queue=None must be text"),
    "retry as a number": (
        lambda w: steps(w, "d", retry=3),
        r"step 'd': retry=3 must be a Retry, such as Retry\(max_attem",
    ),
    "no attempts": (lambda w: steps(w, "d", retry=Retry(max_attempts=0)), r"step 'd': retry needs max_attempts >= 1"),
    "backoff out of range": (
        lambda w: steps(w, "d", retry=Retry(max_attempts=2, backoff=Exponential(min=5, max=1))),
        r"step 'd': Exponential needs 0 < min <= max",
    ),
    # references
    "after as text": (
        lambda w: steps(w, "d", after="a"),
        r"step 'd': after='a' must be a list of steps: after=\[...\]",
    ),
    "after one step": (
        lambda w: steps(w, "d", after=StepReference("a", "orders")),
        r"after=<step 'a' .*> must be a list of steps",
    ),
    "after a number": (lambda w: steps(w, "d", after=3), r"after=3 must be a list of steps"),
    "empty after": (lambda w: steps(w, "d", after=[]), r"step 'd': after=\[\] waits for nothing; leave it out"),
    "after the end": (
        lambda w: steps(w, "d", after=[COMPLETE]),
        r"step 'd': after lists COMPLETE, which is the end of a path",
    ),
    "after a function": (
        lambda w: steps(w, "d", after=[work]),
        r"after=<function work .*> is not a step; use what step\(\)",
    ),
}
"""Each declares the only step of its workflow, wrongly."""

BROKEN: dict[str, tuple[Callable[[Workflow], object], str]] = {
    # names
    "reserved trigger": (lambda w: w.manual("__x"), r"trigger '__x': .* is reserved"),
    "reserved outcome": (
        lambda w: w.transition("a", on="__x", to=COMPLETE),
        r"transition from 'a' on '__x' to COMPLETE: the outcome '__x' is reserved",
    ),
    # triggers
    "duplicate triggers": (
        all_of(lambda w: w.manual("now"), lambda w: w.manual("now")),
        r"trigger 'now': is declared 2 times; give each its own name$",
    ),
    "payload field of two types": (
        all_of(lambda w: w.manual("one", payload=Order), lambda w: w.manual("two", payload=OtherOrder)),
        r"payload field 'order_id': has different types across triggers \(str in one; int in two\); give it one type",
    ),
    "payload that is no dataclass": (
        lambda w: w.manual("now", payload=int),
        r"trigger 'now': a payload is declared by a dataclass or TypedDict, not by int",
    ),
    "default of another type": (
        lambda w: w.manual("now", payload=WithDefault),
        r"trigger 'now': .*order_id.*default 3",
    ),
    "payload field of a schedule": (
        lambda w: w.manual("now", payload=Reserved),
        r"trigger 'now': the payload field 'schedule' is reserved for runs that cron starts; rename it",
    ),
    "empty expression": (
        lambda w: w.cron("daily", " "),
        r"trigger 'daily': expression=' ' must be text, and not empty",
    ),
    "empty zone": (
        lambda w: w.cron("daily", "@daily", timezone=""),
        r"trigger 'daily': timezone='' must be text, and not empty",
    ),
    "bad expression": (lambda w: w.cron("daily", "61 * * * *"), r"trigger 'daily': minute: 61 is not allowed; 0 to 59"),
    "unknown zone": (
        lambda w: w.cron("daily", "@daily", timezone="Europe/Atlantis"),
        r"trigger 'daily': timezone: Europe/Atlantis is not a known zone",
    ),
    "cron that cannot fill its payload": (
        lambda w: w.cron("daily", "@daily", payload=Order),
        r"trigger 'daily': cron starts runs without a payload, but order_id of Order must be given; give each a default",
    ),
    # references
    "after an unknown step": (
        lambda w: steps(w, "d", after=["aa"]),
        r"step 'd': after= lists 'aa', which is no step; did you mean 'a'\?",
    ),
    "after itself": (lambda w: steps(w, "d", after=["d", "a"]), r"step 'd': lists itself in after=; leave it out"),
    "after, and a start": (
        lambda w: steps(w, "d", after=["a"], start=True),
        r"step 'd': has after= and start=True; a step that waits for others begins no run",
    ),
    "step of another workflow": (
        lambda w: w.sequence("a", Workflow("other").step(work)),
        r"sequence\(\): a step names <step 'work' of workflow 'other'>; declare the function here as well",
    ),
    "sequence of one": (lambda w: w.sequence("a"), r"sequence\(\): has one step only, 'a'"),
    "sequence with a number": (
        lambda w: w.sequence("a", 3),  # type: ignore[arg-type]
        r"sequence\(\): a step=3 is not a step; use what step\(\)",
    ),
    # transitions
    "two transitions on one outcome": (
        lambda w: w.transition("a", to="c"),
        r"step 'a': has 2 transitions on 'ok', to 'b', 'c'; keep one. .* declare each with after=\['a'\]",
    ),
    "transition from an unknown step": (
        lambda w: w.transition("aa", to="b"),
        r"transition from 'aa' on 'ok' to 'b': 'aa' is no step; did you mean 'a'\?",
    ),
    "transition to an unknown step": (
        lambda w: w.transition("c", to="nowhere"),
        r"transition from 'c' on 'ok' to 'nowhere': 'nowhere' is no step; there are 'a', 'b', 'c'",
    ),
    "transition to the end, as text": (
        lambda w: w.transition("c", to="complete"),
        r"'complete' is no step; to end the path, use COMPLETE \(from squidmesh import COMPLETE\)",
    ),
    "transition from the end": (
        lambda w: w.transition(COMPLETE, to="a"),
        r"transition from '__complete__' on 'ok' to 'a': COMPLETE is the end of a path",
    ),
    "outcome in capitals": (
        lambda w: w.transition("a", on="Error", to="c"),
        r"transition from 'a' on 'Error' to 'c': outcomes are case-sensitive; write on='error'",
    ),
    "outcome that is no name": (
        lambda w: w.transition("a", on="not ok", to="c"),
        r"the outcome 'not ok' cannot be used",
    ),
    "outcome that is no text": (lambda w: w.transition("a", on=None, to="c"), r"the outcome must be text, not None"),  # type: ignore[arg-type]
    "outcome of a wait": (
        all_of(
            lambda w: w.wait("w", seconds=1),
            lambda w: w.sequence("c", "w"),
            lambda w: w.transition("w", on="error", to=COMPLETE),
        ),
        r"transition from 'w' on 'error' to COMPLETE: a wait can only end with 'ok'; take the transition away",
    ),
    "recovery of an ok": (
        lambda w: w.transition("c", to=COMPLETE, recovery="undo"),
        r"transition from 'c' on 'ok' to COMPLETE: recovery= belongs to transitions with on='error' only",
    ),
    "unknown recovery": (
        lambda w: w.transition("c", on="error", to=COMPLETE, recovery="redo"),  # type: ignore[arg-type]
        r"recovery='redo' must be one of: 'compensation', 'undo'",
    ),
    # the whole
    "duplicate steps": (lambda w: steps(w, "c", start=True), r"step 'c': is declared 2 times; give each its own name"),
    "join with a transition": (
        all_of(lambda w: steps(w, "d", after=["a"]), lambda w: w.transition("c", to="d")),
        r"step 'd': has after=, and transitions from 'c' lead to it as well; keep one of the two",
    ),
    "joins in a circle": (
        all_of(lambda w: steps(w, "d", after=["e", "a"]), lambda w: steps(w, "e", after=["d"])),
        r"steps 'd', 'e': wait for each other with after=, so none can be the first; break the circle",
    ),
    "two entries": (
        lambda w: steps(w, "d", "e"),
        r"steps 'a', 'd', 'e': nothing leads there, so where a run begins is not clear; .* start=True on each to begin with all",
    ),
    "an entry that does not say so": (
        all_of(lambda w: steps(w, "d", start=True), lambda w: steps(w, "e")),
        r"steps 'a', 'e': nothing leads there, but runs begin with 'd' \(start=True\); lead there .* declare start=True there too",
    ),
    "loop back to the first": (
        lambda w: w.transition("c", to="a"),
        r"it has no entry step: each step has an edge that leads to it; declare the first one with start=True",
    ),
    "wait that is left out": (
        lambda w: w.wait("w", seconds=1),
        r"wait 'w': is part of no edge, so it would never run; put it into a sequence\(\) or transition\(\)",
    ),
    "log that is left out": (lambda w: w.log("l", "hello"), r"log 'l': is part of no edge"),
    "unreachable": (
        all_of(lambda w: steps(w, "d", "e"), lambda w: w.sequence("d", "e", "d")),
        r"steps 'd', 'e': no run ever gets there from 'a'; lead there with a transition\(\) or after=, or take away",
    ),
    "unreachable join": (
        all_of(lambda w: steps(w, "d", "e"), lambda w: w.sequence("d", "e", "d"), lambda w: steps(w, "f", after=["e"])),
        r"steps 'd', 'e', 'f': no run ever gets there",
    ),
}
"""Each breaks one rule of a workflow with three good steps: a, b, c."""


@pytest.mark.parametrize("case", BROKEN_STEPS)
def test_a_step_that_breaks_a_rule_is_one_problem_with_its_place_and_remedy(case: str) -> None:
    break_it, expected = BROKEN_STEPS[case]
    workflow = Workflow("orders")
    break_it(workflow)
    (problem,) = problems_of(workflow)
    assert re.search(expected, problem), problem


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_a_rule_beside_good_steps_is_one_problem_with_its_place_and_remedy(case: str) -> None:
    break_it, expected = BROKEN[case]
    workflow = Workflow("orders")
    chain(workflow)
    break_it(workflow)
    (problem,) = problems_of(workflow)
    assert re.search(expected, problem), problem


def test_a_workflow_without_steps_is_refused() -> None:
    """R8, alone: nothing else can be said of it."""
    assert problems_of(Workflow("empty")) == ["it has no steps: declare one with @workflow.step"]


def test_a_workflow_needs_a_name_like_a_step() -> None:
    for name, expected in (("", "''"), ("two words", "'two words'"), (None, "None"), ("__x", "'__x'")):
        workflow = Workflow(name)  # type: ignore[arg-type]
        steps(workflow, "a")
        (problem,) = problems_of(workflow)
        assert problem.startswith("workflow: its name")
        assert expected in problem


def test_all_problems_come_at_once_and_the_message_lists_them() -> None:
    workflow = Workflow("orders", payload=Order)
    workflow.manual("manual", payload=OtherOrder)
    workflow.wait("w", seconds=-1)
    steps(workflow, "a", "a", retry=3)
    workflow.transition("a", on="OK", to="b")
    with pytest.raises(DefinitionError) as caught:
        workflow.check()
    found = caught.value.problems
    said = ("seconds=-1", "retry=3", "retry=3", "'manual': is declared 2 times", "different types", "'b' is no step")
    assert [text for text in said if not any(text in problem for problem in found)] == []
    assert str(caught.value) == "\n".join(["workflow 'orders' cannot be used:", *(f"- {p}" for p in found)])


def test_what_only_follows_from_another_problem_is_not_said() -> None:
    """With one edge misspelt, that its real target has no edge is no second problem."""
    workflow = Workflow("orders")
    steps(workflow, "load", "ship", "bill")
    workflow.sequence("load", "shop", "bill")
    found = problems_of(workflow)
    assert [problem.split(": ", 1)[1] for problem in found] == ["'shop' is no step; did you mean 'ship'?"] * 2


def test_an_option_that_does_not_exist_is_refused_by_python() -> None:
    """D14: the original ignores it."""
    workflow: Any = Workflow("orders")
    with pytest.raises(TypeError, match="timeout_seconds"):
        workflow.step(timeout_seconds=5)
    with pytest.raises(TypeError, match="retry"):
        workflow.wait("w", seconds=5, retry=Retry(max_attempts=2))


def test_what_cannot_be_called_is_refused_where_it_stands() -> None:
    for thing in ("load", 3, classmethod(cast("Any", work)), object()):
        workflow: Any = Workflow("orders")
        with pytest.raises(
            DefinitionError, match=r"cannot be called; options go by name: @workflow.step\(name='load'\)"
        ):
            workflow.step(thing)


# -- loops, entries ----------------------------------------------------------------------------------------------


def test_loops_are_allowed() -> None:
    """D2: visits make them finite; a first step in a loop says that it is the first."""
    workflow = Workflow("poll")
    steps(workflow, "look", start=True)
    workflow.wait("pause", seconds=5)
    workflow.transition("look", on="again", to="pause")
    workflow.transition("pause", to="look")
    assert [step.name for step in workflow.check().entries] == ["look"]


def test_a_loop_through_a_join_is_allowed() -> None:
    workflow = Workflow("rounds")
    steps(workflow, "begin", start=True)
    steps(workflow, "left", "right", after=["begin"])
    steps(workflow, "judge", after=["left", "right"])
    workflow.transition("judge", on="again", to="begin")
    assert len(workflow.check().steps) == 4


def test_several_entries_say_so_and_come_in_the_order_of_their_declaration() -> None:
    workflow = Workflow("two")
    steps(workflow, "b", "a", start=True)
    workflow.log("l", "hello", start=True)
    assert [step.name for step in workflow.check().entries] == ["b", "a", "l"]


def test_a_wait_alone_is_a_workflow() -> None:
    workflow = Workflow("nap")
    workflow.wait("sleep", seconds=1)
    assert [step.name for step in workflow.check().entries] == ["sleep"]


def test_a_step_may_be_called_complete() -> None:
    """D14: the end of a path has a name that no step can have."""
    workflow = Workflow("orders")
    steps(workflow, "begin", "complete")
    workflow.sequence("begin", "complete", COMPLETE)
    assert workflow.check().transitions[1].target == COMPLETE


# -- functions ---------------------------------------------------------------------------------------------------


class Service:
    def charge(self, amount: int) -> None: ...

    async def __call__(self, amount: int) -> None: ...


def positional(a: int, /) -> None: ...


def variable(*args: int) -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


def two_contexts(one: Context, two: Context) -> None: ...


def maybe_context(context: Context | None) -> None: ...


def all_contexts(**state: Context) -> None: ...


def not_imported(thing: Elsewhere) -> None: ...


def bytes_(data: bytes) -> None: ...


def nonsense(data: "1 +") -> None: ...  # type: ignore[valid-type]  # noqa: F722


def number() -> int: ...  # type: ignore[empty-body]


def text_or_nothing() -> str | None: ...


async def one_of_two() -> Order | list[str]: ...  # type: ignore[empty-body]


def reserved_key() -> Reserved: ...  # type: ignore[empty-body]


def not_imported_output() -> Elsewhere: ...


UNFIT: dict[str, tuple[Callable[..., object], str]] = {
    "positional-only": (positional, r"parameter 'a': a step is called with names only; .* take the / away"),
    "variable": (variable, r"parameter 'args': a step is called with names only; replace it with the keys"),
    "method": (Service.charge, r"parameter 'self': the function is a method without its object; declare the bound one"),
    "generator": (generator, r"it yields; a step returns its output at once"),
    "async generator": (async_generator, r"it yields"),
    "class": (Order, r"it is a class; declare a function"),
    "two contexts": (two_contexts, r"parameter 'two': the parameter 'one' receives the context object already"),
    "maybe a context": (
        maybe_context,
        r"parameter 'context': the context object is always there; annotate one",
    ),
    "all contexts": (all_contexts, r"parameter 'state': the context object is always there"),
    "not imported": (
        not_imported,
        r"parameter 'thing': its annotation names 'Elsewhere', which cannot be found; import",
    ),
    "unsupported type": (bytes_, r"parameter 'data': the type bytes is not supported: .* base64"),
    "not an annotation": (nonsense, r"parameter 'data': its annotation .*1 \+.* cannot be read"),
    "builtin": (dict.fromkeys, r"names only|signature cannot be read"),
    "number": (number, r"it returns int, which cannot be merged into the context; declare output='...'"),
    "text or nothing": (text_or_nothing, r"it returns str, which cannot be merged"),
    "reserved key": (
        reserved_key,
        r"it returns the key 'schedule', which is reserved for runs that cron starts; rename",
    ),
    "one of two": (one_of_two, r"it returns list, which cannot be merged"),
}


class TestParameters:
    @pytest.mark.parametrize("case", UNFIT)
    def test_a_function_that_cannot_be_a_step_is_refused(self, case: str) -> None:
        function, expected = UNFIT[case]
        workflow = Workflow("orders")
        workflow.step(name="it")(function)
        found = problems_of(workflow)
        assert all(problem.startswith("step 'it': ") for problem in found)
        assert any(re.search(expected, problem) for problem in found), found

    def test_every_unfit_parameter_is_told(self) -> None:
        def many(a: bytes, b: set[str], /, *c: int) -> int: ...  # type: ignore[empty-body]

        workflow = Workflow("orders")
        workflow.step(many)
        assert len(problems_of(workflow)) == 4

    @pytest.mark.parametrize("function", [number, text_or_nothing, one_of_two])
    def test_with_output_any_return_type_will_do(self, function: Callable[..., object]) -> None:
        workflow = Workflow("orders")
        workflow.step(output="it")(function)
        workflow.check()

    def test_a_return_type_for_type_checkers_alone_is_no_problem(self) -> None:
        workflow = Workflow("orders")
        workflow.step(not_imported_output)
        workflow.check()

    def test_a_bound_method_and_an_object_that_can_be_called_are_steps(self) -> None:
        workflow = Workflow("orders", payload=Amount)
        workflow.step(Service().charge)
        workflow.step(name="service", after=["charge"])(Service())
        definition = workflow.check()
        assert [[taken.name for taken in step.takes] for step in definition.steps] == [["amount"], ["amount"]]
        assert [workflow.functions[name].is_async for name in ("charge", "service")] == [False, True]


# -- who provides what -------------------------------------------------------------------------------------------


@dataclass
class Amount:
    amount: int


class Invoice(TypedDict):
    invoice: str


def make_invoice(amount: int) -> Invoice: ...  # type: ignore[empty-body]


def use_invoice(invoice: str) -> None: ...


def use_maybe(invoice: str = "none") -> None: ...


def anything() -> dict[str, Any]: ...  # type: ignore[empty-body]


def any_outcome() -> Outcome: ...  # type: ignore[empty-body]


def test_a_key_that_only_a_later_step_returns_is_refused() -> None:
    workflow = Workflow("orders", payload=Amount)
    workflow.sequence(workflow.step(use_invoice), workflow.step(make_invoice))
    (problem,) = problems_of(workflow)
    assert problem.startswith(
        "step 'use_invoice': needs 'invoice', which only comes from 'make_invoice', and no run has it"
    )
    assert "lead from 'make_invoice' to 'use_invoice' with a transition or after=" in problem


def test_an_instant_that_only_a_later_step_returns_is_refused() -> None:
    workflow = Workflow("orders", payload=Amount)
    first = workflow.step(name="first")(work)
    workflow.sequence(first, workflow.wait("rest", until="invoice"), workflow.step(make_invoice))
    (problem,) = problems_of(workflow)
    assert problem == (
        "step 'rest': needs 'invoice', which only comes from 'make_invoice', and no run has it from there when it gets "
        "to 'rest'; lead from 'make_invoice' to 'rest' with a transition or after="
    )


@pytest.mark.parametrize("until", ["amount", "invoice"])
def test_an_instant_may_come_from_the_payload_or_a_step_before(until: str) -> None:
    workflow = Workflow("orders", payload=Amount)
    workflow.sequence(workflow.step(make_invoice), workflow.wait("rest", until=until))
    assert workflow.check().entries[0].name == "make_invoice"


def test_a_key_that_only_a_sibling_returns_is_refused() -> None:
    """DESIGN: sibling outputs are visible by accident only."""
    workflow = Workflow("orders", payload=Amount)
    first = workflow.step(name="first")(work)
    workflow.step(after=[first])(use_invoice)
    workflow.step(after=[first])(make_invoice)
    (problem,) = problems_of(workflow)
    assert problem.startswith("step 'use_invoice': needs 'invoice'")


def test_a_key_that_only_the_failed_step_returns_is_refused() -> None:
    """What leads here is its error, so it has returned nothing."""
    workflow = Workflow("orders", payload=Amount)
    workflow.transition(workflow.step(make_invoice), on="error", to=workflow.step(use_invoice))
    (problem,) = problems_of(workflow)
    assert problem.startswith("step 'use_invoice': needs 'invoice'")


@pytest.mark.parametrize("on", ["ok", "rejected", "timeout", "error"])
def test_a_decision_is_there_whatever_it_was(on: str) -> None:
    workflow = Workflow("orders")
    gate = workflow.approval("gate", output="invoice", deadline=5)
    workflow.transition(gate, on=on, to=workflow.step(use_invoice))
    workflow.check()


@pytest.mark.parametrize("on", ["timeout", "error"])
def test_what_a_signal_says_is_not_there_when_it_did_not_come(on: str) -> None:
    workflow = Workflow("orders")
    gate = workflow.wait_for("paid", output="invoice", timeout=5)
    workflow.transition(gate, on=on, to=workflow.step(use_invoice))
    (problem,) = problems_of(workflow)
    assert problem.startswith("step 'use_invoice': needs 'invoice'")


@pytest.mark.parametrize("on", ["ok", "error"])
def test_a_key_that_an_earlier_step_returns_is_fine_whatever_happened_since(on: str) -> None:
    workflow = Workflow("orders", payload=Amount)
    middle = workflow.step(name="middle")(work)
    workflow.sequence(workflow.step(make_invoice), middle)
    workflow.transition(middle, on=on, to=workflow.step(use_invoice))
    workflow.check()


def test_a_key_that_the_other_way_round_a_loop_returns_is_fine() -> None:
    workflow = Workflow("orders", payload=Amount)
    workflow.step(start=True)(use_invoice)
    workflow.step(make_invoice)
    workflow.transition("use_invoice", on="again", to="make_invoice")
    workflow.transition("make_invoice", to="use_invoice")
    workflow.check()


def test_a_key_with_a_default_needs_no_provider() -> None:
    workflow = Workflow("orders", payload=Amount)
    workflow.sequence(workflow.step(use_maybe), workflow.step(make_invoice))
    workflow.check()


@pytest.mark.parametrize("source", [anything, any_outcome, lambda: Invoice(invoice="")])
def test_a_step_before_that_may_return_anything_may_return_the_key(source: Callable[..., object]) -> None:
    workflow = Workflow("orders", payload=Amount)
    workflow.sequence(workflow.step(name="source")(source), workflow.step(use_invoice), workflow.step(make_invoice))
    workflow.check()


# -- gates, signals, compensations, deadlines --------------------------------------------------------------------------


@dataclass
class Scheduled:
    schedule: dict[str, str]


IN_MARCH = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)

REFUSED: dict[str, tuple[Callable[[Any], object], str]] = {
    "no approvers": (lambda w: w.approval("x", approvers=0), "approval 'x': approvers=0 must be a whole number from 1"),
    "approvers of text": (lambda w: w.approval("x", approvers="2"), "approvers='2' must be a whole number"),
    "approvers of a truth": (lambda w: w.approval("x", approvers=True), "approvers=True must be a whole number"),
    "deadline of nothing": (lambda w: w.approval("x", deadline=0), "deadline=0 must be a positive number of seconds"),
    "deadline of NaN": (lambda w: w.approval("x", deadline=float("nan")), "deadline=nan must be a positive number"),
    "timeout before now": (lambda w: w.wait_for("x", timeout=-1), "timeout=-1 must be a positive number of seconds"),
    "signal of a number": (lambda w: w.wait_for(5), "its name must be text, not 5"),
    "signal that is no name": (lambda w: w.wait_for("a b"), "cannot be used; a name has"),
    "signal with a contract that is none": (lambda w: w.wait_for("x", payload=int), "signal 'x': "),
    "signal that is no name, with a contract": (lambda w: w.wait_for(object(), payload=Amount), "must be text"),
    "step of a signal that is no name": (lambda w: w.wait_for("x", name=5, payload=Amount), "must be text"),
    "signal that brings what cron does": (lambda w: w.wait_for("x", payload=Scheduled), "'schedule' is reserved"),
    "wait of neither": (lambda w: w.wait("x"), "wait 'x': needs either seconds= or until="),
    "wait of both": (lambda w: w.wait("x", seconds=1, until="at"), "wait 'x': needs either seconds= or until="),
    "wait until somewhere": (lambda w: w.wait("x", until=IN_MARCH.replace(tzinfo=None)), "in which time zone"),
    "wait until a number": (lambda w: w.wait("x", until=5), "must be an aware datetime, or the key"),
    "wait until at the beginning": (lambda w: w.wait("x", until=IN_MARCH), "a run cannot begin with a wait until"),
    "compensation of text": (lambda w: w.step(name="x", compensate="undo")(work), "must be a function: what undoes"),
    "compensation that cannot be a step": (
        lambda w: w.step(name="x", compensate=lambda *things: None)(work),
        "step 'x': its compensation: ",
    ),
    "retry of no compensation": (
        lambda w: w.step(name="x", compensate_retry=Retry(max_attempts=2))(work),
        "declare compensate= as well",
    ),
    "undoing the irreversible": (
        lambda w: w.step(name="x", compensate=work, irreversible=True)(work),
        "irreversible=True says that it cannot be undone",
    ),
    "undoing what cannot be": (
        lambda w: w.step(name="x", compensate=work, compensatable=False)(work),
        "compensatable=False says that it cannot be undone",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_of_gates_signals_and_compensations_is_said(case: str) -> None:
    declare, said = REFUSED[case]
    workflow = Workflow("orders")
    declare(workflow)
    found = problems_of(workflow)
    assert [problem for problem in found if said in problem], found


@pytest.mark.parametrize(
    ("kind", "on"), [("pause", "rejected"), ("approval", "timeout"), ("approval", "review"), ("signal", "timeout")]
)
def test_a_gate_has_transitions_only_for_how_it_can_end(kind: str, on: str) -> None:
    workflow = Workflow("orders")
    declare: Callable[[str], StepReference] = getattr(workflow, {"signal": "wait_for"}.get(kind, kind))
    first = declare("x")
    workflow.sequence(first, workflow.step(name="y")(work))
    workflow.transition(first, on=on, to=COMPLETE)
    (problem,) = problems_of(workflow)
    assert "can only end with" in problem


def test_one_signal_has_one_contract() -> None:
    workflow = Workflow("orders")
    workflow.sequence(workflow.wait_for("x", payload=Amount), workflow.wait_for("x", name="again"))
    (problem,) = problems_of(workflow)
    assert problem.startswith("signal 'x': has different contracts")


def test_a_deadline_is_a_duration() -> None:
    workflow = Workflow("orders", deadline=0)
    workflow.pause("x")
    (problem,) = problems_of(workflow)
    assert problem.startswith("workflow: deadline=0 must be a positive number of seconds")
