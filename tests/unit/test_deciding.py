"""Deciding for many runs at once: what cannot be decided harms that run only, whatever it takes to say so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

import pytest

from squidmesh.definition import Step
from squidmesh.planner.facts import Completion
from squidmesh.planner.outcome import Broken, Completed, Failed
from squidmesh.planner.planner import plan_findings
from squidmesh.registry import Registry
from squidmesh.states import RunStatus
from squidmesh.worker import deciding
from squidmesh.worker.deciding import Case, decide
from tests.property.simulator import Simulator
from tests.property.strategies import flow

if TYPE_CHECKING:
    from squidmesh.planner.plan import LiveJob

OTHER_RUN: Final = UUID(int=7)


def failing() -> Simulator:
    """A run that fails, with something to undo once what executes has ended."""
    sim = Simulator(flow("a -> bad", "slow -> END", start="a slow", steps=(Step(name="a", compensate="undo"),)))
    sim.end("a")
    sim.start("slow")
    sim.end("bad", Failed({"type": "Error", "message": "it broke"}, retryable=False))
    return sim


def test_a_run_that_cannot_be_decided_may_need_more_to_be_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    sims = [failing(), failing()]
    sims[1].run = replace(sims[1].run, id=OTHER_RUN)

    def faulty(graph: Any, run: Any, jobs: Any, findings: Any, facts: Any, **options: Any) -> Any:
        if jobs is sims[0].jobs and not isinstance(findings[0].happening, Broken):
            raise RuntimeError("odd")
        return plan_findings(graph, run, jobs, findings, facts, **options)

    monkeypatch.setattr(deciding, "plan_findings", faulty)
    registry = Registry(())
    registry._graphs[sims[0].run.fingerprint] = sims[0].graph
    cases = [
        Case(
            run=sim.run,
            jobs=cast("dict[int, LiveJob]", sim.jobs),
            findings=[sim.finding(sim.slot_of("slow"), Completed())],
        )
        for sim in sims
    ]
    flow_ = decide(registry, cases)
    (asked,) = next(flow_).statements
    assert asked.name == "read_completions"
    with pytest.raises(StopIteration) as done:
        flow_.send([[(sim.run.id, sim.run.seq, Completion(0, "a", 1)) for sim in sims]])
    plans = done.value.value
    assert [plan.status for plan in plans] == [RunStatus.COMPENSATING] * 2
    assert [str(plan.attempts[0].status) for plan in plans] == ["abandoned", "completed"]
