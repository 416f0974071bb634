"""``mesh.meters``: what is listed, who may be paused, and that work goes on at once when a pause is ended."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from squidmesh import (
    AsyncMeters,
    AsyncSquidMesh,
    InvalidOption,
    Limit,
    Meter,
    MeterNotFound,
    Meters,
    NotFound,
    Rate,
    SquidMesh,
    Workflow,
    testing,
)
from tests.invariants import check
from tests.lab import Gate
from tests.waiting import until

if TYPE_CHECKING:
    from tests.lab import Lab

CHARGE = "shop/charge:account"


@dataclass
class Account:
    account: str = "a"


def shop(gate: Gate | None = None, **options: Any) -> Workflow:
    workflow = Workflow("shop", payload=Account)

    @workflow.step(**({"limit": Limit(2, key="account")} | options))
    def charge(account: str) -> None:
        if gate is not None:
            gate.pass_()

    return workflow


def meter(name: str, **changes: Any) -> Meter:
    said = {"held": 0, "waiting": 0, "most": None, "tokens": None, "paused_until": None}
    return Meter(name=name, **{**said, **changes})


# -- what is listed ----------------------------------------------------------------------------------------------------


def test_what_is_in_use_is_listed_by_name_and_what_has_no_key_always(lab: Lab) -> None:
    gate = Gate()
    rated = Workflow("mailing")

    @rated.step(rate=Rate(100, per=60), queue="mail")
    def send() -> None: ...

    mesh = lab.mesh(shop(gate), rated, queue_limits={"mail": 20})
    mails, rate = meter("@mail", most=20), meter("mailing/send", tokens=100.0)
    assert mesh.meters.list() == [mails, rate]
    mesh.start_runs("shop", [{"account": "a"}] * 5 + [{"account": "b"}])
    lab.worker(mesh, 10, lease=60.0, beat=0.5)
    until(lambda: lab.value("SELECT count(*) FROM squidmesh.jobs WHERE meters IS NOT NULL") == 6, what="filed jobs")
    until(lambda: lab.value("SELECT count(*) FROM squidmesh.jobs WHERE state = 'claimed'") == 3, what="claimed ones")
    a, b = meter(f"{CHARGE}=a", held=2, waiting=3, most=2), meter(f"{CHARGE}=b", held=1, most=2)
    assert mesh.meters.list() == [mails, rate, a, b]
    assert mesh.meters.list("shop/") == [a, b]
    assert mesh.meters.list(f"{CHARGE}=b") == [b]
    assert mesh.meters.list(limit=3) == [mails, rate, a]
    assert lab.mesh().meters.list() == [meter(a.name, held=2, waiting=3), meter(b.name, held=1)], "what code declares"
    gate.open()
    lab.until_ended(6)
    assert mesh.meters.list() == [mails, rate]
    check(lab)


def test_a_limit_and_a_rate_of_one_name_are_one_meter(dsn: str) -> None:
    workflow = shop(limit=Limit(5, key="account"), rate=Rate(3, per=60, key="account"))
    with testing.harness(dsn, workflows=[workflow]) as h:
        h.mesh.start_runs("shop", [{}] * 4)
        h.drain()
        assert h.mesh.meters.list() == [meter(f"{CHARGE}=a", waiting=1, most=5, tokens=0.0)]
        h.outage(seconds=10)
        (found,) = h.mesh.meters.list()
        assert found.tokens == pytest.approx(0.5)


@pytest.mark.parametrize("said", [{"limit": 0}, {"limit": 1001}, {"limit": True}, {"prefix": 7}])
def test_what_cannot_be_listed_is_refused(lab: Lab, said: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(said))):
        lab.mesh().meters.list(**said)


# -- pause and resume ------------------------------------------------------------------------------------------------


def test_a_pause_keeps_what_shares_it_and_resuming_lets_it_go_on_at_once(lab: Lab) -> None:
    """The worker sleeps until the pause is over, an hour from now, and its next heartbeat is far."""
    mesh = lab.mesh(shop())
    paused = mesh.meters.pause(f"{CHARGE}=a", seconds=3600)
    assert paused.paused_until is not None
    assert timedelta(minutes=59) < paused.paused_until - datetime.now(UTC) <= timedelta(hours=1)
    lab.worker(mesh, 2, beat=600.0, lease=1200.0)
    kept, other = mesh.start_runs("shop", [{"account": "a"}, {"account": "b"}])
    assert mesh.wait_for_run(other.id, 30).status == "completed"
    until(lambda: lab.value("SELECT count(*) FROM squidmesh.workers WHERE idle") == 1, what="a worker that sleeps")
    assert mesh.explain_run(kept.id).reason == "key_paused"
    assert mesh.meters.list() == [meter(f"{CHARGE}=a", waiting=1, most=2, paused_until=paused.paused_until)]
    assert mesh.meters.resume(f"{CHARGE}=a").paused_until is None
    assert mesh.wait_for_run(kept.id, 30).status == "completed"
    check(lab)


def test_the_limit_of_a_queue_and_what_has_no_key_are_paused_by_name(dsn: str) -> None:
    workflow = shop(limit=Limit(2, name="gateway"), queue="mail")
    app = SquidMesh(workflows=[workflow], queue_limits={"mail": 9})
    with testing.harness(dsn, mesh=app) as h:
        for name in ("gateway", "@mail"):
            h.mesh.meters.pause(name, seconds=60)
            run = h.mesh.start_run("shop")
            h.drain()
            assert h.mesh.explain_run(run.id).details["meter"] == name
            h.mesh.meters.resume(name)
            h.drain()
            assert h.mesh.inspect_run(run.id).status == "completed"


def test_the_longer_of_two_pauses_holds(dsn: str) -> None:
    with testing.harness(dsn, workflows=[shop()]) as h:
        name, pause = f"{CHARGE}=a", h.mesh.meters.pause
        until_then = h.now + timedelta(minutes=5)
        assert pause(name, until=until_then).paused_until == until_then
        assert pause(name, seconds=60).paused_until == until_then
        assert pause(name, seconds=timedelta(minutes=6)).paused_until == until_then + timedelta(minutes=1)
        h.mesh.meters.resume(name)
        assert pause(name, seconds=60).paused_until == h.now + timedelta(minutes=1)


def test_what_is_resumed_and_not_in_use_is_not_listed_any_more(dsn: str) -> None:
    with testing.harness(dsn, workflows=[shop()]) as h:
        h.mesh.meters.pause(f"{CHARGE}=a", seconds=60)
        assert len(h.mesh.meters.list()) == 1
        assert h.mesh.meters.resume(f"{CHARGE}=a") == meter(f"{CHARGE}=a", most=2)
        assert h.mesh.meters.list() == []
        assert h.mesh.meters.resume(f"{CHARGE}=a").paused_until is None, "twice is allowed"


def test_a_name_that_nobody_knows_is_refused_with_those_that_are_declared(lab: Lab) -> None:
    mesh = lab.mesh(shop(), queue_limits={"mail": 20})
    for name in ("shop/chrage:account=a", CHARGE, "@male", "@mail=a", ""):
        for call in (partial(mesh.meters.pause, name, seconds=60), partial(mesh.meters.resume, name)):
            with pytest.raises(MeterNotFound, match=r"this app declares @mail, shop/charge:account=VALUE") as caught:
                call()
            assert caught.value.details == {"meter": name, "known": ["@mail", f"{CHARGE}=VALUE"]}
    assert isinstance(caught.value, NotFound)
    with pytest.raises(MeterNotFound, match="this app declares none"):
        lab.mesh().meters.pause(f"{CHARGE}=a", seconds=60)


def test_a_process_without_the_code_may_pause_what_has_a_job_or_a_row(dsn: str) -> None:
    with testing.harness(dsn, workflows=[shop()]) as h:
        h.mesh.meters.pause(f"{CHARGE}=a", seconds=60)
        h.mesh.start_run("shop", {"account": "a"})
        h.drain()
        bare, name = h.mesh.meters, f"{CHARGE}=a"
        known, h.mesh.registry.meters.limits = h.mesh.registry.meters.limits, {}
        try:
            assert bare.pause(name, seconds=120) == meter(name, waiting=1, paused_until=h.now + timedelta(minutes=2))
            assert bare.resume(name) == meter(name, waiting=1)
        finally:
            h.mesh.registry.meters.limits = known
        h.drain()


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({}, "give either seconds= or until="),
        ({"seconds": 1, "until": datetime(2100, 1, 1, tzinfo=UTC)}, "give either seconds= or until="),
        ({"seconds": 0}, "above 0"),
        ({"seconds": "60"}, "seconds or a timedelta"),
        ({"seconds": 1e9}, "up to"),
        ({"until": datetime(2100, 1, 1)}, "aware datetime"),  # noqa: DTZ001
        ({"until": datetime(2020, 1, 1, tzinfo=UTC)}, "to come"),
        ({"until": datetime(2900, 1, 1, tzinfo=UTC)}, "at most"),
    ],
)
def test_what_is_no_pause_is_refused(lab: Lab, said: dict[str, Any], wrong: str) -> None:
    mesh = lab.mesh(shop())
    with pytest.raises(InvalidOption, match=wrong):
        mesh.meters.pause(f"{CHARGE}=a", **said)
    with pytest.raises(InvalidOption, match="name"):
        mesh.meters.pause(7, seconds=1)  # type: ignore[arg-type]


# -- the twin ----------------------------------------------------------------------------------------------------------


def test_the_twin_does_the_same(lab: Lab) -> None:
    async def main() -> None:
        async with AsyncSquidMesh(lab.dsn, workflows=[shop()], schema=lab.schema) as mesh:
            paused = await mesh.meters.pause(f"{CHARGE}=a", seconds=60)
            assert [paused] == await mesh.meters.list()
            assert (await mesh.meters.resume(f"{CHARGE}=a")).paused_until is None
            assert await mesh.meters.list("shop") == []
            with pytest.raises(MeterNotFound):
                await mesh.meters.resume("nobody")

    asyncio.run(main())


def test_the_twins_have_the_same_methods() -> None:
    methods = [name for name in vars(Meters) if not name.startswith("_")]
    assert methods == [name for name in vars(AsyncMeters) if not name.startswith("_")]
    for name in methods:
        sync, asynchronous = getattr(Meters, name), getattr(AsyncMeters, name)
        assert inspect.getdoc(sync) == inspect.getdoc(asynchronous)
        named = [[(p.name, p.default) for p in inspect.signature(m).parameters.values()] for m in (sync, asynchronous)]
        assert named[0] == named[1]
