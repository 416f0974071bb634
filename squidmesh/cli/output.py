"""What the commands say: data on stdout, talk on stderr; tables for people, JSON for programs.

Colour only on a terminal that wants it, box characters only where the encoding has them, and never a byte of somebody's
error message that a terminal would obey.
"""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, TextIO, TypeAlias, cast

if TYPE_CHECKING:
    from squidmesh.records import JSON

JSON_VERSION: Final = 1
"""``schema_version`` of everything that ``--json`` prints; raised when a key goes away or changes its meaning."""

Style: TypeAlias = Literal["bold", "dim", "red", "green", "yellow", "cyan", ""]

_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_NARROWEST: Final = 8
"""Characters that a column keeps, however narrow the terminal."""

_MILLISECOND: Final = 0.001


@dataclass(frozen=True, slots=True)
class Screen:
    """Where output goes, and what may be used there.

    Args:
        stream: Where to.
        colour: Whether colours are welcome.
        unicode: Whether the encoding has box characters and the like.
        width: Columns of the terminal; None if it is none, then nothing is shortened.
    """

    stream: TextIO
    colour: bool = False
    unicode: bool = True
    width: int | None = None

    @staticmethod
    def of(stream: TextIO, environ: Mapping[str, str]) -> Screen:
        """The screen that a stream is."""
        terminal = stream.isatty()
        colour = terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        width = shutil.get_terminal_size().columns if terminal else None
        return Screen(stream, colour, _has_boxes(stream.encoding), width)

    def say(self, text: str = "", *, end: str = "\n") -> None:
        """Write a line, and do not keep it back."""
        print(text, file=self.stream, end=end, flush=True)

    def paint(self, text: str, style: Style) -> str:
        """The text in a style, if colours are welcome."""
        return f"\033[{_CODES[style]}m{text}\033[0m" if self.colour and style and text else text

    def pick(self, fine: str, plain: str) -> str:
        """The first text, or the second where the encoding has not the first."""
        return fine if self.unicode else plain

    def shorten(self, text: str, room: int | None) -> str:
        """The text, cut to ``room`` characters."""
        if room is None or len(text) <= room:
            return text
        mark = self.pick("…", "...")
        return text[: max(room - len(mark), 0)] + mark

    def write_json(self, **parts: object) -> None:
        """Write one JSON object with a ``schema_version``, on one line."""
        said = {"schema_version": JSON_VERSION, **{key: plain(value) for key, value in parts.items()}}
        self.say(json.dumps(said, ensure_ascii=not self.unicode))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        title: Its heading.
        right: Whether it is aligned to the right.
        flexible: Whether it may be shortened where the terminal is narrow.
        optional: Whether it is left out when all its cells are empty.
    """

    title: str
    right: bool = False
    flexible: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Args:
        cells: One text a column.
        styles: One style a column; missing ones are plain.
        note: More text: beside the row where there is room for it, below it where there is not.
    """

    cells: Sequence[str]
    styles: Sequence[Style] = ()
    note: str = ""


@dataclass(slots=True)
class Table:
    """Rows under headings, aligned.

    Args:
        columns: The columns.
        rows: The rows.
        note_title: The heading of the notes.
    """

    columns: Sequence[Column]
    rows: list[Row] = field(default_factory=list[Row])
    note_title: str = ""

    def lines(self, screen: Screen) -> list[str]:
        """The table as lines."""
        shown = [n for n, c in enumerate(self.columns) if not c.optional or any(row.cells[n] for row in self.rows)]
        room = screen.width
        widths = self._widths(shown, room)
        used = sum(widths.values()) + 2 * len(shown)
        left = None if room is None else room - used
        beside = left is None or left >= max((len(row.note) for row in self.rows), default=0)
        has_notes = any(row.note for row in self.rows)
        dim: list[Style] = ["dim"] * len(self.columns)
        heading = Row([c.title for c in self.columns], dim)
        lines = [self._line(screen, heading, widths, self.note_title if beside and has_notes else "", "dim")]
        for row in self.rows:
            note = screen.shorten(row.note, left if beside else None if room is None else room - 4)
            lines.append(self._line(screen, row, widths, note if beside else "", "red"))
            if note and not beside:
                lines.append(f"    {screen.paint(note, 'red')}")
        return [line.rstrip() for line in lines]

    def _widths(self, shown: Sequence[int], room: int | None) -> dict[int, int]:
        """The width of each column: what its cells need, the flexible ones less where there is no room."""
        widths = {n: max(len(self.columns[n].title), *(len(row.cells[n]) for row in self.rows), 0) for n in shown}
        flexible = [n for n in shown if self.columns[n].flexible]
        while room is not None and flexible and sum(widths.values()) + 2 * (len(shown) - 1) > room:
            widest = max(flexible, key=lambda n: widths[n])
            if widths[widest] <= _NARROWEST:
                break
            widths[widest] -= 1
        return widths

    def _line(self, screen: Screen, row: Row, widths: Mapping[int, int], note: str, note_style: Style) -> str:
        parts: list[str] = []
        for n, width in widths.items():
            text = screen.shorten(row.cells[n], width)
            padding = " " * (width - len(text))
            painted = screen.paint(text, row.styles[n] if n < len(row.styles) else "")
            parts.append(padding + painted if self.columns[n].right else painted + padding)
        return "  ".join([*parts, screen.paint(note, note_style)])


def talk(message: str, stream: TextIO | None = None) -> None:
    """Say something to the person at the terminal, beside the data."""
    print(f"squidmesh: {message}", file=stream or sys.stderr, flush=True)


def one_line(text: str) -> str:
    """Text on one line, without anything that a terminal would obey."""
    return " ".join("".join(c if unicodedata.category(c) != "Cc" or c.isspace() else "?" for c in text).split())


def compact_json(value: JSON, screen: Screen) -> str:
    """A JSON value on one line, for people."""
    return one_line(json.dumps(value, ensure_ascii=not screen.unicode, default=str))


def plain(value: object) -> JSON:
    """A record as JSON: dataclasses become objects, instants ISO 8601, ids and statuses text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in cast("Sequence[object]", value)]
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def took(seconds: float | timedelta | None) -> str:
    """A duration for people: ``3 ms``, ``2.0 s``, ``4 min``, ``3.5 h``, ``12 d``."""
    if seconds is None:
        return ""
    value = max(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds, 0.0)
    for unit, size, least in (("d", 86400, 172800), ("h", 3600, 5400), ("min", 60, 100)):
        if value >= least:
            return f"{value / size:.0f} {unit}" if value >= 10 * size else f"{value / size:.1f} {unit}"
    if value >= 1:
        return f"{value:.1f} s"
    return f"{value * 1000:.0f} ms" if value >= _MILLISECOND or value == 0 else f"{value * 1000:.1g} ms"


def span(seconds: float) -> str:
    """A duration that somebody chose, so without decimals that say nothing: ``2 s``."""
    return took(seconds).replace(".0 ", " ")


def _has_boxes(encoding: str | None) -> bool:
    try:
        "─│╮✓…↻".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
