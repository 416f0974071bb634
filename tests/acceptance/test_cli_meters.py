"""``squidmesh meters``, run as people run it: every verb, its JSON, and its exit code for what goes wrong."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from squidmesh import SquidMesh
from tests.acceptance.cli_app import WORKFLOWS
from tests.acceptance.cli_kit import CommandLine
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

METER_KEYS = {"name", "held", "waiting", "most", "tokens", "paused_until"}
"""The JSON of a limit or rate, as docs/cli.md has it."""

NAME = "metered/work:account=it's a"


@pytest.fixture
def mesh(database: str) -> Iterator[SquidMesh]:
    """The app, with what was paused under two names."""
    with SquidMesh(database, workflows=WORKFLOWS) as mesh:
        yield mesh
        for meter in mesh.meters.list():
            if meter.paused_until is not None:
                mesh.meters.resume(meter.name)


def test_limits_and_rates_are_paused_listed_and_resumed(mesh: SquidMesh, database: str) -> None:
    cli = CommandLine(database)
    assert cli("meters", "pause", NAME, "--for", "10m").ok().out.startswith("paused until 2")
    (found,) = cli("meters", "list", "metered/work:", "--json").ok().json["meters"]
    assert set(found) == METER_KEYS
    assert (found["name"], found["held"], found["waiting"], found["most"]) == (NAME, 0, 0, 2)
    end = datetime.fromisoformat(found["paused_until"])
    assert timedelta(minutes=9) < end - datetime.now(UTC) <= timedelta(minutes=10)

    header, *lines = cli("meters", "list").ok().out.splitlines()
    assert header.split("  ")[0] == "limit or rate"
    (line,) = [line for line in lines if line.startswith(NAME)]
    assert line.endswith(f"{end:%Y-%m-%d %H:%M:%S}")

    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    meter = cli("meters", "pause", NAME, "--until", later, "--json").ok().json["meter"]
    assert datetime.fromisoformat(meter["paused_until"]) == datetime.fromisoformat(later)
    assert cli("meters", "resume", NAME).ok().out == "not paused\n"
    assert cli("meters", "list", "metered/work:", "--json").ok().json["meters"] == []


def test_without_the_app_what_is_known_to_the_database_may_be_named(mesh: SquidMesh, database: str) -> None:
    bare = CommandLine(database, app=None)
    refused = bare("meters", "pause", NAME, "--for", "60")
    assert (refused.code, "there is no limit or rate" in refused.err) == (3, True)
    mesh.meters.pause(NAME, seconds=600)
    assert bare("meters", "list", "--json").ok().json["meters"][0]["most"] is None
    assert bare("meters", "pause", NAME, "--for", "1h").ok().out.startswith("paused until")
    assert bare("meters", "resume", NAME, "--json").ok().json["meter"]["paused_until"] is None
    listed = bare("meters", "list").ok()
    assert (listed.out, listed.err) == ("", "squidmesh: no limit or rate is in use\n")


def test_the_command_that_ends_a_pause_is_there_to_be_copied(mesh: SquidMesh, database: str) -> None:
    cli = CommandLine(database)
    mesh.meters.pause(NAME, seconds=600)
    with mesh.worker():
        run = mesh.start_run("metered", {"account": "it's a"})
        until(lambda: mesh.explain_run(run.id).reason == "key_paused", what="a run that waits for the end of a pause")
        said = cli("explain", run.id).ok().out
        assert "0 of 2 at work, paused until" in said
        (command,) = [shlex.split(line) for line in said.splitlines() if "squidmesh meters resume" in line]
        assert command[:3] == ["squidmesh", "meters", "resume"]
        assert cli(*command[1:]).ok().out == "not paused\n"
        assert mesh.wait_for_run(run.id, timeout=30).status == "completed"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("pause", "nobody", "--for", "60"), 3, "there is no limit or rate 'nobody': this app declares metered/work"),
        (("resume", "metered/work:account"), 3, "metered/work:account=VALUE"),
        (("pause", NAME), 2, "meters pause takes either --for or --until"),
        (("pause", NAME, "--for", "60", "--until", "2100-01-01T00:00:00Z"), 2, "either --for or --until"),
        (("pause", NAME, "--for", "soon"), 2, "is not a duration"),
        (("pause", NAME, "--until", "2000-01-01T00:00:00Z"), 2, "that is to come"),
        (("pause", NAME, "--for", "0"), 2, "above 0"),
        (("pause",), 2, "meters pause takes the NAME of a limit or rate"),
        (("resume",), 2, "meters resume takes the NAME of a limit or rate"),
        (("list", "--for", "60"), 2, "--for is for: meters pause"),
        (("list", "--limit", "1001"), 2, "from 1 to 1000"),
        (("resume", NAME, "--limit", "3"), 2, "--limit is for: meters list"),
        (("fly",), 2, "invalid choice: 'fly'"),
    ],
)
def test_what_goes_wrong_is_one_line(database: str, arguments: tuple[str, ...], code: int, said: str) -> None:
    answer = CommandLine(database)("meters", *arguments)
    assert answer.code == code
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
