"""What people do to a run from the command line: approve, reject, unblock, signal, retry, cancel, replay from a step."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from squidmesh import SquidMesh
from tests.acceptance.cli_app import WORKFLOWS
from tests.acceptance.cli_kit import CommandLine
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from squidmesh import History

    Until = Callable[[UUID, str], None]


@pytest.fixture(scope="module")
def mesh(database: str) -> Iterator[SquidMesh]:
    """A mesh with a worker."""
    with SquidMesh(database, workflows=WORKFLOWS) as mesh, mesh.worker():
        yield mesh


@pytest.fixture(scope="module")
def bare(database: str) -> CommandLine:
    """The command line on that database, without an app."""
    return CommandLine(database, app=None)


@pytest.fixture
def reaches(mesh: SquidMesh) -> Until:
    """Waits until a run is at a step."""

    def wait(run_id: UUID, step: str) -> None:
        until(lambda: mesh.inspect_run(run_id).current_steps == (step,), what=f"{step} is reached")

    return wait


@pytest.fixture
def run_id(mesh: SquidMesh, reaches: Until, tmp_path: Path) -> UUID:
    """A run that waits for two approvals."""
    run = mesh.start_run("trip", {"folder": str(tmp_path)})
    reaches(run.id, "sign_off")
    return run.id


def history_of(mesh: SquidMesh, run_id: UUID) -> History:
    history = mesh.inspect_run(run_id, include_history=True).history
    assert history is not None
    return history


def graph_line(said: str, step: str) -> str:
    """The step's line of the drawing, which stands below the header."""
    return next(line for line in said.partition("\n\n")[2].splitlines() if f"  {step} " in line)


def test_approvals_are_counted_until_enough_people_have_said_so(
    bare: CommandLine, mesh: SquidMesh, run_id: UUID
) -> None:
    first = bare("approve", run_id, "--actor", "Ann", "--comment", "fine").ok()
    assert first.out == "paused\n"
    assert "approved 'sign_off': that is 1 of 2 approvals; the next one must come from somebody else" in first.err
    shown = graph_line(bare("inspect", run_id).ok().out, "sign_off")
    assert "parked     waits for 2 approvals for up to 60 min, 1 of 2 so far, due " in shown
    again = bare("approve", run_id, "--actor", "Ann", "--json")
    assert (again.code, again.json["error"]["error"]) == (4, "already_voted")
    bob = {"name": "Bob", "id": 17}
    second = bare("approve", run_id, "--step", "sign_off", "--actor", json.dumps(bob), "--metadata", '{"t": 1}').ok()
    assert (second.out, second.err) == ("running\n", "squidmesh: approved 'sign_off'; the run goes on with 'paid'\n")
    assert [(e.type, e.actor, e.comment) for e in history_of(mesh, run_id).audit_events][1:] == [
        ("voted", "Ann", "fine"),
        ("approved", bob, None),
    ]
    late = bare("approve", run_id, "--actor", "Cid")
    assert late.code == 4
    assert f"no step waits for that now (squidmesh inspect {run_id} shows where it stands)" in late.err


def test_a_rejection_takes_its_way(bare: CommandLine, mesh: SquidMesh, run_id: UUID) -> None:
    said = bare("reject", run_id, "--actor", "Ann", "--json").ok()
    assert said.err == "squidmesh: rejected 'sign_off'; the run goes on with 'excuse'\n"
    assert (said.json["run"]["id"], said.json["run"]["current_steps"]) == (str(run_id), ["excuse"])
    assert mesh.wait_for_run(run_id, 30).context["excuse"] == "rejected by Ann"  # type: ignore[index]
    shown = bare("inspect", run_id, "--history").ok().out
    assert "outcome rejected" in graph_line(shown, "sign_off")
    assert "├─╮  rejected, timeout" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert ["sign_off", "1", "completed", "rejected"] in [row[:4] for row in rows]


def test_a_signal_ends_a_wait_once_and_one_that_comes_early_is_kept(
    squidmesh: CommandLine, mesh: SquidMesh, reaches: Until, run_id: UUID, tmp_path: Path
) -> None:
    (tmp_path / "post").touch()
    early = squidmesh("signal", run_id, "paid", "-p", "amount:=12", "--key", "k1", "--actor", "bank").ok()
    assert (early.out, early.err) == ("paused\n", "squidmesh: signal 'paid' is kept until the run waits for it\n")
    twice = squidmesh("signal", run_id, "paid", "--payload", "-", "--key", "k1", stdin='{"amount": 13}').ok()
    assert twice.err == "squidmesh: signal 'paid' was sent under the key 'k1' before; nothing was changed\n"
    for actor in ("Ann", "Bob"):
        mesh.approve_run(run_id, actor=actor)
    reaches(run_id, "last_look")
    assert mesh.inspect_run(run_id).context["payment"] == {"amount": 12}  # type: ignore[index]
    unknown = squidmesh("signal", run_id, "pad")
    assert unknown.code == 3
    assert "its workflow waits for: paid" in unknown.err


def test_a_signal_that_is_waited_for_says_what_it_ended(
    squidmesh: CommandLine, mesh: SquidMesh, reaches: Until, run_id: UUID
) -> None:
    for actor in ("Ann", "Bob"):
        mesh.approve_run(run_id, actor=actor)
    reaches(run_id, "paid")
    assert "waits for signal for up to 60 min, due " in graph_line(squidmesh("inspect", run_id).ok().out, "paid")
    said = squidmesh("signal", run_id, "paid").ok().err
    assert said == "squidmesh: signal 'paid' has ended 'paid'; the run goes on with 'mail'\n"


def test_a_pause_is_unblocked(bare: CommandLine, mesh: SquidMesh, reaches: Until, run_id: UUID, tmp_path: Path) -> None:
    bring_to_the_mail(mesh, run_id, tmp_path, post=True)
    reaches(run_id, "last_look")
    refused = bare("unblock", run_id, "--resolution", "completed")
    assert refused.code == 2
    assert "--resolution: step 'last_look' is a pause, which only goes on" in refused.err
    said = bare("unblock", run_id, "--actor", "ops").ok()
    assert (said.out, said.err) == ("completed\n", "squidmesh: 'last_look' is over; the run has completed\n")


@pytest.fixture
def quarantined(mesh: SquidMesh, database: str, tmp_path: Path) -> UUID:
    """A run whose first step nobody dares to run again."""
    run = mesh.start_run("held", {"folder": str(tmp_path)}, delay=3600)
    with psycopg.connect(database) as connection:
        quarantine(connection, run.id)
    return run.id


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("rerun", "'hold' runs again; the run goes on with 'hold'"),
        ('completed --output {"held":true}', "'hold' is taken as completed; the run goes on with 'after'"),
        ("failed --comment lost", "'hold' is taken as failed; the run has failed: ResolvedAsFailed: lost"),
    ],
)
def test_what_is_quarantined_becomes_what_a_person_says(
    bare: CommandLine, mesh: SquidMesh, quarantined: UUID, given: str, said: str
) -> None:
    shown = bare("inspect", quarantined).ok().out
    assert "attention quarantined" in shown.splitlines()
    assert graph_line(shown, "hold").split()[2:] == ["parked", "quarantined"]
    assert bare("unblock", quarantined, "--resolution", *given.split()).ok().err == f"squidmesh: {said}\n"
    assert [event.type for event in history_of(mesh, quarantined).audit_events] == ["resolved"]
    mesh.cancel_run(quarantined) if given == "rerun" else mesh.wait_for_run(quarantined, 30)


def quarantine(connection: psycopg.Connection[Any], run_id: UUID) -> None:
    """As it is after workers have died with the step again and again."""
    connection.execute(
        "UPDATE squidmesh.jobs SET state = 'parked', reason = 'quarantined', run_at = NULL WHERE run_id = %s", [run_id]
    )
    connection.execute(
        """UPDATE squidmesh.runs SET status = 'paused', attention = 'quarantined',
                  state = state || '{"gates": 1, "troubles": 1}' WHERE id = %s""",
        [run_id],
    )


def bring_to_the_mail(mesh: SquidMesh, run_id: UUID, folder: Path, *, post: bool) -> None:
    """Decide and signal, so that the last step with a function is next."""
    if post:
        (folder / "post").touch()
    mesh.send_signal(run_id, "paid")
    for actor in ("Ann", "Bob"):
        mesh.approve_run(run_id, actor=actor)


@pytest.fixture
def failed(mesh: SquidMesh, run_id: UUID, tmp_path: Path) -> UUID:
    """A run that failed at its last step; its first one could not be undone."""
    bring_to_the_mail(mesh, run_id, tmp_path, post=False)
    assert mesh.wait_for_run(run_id, 30).status == "failed"
    return run_id


def test_what_could_not_be_undone_is_shown(bare: CommandLine, failed: UUID) -> None:
    shown = bare("inspect", failed, "--history").ok().out
    assert "undo      book failed: ConnectionError: the airline does not answer" in shown.splitlines()
    assert shown.splitlines()[-1].split()[2:] == ["compensated", '{"left":', "1,", '"undone":', "0}"]
    assert "not_compensated  undone by cancel_flight" in graph_line(shown, "book")
    rows = [line.split() for line in shown.splitlines()]
    assert ["book", "compensation", "1", "failed"] in [row[:4] for row in rows]


def test_what_was_undone_is_replayed_not_retried(squidmesh: CommandLine, failed: UUID) -> None:
    refused = squidmesh("retry", failed)
    assert refused.code == 4
    assert f"what its steps did was undone; replay it instead: squidmesh replay {failed}" in refused.err


def test_a_failed_run_is_retried_from_where_it_failed(squidmesh: CommandLine, mesh: SquidMesh, tmp_path: Path) -> None:
    run = mesh.start_run("bridge", {"folder": str(tmp_path)})
    assert mesh.wait_for_run(run.id, 30).status == "failed"
    (tmp_path / "go").touch()
    said = squidmesh("retry", run.id, "--actor", "ops").ok()
    assert said.out == "retrying\n"
    assert said.err.splitlines() == [
        "squidmesh: it goes on with 'cross'",
        "squidmesh: it keeps the results of 'approach'",
    ]
    assert mesh.wait_for_run(run.id, 30).context == {"near": True, "crossed": 1}


def test_a_replay_from_a_step_says_whose_results_it_takes_over(
    squidmesh: CommandLine, mesh: SquidMesh, tmp_path: Path
) -> None:
    (tmp_path / "go").touch()
    source = mesh.start_run("bridge", {"folder": str(tmp_path)})
    assert mesh.wait_for_run(source.id, 30).status == "completed"
    wrong = squidmesh("replay", source.id, "--from-step", "fly")
    assert wrong.code == 2
    assert "--from-step: the workflow has no step 'fly'; it has: approach, cross" in wrong.err
    refused = squidmesh("replay", source.id, "--from-step", "cross")
    assert refused.code == 4
    assert "has completed steps that cannot be undone (cross)" in refused.err
    said = squidmesh("replay", source.id, "--from-step", "cross", "--allow-irreversible", "--wait").ok()
    assert said.err.splitlines()[1] == "squidmesh: it begins with 'cross', and takes over the results of 'approach'"
    shown = squidmesh("inspect", said.out.strip(), "--history").ok().out
    assert "completed  copied" in graph_line(shown, "approach")
    assert ["approach", "copied", "1", "completed"] in [line.split()[:4] for line in shown.splitlines()]


def test_a_cancelled_run_is_undone_if_asked_and_only_then(
    bare: CommandLine, mesh: SquidMesh, run_id: UUID, tmp_path: Path
) -> None:
    assert "deadline  " in bare("inspect", run_id).ok().out
    (tmp_path / "airline").touch()
    said = bare("cancel", run_id, "--compensate", "--actor", "ops").ok()
    assert (said.out, said.err) == (
        "compensating\n",
        "squidmesh: undoing what its steps did, beginning with 'book'\n",
    )
    assert mesh.wait_for_run(run_id, 30).status == "cancelled"
    assert {step.step: step.status for step in history_of(mesh, run_id).steps}["book"] == "compensated"
    again = bare("cancel", run_id, "--compensate").ok()
    assert (again.out, again.err.partition(":")[2].strip()[:26]) == ("cancelled\n", "it was cancelled already: ")


def test_a_run_is_cancelled_without_waiting_for_what_executes(
    bare: CommandLine, mesh: SquidMesh, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "gate")
    run = mesh.start_run("deaf", {"folder": str(tmp_path)})
    until((tmp_path / "started").exists, what="the step runs")
    assert bare("cancel", run.id).ok().out == "cancelling\n"
    assert bare("cancel", run.id, "--force").ok().out == "cancelled\n"
    (tmp_path / "gate").write_text("go")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("approve", "x"), "required: --actor"),
        (("approve", "x", "--actor", "{"), "--actor is not JSON"),
        (("reject", "x", "--actor", "Ann", "--metadata", "[]"), "--metadata must be a JSON object"),
        (("unblock", "x", "--resolution", "forget"), "invalid choice: 'forget'"),
        (("unblock", "x", "--output", "@nowhere"), "--output @nowhere: cannot read the file"),
        (("retry", uuid4(), "--actor", " "), "--actor: must be a text or an object, not empty"),
    ],
)
def test_what_cannot_be_understood_is_refused_before_anything_is_done(
    squidmesh: CommandLine, given: tuple[object, ...], said: str
) -> None:
    refused = squidmesh(*given)
    assert (refused.code, refused.out) == (2, "")
    assert said in refused.err
