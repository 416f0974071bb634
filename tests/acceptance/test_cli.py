"""The command line, run as people run it: every command, its JSON, and its exit code for everything that goes wrong."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import psycopg
import pytest

from squidmesh import Explanation, SquidMesh
from tests.acceptance.cli_app import WORKFLOWS
from tests.acceptance.cli_kit import HERE, ROOT, CommandLine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squidmesh import Run

RUN_KEYS = {
    "id",
    "workflow",
    "trigger",
    "key",
    "status",
    "attention",
    "payload",
    "context",
    "current_steps",
    "error",
    "fingerprint",
    "replayed_from",
    "created_at",
    "finished_at",
    "schedule",
}
"""The run's JSON, as docs/cli.md has it."""


@pytest.fixture(scope="module")
def bare(database: str) -> CommandLine:
    """The command line on that database, without an app."""
    return CommandLine(database, app=None)


@pytest.fixture(scope="module", autouse=True)
def demos(database: str) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Both kinds of demo, begun before all else: they take some seconds, and most of that they sleep."""
    cli = CommandLine(None, app=None)
    with cli.open("demo", "--dsn", database) as told, cli.open("demo", "--json", "--dsn", database) as as_json:
        yield {"told": told, "json": as_json}
        told.kill()
        as_json.kill()


@pytest.fixture(scope="module")
def ended(database: str) -> Iterator[dict[str, Run]]:
    """A run of some workflows that has ended."""
    with SquidMesh(database, workflows=WORKFLOWS) as mesh:
        runs = {
            "greeting": mesh.start_run("greeting", {"name": "Ann"}),
            "order": mesh.start_run("order", {"name": "Ann", "times": 3}),
            "broken": mesh.start_run("broken"),
        }
        with mesh.worker():
            yield {name: mesh.wait_for_run(run.id, 30) for name, run in runs.items()}


class TestMigrate:
    def test_it_checks_prints_applies_and_repeats(self, fresh_database: str) -> None:
        cli = CommandLine(fresh_database, app=None)
        before = cli("migrate", "--check")
        assert (before.code, before.out) == (5, "pending 0001_initial\n")
        printed = cli("migrate", "--sql", "--schema", "other").ok().out
        assert "CREATE TABLE other.runs" in printed
        applied = cli("migrate").ok()
        assert (applied.out, applied.err) == ("applied 0001_initial\n", "")
        again = cli("migrate").ok()
        assert (again.out, again.err) == ("", "squidmesh: the schema 'squidmesh' is up to date\n")
        assert cli("migrate", "--check", "--json").ok().json == {
            "schema_version": 1,
            "schema": "squidmesh",
            "pending": [],
        }
        with psycopg.connect(fresh_database, autocommit=True) as connection:
            connection.execute(printed.encode())
        assert cli("--schema", "other", "migrate", "--check").code == 0

    def test_sql_needs_no_database_and_knows_from_and_to(self) -> None:
        nowhere = CommandLine(None, app=None)
        assert "CREATE TABLE" in nowhere("migrate", "--sql", "--from", "0", "--to", "1", "--json").ok().json["sql"]
        assert "nothing to apply" in nowhere("migrate", "--sql", "--from", 1).ok().out

    def test_from_without_sql_is_a_usage_error(self, bare: CommandLine) -> None:
        assert bare("migrate", "--from", "1").code == 2


class TestStart:
    def test_it_prints_the_id_and_nothing_else_on_stdout(self, squidmesh: CommandLine, database: str) -> None:
        said = squidmesh("start", "patient", "--trigger", "manual").ok()
        run_id = UUID(said.out.removesuffix("\n"))
        assert said.err == "squidmesh: started a run of patient, trigger manual\n"
        with SquidMesh(database) as mesh:
            assert mesh.inspect_run(run_id).workflow == "patient"

    def test_its_payload_comes_from_options_and_stdin(self, squidmesh: CommandLine) -> None:
        given = ("start", "order", "--trigger", "phone", "-p", "name=Bob", "--payload", "-", "--delay", "1h", "--json")
        run = squidmesh(*given, stdin='{"name": "Ann", "times": 2}').ok().json["run"]
        assert set(run) == RUN_KEYS
        assert run["payload"] == {"name": "Bob", "times": 2}
        assert (run["trigger"], run["status"], run["current_steps"]) == ("phone", "pending", ["price"])

    def test_it_begins_when_it_is_told_to(self, squidmesh: CommandLine, database: str) -> None:
        at = datetime.now(UTC) + timedelta(days=1)
        run_id = squidmesh("start", "greeting", "-p", "name=Ann", "--at", at.isoformat()).ok().out.strip()
        with SquidMesh(database, workflows=WORKFLOWS) as mesh:
            history = mesh.inspect_run(run_id, include_history=True).history
        assert history is not None
        assert history.steps[0].due_at == at

    def test_it_waits_for_the_end(self, squidmesh: CommandLine, ended: dict[str, Run]) -> None:
        del ended  # while it is there, a worker is
        good = squidmesh("start", "greeting", "-p", "name=Ann", "-p", "times:=2", "--wait", "--json").ok().json["run"]
        assert (good["status"], good["context"]) == ("completed", {"greeting": "hello Ann hello Ann "})
        bad = squidmesh("start", "broken", "--wait")
        assert bad.code == 1
        assert " failed after " in bad.err
        assert "ValueError: always" in bad.err

    def test_it_waits_no_longer_than_told(self, squidmesh: CommandLine) -> None:
        said = squidmesh("start", "patient", "--wait", "--timeout", "50ms", "--json")
        assert said.code == 6
        assert said.json["error"]["error"] == "run_timeout"
        assert UUID(said.json["error"]["run_id"]).version == 7

    def test_a_key_starts_one_run(self, squidmesh: CommandLine) -> None:
        first = squidmesh("start", "patient", "--key", "k-1").ok()
        again = squidmesh("start", "patient", "--key", "k-1").ok()
        assert again.out == first.out
        assert again.err == (
            "squidmesh: there is a run of patient with this key already, pending; nothing was started\n"
        )
        refused = squidmesh("start", "patient", "--key", "k-1", "--on-conflict", "raise", "--json")
        assert (refused.code, refused.json["error"]["error"]) == (4, "run_exists")
        heading, *rows = squidmesh("runs", "--key", "k-1").ok().out.splitlines()
        assert heading.split()[:3] == ["id", "workflow", "key"]
        assert [row.split()[:3] for row in rows] == [[first.out.strip(), "patient", "k-1"]]
        assert "key       k-1" in squidmesh("inspect", first.out.strip()).ok().out.splitlines()

    @pytest.mark.parametrize(
        ("given", "code", "said"),
        [
            (("patient", "--on-conflict", "raise"), 2, "give them together"),
            (("nothing",), 3, "there is no workflow 'nothing'; registered: bridge, broken, deaf, elsewhere"),
            (("order", "--trigger", "fax"), 3, "has no trigger 'fax'; it has: shop, phone"),
            (("greeting",), 2, "name: required, but missing"),
            (("greeting", "-p", "name=Ann", "-p", "times=2"), 2, "squidmesh: hint: -p times=... gives a text"),
            (("greeting", "-p", "name=Ann", "--delay", "900d"), 2, "for later: run_at="),
            (("greeting", "-p", "name=Ann", "--timeout", "5s"), 2, "--timeout says how long --wait waits"),
        ],
    )
    def test_what_cannot_be_started_is_refused(
        self, squidmesh: CommandLine, given: tuple[str, ...], code: int, said: str
    ) -> None:
        refused = squidmesh("start", *given)
        assert (refused.code, refused.out) == (code, "")
        assert said in refused.err

    def test_the_hint_follows_the_error_that_it_belongs_to(self, squidmesh: CommandLine) -> None:
        error, hint = squidmesh("start", "greeting", "-p", "name=Ann", "-p", "times=2").err.splitlines()
        assert error.startswith("squidmesh: the payload of 'greeting' is invalid")
        assert hint.startswith("squidmesh: hint: -p times=...")


class TestRuns:
    def test_they_are_listed_without_an_app_and_filtered(self, bare: CommandLine, ended: dict[str, Run]) -> None:
        lines = (
            bare("runs", "--status", "failed", "--status", "cancelled", "--workflow", "broken").ok().out.splitlines()
        )
        assert lines[0].split() == ["id", "workflow", "status", "age"]
        assert str(ended["broken"].id) in {line.split()[0] for line in lines[1:]}
        assert {line.split()[1] for line in lines[1:]} == {"broken"}
        assert "\033" not in "".join(lines)

    def test_pages_continue_each_other(self, bare: CommandLine, ended: dict[str, Run]) -> None:
        whole = bare("runs", "--json", "--until", "0s").ok().json
        assert whole["next"] is None
        assert all(set(run) == RUN_KEYS for run in whole["runs"])
        ids = [run["id"] for run in whole["runs"]]
        assert {str(run.id) for run in ended.values()} <= set(ids)
        first = bare("runs", "--json", "--limit", "1", "--until", whole["runs"][0]["created_at"]).ok().json
        assert [run["id"] for run in first["runs"]] == ids[1:2]
        assert first["next"] == ids[1]
        second = bare("runs", "--json", "--before", first["next"]).ok().json
        assert [run["id"] for run in second["runs"]] == ids[2:]

    def test_none_are_said_beside_the_data(self, bare: CommandLine) -> None:
        said = bare("runs", "--workflow", "unheard-of", "--since", "2h").ok()
        assert (said.out, said.err) == ("", "squidmesh: no such runs\n")

    def test_a_limit_that_is_too_high_is_refused(self, bare: CommandLine) -> None:
        assert bare("runs", "--limit", "1001").code == 2


class TestInspect:
    def test_it_shows_the_run_its_graph_and_its_history(self, bare: CommandLine, ended: dict[str, Run]) -> None:
        said = bare("inspect", ended["order"].id, "--history").ok().out
        lines = said.splitlines()
        assert lines[0] == f"run       {ended['order'].id}"
        assert lines[1] == "workflow  order, trigger shop"
        assert lines[2].startswith("status    completed, took ")
        assert 'payload   {"name": "Ann", "times": 3}' in lines
        assert 'context   {"total": 15, "charged": 15}' in lines
        assert "╰─╮  error" in lines
        assert "  ✓  apologise  completed" in lines
        rows = [line.split() for line in lines[lines.index("") :]]
        assert ["step", "attempt", "status", "waited", "took", "worker", "error"] in rows
        assert "ValueError: too heavy ?[31m" in said
        assert said.count("ValueError") == 2

    def test_without_history_and_graph_it_is_a_header(self, bare: CommandLine, ended: dict[str, Run]) -> None:
        lines = bare("inspect", ended["broken"].id, "--no-graph").ok().out.splitlines()
        assert [line.split()[0] for line in lines] == [
            "run",
            "workflow",
            "status",
            "attention",
            "error",
            "payload",
            "context",
        ]
        assert "error     ValueError: always" in lines

    def test_its_json_has_the_documented_keys(self, bare: CommandLine, ended: dict[str, Run]) -> None:
        found = bare("inspect", ended["order"].id, "--history", "--json").ok().json
        assert set(found) == {"schema_version", "run", "steps", "deadline", "step_runs", "audit_events", "next_seq"}
        assert set(found["run"]) == RUN_KEYS
        assert set(found["steps"][0]) == {"step", "kind", "status", "after", "visits", "due_at", "reason"}
        step_run = found["step_runs"][0]
        assert set(step_run) == {"step", "visit", "status", "input", "output", "error", "attempts", "kind"}
        assert " ".join(step_run["attempts"][0]) == (
            "seq step visit attempt status outcome output error worker saw takes started_at finished_at kind"
        )
        short = bare("inspect", ended["order"].id, "--json").ok().json
        assert set(short) == {"schema_version", "run", "steps", "deadline"}

    def test_a_long_history_is_paged(self, bare: CommandLine, ended: dict[str, Run]) -> None:
        page = bare("inspect", ended["order"].id, "--history", "--limit", "2", "--json").ok().json
        assert [s["step"] for s in page["step_runs"]] == ["price", "charge"]
        rest = bare("inspect", ended["order"].id, "--history", "--after", page["next_seq"], "--json").ok().json
        assert [s["step"] for s in rest["step_runs"]] == ["send", "apologise"]
        assert rest["next_seq"] is None

    @pytest.mark.parametrize("option", ["--after", "--limit"])
    def test_what_chooses_a_page_of_the_history_needs_the_history(self, bare: CommandLine, option: str) -> None:
        said = bare("inspect", uuid4(), option, "2")
        assert (said.code, said.out) == (2, "")
        assert "give them together with it" in said.err

    def test_a_run_that_does_not_exist_is_not_found(self, bare: CommandLine) -> None:
        nobody = uuid4()
        said = bare("inspect", nobody, "--json")
        assert (said.code, said.err) == (3, f"squidmesh: there is no run {nobody}\n")
        assert said.json["error"] == {
            "error": "run_not_found",
            "message": f"there is no run {nobody}",
            "run_id": str(nobody),
        }

    def test_what_is_no_id_is_a_usage_error(self, bare: CommandLine) -> None:
        said = bare("inspect", "17")
        assert (said.code, said.out) == (2, "")
        assert "'17' is not a run id" in said.err


class TestExplain:
    def test_it_says_why_and_what_may_be_done_without_the_app(self, bare: CommandLine, ended: dict[str, Run]) -> None:
        said = bare("explain", ended["broken"].id).ok().out.splitlines()
        assert said[3] == "reason   step_failed, step fail"
        assert said[5].startswith("The run failed at step 'fail' ")
        assert said[5].endswith(": ValueError: always.")
        assert f"           squidmesh retry {ended['broken'].id} --app MODULE:ATTRIBUTE" in said

    def test_what_nobody_serves_is_found_out(self, squidmesh: CommandLine) -> None:
        run_id = squidmesh("start", "elsewhere").ok().out.strip()
        said = squidmesh("explain", run_id).ok().out
        assert "No live worker serves the queue 'slow' of step 'crawl': start one." in said
        assert "squidmesh worker --queues slow:10\n" in said

    def test_its_json_is_the_explanation(self, squidmesh: CommandLine, ended: dict[str, Run]) -> None:
        why = squidmesh("explain", ended["order"].id, "--json").ok().json["explanation"]
        assert set(why) == {field.name for field in fields(Explanation)}
        assert (why["reason"], why["status"], why["run_id"]) == ("completed", "completed", str(ended["order"].id))
        assert why["next_actions"] == [
            {
                "name": "replay_run",
                "arguments": {"allow_irreversible": True},
                "why": "replay it: a new run from the beginning, which does again what cannot be undone: charge",
                "needs": [],
            }
        ]

    def test_there_is_nothing_to_explain_of_no_run(self, bare: CommandLine) -> None:
        assert bare("explain", uuid4()).code == 3
        assert bare("explain", "x").code == 2


class TestCancelAndReplay:
    def test_a_run_is_cancelled_once_without_an_app(self, squidmesh: CommandLine, bare: CommandLine) -> None:
        run_id = squidmesh("start", "patient").ok().out.strip()
        assert bare("cancel", run_id, "--actor", "ops", "--comment", "not needed").ok().out == "cancelled\n"
        assert bare("cancel", run_id, "--json").ok().json["run"]["status"] == "cancelled"
        history = bare("inspect", run_id, "--history").ok().out
        (event,) = (line for line in history.splitlines() if " ops " in line)
        assert event.split()[-4:] == ["cancelled", "ops", "not", "needed"]

    def test_what_has_ended_is_not_cancelled(self, bare: CommandLine, ended: dict[str, Run]) -> None:
        said = bare("cancel", ended["greeting"].id, "--json")
        assert said.code == 4
        assert said.json["error"]["status"] == "completed"

    def test_a_replay_that_repeats_the_irreversible_is_refused_unless_meant(
        self, squidmesh: CommandLine, ended: dict[str, Run]
    ) -> None:
        source = ended["order"].id
        refused = squidmesh("replay", source)
        assert refused.code == 4
        assert "add --allow-irreversible if that is meant" in refused.err
        run = squidmesh("replay", source, "--allow-irreversible", "--wait", "--json").ok().json["run"]
        assert (run["replayed_from"], run["status"]) == (str(source), "completed")

    def test_a_replay_prints_the_new_id(self, squidmesh: CommandLine, ended: dict[str, Run]) -> None:
        new = UUID(squidmesh("replay", ended["greeting"].id).ok().out.strip())
        assert new != ended["greeting"].id


class TestDiff:
    def test_it_shows_where_two_runs_part(self, bare: CommandLine, ended: dict[str, Run]) -> None:
        a, b = ended["broken"], ended["greeting"]
        said = bare("diff", a.id, b.id).ok()
        rows = [" ".join(line.split()) for line in said.out.splitlines()]
        assert rows[0] == f"step what {a.id} {b.id}"
        assert "workflow broken greeting" in rows
        assert "payload differs in name, times" in rows
        assert "fail status failed -" in rows
        assert "error ValueError -" in rows
        assert "greet status - completed" in rows
        assert said.err.startswith("squidmesh: they part at ")

    def test_its_json_has_the_documented_keys(self, bare: CommandLine, ended: dict[str, Run]) -> None:
        found = bare("diff", ended["broken"].id, ended["order"].id, "--json").ok().json
        assert set(found) == {"schema_version", "same", "diff", "parted_at"}
        assert set(found["diff"]) == set("a b workflow graph trigger status payload_keys steps".split())
        step = set("step visit status outcome output_keys attempts error_type".split())
        assert set(found["diff"]["steps"][0]) == set(found["parted_at"]) == step
        itself = bare("diff", ended["order"].id, ended["order"].id, "--json").ok().json
        assert (itself["same"], itself["parted_at"]) == (True, None)

    def test_what_does_not_differ_is_said(self, bare: CommandLine, ended: dict[str, Run]) -> None:
        said = bare("diff", ended["order"].id, ended["order"].id).ok()
        assert (said.out, said.err) == ("", "squidmesh: the runs do not differ in anything but time and place\n")


class TestWhatGoesWrong:
    def test_a_missing_schema_names_the_command_that_makes_it(self, fresh_database: str) -> None:
        for command in ("runs", "worker"):
            said = CommandLine(fresh_database)(command)
            assert said.code == 5
            assert "run: python -m squidmesh migrate" in said.err

    def test_a_database_that_cannot_be_reached_is_said_at_once(self) -> None:
        nowhere = CommandLine("postgresql://127.0.0.1:1/none")
        said = nowhere("runs", "--json")
        assert said.code == 7
        assert "Connection refused" in said.err
        assert said.err.count("\n") == 1
        assert said.json["error"]["error"] == "database_unreachable"
        assert nowhere("worker").code == 7

    def test_without_any_address_it_says_where_one_may_stand(self) -> None:
        said = CommandLine(None, app=None)("runs")
        assert (said.code, said.out) == (2, "")
        assert "SQUIDMESH_DATABASE_URL" in said.err

    def test_an_app_that_is_not_there_is_a_usage_error(self, database: str) -> None:
        said = CommandLine(database, app="no_such:mesh")("start", "x")
        assert (said.code, said.out) == (2, "")
        assert "there is no module 'no_such'" in said.err

    def test_a_traceback_is_for_those_who_ask(self, bare: CommandLine) -> None:
        said = bare("--debug", "inspect", "17")
        assert said.code == 2
        assert "Traceback" in said.err
        assert said.err.splitlines()[-1].startswith("squidmesh: '17' is not a run id")

    def test_a_line_that_cannot_be_read_is_one_line_and_json(self, bare: CommandLine) -> None:
        said = bare("runs", "--wrong", "--json")
        assert (said.code, said.json["error"]["error"]) == (2, "usage")
        assert said.err == "squidmesh: unrecognized arguments: --wrong (see: squidmesh --help)\n"

    def test_a_reader_that_has_seen_enough_is_no_failure(self, bare: CommandLine, ended: dict[str, Run]) -> None:
        del ended
        with bare.open("runs") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert (process.wait(30), process.stderr.read()) == (0, "")


def test_every_kind_of_app_will_do(database: str) -> None:
    for app in ("cli_app:async_mesh", "cli_app:make"):
        assert CommandLine(database, app=app)("start", "greeting", "-p", "name=Ann").ok().out


def test_the_address_on_the_line_is_stronger_than_the_environment(database: str) -> None:
    nowhere = CommandLine("postgresql://127.0.0.1:1/none")
    assert nowhere("runs", "--dsn", database).code == 0
    assert nowhere("--dsn", database, "start", "patient").code == 0


def test_an_encoding_without_boxes_gets_plain_characters(bare: CommandLine, ended: dict[str, Run]) -> None:
    said = bare("inspect", ended["order"].id, "--history", PYTHONIOENCODING="ascii").ok().out
    assert said.isascii()
    assert "+-+  error" in said


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_on_a_terminal_it_is_coloured_and_fits(
    bare: CommandLine, ended: dict[str, Run], environ: dict[str, str], coloured: bool
) -> None:
    said = on_a_terminal(bare, ["inspect", str(ended["order"].id), "--history"], columns=60, **environ)
    assert ("\033[32m✓\033[0m" in said) is coloured
    if not coloured:
        assert max(len(line) for line in said.splitlines()) <= 60


def on_a_terminal(cli: CommandLine, arguments: list[str], *, columns: int, **environ: str) -> str:
    """What a command prints on a terminal."""
    ours, its = pty.openpty()
    variables = {**cli.environ, "COLUMNS": str(columns), "TERM": "xterm", **environ}
    variables = {name: value for name, value in variables.items() if name != "NO_COLOR" or "NO_COLOR" in environ}
    with subprocess.Popen(
        [sys.executable, "-m", "squidmesh", *arguments], cwd=HERE, env=variables, stdin=its, stdout=its
    ) as process:
        os.close(its)
        parts: list[bytes] = []
        while part := read_terminal(ours):
            parts.append(part)
        assert process.wait(30) == 0
    os.close(ours)
    return b"".join(parts).decode()


def read_terminal(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # what Linux says when nobody is at the other end any more
        return b""


class TestDemo:
    def test_it_shows_a_run(self, demos: dict[str, subprocess.Popen[str]]) -> None:
        said, errors = demos["told"].communicate(timeout=60)
        assert (demos["told"].returncode, errors) == (0, "")
        assert said.count("503 Service Unavailable") == 2
        assert "↻ check_gateway_status" in said
        assert "✓  notify_customer       completed  irreversible" in said
        assert said.index("The run, as it happens") < said.index("The graph, and where each step stands")

    def test_its_json_is_a_line_for_each_event_and_one_for_the_run(
        self, demos: dict[str, subprocess.Popen[str]]
    ) -> None:
        said, _ = demos["json"].communicate(timeout=60)
        assert demos["json"].returncode == 0
        *events, last = map(json.loads, said.splitlines())
        names = {event["event"]["name"] for event in events}
        assert {"run.created", "run.dispatched", "step.failed", "step.retry_scheduled", "step.completed"} <= names
        assert set(last) == {"schema_version", "run", "history"}
        statuses = [
            a["status"]
            for s in last["history"]["step_runs"]
            for a in s["attempts"]
            if s["step"] == "check_gateway_status"
        ]
        assert statuses == ["failed", "failed", "completed"]

    def test_it_leaves_nothing_behind(self, database: str, demos: dict[str, subprocess.Popen[str]]) -> None:
        for process in demos.values():
            assert process.wait(60) == 0
        with psycopg.connect(database) as connection:
            schemas = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ 'demo'").fetchall()
        assert schemas == []

    def test_it_prints_its_code(self) -> None:
        nowhere = CommandLine(None, app=None)
        code = nowhere("demo", "--code").ok().out
        assert code == (ROOT / "squidmesh" / "cli" / "demo_workflow.py").read_text(encoding="utf-8")
        assert nowhere("demo", "--schema", "mine").code == 2
