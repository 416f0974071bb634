"""Limits and rates that steps share, with real workers."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from squidmesh import (
    ConfigurationError,
    Constant,
    Context,
    Defer,
    DefinitionError,
    Limit,
    Rate,
    Retry,
    RetryAfter,
    Workflow,
)
from squidmesh.store.meters import MOST_METERS
from tests.invariants import check
from tests.lab import until_status
from tests.waiting import TIMEOUT, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from squidmesh import Run, SquidMesh, Worker
    from tests.lab import Lab


@dataclass
class Account:
    account: str


class Crowd:
    """Counts how many bodies are at work at once, in all and by key, and lets them go when it is told to."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.at_work: dict[str, int] = defaultdict(int)
        self.most: dict[str, int] = defaultdict(int)
        self.most_at_all = 0
        self.begun = 0
        self._leave = 0

    def enter(self, key: str = "") -> None:
        """A body begins, and stays until it may leave."""
        with self.lock:
            self.begun += 1
            self.at_work[key] += 1
            self.most[key] = max(self.most[key], self.at_work[key])
            self.most_at_all = max(self.most_at_all, sum(self.at_work.values()))
            self.lock.notify_all()
            assert self.lock.wait_for(lambda: self._leave > 0, TIMEOUT)
            self._leave -= 1
            self.at_work[key] -= 1
            self.lock.notify_all()

    def until_begun(self, count: int) -> None:
        """Wait until so many bodies have begun."""
        with self.lock:
            assert self.lock.wait_for(lambda: self.begun >= count, TIMEOUT), f"{self.begun} of {count} have begun"

    def let_go(self, count: int) -> None:
        """So many may leave."""
        with self.lock:
            self._leave += count
            self.lock.notify_all()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    crowd.let_go(10_000)


def crowded(crowd: Crowd, **options: Any) -> Workflow:
    """A workflow of one step that stays until it may leave."""
    workflow = Workflow("metered", payload=Account)

    @workflow.step(**options)
    def work(account: str) -> None:
        crowd.enter(account)

    return workflow


def steady(lab: Lab, mesh: SquidMesh, concurrency: int = 10, **settings: Any) -> Worker:
    """A worker that is not declared dead because the machine is busy: the body of a dead one would still be at work."""
    return lab.worker(mesh, concurrency, **{"lease": 60.0, "beat": 0.5, **settings})


def of(*accounts: str) -> list[dict[str, str]]:
    return [{"account": account} for account in accounts]


# -- limits ----------------------------------------------------------------------------------------------------------


def test_a_limit_holds_across_workers(lab: Lab, crowd: Crowd) -> None:
    workflow = crowded(crowd, limit=Limit(3))
    lab.mesh(workflow).start_runs(workflow, of("") * 20)
    for _ in range(2):
        steady(lab, lab.mesh(workflow), 10)
    for turn in range(17):
        crowd.until_begun(3 + turn)
        crowd.let_go(1)
    crowd.until_begun(20)
    crowd.let_go(3)
    lab.until_ended(20)
    assert crowd.most == {"": 3}
    check(lab)


def test_a_limit_by_key_holds_for_each_value_and_a_busy_account_keeps_no_other_waiting(lab: Lab, crowd: Crowd) -> None:
    workflow = crowded(crowd, limit=Limit(1, key="account"))
    mesh = lab.mesh(workflow)
    mesh.start_runs(workflow, of(*"aaaaaaaa", "b", "c"))
    steady(lab, mesh, 10)
    crowd.until_begun(3)
    assert crowd.at_work == {"a": 1, "b": 1, "c": 1}
    crowd.let_go(10)
    lab.until_ended(10)
    assert crowd.most == {"a": 1, "b": 1, "c": 1}
    check(lab)


def test_a_queue_may_have_a_limit_beside_that_of_a_step(lab: Lab, crowd: Crowd) -> None:
    limited, free = crowded(crowd, limit=Limit(2, key="account"), queue="mail"), Workflow("free")

    @free.step(queue="mail")
    def other() -> None:
        crowd.enter("free")

    mesh = lab.mesh(limited, free, queue_limits={"mail": 5})
    mesh.start_runs(limited, of(*"aaaa"))
    mesh.start_runs(free, [{}] * 8)
    for _ in range(2):
        steady(lab, mesh, queues={"mail": 10})
    crowd.until_begun(5)
    crowd.let_go(12)
    lab.until_ended(12)
    assert crowd.most["a"] <= 2
    assert crowd.most_at_all == 5
    check(lab)


def test_steps_that_give_the_same_name_share_a_limit(lab: Lab, crowd: Crowd) -> None:
    workflows = [Workflow("one"), Workflow("two")]
    for workflow in workflows:

        @workflow.step(limit=Limit(2, name="gateway"))
        def call() -> None:
            crowd.enter()

    mesh = lab.mesh(*workflows)
    for workflow in workflows:
        mesh.start_runs(workflow, [{}] * 4)
    steady(lab, mesh, 10)
    for turn in range(6):
        crowd.until_begun(2 + turn)
        crowd.let_go(1)
    crowd.until_begun(8)
    crowd.let_go(2)
    lab.until_ended(8)
    assert crowd.most == {"": 2}


def test_a_later_step_is_metered_by_what_an_earlier_one_returned(lab: Lab, crowd: Crowd) -> None:
    workflow = Workflow("later")

    @workflow.step
    def load() -> dict[str, str]:
        return {"account": "x"}

    @workflow.step(limit=Limit(1, key="account"))
    def work(account: str) -> None:
        crowd.enter(account)

    workflow.sequence(load, work)
    mesh = lab.mesh(workflow)
    mesh.start_runs(workflow, [{}] * 3)
    steady(lab, mesh, 10)
    crowd.until_begun(1)
    held = "SELECT DISTINCT meters FROM squidmesh.jobs WHERE step = 'work'"
    until(lambda: lab.value("SELECT count(*) FROM squidmesh.jobs WHERE step = 'work'") == 3, what="all at work")
    assert lab.rows(held) == [("later/work:account=x\n\n",)]
    crowd.let_go(3)
    lab.until_ended(3)
    assert crowd.most == {"x": 1}
    check(lab)


def test_room_in_a_limit_goes_to_a_worker_that_sleeps_if_its_own_has_none(lab: Lab, crowd: Crowd) -> None:
    """One slot, which a chain goes on in: the other worker must hear of what the limit has room for now."""
    workflow = Workflow("handing")

    @workflow.step(limit=Limit(1))
    def work() -> None:
        crowd.enter("limited")

    @workflow.step
    def after() -> None:
        crowd.enter("after")

    workflow.sequence(work, after)
    mesh = lab.mesh(workflow)
    mesh.start_runs(workflow, [{}] * 2)
    steady(lab, mesh, 1, beat=30.0, lease=60.0)
    crowd.until_begun(1)
    steady(lab, lab.mesh(workflow), 1, beat=30.0, lease=60.0)
    until(lambda: lab.value("SELECT count(*) FROM squidmesh.workers WHERE idle") == 1, what="a worker that sleeps")
    crowd.let_go(1)
    crowd.until_begun(3)
    assert crowd.at_work == {"limited": 1, "after": 1}
    crowd.let_go(3)
    lab.until_ended(2)


def test_a_worker_whose_slots_are_taken_sleeps_whatever_waits_for_them(lab: Lab, crowd: Crowd) -> None:
    workflow = crowded(crowd, limit=Limit(9))
    mesh = lab.mesh(workflow)
    mesh.start_runs(workflow, of("a") * 3)
    steady(lab, mesh, 1, beat=30.0, lease=60.0)
    crowd.until_begun(1)
    until(lambda: lab.value("SELECT count(*) FROM squidmesh.workers WHERE idle") == 1, what="a worker that sleeps")
    crowd.let_go(3)
    lab.until_ended(3)


def test_an_unlimited_step_is_filed_under_nothing(lab: Lab) -> None:
    workflow = Workflow("plain")
    seen: list[Any] = []

    @workflow.step
    def look() -> None:
        seen.append(lab.rows("SELECT lane, meters, started FROM squidmesh.jobs"))

    mesh = lab.mesh(workflow)
    mesh.start_run(workflow)
    steady(lab, mesh, 1)
    lab.until_ended(1)
    assert seen == [[(0, None, False)]]


# -- what becomes of a metered step -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["fails", "defers", "asks to be retried"])
def test_however_an_attempt_ends_its_place_is_free_again(lab: Lab, end: str) -> None:
    workflow, tried = Workflow("ending"), []

    @workflow.step(limit=Limit(1))
    def work(ctx: Context) -> None:
        tried.append(ctx.run_id)
        if end == "fails":
            raise ValueError
        if end == "defers" and tried.count(ctx.run_id) == 1:
            raise Defer(0.01)
        if end == "asks to be retried":
            raise RetryAfter(0.01)

    mesh = lab.mesh(workflow)
    mesh.start_runs(workflow, [{}] * 3)
    steady(lab, mesh, 5)
    lab.until_ended(3)
    assert lab.jobs() == {}
    check(lab)


def test_a_step_in_a_transaction_holds_its_place_until_its_commit(lab: Lab, crowd: Crowd) -> None:
    workflow = Workflow("ledger")

    @workflow.step(transaction=True, limit=Limit(1))
    def book() -> None:
        crowd.enter()

    mesh = lab.mesh(workflow)
    mesh.start_runs(workflow, [{}] * 4)
    for _ in range(2):
        steady(lab, mesh, 4)
    for turn in range(4):
        crowd.until_begun(turn + 1)
        crowd.let_go(1)
    lab.until_ended(4)
    assert crowd.most == {"": 1}
    check(lab)


def test_an_async_step_may_be_limited(lab: Lab) -> None:
    workflow, at_work = Workflow("async"), [0, 0]

    @workflow.step(limit=Limit(2))
    async def work() -> None:
        at_work[0] += 1
        at_work[1] = max(at_work)
        at_work[0] -= 1

    mesh = lab.mesh(workflow)
    mesh.start_runs(workflow, [{}] * 20)
    steady(lab, mesh, 10)
    lab.until_ended(20)
    assert at_work[1] <= 2
    check(lab)


def test_an_irreversible_step_that_is_limited_still_asks_a_person_after_a_crash(lab: Lab, crowd: Crowd) -> None:
    workflow = crowded(crowd, limit=Limit(1, key="account"), irreversible=True)
    mesh = lab.mesh(workflow)
    run = mesh.start_run(workflow, {"account": "a"})
    steady(lab, mesh, 2)
    crowd.until_begun(1)
    lab.rows("UPDATE squidmesh.workers SET dead = true RETURNING 1")
    until_status(mesh, run, "interrupted")
    mesh.unblock_run(run.id, actor="ops", resolution="rerun")
    crowd.until_begun(2)
    crowd.let_go(2)
    lab.until_ended(1)
    check(lab)


def test_what_a_worker_left_behind_is_limited_as_well_when_it_is_run_again(lab: Lab, crowd: Crowd) -> None:
    workflow = crowded(crowd, limit=Limit(2, key="account"))
    mesh = lab.mesh(workflow)
    mesh.start_runs(workflow, of(*"aaaa"))
    steady(lab, mesh, 4)
    crowd.until_begun(2)
    lab.rows("UPDATE squidmesh.workers SET dead = true RETURNING 1")
    until(lambda: lab.value("SELECT count(*) FROM squidmesh.attempts WHERE status = 'abandoned'") == 2, what="a rescue")
    lanes = "SELECT count(*) FROM squidmesh.jobs WHERE lane = 5 AND meters IS NOT NULL"
    assert lab.value(lanes) == 2
    crowd.let_go(100)
    lab.until_ended(4)
    check(lab)


# -- deploys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", [{}, {"limit": Limit(1, key="account", name="renamed")}], ids=["gone", "renamed"])
def test_what_is_filed_under_a_limit_that_no_code_has_any_more_is_filed_anew(
    lab: Lab, crowd: Crowd, now: dict[str, Any]
) -> None:
    old = crowded(crowd, limit=Limit(1, key="account"))
    mesh = lab.mesh(old)
    mesh.start_runs(old, of(*"aaa"))
    before = steady(lab, mesh, 3)
    crowd.until_begun(1)
    until(lambda: lab.value("SELECT count(*) FROM squidmesh.jobs WHERE meters IS NOT NULL") == 3, what="filed jobs")
    crowd.let_go(1)
    crowd.until_begun(2)
    crowd.let_go(1)
    before.stop()

    new = crowded(crowd, **now)
    steady(lab, lab.mesh(new), 3)
    crowd.let_go(3)
    lab.until_ended(3)
    check(lab)


def test_during_a_deploy_each_version_keeps_its_own_limit_and_nothing_is_tossed_to_and_fro(
    lab: Lab, crowd: Crowd
) -> None:
    old, new = crowded(crowd, limit=Limit(1, key="account")), crowded(crowd, limit=Limit(2, key="account", name="new"))
    lab.mesh(old).start_runs(old, of(*"aaaaaa"))
    steady(lab, lab.mesh(old), 3)
    steady(lab, lab.mesh(new), 3)
    crowd.until_begun(1)
    claims = "SELECT coalesce(max(claim), 0) FROM squidmesh.jobs"
    crowd.let_go(6)
    lab.until_ended(6)
    assert crowd.most["a"] <= 3
    assert lab.value(claims) == 0  # nothing is left
    check(lab)


def test_adding_a_limit_files_what_was_started_before(lab: Lab, crowd: Crowd) -> None:
    old, new = crowded(crowd), crowded(crowd, limit=Limit(1))
    lab.mesh(old).start_runs(old, of(*"abc"))
    steady(lab, lab.mesh(new), 3)
    for turn in range(3):
        crowd.until_begun(turn + 1)
        assert sum(crowd.at_work.values()) == 1
        crowd.let_go(1)
    lab.until_ended(3)


# -- rates and pauses -------------------------------------------------------------------------------------------------


def test_a_worker_goes_on_by_itself_when_a_rate_has_a_token_again(lab: Lab) -> None:
    workflow, begun = Workflow("rated"), []

    @workflow.step(rate=Rate(1, per=0.05))
    def work() -> None:
        begun.append(lab)

    mesh = lab.mesh(workflow)
    mesh.start_runs(workflow, [{}] * 5)
    steady(lab, mesh, 10, beat=30.0, lease=60.0)
    lab.until_ended(5)
    began, ended = lab.rows("SELECT min(started_at), max(started_at) FROM squidmesh.attempts")[0]
    assert (ended - began).total_seconds() >= 4 * 0.05 - 0.005
    check(lab)


@pytest.mark.parametrize("keys", [MOST_METERS, MOST_METERS + 50])
@pytest.mark.parametrize(
    "options", [{"rate": Rate(1, per=0.5, key="account")}, {"limit": Limit(1, key="account")}], ids=["rate", "limit"]
)
def test_a_page_of_keys_and_more_are_gone_through_without_a_heartbeat(
    lab: Lab, keys: int, options: dict[str, Any]
) -> None:
    """What found no free slot, or has opened since, may be on any page; and a page may be the last one and full."""
    workflow = Workflow("many", payload=Account)

    @workflow.step(**options)
    def work(account: str) -> None: ...

    mesh = lab.mesh(workflow)
    mesh.start_runs(workflow, of(*map(str, range(keys))) * 3)
    steady(lab, mesh, 10, beat=300.0, lease=600.0)
    lab.until_ended(3 * keys)
    check(lab)


@pytest.mark.parametrize(
    "how", [lambda: Defer(0.2, pause=True), lambda: RetryAfter(0.2, pause=True)], ids=["defer", "retry"]
)
def test_a_step_that_is_told_to_wait_lets_all_of_its_key_wait(lab: Lab, how: Callable[[], Exception]) -> None:
    workflow = Workflow("paused", payload=Account)
    lock = threading.Lock()
    refused: list[str] = []

    @workflow.step(rate=Rate(100, per=1, key="account"), retry=Retry(2, Constant(0)))
    def work(account: str) -> None:
        with lock:
            if account == "a" and not refused:
                refused.append(account)
                raise how()

    mesh = lab.mesh(workflow)
    first = mesh.start_run(workflow, {"account": "a"})
    worker = steady(lab, mesh, 1)
    until(
        lambda: lab.value("SELECT count(*) FROM squidmesh.meters WHERE paused_until IS NOT NULL") == 1, what="a pause"
    )
    (other,) = mesh.start_runs(workflow, of("b"))
    (same,) = mesh.start_runs(workflow, of("a"))
    lab.until_ended(3)

    def began(run: Run) -> Any:
        return lab.value("SELECT max(started_at) FROM squidmesh.attempts WHERE run_id = %s", run.id)

    until_ = "SELECT paused_until FROM squidmesh.meters WHERE name = 'paused/work:account=a'"
    paused_until = lab.value(until_)
    assert began(other) < paused_until
    assert began(same) >= paused_until
    assert began(first) >= paused_until
    assert worker.running == ()


# -- what cannot be -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 5}, r"limit=5 must be a Limit, such as Limit\(5, key=\"account_id\"\)"),
        ({"limit": Limit(0)}, "limit needs a number of steps, a whole number from 1 to 1,000,000"),
        ({"limit": Limit(1, key="a b")}, "limit needs key= to be a key of the step's input"),
        ({"limit": Limit(1, name="a=b")}, "limit needs name= to be a name of letters"),
        ({"limit": Limit(1, name="n" * 101)}, "limit needs name= to be a name of .* at most 100 characters"),
        ({"rate": Rate(1, per=1, key="k" * 101)}, "rate needs key= to be a key .* at most 100 characters"),
        ({"rate": Limit(1)}, r"must be a Rate, such as Rate\(100, per=60, key=\"account_id\"\)"),
        ({"rate": Rate(1, per=0)}, "rate needs per= in seconds or timedelta, above 0"),
        ({"rate": Rate(1, per=1, burst=0)}, "rate needs a burst, a whole number"),
    ],
)
def test_what_cannot_be_a_limit_is_refused_with_what_can(options: dict[str, Any], said: str) -> None:
    workflow = Workflow("wrong")

    @workflow.step(**options)
    def work() -> None: ...

    with pytest.raises(DefinitionError, match=said):
        workflow.check()


def test_one_name_is_one_limit(lab: Lab) -> None:
    workflow = Workflow("twice")
    for number in (1, 2):

        @workflow.step(name=f"step{number}", limit=Limit(number, name="gateway"), start=True)
        def work() -> None: ...

    with pytest.raises(ConfigurationError, match="'twice/step2' shares the limit 'gateway', which is 1, not 2"):
        lab.mesh(workflow)


@pytest.mark.parametrize("limits", [{"mail": 0}, {"mail": "many"}])
def test_a_queue_limit_that_is_none_is_refused(lab: Lab, limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="give how many steps of a queue may execute at once"):
        lab.mesh(queue_limits=limits)


@pytest.mark.parametrize("queue", ["", "a=b", "a\nb"])
def test_a_queue_whose_name_would_not_fit_among_those_of_meters_can_have_no_limit(lab: Lab, queue: str) -> None:
    with pytest.raises(ConfigurationError, match="is one line without ="):
        lab.mesh(queue_limits={queue: 5})
