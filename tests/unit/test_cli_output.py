"""What the commands print: tables that fit, colours only where they are welcome, and nothing that a terminal obeys."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from squidmesh.cli.output import Column, Row, Screen, Table, compact_json, one_line, plain, span, took
from squidmesh.states import RunStatus


class Stream(io.StringIO):
    """A stream as the system gives it."""

    def __init__(self, encoding: str, *, terminal: bool) -> None:
        super().__init__()
        self._encoding = encoding
        self._terminal = terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


def screen(*, width: int | None = None, colour: bool = False, unicode: bool = True) -> Screen:
    return Screen(io.StringIO(), colour, unicode, width)


@pytest.mark.parametrize(
    ("terminal", "environ", "colour"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(terminal: bool, environ: dict[str, str], colour: bool) -> None:
    assert Screen.of(Stream("utf-8", terminal=terminal), environ).colour is colour


@pytest.mark.parametrize(("encoding", "unicode"), [("utf-8", True), ("ascii", False), ("latin-1", False)])
def test_box_characters_are_for_encodings_that_have_them(encoding: str, unicode: bool) -> None:
    assert Screen.of(Stream(encoding, terminal=False), {}).unicode is unicode


def test_what_is_piped_is_not_shortened() -> None:
    assert Screen.of(Stream("utf-8", terminal=False), {}).width is None


class TestTable:
    def table(self) -> Table:
        columns = [Column("name", flexible=True), Column("n", right=True), Column("who", optional=True)]
        return Table(columns, [Row(["a" * 30, "1", ""]), Row(["b", "200", ""])], note_title="error")

    def test_columns_are_aligned_and_empty_ones_left_out(self) -> None:
        assert self.table().lines(screen()) == [
            f"{'name':30}    n",
            f"{'a' * 30}    1",
            f"{'b':30}  200",
        ]

    def test_a_flexible_column_gives_way_on_a_narrow_terminal(self) -> None:
        lines = self.table().lines(screen(width=20))
        assert lines[1] == f"{'a' * 14}…    1"
        assert max(map(len, lines)) == 20

    def test_notes_stand_beside_the_rows_where_there_is_room(self) -> None:
        table = self.table()
        table.rows[1] = Row(["b", "200", ""], note="broken")
        assert table.lines(screen(width=80))[0::2] == [f"{'name':30}    n  error", f"{'b':30}  200  broken"]

    def test_notes_stand_below_the_rows_where_there_is_none(self) -> None:
        table = self.table()
        table.rows[1] = Row(["b", "200", ""], note="broken " * 10)
        assert table.lines(screen(width=40))[2:] == [f"{'b':30}  200", f"    {('broken ' * 10)[:35]}…"]

    def test_colours_do_not_move_columns(self) -> None:
        table = Table([Column("a"), Column("b")], [Row(["x", "y"], ["red", "green"])])
        assert table.lines(screen(colour=True))[1] == "\033[31mx\033[0m  \033[32my\033[0m"

    def test_a_table_without_rows_is_its_headings(self) -> None:
        assert Table([Column("a"), Column("b")]).lines(screen()) == ["a  b"]


def test_nothing_that_a_terminal_obeys_comes_through() -> None:
    assert one_line("a\n\tb  c\033[31m\x9b\0") == "a b c?[31m??"
    assert compact_json({"a": "\x9b\033"}, screen()) == '{"a": "?\\u001b"}'


def test_text_is_cut_to_its_room() -> None:
    assert screen().shorten("abcdef", 4) == "abc…"
    assert screen(unicode=False).shorten("abcdef", 4) == "a..."
    assert screen().shorten("abcd", 4) == "abcd"
    assert screen().shorten("abcd", None) == "abcd"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (-1, "0 ms"),
        (0, "0 ms"),
        (0.0004, "0.4 ms"),
        (0.012, "12 ms"),
        (2, "2.0 s"),
        (99, "99.0 s"),
        (100, "1.7 min"),
        (3600, "60 min"),
        (9000, "2.5 h"),
        (172800, "2.0 d"),
        (timedelta(days=40), "40 d"),
    ],
)
def test_durations_are_for_people(seconds: float | timedelta | None, text: str) -> None:
    assert took(seconds) == text


def test_a_chosen_duration_has_no_needless_decimals() -> None:
    assert [span(2), span(0.5), span(1.5), span(7200)] == ["2 s", "500 ms", "1.5 s", "2 h"]


@dataclass(frozen=True, slots=True)
class Record:
    id: UUID
    status: RunStatus
    at: datetime
    steps: tuple[str, ...]
    data: dict[str, object]


def test_records_become_json_with_a_version() -> None:
    here = screen()
    record = Record(UUID(int=7), RunStatus.FAILED, datetime(2026, 3, 1, tzinfo=UTC), ("a", "b"), {"x": None, "y": 1.5})
    here.write_json(record=record)
    assert isinstance(here.stream, io.StringIO)
    assert json.loads(here.stream.getvalue()) == {
        "schema_version": 1,
        "record": {
            "id": "00000000-0000-0000-0000-000000000007",
            "status": "failed",
            "at": "2026-03-01T00:00:00+00:00",
            "steps": ["a", "b"],
            "data": {"x": None, "y": 1.5},
        },
    }
    assert here.stream.getvalue().count("\n") == 1


def test_json_is_ascii_where_the_encoding_is() -> None:
    here = screen(unicode=False)
    here.write_json(name="ä")
    assert isinstance(here.stream, io.StringIO)
    assert here.stream.getvalue() == '{"schema_version": 1, "name": "\\u00e4"}\n'


def test_plain_leaves_plain_values_alone() -> None:
    assert plain([1, True, None, "a", 2.5]) == [1, True, None, "a", 2.5]
