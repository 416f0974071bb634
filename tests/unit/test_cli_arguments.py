"""The grammar: options before and after the verb, errors of one line, and a page that says it all."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from squidmesh.cli import commands, main
from squidmesh.cli.exits import MEANINGS, Exit, UsageError
from tests.docs_kit import Page, code_in

PAGE = Page(Path(__file__).resolve().parents[2] / "docs" / "cli.md")
COMMON = {"--app", "--dsn", "--schema", "--json", "--debug"}


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """The commands' parsers."""
    (action,) = (a for a in commands().parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """What a parser takes, common options and help left out."""
    found = {name for action in parser._actions for name in action.option_strings or [str(action.metavar)]}
    return found - COMMON - {"-h", "--help", "--version", "COMMAND"}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_common_options_stand_before_and_after_the_verb(place: int) -> None:
    given = ["inspect", "some-id"]
    given[place:place] = ["--dsn", "postgresql://x/y", "--json"]
    options = commands().parse(given)
    assert (options.dsn, options.json, options.run_id) == ("postgresql://x/y", True, "some-id")
    assert (options.app, options.schema, options.debug) == (None, None, False)


def test_an_option_after_the_verb_is_stronger_than_one_before() -> None:
    assert commands().parse(["--app", "a:b", "runs", "--app", "c:d"]).app == "c:d"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["inspect"], "required: RUN_ID (see: squidmesh inspect --help)"),
        (["start", "x", "--delay", "soon"], "'soon' is not a duration"),
        (["start", "x", "--delay", "1s", "--at", "2026-01-01T00:00Z"], "not allowed with argument --delay"),
        (["runs", "--stat", "failed"], "unrecognized arguments: --stat"),
        (["runs", "--status", "dead"], "invalid choice: 'dead'"),
        (["worker", "--queues", "a b"], "write default:20,slow:2"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_with_the_reason(given: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        commands().parse(given)


def test_no_arguments_print_help_and_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == Exit.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert "exit codes:" in said.err
    assert "COMMAND" in said.err


def test_help_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert all(len(line) <= 60 for line in commands().parser.format_help().splitlines())


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert not stopped.value.code
    assert capsys.readouterr().out.startswith("squidmesh ")


def test_the_page_has_a_section_for_each_command_and_lists_it() -> None:
    known = set(subparsers())
    looking, steering = (
        {"runs", "inspect", "diff", "explain", "check-deploy"},
        {"approve", "reject", "unblock", "signal"},
    )
    others = {"retry", "cancel", "replay", "migrate", "worker", "demo", "start", "schedules", "meters"}
    assert known == looking | steering | others
    listed = {code_in(cell)[0] for cell, *_ in PAGE.table("command", "what it does", "needs the app")}
    assert listed == known
    assert known <= set(PAGE.sections(2))


@pytest.mark.parametrize("command", sorted(subparsers()))
def test_the_page_has_exactly_the_options_of_each_command(command: str) -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", PAGE.sections(2)[command], flags=re.MULTILINE)
    documented = {name for cell in rows for name in code_in(cell)}
    assert documented == options_of(subparsers()[command])


def test_the_page_has_exactly_the_common_options() -> None:
    rows = re.findall(r"^\| `([^`]*)` \|", PAGE.sections(2)["Which app, which database"], flags=re.MULTILINE)
    assert set(rows) == COMMON


def test_the_page_has_exactly_the_exit_codes_with_their_meanings() -> None:
    rows = {int(code_in(code)[0]): meaning for code, meaning in PAGE.table("code", "meaning")}
    assert rows == {int(code): meaning for code, meaning in MEANINGS.items()}
    assert set(MEANINGS) == set(Exit)
