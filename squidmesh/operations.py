"""What clients can ask for, as flows: written once, run by ``SquidMesh`` and ``AsyncSquidMesh`` alike.

Every operation that changes a run is the same three moves: lock it, ask the planner, save the plan.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from squidmesh.comparing import compare
from squidmesh.errors import (
    ConfigurationError,
    InvalidOption,
    InvalidPayload,
    InvalidRunId,
    RunNotFound,
)
from squidmesh.keyed import checked_key, start_or_find
from squidmesh.planner.history import context_of, history_of
from squidmesh.planner.plan import LockedRun
from squidmesh.planner.planner import plan_start, plan_watch
from squidmesh.planner.progress import Progress
from squidmesh.records import SCHEDULE_KEY, Run, hot_record
from squidmesh.registry import learn_graphs
from squidmesh.retry import LONGEST_DELAY, seconds_of
from squidmesh.states import JobState, RunStatus
from squidmesh.store import runs as store
from squidmesh.store.codec import Unencodable, encode
from squidmesh.store.jobs import notify, notify_idle
from squidmesh.store.saving import begin_histories, save_plans
from squidmesh.store.statements import Batch, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from squidmesh.keyed import OnConflict
    from squidmesh.planner.graph import Graph
    from squidmesh.planner.plan import Plan, StartPlan
    from squidmesh.records import JSONObject, RunDiff, Tick
    from squidmesh.registry import Registry
    from squidmesh.retry import Seconds
    from squidmesh.store.runs import NewRuns, RunFilter
    from squidmesh.store.statements import Flow
    from squidmesh.workflow import Workflow

FIRST_SEQ: Final = 1
START_BATCH: Final = 2000
"""Runs that are started by one statement."""

MOST_LISTED: Final = 1000
LARGEST_SEQ: Final = 2**31 - 1
TERMINAL: Final = tuple(status for status in RunStatus if status.terminal)


@hot_record(kw_only=True)
class Start:
    """A start that was checked: everything that can be wrong with the request has been looked at.

    Args:
        graph: The graph that the runs will run on.
        runs: What is to be stored.
        payloads: The payloads as stored, one a run.
        key: What the one run is named by, if it is.
        on_conflict: What to do if the key is taken.
        schedule: The nominal time that the replayed run was started for, if a schedule started it.
    """

    graph: Graph
    runs: NewRuns
    payloads: Sequence[JSONObject]
    key: str | None = None
    on_conflict: OnConflict = "return"
    schedule: Tick | None = None


class Operations:
    """The flows of a client.

    Args:
        registry: The workflows of this process.
        channel: Where workers listen.
        new_id: Makes run ids.
        now: The instant that defaults of payloads are resolved with.
    """

    def __init__(
        self, registry: Registry, channel: str, new_id: Callable[[], UUID], now: Callable[[], datetime]
    ) -> None:
        self.registry = registry
        self.channel = channel
        self.new_id = new_id
        self.now = now
        self._start_plans: dict[str, StartPlan] = {}

    # -- start ---------------------------------------------------------------------------------------------------

    def prepare(
        self,
        workflow: Workflow | str,
        payloads: Iterable[object],
        *,
        trigger: str | None,
        run_at: datetime | None,
        delay: Seconds | None,
    ) -> Start:
        """Check a request to start runs. Nothing is stored yet.

        Raises:
            WorkflowNotFound: The workflow is not registered.
            TriggerNotFound: It has no such trigger.
            InvalidPayload: A payload does not meet the trigger's contract.
            InvalidOption: ``run_at`` or ``delay`` cannot be used.
        """
        found = self.registry.workflow(workflow)
        definition = found.check()
        name = trigger if trigger is not None else definition.triggers[0].name
        contract, now = found.contract(name), self.now()
        resolved = [contract.resolve(payload, now, workflow=found.name) for payload in payloads]
        texts = [_payload_text(found.name, payload) for payload in resolved]
        runs = store.NewRuns(
            ids=[self.new_id() for _ in texts],
            payloads=texts,
            workflow=found.name,
            fingerprint=definition.fingerprint,
            trigger=name,
            plan=self.start_plan(found),
            run_at=_checked_instant("run_at", run_at),
            delay=_checked_delay(delay, run_at),
        )
        return Start(graph=self.registry.live_graph(found), runs=runs, payloads=resolved)

    def start_plan(self, workflow: Workflow) -> StartPlan:
        """What runs of a workflow begin with: planned once for its graph, since it is on the path of every start."""
        fingerprint = workflow.check().fingerprint
        known = self._start_plans.get(fingerprint)
        if known is None:
            known = self._start_plans[fingerprint] = plan_start(self.registry.live_graph(workflow), blank_run(workflow))
        return known

    def start(self, start: Start, *, always_notify: bool) -> Flow[list[Run] | None]:
        """Store prepared runs; the result is the runs. None: the run that had the key is gone, ask again.

        Raises:
            RunExists: The key is taken, and that was to be an error.
        """
        if start.key is not None:
            how = start.on_conflict
            return (yield from start_or_find(start.runs, start.key, how, self.channel, always_notify=always_notify))
        created, ids = None, start.runs.ids
        for first in range(0, len(ids), START_BATCH):
            part = start.runs
            if len(ids) > START_BATCH:
                end = first + START_BATCH
                part = replace(part, ids=ids[first:end], payloads=part.payloads[first:end])
            begun = store.start_runs(part, self.channel, always_notify=always_notify)
            known = begin_histories(part.ids, part.plan)
            created, *_ = yield Batch((begun, *known), last=first + START_BATCH >= len(ids))
        steps = tuple(sorted({job.step for job in start.runs.plan.jobs if job.step}))
        return [
            _new_run(start, run_id, payload, steps, created)
            for run_id, payload in zip(ids, start.payloads, strict=True)
            if created is not None
        ]

    def register(self, graph: Graph) -> Flow[None]:
        """Store a graph, so that workers with other code can read it."""
        definition = graph.definition
        yield from ask(
            store.register_definition(definition.fingerprint, definition.workflow, definition.to_json()), last=True
        )

    # -- read ----------------------------------------------------------------------------------------------------

    def inspect(self, run_id: UUID, *, history: bool, after_seq: int, limit: int) -> Flow[Run]:
        """A run with its context, and a page of its history if asked for."""
        _check_limit(limit)
        if type(after_seq) is not int or not 0 <= after_seq <= LARGEST_SEQ:
            raise InvalidOption("after_seq", f"must be a place in the history, from 0, not {after_seq!r}")
        found, outputs = yield Batch((store.read_run(run_id), store.read_outputs(run_id)))
        if found is None:
            raise RunNotFound(run_id)
        run: Run = replace(found, context=context_of(outputs))
        if not history:
            return run
        graph = yield from self.graph(run.fingerprint)
        attempts, states = yield Batch(
            (store.read_history(run_id, after_seq, limit + 1), store.read_step_states(run_id))
        )
        next_seq = attempts[limit - 1].seq if len(attempts) > limit else None
        below = None if next_seq is None else next_seq + 1
        audits = yield from ask(store.read_audits(run_id, after_seq, below), last=True)
        page = history_of(
            graph,
            _start_of(run),
            outputs=outputs,
            states=states,
            attempts=attempts[:limit],
            audits=audits,
            next_seq=next_seq,
        )
        shown: Run = replace(run, history=page)
        return shown

    def diff(self, a: UUID, b: UUID) -> Flow[RunDiff]:
        """Where two runs part."""
        return compare(self.graph, a, b)

    def list_runs(self, wanted: RunFilter) -> Flow[list[Run]]:
        """Runs, newest first."""
        return (yield from ask(store.list_runs(wanted), last=True))

    # -- change --------------------------------------------------------------------------------------------------

    def watch(self, run_id: UUID) -> Flow[tuple[Run, bool]]:
        """Read a run, and ask for a notification of its end; whether that could be done, or somebody holds the run."""
        plan = None
        locked = yield from ask(store.lock_runs([run_id]))
        for run in locked:
            graph = yield from self.graph(run.fingerprint)
            plan = plan_watch(graph, run)
        shown, _ = yield from self.save_and_read(run_id, plan)
        return shown, bool(locked)

    def save_and_read(self, run_id: UUID, plan: Plan | None) -> Flow[tuple[Run, Plan | None]]:
        """Save a plan, if there is one, and read the run."""
        statements = save_plans([plan], self.channel) if plan is not None else []
        if plan is not None and (queues := _to_be_told(plan)):
            statements.append(notify_idle(self.channel, queues))
        *_, run = yield Batch((*statements, store.read_run(run_id)), last=True)
        if run is None:
            raise RunNotFound(run_id)
        return run, plan

    def announce(self, plan: Plan) -> Flow[None]:
        """Tell workers of new jobs whether they sleep or not: who sleeps when a host commits, nobody knows before."""
        yield from ask(notify(self.channel, [f"queue:{queue}" for queue in _to_be_told(plan)]))

    def lock(self, run_id: UUID) -> Flow[tuple[LockedRun, Graph]]:
        """Lock a run.

        Raises:
            RunNotFound: There is no such run.
            ConfigurationError: Its graph was stored by a newer squidmesh.
        """
        run = yield from ask(store.lock_run(run_id))
        if run is None:
            raise RunNotFound(run_id)
        graph = yield from self.graph(run.fingerprint)
        return run, graph

    def graph(self, fingerprint: str) -> Flow[Graph]:
        """A graph by fingerprint, read from the database if this process has not met it."""
        yield from learn_graphs(self.registry, [fingerprint])
        graph = self.registry.graph(fingerprint)
        if graph is None:
            raise ConfigurationError(f"graph {fingerprint} was stored by a newer squidmesh; upgrade this process")
        return graph


def _to_be_told(plan: Plan) -> list[str]:
    """The queues in which something is to be done now, or sooner than workers know."""
    return sorted({job.queue for job in plan.jobs if job.state in (JobState.READY, JobState.SLEEPING)})


def blank_run(workflow: Workflow) -> LockedRun:
    """A run before its start."""
    return LockedRun(
        id=UUID(int=0),
        workflow=workflow.name,
        trigger="",
        fingerprint=workflow.check().fingerprint,
        status=RunStatus.PENDING,
        attention=None,
        seq=FIRST_SEQ,
        progress=Progress(),
        error=None,
    )


def run_id_of(value: UUID | str) -> UUID:
    """A run id, also from its text.

    Raises:
        InvalidRunId: It is not one.
    """
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidRunId(value) from None


def run_filter(
    *,
    workflow: Workflow | str | None,
    status: RunStatus | str | Sequence[RunStatus | str] | None,
    trigger: str | None,
    key: str | None,
    since: datetime | None,
    until: datetime | None,
    before: Run | tuple[datetime, UUID] | None,
    limit: int,
) -> RunFilter:
    """Check the filters of a listing.

    Raises:
        InvalidOption: One of them cannot be used.
    """
    _check_limit(limit)
    given = [status] if isinstance(status, str) else status
    known = {str(value) for value in RunStatus}
    strange = [str(value) for value in given or () if str(value) not in known]
    if strange:
        raise InvalidOption("status", f"{', '.join(strange)}: not a status; there are {', '.join(sorted(known))}")
    return store.RunFilter(
        workflow=workflow if workflow is None or isinstance(workflow, str) else workflow.name,
        trigger=trigger,
        key=checked_key(key),
        statuses=None if given is None else tuple(RunStatus(value) for value in given),
        since=_checked_instant("since", since),
        until=_checked_instant("until", until),
        before=_checked_place(before),
        limit=limit,
    )


def _check_limit(limit: object) -> None:
    if type(limit) is not int or not 1 <= limit <= MOST_LISTED:
        raise InvalidOption("limit", f"must be a whole number from 1 to {MOST_LISTED}, not {limit!r}")


def _checked_place(before: object) -> tuple[datetime, UUID] | None:
    if before is None:
        return None
    if isinstance(before, Run):
        return before.created_at, before.id
    match before:
        case (datetime() as created_at, UUID() as run_id) if created_at.tzinfo is not None:
            return created_at, run_id
        case _:
            raise InvalidOption("before", f"must be a run, or its (created_at, id), not {before!r}")


def _new_run(start: Start, run_id: UUID, payload: JSONObject, steps: tuple[str, ...], created: datetime) -> Run:
    return Run(
        id=run_id,
        workflow=start.runs.workflow,
        trigger=start.runs.trigger,
        status=start.runs.plan.status,
        attention=start.runs.plan.attention,
        payload=payload,
        context=context_of((a.seq, a.output.value) for a in start.runs.plan.attempts if a.output is not None),
        current_steps=steps,
        error=None,
        fingerprint=start.runs.fingerprint,
        replayed_from=start.runs.replayed_from,
        created_at=created,
        finished_at=None,
        schedule=start.schedule,
    )


def _start_of(run: Run) -> JSONObject:
    """What the steps of a run could see as it began."""
    return run.payload if run.schedule is None else {**run.payload, SCHEDULE_KEY: run.schedule.to_json()}


def _payload_text(workflow: str, payload: JSONObject) -> str:
    try:
        return encode(payload, what="payload").text
    except Unencodable as error:
        raise InvalidPayload(workflow, invalid_fields={error.path: error.problem}) from error


def _checked_instant(option: str, value: datetime | None) -> datetime | None:
    if value is not None and getattr(value, "tzinfo", None) is None:
        raise InvalidOption(option, f"must be an aware datetime, such as datetime.now(UTC), not {value!r}")
    return None if value is None else value.astimezone(UTC)


def _checked_delay(delay: object, run_at: datetime | None) -> float:
    if delay is None:
        return 0.0
    if run_at is not None:
        raise InvalidOption("delay", "give either run_at= or delay=, not both")
    if isinstance(delay, bool) or not isinstance(delay, int | float | timedelta):
        raise InvalidOption("delay", f"must be seconds or a timedelta, not {delay!r}")
    seconds = seconds_of(delay)
    if not 0 <= seconds <= LONGEST_DELAY:
        raise InvalidOption(
            "delay", f"must be from 0 to {LONGEST_DELAY:g} seconds, not {seconds:g}; for later: run_at="
        )
    return seconds
