"""Runs and histories as people read them."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from squidmesh import (
    Attempt,
    AttemptStatus,
    AuditEvent,
    DeclaredStep,
    History,
    Run,
    RunStatus,
    StepRun,
    StepStatus,
    Workflow,
)
from squidmesh.cli.graph_view import graph_lines, notes_of
from squidmesh.cli.output import Screen
from squidmesh.cli.views import (
    attempts_table,
    audit_table,
    error_line,
    header,
    mark_of,
    run_json,
    runs_table,
    short_id,
)

START = datetime(2026, 3, 1, 9, tzinfo=UTC)
PLAIN = Screen(io.StringIO())
WORKER = UUID("01a208e2-14b9-7629-9f46-b17b26e59391")

RUN = Run(
    id=UUID(int=7),
    workflow="orders",
    trigger="manual",
    status=RunStatus.RUNNING,
    attention=None,
    payload={"a": 1},
    context={"b": 2},
    current_steps=("send",),
    error=None,
    fingerprint="f",
    replayed_from=None,
    created_at=START,
    finished_at=None,
)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def attempt(
    seq: int, step: str, begins: float, ends: float, *, number: int = 1, visit: int = 1, saw: int = 1
) -> Attempt:
    return Attempt(
        seq=seq,
        step=step,
        visit=visit,
        attempt=number,
        status=AttemptStatus.COMPLETED,
        outcome="ok",
        output=None,
        error=None,
        worker=WORKER,
        saw=saw,
        takes=None,
        started_at=at(begins),
        finished_at=at(ends),
    )


def step_run(*attempts: Attempt, status: StepStatus = StepStatus.COMPLETED) -> StepRun:
    first = attempts[0]
    return StepRun(
        step=first.step, visit=first.visit, status=status, input={}, output=None, error=None, attempts=attempts
    )


def history(*step_runs: StepRun, audits: tuple[AuditEvent, ...] = ()) -> History:
    return History(steps=(), step_runs=step_runs, audit_events=audits, next_seq=None)


def declared(step: str, kind: str, status: StepStatus, *, due_at: datetime | None = None) -> DeclaredStep:
    reason = kind if status is StepStatus.PARKED else None
    return DeclaredStep(step=step, kind=kind, status=status, after=(), visits=1, due_at=due_at, reason=reason)


def rows_of(found: History) -> list[list[str]]:
    return [list(row.cells) for row in attempts_table(RUN, found).rows]


def test_a_step_waited_since_what_it_saw_last() -> None:
    """The first since the run was started, a later one since its predecessor ended, a retry since the attempt before."""
    found = history(
        step_run(attempt(1, "price", 0.5, 1.0)),
        step_run(
            replace(attempt(2, "send", 3.0, 3.5, saw=2), status=AttemptStatus.FAILED, error={"message": "no"}),
            attempt(3, "send", 8.5, 9.0, number=2, saw=2),
        ),
    )
    assert rows_of(found) == [
        ["price", "", "", "1", "completed", "", "500 ms", "500 ms", "26e59391"],
        ["send", "", "", "1", "failed", "", "2.0 s", "500 ms", "26e59391"],
        ["", "", "", "2", "completed", "", "5.0 s", "500 ms", "26e59391"],
    ]


def test_what_is_live_has_a_row_of_its_own() -> None:
    failed = replace(attempt(1, "send", 0, 1), status=AttemptStatus.FAILED)
    resting = StepRun(step="rest", visit=1, status=StepStatus.SLEEPING, input={}, output=None, error=None, attempts=())
    assert rows_of(history(step_run(failed, status=StepStatus.RETRYING), resting))[1:] == [
        ["", "", "", "2", "retrying", "", "", "", ""],
        ["rest", "", "", "1", "sleeping", "", "", "", ""],
    ]


def test_a_further_attempt_that_runs_has_its_own_number() -> None:
    failed = replace(attempt(1, "send", 0, 1), status=AttemptStatus.FAILED)
    abandoned = replace(attempt(2, "send", 1, 2, number=2), status=AttemptStatus.ABANDONED)
    assert rows_of(history(step_run(failed, abandoned, status=StepStatus.RUNNING)))[-1][3:5] == ["2", "running"]


def test_undoing_and_what_was_taken_over_are_told_apart() -> None:
    """An undoing waited since what happened before it, not since what it saw; what was taken over did not wait."""
    done = replace(step_run(replace(attempt(1, "book", -9, 0), kind="copied")), kind="copied")
    undone = step_run(replace(attempt(3, "book", 4, 5, saw=2), kind="compensation"), status=StepStatus.COMPENSATING)
    cause = AuditEvent(seq=2, type="compensating", step=None, actor=None, comment=None, metadata={}, at=at(3))
    assert rows_of(history(done, replace(undone, kind="compensation"), audits=(cause,))) == [
        ["book", "copied", "", "1", "completed", "", "", "9.0 s", "26e59391"],
        ["book", "compensation", "", "1", "completed", "", "1.0 s", "1.0 s", "26e59391"],
        ["", "", "", "1", "compensating", "", "", "", ""],
    ]


def test_a_gate_shows_how_long_people_took_and_what_they_decided() -> None:
    decided = replace(attempt(1, "gate", 0, 90), started_at=None, worker=None, outcome="rejected")
    found = replace(history(step_run(decided)), steps=(declared("gate", "approval", StepStatus.COMPLETED),))
    assert rows_of(found) == [["gate", "", "", "1", "completed", "rejected", "90.0 s", "", ""]]


def test_visits_are_counted_only_where_there_are_several() -> None:
    found = history(step_run(attempt(1, "a", 0, 1)), step_run(attempt(2, "a", 1, 2, visit=2, saw=2)))
    assert [row[:3] for row in rows_of(found)] == [["a", "", "1"], ["a", "", "2"]]


def test_an_attempt_that_never_began_neither_waited_nor_took_time() -> None:
    never = replace(attempt(1, "a", 0, 1), started_at=None, status=AttemptStatus.CANCELLED, worker=None)
    assert rows_of(history(step_run(never))) == [["a", "", "", "1", "cancelled", "", "", "", ""]]


def test_what_was_done_to_a_run_says_who_and_why() -> None:
    event = AuditEvent(
        seq=1, type="cancelled", step=None, actor={"name": "Ann"}, comment="not\nneeded", metadata={"n": 1}, at=at(90)
    )
    lines = audit_table(RUN, history(audits=(event,)), PLAIN).lines(PLAIN)
    assert lines == [
        "     at  event      by               comment     details",
        '+90.0 s  cancelled  {"name": "Ann"}  not needed  {"n": 1}',
    ]


def test_a_header_leaves_out_what_there_is_not() -> None:
    ended = replace(
        RUN,
        status=RunStatus.FAILED,
        attention="failed",
        finished_at=at(61),
        error={"type": "ValueError", "message": "a\nb"},
        context=None,
        replayed_from=UUID(int=8),
    )
    assert header(ended, PLAIN) == [
        f"run       {RUN.id}",
        "workflow  orders, trigger manual",
        "status    failed, took 61.0 s, started 2026-03-01 09:00:00 UTC",
        "attention failed",
        f"replay of {UUID(int=8)}",
        "error     ValueError: a b",
        'payload   {"a": 1}',
    ]
    assert all(len(line) <= 40 for line in header(ended, replace(PLAIN, width=40)))


def test_a_header_shortens_the_payload_to_the_terminal_but_never_the_error() -> None:
    error = {"type": "ValueError", "message": "the remote service answered with what nobody had expected"}
    failed = replace(RUN, status=RunStatus.FAILED, error=error, payload={"a": "b" * 40}, context=None)
    assert header(failed, replace(PLAIN, width=40))[-4:] == [
        "error     ValueError: the remote service",
        "          answered with what nobody had",
        "          expected",
        'payload   {"a": "bbbbbbbbbbbbbbbbbbbbbb…',
    ]


def test_a_list_shows_attention_only_where_it_says_more_than_the_status() -> None:
    failed = replace(RUN, status=RunStatus.FAILED, attention="failed", current_steps=())
    assert runs_table([failed], at(60)).lines(PLAIN)[0].split() == ["id", "workflow", "status", "age"]
    parked = replace(RUN, attention="quarantined")
    line = runs_table([failed, parked], at(60)).lines(PLAIN)[2]
    assert line.split() == [str(RUN.id), "orders", "running", "send", "60.0", "s", "quarantined"]


def test_a_list_fits_a_terminal_of_eighty_columns() -> None:
    long = replace(RUN, workflow="a_workflow_with_a_long_name", current_steps=("a_step", "another_step"))
    lines = runs_table([long], at(60)).lines(replace(PLAIN, width=80))
    assert max(map(len, lines)) <= 80


def test_a_header_names_what_could_not_be_undone_and_the_deadline() -> None:
    failure = {"step": "book", "visit": 1, "type": "ConnectionError", "message": "no answer"}
    error = {"type": "ValueError", "message": "no", "compensation_failures": [failure]}
    due = datetime.now(UTC) + timedelta(days=3)
    lines = header(replace(RUN, error=error, history=replace(history(), deadline=due)), PLAIN)
    assert lines[3:6] == [
        "error     ValueError: no",
        "undo      book failed: ConnectionError: no answer",
        f"deadline  {due:%Y-%m-%d %H:%M} UTC, in 3.0 d",
    ]


def give_back() -> None: ...


def test_a_graph_says_what_gates_wait_for_and_who_has_spoken() -> None:
    made = Workflow("gates")
    boss = made.approval("boss", approvers=3, deadline=7200)
    paid = made.wait_for("paid", name="bill", timeout=60)
    until = made.wait("until", until=datetime(2030, 1, 1, tzinfo=UTC))
    later = made.wait("later", until="ship_at")
    book = made.step(name="book", compensate=give_back)(lambda: None)
    mail = made.step(name="mail", compensatable=False)(lambda: None)
    made.sequence(boss, paid, until, later, made.pause("look"), book, mail)
    states = [declared(step.name, str(step.kind), StepStatus.WAITING) for step in made.check().steps]
    states[0] = declared("boss", "approval", StepStatus.PARKED, due_at=datetime(2030, 1, 1, 9, tzinfo=UTC))
    votes = [vote(seq, visit) for seq, visit in ((1, 1), (2, 2), (3, 1))]
    signal = replace(attempt(4, "bill", 0, 1), outcome="timeout")
    found = replace(history(step_run(signal), audits=tuple(votes)), steps=tuple(states))
    lines = graph_lines(made.check(), states, PLAIN, notes_of(made.check(), found))
    assert [line for line in lines if line != "│"] == [
        "!  boss   parked   waits for 3 approvals for up to 2 h, 2 of 3 so far, due 2030-01-01 09:00 UTC",
        "○  bill   waiting  waits for signal paid for up to 60 s, outcome timeout",
        "○  until  waiting  waits until 2030-01-01T00:00:00+00:00",
        "○  later  waiting  waits until the time in ship_at",
        "○  look   waiting  waits to be unblocked",
        "○  book   waiting  undone by give_back",
        "○  mail   waiting  cannot be undone",
    ]
    assert "boss" not in notes_of(made.check(), replace(found, next_seq=4))


def vote(seq: int, visit: int) -> AuditEvent:
    about = {"visit": visit}
    return AuditEvent(seq=seq, type="voted", step="boss", actor="Ann", comment=None, metadata=about, at=at(seq))


def test_a_graph_of_two_hundred_steps_is_a_list_with_states() -> None:
    made = Workflow("long")
    steps = [made.wait(f"w{number}", seconds=60) for number in range(200)]
    made.sequence(*steps)
    states = [
        DeclaredStep(
            step=f"w{number}",
            kind="wait",
            status=StepStatus.COMPLETED if number == 0 else StepStatus.WAITING,
            after=(),
            visits=0,
            due_at=None,
            reason=None,
        )
        for number in range(200)
    ]
    lines = graph_lines(made.check(), states, PLAIN)
    assert len(lines) == 200
    assert lines[0] == "✓  w0    completed  waits 60 s  → w1"
    assert lines[199] == "○  w199  waiting    waits 60 s"


def test_every_status_has_a_mark_of_one_character_in_both_alphabets() -> None:
    for status in StepStatus:
        assert len(mark_of(status, PLAIN)) == 1
        assert mark_of(status, replace(PLAIN, unicode=False)).isascii()


def test_errors_and_ids_in_short() -> None:
    assert error_line(None) == ""
    assert error_line({"message": "no"}) == "no"
    assert error_line({"type": "ValueError", "message": ""}) == "ValueError"
    assert short_id(WORKER) == "26e59391"
    assert short_id(None) == ""


def test_a_run_as_json_leaves_its_history_to_those_who_asked() -> None:
    found = run_json(replace(RUN, history=history()))
    assert "history" not in found
    assert (found["id"], found["created_at"], found["current_steps"]) == (
        str(RUN.id),
        "2026-03-01T09:00:00+00:00",
        ["send"],
    )
