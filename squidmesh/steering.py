"""What people ask of a run that is there: cancel, decide, unblock, signal, retry, replay; as flows for both clients.

Every one is the same three moves: lock the run, ask the planner, save the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from squidmesh.deciding import Locked, decide_one
from squidmesh.errors import IllegalMove, InvalidOption, InvalidPayload, RunNotFound, UnsafeReplay
from squidmesh.keyed import checked_key
from squidmesh.operations import MOST_LISTED, TERMINAL, Start, blank_run
from squidmesh.planner.again import Replay, plan_replay, plan_retry
from squidmesh.planner.decisions import Remark, plan_review, plan_signal, plan_unblock
from squidmesh.planner.facts import Facts, NeedsMore
from squidmesh.planner.outcome import Output
from squidmesh.planner.planner import plan_cancel
from squidmesh.store import runs as store
from squidmesh.store.codec import Unencodable, encode
from squidmesh.store.jobs import lock_jobs
from squidmesh.store.statements import Batch, ask
from squidmesh.values.misfit import quote

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from squidmesh.deciding import Decision
    from squidmesh.operations import Operations
    from squidmesh.planner.graph import Graph
    from squidmesh.planner.plan import Plan
    from squidmesh.records import JSON, Attempt, Run
    from squidmesh.store.statements import Flow
    from squidmesh.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Steering:
    """The flows of a client that change a run.

    Args:
        operations: The flows that start and read runs.
        now: The instant that defaults of a signal's payload are resolved with.
    """

    operations: Operations
    now: Callable[[], datetime]

    def cancel(
        self, run_id: UUID, *, actor: JSON, comment: str | None, compensate: bool, force: bool
    ) -> Flow[tuple[Run, Plan | None]]:
        """Cancel a run."""
        said = remark(actor=actor, comment=comment)
        for option, value in (("compensate", compensate), ("force", force)):
            if not isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance] - who does not check types
                raise InvalidOption(option, f"must be True or False, not {quote(value)}")
        graph, locked = yield from self._lock(run_id)
        decision = partial(plan_cancel, actor=said.actor, comment=said.comment, compensate=compensate, force=force)
        return (yield from self._decide_and_save(graph, locked, decision))

    def review(self, run_id: UUID, *, approve: bool, step: str | None, remark: Remark) -> Flow[tuple[Run, Plan | None]]:
        """Approve or reject."""
        _check_name("step", step)
        graph, locked = yield from self._lock(run_id)
        votes, now = yield from ask(store.read_votes(run_id))
        decision = partial(plan_review, approve=approve, step=step, remark=remark, votes=votes, now=now)
        return (yield from self._decide_and_save(graph, locked, decision))

    def unblock(
        self, run_id: UUID, *, step: str | None, resolution: str | None, output: object, remark: Remark
    ) -> Flow[tuple[Run, Plan | None]]:
        """Let a paused run go on."""
        _check_name("step", step)
        encoded = None if output is None else _output(output)
        graph, locked = yield from self._lock(run_id)
        decision = partial(plan_unblock, step=step, resolution=resolution, output=encoded, remark=remark)
        return (yield from self._decide_and_save(graph, locked, decision))

    def signal(
        self, run_id: UUID, name: str, payload: object, *, key: str | None, actor: JSON
    ) -> Flow[tuple[Run, Plan | None]]:
        """Send a signal; one that was sent already changes nothing."""
        _check_name("name", name, optional=False)
        said, delivery = remark(actor=actor, comment=None), checked_key(key) or uuid4().hex
        graph, locked = yield from self._lock(run_id)
        known = yield from ask(store.find_signal(run_id, name, delivery))
        if known:
            return (yield from self.operations.save_and_read(run_id, None))
        sent = self._signal_payload(graph, name, payload)
        decision = partial(plan_signal, name=name, key=delivery, payload=sent, actor=said.actor)
        return (yield from self._decide_and_save(graph, locked, decision))

    def _signal_payload(self, graph: Graph, name: str, payload: object) -> Output:
        """What was sent, as it is stored: it must meet the contract of live code, and fit the graph."""
        workflow = self.operations.registry.workflow(graph.definition.workflow)
        contract = workflow.signal_contract(name)
        resolved: object = payload
        if contract is not None:
            resolved = contract.resolve(payload, self.now(), workflow=f"{workflow.name}: signal {name}")
        elif not isinstance(payload, dict) and payload is not None:
            merged = [s.name for s in graph.steps.values() if s.settings.get("signal") == name and s.output is None]
            if merged:
                problem = f"step {merged[0]!r} merges it into the context, so it must be an object; declare output="
                raise InvalidPayload(workflow.name, invalid_fields={"payload": problem})
        try:
            encoded = encode(resolved, what="payload")
        except Unencodable as error:
            raise InvalidPayload(workflow.name, invalid_fields={error.path: error.problem}) from error
        return Output(encoded.text, encoded.value)

    def retry(self, run_id: UUID, *, actor: JSON, comment: str | None) -> Flow[tuple[Run, Plan | None]]:
        """Let a failed run go on from where it failed."""
        said = remark(actor=actor, comment=comment)
        graph, locked = yield from self._lock(run_id)
        failed_at = locked.run.progress.failed_at
        since = (yield from history_from(run_id, after=failed_at - 1)) if failed_at else []
        decision = partial(plan_retry, since=since, actor=said.actor, comment=said.comment)
        return (yield from self._decide_and_save(graph, locked, decision))

    # -- replay --------------------------------------------------------------------------------------------------

    def prepare_replay(self, run_id: UUID, *, allow_irreversible: bool, from_step: str | None) -> Flow[Start]:
        """Check a request to replay a run: on today's graph, with the payload it was started with.

        Raises:
            RunNotFound: There is no such run.
            IllegalMove: It has not ended.
            UnsafeReplay: It has completed steps that cannot be undone, and would run again.
            WorkflowNotFound: Its workflow is not registered here.
            InvalidOption: It cannot go on from that step.
        """
        _check_name("from_step", from_step)
        run, done = yield Batch((store.read_run(run_id), store.list_done_steps(run_id)))
        if run is None:
            raise RunNotFound(run_id)
        if not run.status.terminal:
            raise IllegalMove(run_id, run.status, "replay", TERMINAL)
        source = yield from self.operations.graph(run.fingerprint)
        workflow = self.operations.registry.workflow(run.workflow)
        plan = self.operations.start_plan(workflow)
        if from_step is not None:
            history = yield from history_from(run_id, after=0)
            replay = yield from self._fold(workflow, run, history, from_step)
            plan, done = replay.start, list(replay.repeated)
        unsafe = [step for step in done if step in source.steps and not source.steps[step].repeatable]
        if unsafe and allow_irreversible is not True:
            raise UnsafeReplay(run_id, unsafe)
        new = store.NewRuns(
            ids=[self.operations.new_id()],
            payloads=[encode(run.payload, what="payload").text],
            workflow=workflow.name,
            fingerprint=workflow.check().fingerprint,
            trigger=run.trigger,
            plan=plan,
            replayed_from=run_id,
        )
        graph = self.operations.registry.live_graph(workflow)
        return Start(graph=graph, runs=new, payloads=[run.payload], schedule=run.schedule)

    def _fold(self, workflow: Workflow, run: Run, history: list[Attempt], from_step: str) -> Flow[Replay]:
        graph, blank, facts = self.operations.registry.live_graph(workflow), blank_run(workflow), Facts()
        while True:
            try:
                return plan_replay(graph, blank, history, facts, from_step=from_step)
            except NeedsMore as needs:
                if needs.key is None:
                    raise
                key = needs.key
            # Only the time is asked for: outputs that are not taken over do not count.
            ((_, _, _, facts.now),) = yield from ask(store.read_values([(run.id, key)]))
            facts.values[key] = run.payload.get(key)

    # -- the three moves -----------------------------------------------------------------------------------------

    def _lock(self, run_id: UUID) -> Flow[tuple[Graph, Locked]]:
        run, graph = yield from self.operations.lock(run_id)
        jobs = yield from ask(lock_jobs([run_id]))
        return graph, Locked(run=run, jobs={job.slot: job for job in jobs}, facts=Facts(jobs=True))

    def _decide_and_save(self, graph: Graph, locked: Locked, decision: Decision) -> Flow[tuple[Run, Plan | None]]:
        plan = yield from decide_one(graph, locked, decision)
        return (yield from self.operations.save_and_read(locked.run.id, plan))


def history_from(run_id: UUID, after: int) -> Flow[list[Attempt]]:
    """All ended attempts from a place in the history on."""
    found: list[Attempt] = []
    while True:
        page = yield from ask(store.read_history(run_id, after, MOST_LISTED))
        found += page
        if len(page) < MOST_LISTED:
            return found
        after = page[-1].seq


def remark(*, actor: JSON = None, comment: object = None, metadata: object = None, needs_actor: bool = False) -> Remark:
    """Check who decides and what they say.

    Raises:
        InvalidOption: One of these cannot be used.
    """
    if actor is None and needs_actor:
        raise InvalidOption("actor", "a decision needs somebody who takes it: a text or an object that says who")
    given: object = actor
    if given is not None and (not isinstance(given, str | dict) or not given or _blank(given)):  # pyright: ignore[reportUnknownArgumentType]
        raise InvalidOption(
            "actor", f"must be a text or an object, not empty, that says who does it: not {quote(actor)}"
        )
    if comment is not None and (not isinstance(comment, str) or _blank(comment)):
        raise InvalidOption("comment", "must be a text that is not empty, or left out")
    if metadata is not None and not isinstance(metadata, dict):
        raise InvalidOption("metadata", f"must be an object, not {quote(metadata)}")
    try:
        return Remark(
            actor=encode(actor, what="actor").value,  # pyright: ignore[reportUnknownArgumentType] - JSON is Any
            comment=comment if comment is None else encode(comment, what="comment").value,
            metadata=encode(metadata or {}, what="metadata").value,  # pyright: ignore[reportUnknownArgumentType]
        )
    except Unencodable as error:
        raise InvalidOption(error.path.partition(".")[0], error.problem) from error


def _blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def _check_name(option: str, value: object, *, optional: bool = True) -> None:
    """Check a name that somebody gives: whether there is such a thing, is found out later."""
    if value is None and optional:
        return
    if not isinstance(value, str) or not value.isprintable():
        raise InvalidOption(option, f"must be a name, as text, not {quote(value)}")


def _output(output: object) -> Output:
    if not isinstance(output, dict):
        raise InvalidOption("output", f"must be an object: what the step adds to the context, not {quote(output)}")
    try:
        encoded = encode(output, what="output")  # pyright: ignore[reportUnknownArgumentType] - it is what it is
    except Unencodable as error:
        raise InvalidOption("output", str(error)) from error
    return Output(encoded.text, encoded.value)
