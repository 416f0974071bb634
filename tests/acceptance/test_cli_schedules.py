"""``squidmesh schedules``, run as people run it: every verb, its JSON, and its exit code for what goes wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from squidmesh import SquidMesh
from tests.acceptance.cli_app import WORKFLOWS
from tests.acceptance.cli_kit import CommandLine

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEDULE_KEYS = {
    "name",
    "workflow",
    "trigger",
    "source",
    "expression",
    "timezone",
    "catch_up",
    "overlap",
    "jitter",
    "payload",
    "paused",
    "retired",
    "next_at",
    "last_at",
    "last_run",
    "skipped",
    "last_skipped",
    "skip_reason",
}
"""The schedule's JSON, as docs/cli.md has it."""


PAYLOAD = {"name": "Ada"}


@pytest.fixture
def mesh(database: str) -> Iterator[SquidMesh]:
    """The app, with one schedule that names noon."""
    with SquidMesh(database, workflows=WORKFLOWS) as mesh:
        mesh.schedules.create("noon", WORKFLOWS[0], "0 12 * * *", timezone="Europe/Berlin", payload=PAYLOAD)
        yield mesh
        mesh.schedules.delete("noon")


def test_schedules_are_listed_for_people_and_programs(mesh: SquidMesh, database: str) -> None:
    bare = CommandLine(database, app=None)
    header, line = bare("schedules", "list").ok().out.splitlines()
    assert header.split()[:3] == ["schedule", "expression", "zone"]
    assert line.split()[:1] == ["noon"]
    assert "0 12 * * *  Europe/Berlin  active" in line
    (found,) = bare("schedules", "list", "--json").ok().json["schedules"]
    assert set(found) == SCHEDULE_KEYS
    assert (found["name"], found["catch_up"], found["overlap"]) == (
        "noon",
        {"window": 86400.0, "mode": "latest"},
        "allow",
    )
    assert bare("schedules", "list", "--workflow", "none", "--json").ok().json["schedules"] == []


def test_the_next_times_are_told_in_utc(mesh: SquidMesh, database: str) -> None:
    bare = CommandLine(database, app=None)
    assert len(bare("schedules", "next", "noon").ok().out.splitlines()) == 5
    times = bare("schedules", "next", "noon", "--count", "2", "--json").ok().json["next"]
    assert [datetime.fromisoformat(text) for text in times] == mesh.schedules.next_times("noon", 2)


def test_a_schedule_is_paused_and_resumed(mesh: SquidMesh, database: str) -> None:
    bare = CommandLine(database, app=None)
    assert bare("schedules", "pause", "noon").ok().out == "paused\n"
    assert "paused" in bare("schedules", "list").ok().out
    assert bare("schedules", "resume", "noon", "--json").ok().json["schedule"]["paused"] is False


def test_runs_are_triggered_and_backfilled(mesh: SquidMesh, database: str) -> None:
    cli = CommandLine(database)
    run_id = cli("schedules", "trigger", "noon").ok().out.strip()
    run = mesh.inspect_run(run_id)
    assert run.schedule is not None
    shown = cli("inspect", run_id).ok().out
    assert f"schedule  noon, for {run.schedule.nominal_at:%Y-%m-%d %H:%M:%S} UTC" in shown
    backfill = ("schedules", "backfill", "noon", "--since", "3d", "--json")
    runs = cli(*backfill).ok().json["runs"]
    assert len(runs) == 3
    assert {run["schedule"]["name"] for run in runs} == {"noon"}
    assert cli(*backfill).ok().json["runs"] == []
    before = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    assert len(cli("schedules", "backfill", "noon", "--since", before, "--until", "4d").ok().out.splitlines()) == 26


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("pause", "none"), 3, "there is no schedule 'none'"),
        (("pause",), 2, "schedules pause takes the NAME of a schedule"),
        (("list", "noon"), 2, "schedules list takes no NAME"),
        (("list", "--count", "3"), 2, "--count is for: schedules next"),
        (("backfill", "noon"), 2, "schedules backfill needs --since"),
        (("fly",), 2, "invalid choice: 'fly'"),
    ],
)
def test_what_goes_wrong_is_one_line(database: str, arguments: tuple[str, ...], code: int, said: str) -> None:
    answer = CommandLine(database)("schedules", *arguments)
    assert answer.code == code
    assert said in answer.err


def test_starting_runs_needs_the_app(database: str) -> None:
    answer = CommandLine(database, app=None)("schedules", "trigger", "noon")
    assert (answer.code, "needs your app" in answer.err) == (2, True)
