"""What a step is given, what it may return and raise, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from squidmesh import (
    COMPLETE,
    Constant,
    Context,
    Defer,
    Fail,
    Outcome,
    Retry,
    RetryAfter,
    RunStatus,
    StepStatus,
    Workflow,
)
from squidmesh.logs import StepFilter
from tests.invariants import check
from tests.lab import NOON, Ear, Gate, Lab, standing_still
from tests.runtime.apps import single
from tests.waiting import until

if TYPE_CHECKING:
    from squidmesh import Run


def ended(lab: Lab, workflow: Workflow, payload: object = None) -> Run:
    """Run a workflow to its end."""
    mesh = lab.mesh(workflow)
    lab.worker(mesh)
    run = mesh.start_run(workflow, payload)
    return mesh.wait_for_run(run.id, 20)


# -- what it is given --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
def test_a_step_that_changes_its_input_changes_nobody_elses(lab: Lab, is_async: bool) -> None:
    """Not its sibling's, not its successor's, not its own next attempt's: memory equals storage."""
    workflow = Workflow("private")
    seen: list[list[int]] = []

    @workflow.step
    def make() -> dict[str, object]:
        return {"items": [1, 2], "deep": {"list": [{"x": 1}]}}

    def spoil(ctx: Context, items: list[int], state: dict[str, Any]) -> None:
        seen.append([*items, len(state["deep"]["list"])])
        items.append(99)
        state["items"].append(98)
        state["deep"]["list"].append(97)
        ctx.state["items"].append(96)
        if ctx.attempt == 1:
            raise RuntimeError("again")

    retry = Retry(max_attempts=2, backoff=Constant(0))
    for name in ("left", "right"):
        if is_async:

            @workflow.step(name=name, after=[make], retry=retry)
            async def async_step(ctx: Context, items: list[int], **state: Any) -> None:
                spoil(ctx, items, {"items": ctx.state["items"], **state})

        else:

            @workflow.step(name=name, after=[make], retry=retry)
            def step(ctx: Context, items: list[int], **state: Any) -> None:
                spoil(ctx, items, {"items": ctx.state["items"], **state})

    @workflow.step(after=["left", "right"])
    def last(items: list[int], deep: dict[str, Any]) -> dict[str, object]:
        return {"last": [items, deep]}

    run = ended(lab, workflow)
    assert run.status is RunStatus.COMPLETED, run.error
    assert seen == [[1, 2, 1]] * 4
    assert run.context is not None
    assert run.context["last"] == [[1, 2], {"list": [{"x": 1}]}]


def test_a_retry_sees_what_the_first_attempt_saw(lab: Lab) -> None:
    """Though a sibling's output has come in between, in the very worker that retries, at once, later and after a defer."""
    workflow = Workflow("stable")
    seen: dict[str, list[object]] = {"now": [], "later": [], "deferred": []}
    gate, all_failed = Gate(), Gate()

    @workflow.step
    def first() -> dict[str, int]:
        return {"key": 1}

    @workflow.step(after=[first])
    def sibling() -> dict[str, int]:
        gate.until_come(3)
        return {"key": 2, "more": 3}

    def look(ctx: Context, name: str) -> None:
        seen[name].append((ctx.state.get("key"), ctx.state.get("more")))
        if len(seen[name]) < 3:
            if len(seen[name]) == 1:
                gate.pass_()
            if name == "deferred":
                raise Defer(0)
            raise RuntimeError("again")

    for name, delay in (("now", 0.0), ("later", 0.01), ("deferred", 0.0)):

        @workflow.step(name=name, after=[first], retry=Retry(max_attempts=3, backoff=Constant(delay)))
        def watcher(ctx: Context) -> None:
            look(ctx, ctx.step)

    del all_failed
    mesh = lab.mesh(workflow)
    lab.worker(mesh)
    run = mesh.start_run(workflow)
    until(lambda: ("sibling", 1, "completed") in lab.attempts(run), what="the sibling")
    gate.open()
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    assert seen == {name: [(1, None)] * 3 for name in seen}
    check(lab)


def test_three_levels_of_dataclasses_are_parameters(lab: Lab) -> None:
    """What one step returns as dataclasses another takes as the same dataclasses."""
    run = ended(lab, nested)
    assert run.status is RunStatus.COMPLETED, run.error
    assert run.context is not None
    assert run.context["size"] == 2


class Colour(Enum):
    RED = "red"


@dataclass
class Leaf:
    when: datetime
    price: Decimal
    colour: Colour = Colour.RED


@dataclass
class Branch:
    leaves: list[Leaf]
    named: dict[str, Leaf] = field(default_factory=dict)


@dataclass
class Tree:
    id: UUID
    branch: Branch
    day: date


nested = Workflow("nested")


@nested.step(output="tree")
def grow() -> Tree:
    leaf = Leaf(datetime(2026, 1, 2, 3, tzinfo=UTC), Decimal("1.10"))
    return Tree(UUID(int=7), Branch([leaf], {"a": leaf}), date(2026, 1, 2))


@nested.step
def fell(tree: Tree) -> dict[str, int]:
    assert tree == grow()
    return {"size": len(tree.branch.leaves) + len(tree.branch.named)}


nested.sequence(grow, fell)


def test_a_context_variable_is_fresh_in_each_step(lab: Lab) -> None:
    """What one step sets, another does not see, though they share a thread or a loop."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []
    workflow = Workflow("fresh")

    def body(ctx: Context) -> None:
        seen.append(variable.get())
        variable.set(ctx.step)

    async def async_body(ctx: Context) -> None:
        await asyncio.sleep(0)
        body(ctx)

    steps = [workflow.step(name=f"s{n}")(async_body if n % 2 else body) for n in range(6)]
    workflow.sequence(*steps)
    mesh = lab.mesh(workflow)
    lab.worker(mesh, 1)
    mesh.wait_for_run(mesh.start_run(workflow).id, 20)
    assert seen == ["unset"] * 6


# -- what it returns ---------------------------------------------------------------------------------------------------

VALUES = {
    "text": "grüße \U0001f991 \\ \" ' {} NULL",
    "empty": "",
    "whole": 2**70,
    "negative": -1,
    "float": 1.5,
    "large_float": 1e16,
    "huge_float": 1e300,
    "tiny_float": 1e-7,
    "zero": 0.0,
    "truth": True,
    "nothing": None,
    "list": [1, [2, [3]], {}],
    "object": {"b": 1, "aa": 2, "c": {"ü": []}},
}


def test_outputs_come_back_as_they_were(lab: Lab) -> None:
    """Of every type, for the next step in the same worker, in another one, and for whoever inspects the run."""
    workflow = Workflow("values")

    def same(**state: object) -> dict[str, object]:
        kinds = {key: type(value).__name__ for key, value in state.items()}
        return {"seen": {key: repr(state[key]) for key in VALUES}, "kinds": kinds}

    @workflow.step
    def make() -> dict[str, object]:
        return dict(VALUES)

    @workflow.step(name="here")
    def here(**state: object) -> dict[str, object]:
        return {"here": same(**state)}

    @workflow.step(name="there", queue="other")
    def there(**state: object) -> dict[str, object]:
        return {"there": same(**{k: v for k, v in state.items() if k != "here"})}

    workflow.sequence(make, here, there)
    mesh, second = lab.mesh(workflow), lab.mesh(workflow)
    lab.worker(mesh)
    lab.worker(second, queues={"other": 1})
    run = mesh.wait_for_run(mesh.start_run(workflow).id, 20)
    assert run.status is RunStatus.COMPLETED, run.error
    assert run.context is not None
    assert run.context["here"] == run.context["there"]
    assert {key: run.context[key] for key in VALUES} == VALUES
    assert {key: type(run.context[key]) for key in VALUES} == {key: type(value) for key, value in VALUES.items()}


@pytest.mark.parametrize("returned", [5, "text", [1], {1, 2}, float("nan")])
def test_what_has_no_keys_fails_for_good_and_the_error_says_what_to_do(lab: Lab, returned: object) -> None:
    """It is not retried: it would be the same again."""
    run = ended(lab, single(lambda: returned, retry=Retry(max_attempts=3)))
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error["type"] == "InvalidOutput"
    assert "output=" in run.error["message"]
    assert len(lab.attempts(run)) == 1


@pytest.mark.parametrize("returned", [float("nan"), object(), "a\0b", "\ud800", "x" * 2_000_000, {1: object()}])
def test_what_cannot_be_stored_fails_for_good(lab: Lab, returned: object) -> None:
    """The error names the place."""
    run = ended(lab, single(lambda: {"a": [returned]}, retry=Retry(max_attempts=3)))
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error["type"] == "InvalidOutput"
    assert "result" in run.error["message"]
    assert len(lab.attempts(run)) == 1


def test_an_outcome_takes_its_transition(lab: Lab) -> None:
    """Its output is kept; an outcome without a transition fails the run and says how to declare one."""
    workflow = Workflow("outcomes")

    @workflow.step(start=True)
    def ask(answer: str = "review") -> Outcome:
        return Outcome(answer, {"asked": answer})

    @workflow.step
    def review(asked: str) -> dict[str, str]:
        return {"reviewed": asked}

    workflow.transition(ask, on="review", to=review)
    workflow.transition(review, to=COMPLETE)
    run = ended(lab, workflow)
    assert run.context == {"asked": "review", "reviewed": "review"}

    lost = ended(lab, single(lambda: Outcome("elsewhere"), "lost"))
    assert lost.status is RunStatus.FAILED
    assert lost.error is not None
    assert lost.error["type"] == "NoTransition"
    assert "transition(" in lost.error["message"]


# -- what it raises ----------------------------------------------------------------------------------------------------


def test_a_failure_is_retried_as_declared(lab: Lab) -> None:
    """Each attempt is in the history, with its error; the events tell of each."""
    workflow = Workflow("again")

    @workflow.step(retry=Retry(max_attempts=3, backoff=Constant(60), give_up_on=(KeyError,)))
    def work(ctx: Context) -> dict[str, int]:
        if ctx.attempt < 3:
            raise RuntimeError(f"attempt {ctx.attempt}")
        return {"attempt": ctx.attempt}

    with standing_still(lab.dsn, workflow) as h:
        ear = Ear(h.mesh)
        run = h.mesh.start_run(workflow)
        assert h.run_until(run).context == {"attempt": 3}
        names = ear.names()
        attempts = h.attempts(run)
    assert [(a.attempt, a.status) for a in attempts] == [(1, "failed"), (2, "failed"), (3, "completed")]
    assert [a.started_at for a in attempts] == [NOON + timedelta(minutes=n) for n in range(3)]
    assert attempts[0].error is not None
    assert attempts[0].error["message"] == "attempt 1"
    assert "work" in attempts[0].error["traceback"]
    assert [name for name in names if name.startswith("step.")] == [
        "step.started",
        "step.failed",
        "step.retry_scheduled",
        "step.started",
        "step.failed",
        "step.retry_scheduled",
        "step.started",
        "step.completed",
    ]
    assert names[0] == "run.created"


@pytest.mark.parametrize("error", [Fail("no use", card="4242"), KeyError("x")])
def test_what_is_given_up_on_is_not_retried(lab: Lab, error: Exception) -> None:
    """Fail, and what the policy names."""

    def work() -> None:
        raise error

    run = ended(lab, single(work, retry=Retry(max_attempts=3, give_up_on=(KeyError,))))
    assert run.status is RunStatus.FAILED
    assert len(lab.attempts(run)) == 1
    assert run.error is not None
    if isinstance(error, Fail):
        assert run.error["details"] == {"card": "4242"}


def test_retry_after_chooses_the_delay(lab: Lab) -> None:
    """In place of an hour it is a minute."""

    def work(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise RetryAfter(60)

    with standing_still(lab.dsn, single(work, retry=Retry(max_attempts=2, backoff=Constant(3600)))) as h:
        run = h.run_until(h.mesh.start_run("single"), status=RunStatus.COMPLETED)
        assert [(a.status, a.started_at) for a in h.attempts(run)] == [
            ("failed", NOON),
            ("completed", NOON + timedelta(minutes=1)),
        ]


def test_a_defer_uses_no_attempt(lab: Lab) -> None:
    """However often; how often is known, and why."""
    count: list[int] = []

    def work(ctx: Context) -> None:
        count.append(ctx.attempt)
        raise Defer(60, "not yet")

    with standing_still(lab.dsn, single(work)) as h:
        run = h.mesh.start_run("single")
        assert [each.result for each in h.travel(minutes=3)] == ["deferred"] * 4
        assert count == [1, 1, 1, 1]
        step = h.assert_step(run, "work", status=StepStatus.SLEEPING, attempts=0)
        assert (step.reason, step.due_at) == ("not yet", NOON + timedelta(minutes=4))
        assert h.attempts(run) == []
        assert lab.rows(f"SELECT defers FROM {h.schema}.jobs") == [(4,)]


# -- other kinds of steps ----------------------------------------------------------------------------------------------


def test_log_records_say_to_which_run_they_belong(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """Those of a log step and those that a step's own code makes, sync and async."""
    caplog.handler.addFilter(StepFilter())
    own = logging.getLogger("app")
    workflow = Workflow("talk")

    @workflow.step
    def say() -> None:
        own.warning("sync")

    note = workflow.log("note", "logged", level="warning")

    @workflow.step
    async def say_async() -> None:
        await asyncio.sleep(0)
        own.warning("async")

    workflow.sequence(say, note, say_async)
    run = ended(lab, workflow)
    found = {r.getMessage(): r for r in caplog.records if r.getMessage() in ("sync", "logged", "async")}
    assert [(m, str(r.run_id), r.workflow, r.trigger, r.step, r.attempt) for m, r in found.items()] == [  # type: ignore[attr-defined]
        ("sync", str(run.id), "talk", "manual", "say", 1),
        ("logged", str(run.id), "talk", "manual", "note", 1),
        ("async", str(run.id), "talk", "manual", "say_async", 1),
    ]


def test_a_wait_lets_its_time_pass_on_the_databases_clock(lab: Lab) -> None:
    """What comes after it starts neither earlier nor later, and the history shows the wait's duration."""
    workflow = Workflow("waits")

    @workflow.step
    def before() -> None: ...

    wait = workflow.wait("wait", seconds=90)

    @workflow.step
    def after() -> None: ...

    workflow.sequence(before, wait, after)
    with standing_still(lab.dsn, workflow) as h:
        run = h.run_until(h.mesh.start_run(workflow))
        then = NOON + timedelta(seconds=90)
        assert [(a.step, a.started_at, a.finished_at) for a in h.attempts(run)] == [
            ("before", NOON, NOON),
            ("wait", NOON, then),
            ("after", then, then),
        ]


def test_a_loop_without_an_end_reaches_its_visit_limit(lab: Lab) -> None:
    """The run fails with an error that says so."""
    workflow = Workflow("loop")

    @workflow.step(start=True, visit_limit=5)
    def again(ctx: Context) -> dict[str, int]:
        return {"visit": ctx.visit}

    workflow.transition(again, to=again)
    workflow.transition(again, on="enough", to=COMPLETE)
    run = ended(lab, workflow)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error["type"] == "VisitLimitReached"
    assert run.context == {"visit": 5}
    check(lab)
