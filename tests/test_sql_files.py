"""Every SQL file keeps its contract: what its header promises, what the code gives it, and what its text may not have."""

from __future__ import annotations

import ast
import inspect
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import psycopg
import pytest

from squidmesh.clock import new_id
from squidmesh.meters import MeterTable, Rate
from squidmesh.planner.deploy import NewNeed
from squidmesh.planner.firing import Firing, Skip, SkipReason
from squidmesh.planner.outcome import Output
from squidmesh.planner.plan import ConsumedSignal, LockedRun, NewAttempt, NewAudit, NewSignal, NextJob, Plan, StartPlan
from squidmesh.planner.progress import Progress
from squidmesh.records import Lane, Tick
from squidmesh.states import AttemptStatus, RunStatus
from squidmesh.store import jobs, meters, runs, saving, schedules, sight, transactions, workers
from squidmesh.store.database import drive
from squidmesh.store.migrations import Migration, known_migrations, migrate
from squidmesh.store.statements import Statement, sql_folder, sql_of
from squidmesh.timetable import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATEMENTS = sorted((sql_folder() / "statements").glob("*.sql"))
PACKAGE = Path(saving.__file__).resolve().parent.parent

TYPE = r"(?:uuid|text|int|bigint|smallint|float8|jsonb|boolean|timestamptz)(?:\[\])?"
TIME = r"now(?=\()|\w+_timestamp|current_(?:date|time)|localtime\w*|timeofday"


class File(NamedTuple):
    """A statement's file: its header, and what the database gets of it."""

    name: str
    header: str
    body: str

    @property
    def declared(self) -> dict[str, str]:
        """The parameters that the header declares, with their types."""
        said = "\n".join(line for line in self.header.splitlines() if line.startswith("--   "))
        groups: list[tuple[str, str]] = re.findall(rf"((?:\w+, )*\w+) ({TYPE})(?![\w\[])", said)
        return {name: type_ for names, type_ in groups for name in names.split(", ")}

    @property
    def casts(self) -> list[tuple[str, str]]:
        """Each placeholder and what it is cast to."""
        found: list[tuple[str, str]] = re.findall(rf"%\((\w+)\)s(?:::({TYPE})(?![\w\[]))?", self.body)
        return found


@cache
def read(path: Path) -> File:
    lines = path.read_text(encoding="utf-8").splitlines()
    length = next(number for number, line in enumerate(lines) if not line.startswith("--"))
    return File(path.stem, "\n".join(lines[:length]), sql_of(path.stem))


@pytest.fixture(params=STATEMENTS, ids=lambda path: path.stem)
def file(request: pytest.FixtureRequest) -> File:
    return read(request.param)


def test_the_header_says_what_it_does_returns_and_locks_and_which_index_serves_it(file: File) -> None:
    first, *_ = file.header.splitlines()
    assert re.match(r"-- [A-Z].{10,}", first), "the first line says what it does"
    for word in ("Returns: ", "Locks: ", "Index: "):
        assert file.header.count(word) == 1, f"the header says {word!r} once"
    assert file.header.index("Returns: ") < file.header.index("Locks: ")


def test_the_header_declares_the_parameters_and_their_types(file: File) -> None:
    assert file.declared == dict(file.casts)


def test_every_placeholder_is_cast_and_none_is_within_quotes(file: File) -> None:
    """A placeholder in quotes is text to the database: ``'%(seconds)s seconds'`` would be three seconds, always."""
    assert [name for name, type_ in file.casts if not type_] == []
    code = "\n".join(line for line in file.body.splitlines() if not line.lstrip().startswith("--"))
    assert [literal for literal in re.findall(r"'[^']*'", code) if "%" in literal] == []
    assert re.findall(r"%(?!\(\w+\)s)", file.body) == [], "a per cent sign that is no placeholder"


def test_time_comes_from_the_clock_function_only(file: File) -> None:
    assert not re.findall(rf"\b(?:{TIME})\b", file.body)


def test_lines_are_short() -> None:
    long = [
        f"{p.name}: {line}"
        for p in sql_folder().rglob("*.sql")
        for line in p.read_text().splitlines()
        if len(line) > 120
    ]
    assert long == []


# -- files and code ------------------------------------------------------------------------------------------------


def named_in_code() -> set[str]:
    """The names that the package makes statements of."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                name = node.args[0]
                if node.func.id in ("Statement", "_write_jobs") and isinstance(name, ast.Constant):
                    found.add(str(name.value))
    return found


def test_every_file_is_used_and_every_name_has_a_file() -> None:
    assert named_in_code() == {path.stem for path in STATEMENTS}


def a_plan() -> Plan:
    """A plan that needs every statement of the save path."""
    run = LockedRun(
        id=new_id(),
        workflow="w",
        trigger="t",
        fingerprint="f",
        status=RunStatus.RUNNING,
        attention=None,
        seq=1,
        progress=Progress(watched=True),
        error=None,
    )
    attempt = NewAttempt(seq=1, step="s", visit=1, attempt=1, status=AttemptStatus.COMPLETED, saw=1)
    return Plan(
        run=run,
        status=RunStatus.FAILED,
        attention=None,
        seq=3,
        progress=run.progress,
        error={},
        attempts=[attempt],
        audits=[NewAudit(seq=2, type="cancelled")],
        moved=[a_job(0)],
        added=[a_job(1)],
        removed=[2],
        discarded=[],
        flag=True,
        signals=[NewSignal(name="paid", key="1", payload=Output.of({}), seq=2, consumed_by=None)],
        consumed=[ConsumedSignal(name="paid", key="1", consumed_by=1)],
        pauses=[("w/s", 5.0)],
    )


def a_job(slot: int) -> NextJob:
    return NextJob(slot=slot, step="s", visit=1, attempt=1, queue="q", priority=0)


def new_runs() -> runs.NewRuns:
    plan = StartPlan(status=RunStatus.PENDING, progress=Progress(), jobs=(a_job(0),))
    return runs.NewRuns(ids=[new_id()], payloads=["{}"], workflow="w", fingerprint="f", trigger="t", plan=plan)


def a_schedule(**changes: Any) -> Schedule:
    said = {"name": "s", "workflow": "w", "trigger": "t", "source": "api", "expression": "* * * * *", "timezone": "UTC"}
    return Schedule(**{**said, **changes})


def scheduled_runs() -> schedules.ScheduledRuns:
    now = datetime.now(UTC)
    tick = Tick(
        name="s",
        workflow="w",
        trigger_name="t",
        cron_expression="* * * * *",
        timezone="UTC",
        nominal_at=now,
        window_start=now,
        window_end=None,
        signal_id=None,
        received_at=now,
    )
    plan = StartPlan(status=RunStatus.PENDING, progress=Progress(), jobs=(a_job(0),))
    return schedules.ScheduledRuns(
        ids=[new_id()],
        payloads=["{}"],
        keys=["k"],
        ticks=[tick],
        run_ats=[now],
        workflow="w",
        fingerprint="f",
        trigger="t",
        plan=plan,
    )


def example_calls() -> dict[Callable[..., Any], tuple[Any, ...]]:
    """Arguments for every store function; one that is missing fails a test."""
    run, worker, now = new_id(), uuid4(), datetime.now(UTC)
    record = workers.WorkerRecord(id=worker, pid=1, host="h", version="0", queues=("q",), knows=("w/s",))
    everything = runs.RunFilter(
        workflow="w",
        trigger="t",
        key="k",
        statuses=(RunStatus.FAILED,),
        since=now,
        until=now,
        before=(now, run),
        limit=1,
    )
    room = [jobs.Room("q", Lane.AHEAD, 1)]
    known = MeterTable({"w/s": 5, "@q": 9}, {"w/s:key": Rate(10, per=1)}, {"q": "@q"})
    return {
        runs.lock_runs: ([run],),
        runs.lock_run: (run,),
        runs.read_run: (run,),
        runs.read_keyed: ("w", "k"),
        runs.count_live: (),
        runs.count_lacking: ([NewNeed("f", "s", "k")],),
        runs.list_runs: (everything,),
        runs.read_history: (run, 0, 10),
        runs.read_outputs: (run,),
        runs.read_audits: (run, 0, None),
        runs.read_step_states: (run,),
        runs.read_signals: ([run],),
        runs.find_signal: (run, "paid", "1"),
        runs.read_completions: ([(run, 5, ["a", "b"])],),
        runs.read_values: ([(run, "due")],),
        runs.read_votes: (run,),
        runs.list_done_steps: (run,),
        sight.read_explanation: (run,),
        runs.register_definition: ("f", "w", {}),
        runs.read_definitions: (["f"],),
        jobs.check_fences: (worker, [(run, a_job(0))]),
        jobs.lock_jobs: ([run],),
        jobs.claim_jobs: (worker, 1, room),
        jobs.adopt_jobs: (worker, 1, room, ["w/s"]),
        jobs.read_claimed: ([(run, 1)],),
        jobs.wake_jobs: ({"q": 1},),
        jobs.find_work: (["q"], worker),
        jobs.list_claimed: (worker,),
        jobs.list_flagged: (worker,),
        jobs.pin_plans: (),
        jobs.notify: ("c", ["p"]),
        jobs.notify_idle: ("c", ["q"]),
        meters.lock_meters: ({"q": ""}, known),
        meters.pause_meters: ([("w/s", 5.0, None), ("w/t", None, now)],),
        meters.resume_meters: (["w/s"], "c"),
        meters.list_meters: (10, "w/", "w/s"),
        meters.delete_idle_meters: (),
        transactions.read_transaction: (),
        transactions.limit_wait: (1.0,),
        workers.register_worker: (record, 1.0),
        workers.renew_worker: (worker, 1.0),
        workers.list_late_workers: (worker,),
        workers.declare_dead: (worker, 1),
        workers.remove_worker: (worker,),
        schedules.read_schedules: ("s", "w"),
        schedules.lock_schedules: (["s"],),
        schedules.lock_due_schedules: (["w/t"], 1),
        schedules.limit_idleness: (1.0,),
        schedules.read_agenda: (["w/t"],),
        schedules.list_live_runs: ([run],),
        schedules.read_declared: (worker, ["w"]),
        schedules.insert_schedules: ([a_schedule(next_at=now)], worker),
        schedules.update_schedules: ([a_schedule()],),
        schedules.delete_schedule: ("s",),
        schedules.save_schedules: (
            [(a_schedule(), Firing((now,), (Skip(SkipReason.MISSED, 1, now, now),), now), [run])],
        ),
    }


def examples() -> list[Statement[Any]]:
    """A statement of every store function."""
    made = [function(*arguments) for function, arguments in example_calls().items()]
    made += [runs.start_runs(new_runs(), "c", always_notify=True)]
    made += [runs.start_keyed(new_runs(), "k", "c", always_notify=True), workers.set_idle(uuid4(), idle=True)]
    made.append(meters.claim_metered(uuid4(), 1, {"q": 1}, MeterTable(), suspect=True))
    made.append(schedules.start_scheduled_runs(scheduled_runs(), "c", always_notify=True))
    return [*made, *saving.save_plans([a_plan()], "c")]


def test_there_is_an_example_of_every_store_function() -> None:
    public: set[Callable[..., Any]] = {
        function
        for module in (jobs, meters, runs, schedules, sight, transactions, workers)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    }
    starts = {runs.start_runs, runs.start_keyed, schedules.start_scheduled_runs}
    assert public == {*example_calls(), *starts, workers.set_idle, meters.claim_metered}


@pytest.mark.parametrize("statement", examples(), ids=lambda statement: statement.name)
def test_the_code_gives_a_statement_the_parameters_that_its_file_has(statement: Statement[Any]) -> None:
    file = read(sql_folder() / "statements" / f"{statement.name}.sql")
    assert set(statement.params) == set(file.declared)


def test_what_no_example_shows_has_no_parameters() -> None:
    others = {path.stem for path in STATEMENTS} - {statement.name for statement in examples()}
    assert {name for name in others if read(sql_folder() / "statements" / f"{name}.sql").declared} == set()


# -- the database's word -------------------------------------------------------------------------------------------

SCHEMA = "sql_files_tests"


@pytest.fixture(scope="module")
def connection(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A session that finds nothing by itself, with squidmesh in a schema of another name."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET search_path = ''")
        migrate(connection, SCHEMA)
        yield connection
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE".encode())


@pytest.mark.parametrize("statement", examples(), ids=lambda statement: statement.name)
def test_every_statement_runs_in_any_schema_and_without_a_search_path(
    connection: psycopg.Connection[Any], statement: Statement[Any]
) -> None:
    with connection.transaction(force_rollback=True):
        drive(connection, statement, SCHEMA, own_transaction=False)


def test_the_indexes_that_headers_name_exist(connection: psycopg.Connection[Any]) -> None:
    rows = connection.execute("SELECT indexname FROM pg_catalog.pg_indexes WHERE schemaname = %s", [SCHEMA]).fetchall()
    existing = {name for (name,) in rows}
    tables = "|".join(sorted({name.partition("_")[0] for name in existing} | {"audit_events"}))
    named = {
        name
        for path in STATEMENTS
        for clause in re.findall(r"Index: ([^.]*)", read(path).header.replace("\n--", ""))
        for name in re.findall(rf"\b(?:{tables})_\w+", clause)
    }
    assert named - existing == set()
    assert existing - named == {"meta_pkey", "runs_needing_attention", "runs_by_source"}, "an index that serves nobody"


# -- migrations ----------------------------------------------------------------------------------------------------


def test_migrations_are_numbered_without_gaps_and_never_serve_less() -> None:
    found = known_migrations()
    assert [m.version for m in found] == list(range(1, len(found) + 1))
    assert [m.serves for m in found] == sorted(m.serves for m in found)
    assert all(1 <= m.serves <= m.version for m in found)


@pytest.mark.parametrize("migration", known_migrations(), ids=lambda migration: migration.name)
def test_what_cannot_run_in_a_transaction_is_one_statement_that_may_be_run_twice(migration: Migration) -> None:
    code = "\n".join(line for line in migration.sql.splitlines() if not line.startswith("--")).strip()
    assert not re.search(r"\b(?:BEGIN|COMMIT|CREATE SCHEMA)\b", code), "that is the runner's business"
    if migration.autocommit:
        assert code.count(";") == 1
        assert re.search(r"\bIF (?:NOT )?EXISTS\b", code)
    else:
        assert "CONCURRENTLY" not in code
