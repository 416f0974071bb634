"""What a test arranges for steps: other functions, errors, workers that die; and that runs come through it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from squidmesh import Constant, Context, Fail, InvalidOption, Retry, Workflow, testing
from tests.lab import standing_still

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Order:
    amount: int


done: Counter[str] = Counter()
orders = Workflow("orders", payload=Order)


@orders.step
def load(amount: int) -> dict[str, Any]:
    done["load"] += 1
    return {"item": {"price": amount}}


@orders.step(retry=Retry(max_attempts=3, backoff=Constant(60)))
async def charge(item: dict[str, Any]) -> dict[str, Any]:
    done["charge"] += 1
    return {"receipt": f"r-{item['price']}"}


@orders.step(irreversible=True)
def ship(receipt: str) -> None:
    done["ship"] += 1


orders.sequence(load, charge, ship)
ALL = ["load", "charge", "ship"]


@pytest.fixture
def h(dsn: str) -> Iterator[testing.Harness]:
    done.clear()
    with standing_still(dsn, orders) as harness:
        yield harness


def statuses(h: testing.Harness, run: Any) -> list[tuple[str, str]]:
    return [(attempt.step, str(attempt.status)) for attempt in h.attempts(run)]


def test_a_replaced_function_is_called_as_a_step_is_and_its_calls_are_kept(h: testing.Harness) -> None:
    run = h.mesh.start_run(orders, {"amount": 3})
    with h.replace(charge, lambda item, other="none": {"receipt": f"fake-{item['price']}-{other}"}) as fake:
        h.drain()
    h.assert_step(run, charge, status="completed", output={"receipt": "fake-3-none"})
    (call,) = fake.calls
    assert call.arguments == {"item": {"price": 3}}
    assert (call.context.run_id, call.context.attempt) == (run.id, 1)
    assert done == {"load": 1, "ship": 1}
    h.run_until(h.mesh.start_run(orders, {"amount": 4}))
    assert done["charge"] == len(fake.calls) == 1


def test_a_replacement_holds_until_it_is_ended_and_the_latest_one_wins(h: testing.Harness) -> None:
    first = h.replace("orders/charge", lambda: {"receipt": "first"})
    second = h.replace("charge", lambda: {"receipt": "second"})
    outputs = []
    for ended in (second, first, None):
        run = h.mesh.start_run(orders, {"amount": 3})
        outputs.append((h.run_until(run).context or {})["receipt"])
        if ended is not None:
            ended.end()
    assert outputs == ["second", "first", "r-3"]


def test_a_fake_without_annotations_gets_the_context_under_the_name_that_the_step_has_for_it(dsn: str) -> None:
    workflow = Workflow("told")

    @workflow.step
    def work(where: Context) -> None: ...

    with testing.harness(dsn, workflows=[workflow]) as h:
        h.replace(work, lambda where: {"key": where.idempotency_key})
        run = h.run_until(h.mesh.start_run(workflow))
        assert run.context == {"key": f"{run.id}:work:1"}


def test_a_replacement_that_cannot_be_a_step_is_refused(h: testing.Harness, dsn: str) -> None:
    with pytest.raises(InvalidOption, match="a step is called with names only"):
        h.replace(load, lambda *amounts: None)
    with pytest.raises(InvalidOption, match="is no step with a function"):
        h.replace("deliver", lambda: None)
    other = Workflow("others", payload=Order)
    other.step(name="load")(load.function)
    several = pytest.raises(InvalidOption, match="several: orders/load, others/load")
    with testing.harness(dsn, workflows=[orders, other]) as both, several:
        both.replace("load", lambda: None)


def test_an_error_at_some_attempts_takes_the_retries_of_the_step(h: testing.Harness) -> None:
    run = h.mesh.start_run(orders, {"amount": 3})
    failing = h.fail(charge, ConnectionError("no answer"), first=2)
    assert h.run_until(run).status == "completed"
    assert failing.count == 2
    assert done["charge"] == 1
    assert h.steps(run) == ["load", "charge", "charge", "charge", "ship"]
    failing.end()
    h.fail(charge, TimeoutError, attempts={1, 2, 3})
    again = h.mesh.start_run(orders, {"amount": 3})
    assert h.run_until(again).status == "failed"
    h.assert_step(again, charge, attempts=3)
    with pytest.raises(InvalidOption, match="an exception"):
        h.fail(charge, "no answer")  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="not both"):
        h.fail(charge, ValueError, attempts={1}, first=1)


def test_a_worker_that_dies_before_its_commit_runs_the_step_again(h: testing.Harness) -> None:
    run = h.mesh.start_run(orders, {"amount": 3})
    crash = h.crash(charge)
    ran = h.drain()
    assert [(each.step, each.result) for each in ran] == [
        ("load", "completed"),
        ("charge", "crashed"),
        ("charge", "completed"),
        ("ship", "completed"),
    ]
    assert (crash.count, done["charge"]) == (1, 2)
    assert statuses(h, run) == [
        ("load", "completed"),
        ("charge", "abandoned"),
        ("charge", "completed"),
        ("ship", "completed"),
    ]
    h.assert_status(run, "completed")
    h.assert_step(run, charge, attempts=1)


def test_a_worker_that_dies_in_the_body_has_done_nothing(h: testing.Harness) -> None:
    run = h.mesh.start_run(orders, {"amount": 3})
    h.crash(charge, "in_body", times=2)
    h.drain()
    h.assert_status(run, "completed")
    assert done["charge"] == 1
    assert [step for step, status in statuses(h, run) if status == "abandoned"] == ["charge", "charge"]


def test_a_worker_that_dies_after_its_commit_loses_only_what_it_took_on(h: testing.Harness) -> None:
    run = h.mesh.start_run(orders, {"amount": 3})
    h.crash(load, "after_commit")
    h.drain()
    h.assert_status(run, "completed")
    assert done == {"load": 1, "charge": 1, "ship": 1}
    assert statuses(h, run)[:3] == [("load", "completed"), ("charge", "abandoned"), ("charge", "completed")]


def test_a_worker_that_dies_takes_no_other_run_with_it(h: testing.Harness) -> None:
    runs = h.mesh.start_runs(orders, [{"amount": n} for n in range(5)])
    h.crash(load, times=1)
    h.drain()
    assert [h.run(run).status for run in runs] == ["completed"] * 5
    assert sum(status == "abandoned" for run in runs for _, status in statuses(h, run)) == 1


def test_an_irreversible_step_whose_worker_died_asks_a_human(h: testing.Harness) -> None:
    run = h.mesh.start_run(orders, {"amount": 3})
    h.crash(ship)
    h.drain()
    assert h.assert_status(run, "paused").attention == "interrupted"
    assert done["ship"] == 1


def test_a_step_that_kills_its_worker_again_and_again_is_quarantined(h: testing.Harness) -> None:
    run = h.mesh.start_run(orders, {"amount": 3})
    h.crash(load, "in_body", times=10)
    h.drain()
    assert h.assert_status(run, "paused").attention == "quarantined"


def test_a_crash_can_be_raised_anywhere_in_a_body(h: testing.Harness) -> None:
    def half(item: dict[str, Any], ctx: Context) -> dict[str, Any]:
        done["half"] += 1
        if done["half"] == 1:
            raise testing.Crash
        return {"receipt": ctx.idempotency_key}

    h.replace(charge, half)
    run = h.mesh.start_run(orders, {"amount": 3})
    assert h.run_until(run).context == {"item": {"price": 3}, "receipt": f"{run.id}:charge:1"}
    assert [status for _, status in statuses(h, run)].count("abandoned") == 1


def test_what_is_meant_for_the_test_reaches_it(h: testing.Harness) -> None:
    """``pytest.fail`` in a fake, Ctrl-C, the end of a test's time: none of them is a failure of the step."""
    run = h.mesh.start_run(orders, {"amount": 3})
    with h.replace(charge, lambda: pytest.fail("must not be charged")), pytest.raises(pytest.fail.Exception):
        h.drain()
    h.drain()
    h.assert_status(run, "completed")
    with h.fail(load, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        h.run_until(h.mesh.start_run(orders, {"amount": 3}))
    h.drain()
    assert [str(run.status) for run in h.runs()] == ["completed", "completed"]


def test_a_crash_while_somebody_holds_the_run_is_settled_later(
    h: testing.Harness, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squidmesh.testing.inline.LOOKS", 2)
    run = h.mesh.start_run(orders, {"amount": 3})
    with psycopg.connect(dsn) as other:

        def hold() -> None:
            other.execute(f"SELECT FROM {h.schema}.runs FOR UPDATE".encode())
            raise testing.Crash

        with h.replace(load, hold), pytest.raises(testing.HarnessError, match="the worker that died"):
            h.drain()
        other.rollback()
    assert h.run_until(run).status == "completed"
    assert statuses(h, run)[0] == ("load", "abandoned")


def test_an_attempt_runs_out_of_time_without_running(dsn: str) -> None:
    workflow, ran = Workflow("slow"), list[str]()

    @workflow.step(timeout=30, retry=Retry(max_attempts=2, backoff=Constant(60)))
    async def ask() -> None:
        ran.append("ask")

    @workflow.step(timeout=30, irreversible=True)
    def pay() -> None:
        ran.append("pay")

    @workflow.step
    def thank() -> None: ...

    workflow.sequence(ask, pay, thank)
    with standing_still(dsn, workflow) as h:
        run = h.mesh.start_run(workflow)
        late = [h.time_out(ask), h.time_out("slow/pay", attempts=[1])]
        assert [(each.step, each.result) for each in h.travel(60)] == [
            ("ask", "timed_out"),
            ("ask", "completed"),
            ("pay", "timed_out"),
        ]
        assert h.assert_status(run, "paused").attention == "interrupted"  # what it did, only a person can know
        assert [each.count for each in late] == [1, 1]
        assert [(each.error or {}).get("message") for each in h.attempts(run) if each.error] == [
            "the step did not end within 30 s",
            "the step did not end within 30 s",
        ]
        h.mesh.unblock_run(run.id, resolution="completed", actor="ada")
        h.run_until(run, status="completed")
        assert ran == ["ask"]
        with pytest.raises(InvalidOption, match=r"'thank' has no time-out; declare it with step\(timeout=...\)"):
            h.time_out(thank)


def test_what_undoes_several_steps_is_told_apart_by_the_step(dsn: str) -> None:
    workflow, undone = Workflow("pair"), list[str]()

    def undo(ctx: Context) -> None:
        undone.append(ctx.step)

    @workflow.step(compensate=undo)
    def first() -> None: ...

    @workflow.step(compensate=undo)
    def second() -> None: ...

    @workflow.step
    def third() -> None:
        raise Fail("no")

    workflow.sequence(first, second, third)
    with standing_still(dsn, workflow) as h:
        for named in (undo, "undo"):
            with pytest.raises(InvalidOption, match="several: what undoes pair/first, what undoes pair/second"):
                h.replace(named, lambda: None)
        assert first.compensation is not None
        with h.replace(first.compensation, lambda: undone.append("a fake")):
            run = h.mesh.start_run(workflow)
            h.run_until(run)
        assert undone == ["second", "a fake"]
        assert h.undone(run) == ["second", "first"]
