"""Reads the documentation as data: its blocks of code, its tables, its headings and links; and runs what can be run.

A page runs from its top to its end in one namespace, on a database of its own that ``SquidMesh()`` finds through the
environment. A comment in front of a block says what is special about it::

    <!-- no-run: why -->        it is not run (and listed by ``EXCUSED`` in test_docs.py)
    <!-- needs: flask -->       it is run only where that package is installed
    <!-- file: shop.py -->      it is saved under this name in the directory that commands run in
    <!-- output -->             (text) what the block before it printed
    <!-- run -->                (console) its commands are run, and print what is said; without it they only have to exist
    <!-- terminal: worker -->   (console) its command goes on in the background, in a terminal of that name
    <!-- interrupt: worker -->  (text) what that terminal says when Ctrl-C is pressed in it
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

import psycopg

from squidmesh import SquidMesh
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "docs"

_MARK: Final = re.compile(r"<!--\s*(no-run|needs|file|output|run|terminal|interrupt)\s*(?::\s*(.*?))?\s*-->")
_HEADING: Final = re.compile(r"(#+) (.*)")
_LINK: Final = re.compile(r"(?<!!)\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")

_SHELL: Final = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test that runs in the background has inherited that it is ignored
os.execv("/bin/sh", ["sh", "-c", sys.argv[1]])
"""

CHANGING: Final = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\b20\d\d-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z|\+\d\d:\d\d| UTC)?)?"), "<time>"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:µs|ms|s|min|h)\b"), "<duration>"),
    (re.compile(r"\bpid[ =]\d+"), "pid <number>"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "<worker>"),
    (re.compile(r"host=[^&' ]+"), "host=<directory>"),
)
"""What is different each time a page is run."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Args:
        line: Number of the line after the fence.
        language: What the fence says.
        text: What is in it.
        mark: What the comment in front of it says; empty without one.
        argument: What the comment says after the colon.
    """

    line: int
    language: str
    text: str
    mark: str = ""
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the documentation."""

    path: Path

    @property
    def name(self) -> str:
        """Its path in the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    def blocks(self) -> list[Block]:
        """Its fenced blocks, in order."""
        return [item for item in _parsed(self.text) if isinstance(item, Block)]

    def prose(self) -> str:
        """Everything outside of fenced blocks."""
        return "\n".join(item for item in _parsed(self.text) if isinstance(item, str))

    def anchors(self) -> set[str]:
        """What links to its headings may be called."""
        found: dict[str, int] = {}
        anchors: set[str] = set()
        for line in self.prose().splitlines():
            heading = _HEADING.fullmatch(line)
            if heading:
                slug = re.sub(r"[^\w\- ]", "", heading[2].strip().lower().replace("`", "")).replace(" ", "-")
                count = found[slug] = found.get(slug, -1) + 1
                anchors.add(f"{slug}-{count}" if count else slug)
        return anchors

    def links(self) -> list[str]:
        """What it links to."""
        return _LINK.findall(self.prose())

    def tables(self) -> list[list[list[str]]]:
        """Its tables: rows of cells, the heading first and the line below it left out."""
        found: list[list[list[str]]] = [[]]
        for line in self.prose().splitlines():
            if line.startswith("|"):
                cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
                if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                    found[-1].append(cells)
            elif found[-1]:
                found.append([])
        return [table for table in found if table]

    def table(self, *heading: str) -> list[list[str]]:
        """The rows of the table with this heading."""
        (rows,) = [table[1:] for table in self.tables() if table[0] == list(heading)]
        return rows

    def sections(self, level: int) -> dict[str, str]:
        """The text below each heading of a level, by heading; code included."""
        parts = re.split(rf"^{'#' * level} (.*)$", self.text, flags=re.MULTILINE)
        return {title.strip(): body for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def code_in(cell: str) -> list[str]:
    """What stands between backticks; a line break there is a space."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", cell)]


def pages() -> list[Page]:
    """The pages, the README and the decisions included."""
    return [Page(path) for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))]


def _parsed(text: str) -> Iterator[Block | str]:
    """The lines outside of blocks, and the blocks."""
    mark = argument = ""
    lines = enumerate(text.splitlines(), start=1)
    for number, line in lines:
        if line.startswith("```"):
            inside: list[str] = []
            for _, code in lines:
                if code == "```":
                    break
                inside.append(code)
            yield Block(number, line[3:].strip(), "\n".join(inside) + "\n", mark, argument)
            mark = argument = ""
        elif found := _MARK.fullmatch(line.strip()):
            mark, argument = found[1], found[2] or ""
        else:
            yield line


def settled(text: str) -> list[str]:
    """The lines of an output without what is different each time."""
    for changing, stand_in in CHANGING:
        text = changing.sub(stand_in, text)
    # Columns are as wide as what stands in them, which changes too.
    return [re.sub(r"[ ─]+", " ", line).strip() for line in text.splitlines() if line.strip(" ─")]


@dataclass(slots=True)
class Terminal:
    """A command that goes on in the background, and what it said."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    def listen(self) -> Terminal:
        """Collect what it says."""
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                self.said += settled(line)

    def says(self, lines: list[str]) -> None:
        """Wait until it has said these lines, in this order, whatever stands between them."""
        try:
            until(partial(_in_order, lines, self.said))
        except AssertionError:
            raise AssertionError(f"it did not say\n{lines}\nbut\n{self.said}") from None

    def interrupt(self) -> int:
        """Press Ctrl-C, and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout=30)
        finally:
            self.process.kill()


class PageRun:
    """One run of a page.

    Args:
        page: The page.
        directory: Where its commands run and its files are saved.
        dsn: The database that ``SquidMesh()`` finds.
    """

    def __init__(self, page: Page, directory: Path, dsn: str) -> None:
        self.page = page
        self.directory = directory
        self.dsn = dsn
        self.module = ModuleType(f"docs_{page.path.stem.replace('-', '_')}")
        self.ran: list[int] = []
        self._printed = ""
        self._exported: dict[str, str] = {}
        self._terminals: dict[str, Terminal] = {}

    def run(self) -> None:
        """Run every block, from the top to the end."""
        sys.modules[self.module.__name__] = self.module
        sys.path.insert(0, str(self.directory))
        try:
            for block in self.page.blocks():
                self._run(block)
        finally:
            codes = {name: terminal.interrupt() for name, terminal in self._terminals.items()}
            for value in vars(self.module).values():
                if isinstance(value, SquidMesh):
                    value.close()
            sys.path.remove(str(self.directory))
            for name in [self.module.__name__, *(path.stem for path in self.directory.glob("*.py"))]:
                sys.modules.pop(name, None)
        assert not any(codes.values()), f"{self.page.name}: exit codes after Ctrl-C: {codes}"

    def _run(self, block: Block) -> None:
        if block.mark == "no-run" or (block.mark == "needs" and not find_spec(block.argument)):
            return
        if block.mark == "file":
            (self.directory / block.argument).write_text(block.text, encoding="utf-8")
        elif block.mark == "interrupt":
            self._interrupt(block)
        elif block.mark == "output":
            assert self._printed.strip() == block.text.strip(), f"{self.page.name}:{block.line}"
        elif block.language == "python":
            self._run_python(block)
        elif block.language == "sql":
            SquidMesh(self.dsn).migrate()
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                connection.execute(block.text.encode())
        elif block.language == "console":
            self._exported |= exports_in(block)
            if block.mark:
                self._run_console(block)
        else:
            return
        self.ran.append(block.line)

    def _run_python(self, block: Block) -> None:
        # Empty lines in front, so that a traceback names the line of the page.
        code = compile("\n" * block.line + block.text, str(self.page.path), "exec", dont_inherit=True)
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(code, vars(self.module))
        self._printed = printed.getvalue()

    def _run_console(self, block: Block) -> None:
        for command, expected in commands_in(block):
            if block.mark == "terminal":
                terminal = self._terminals[block.argument] = self._open(command).listen()
                terminal.says(expected)
            else:
                said, _ = self._open(command).process.communicate(timeout=60)
                # Sorted: steps that run at the same time end in any order.
                assert sorted(settled(said)) == sorted(expected), f"{self.page.name}:{block.line}: $ {command}\n{said}"

    def _interrupt(self, block: Block) -> None:
        terminal = self._terminals.pop(block.argument)
        assert terminal.interrupt() == 0, terminal.said
        terminal.says(settled(block.text))

    def _open(self, command: str) -> Terminal:
        # ``exec``, so that Ctrl-C reaches the command and not a shell around it.
        script = command if re.search(r"[;&|]|^export ", command) else f"exec {command}"
        environment = {
            **os.environ,
            **self._exported,
            "SQUIDMESH_DATABASE_URL": self.dsn,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "120",
        }
        process = subprocess.Popen(
            [sys.executable, "-c", _SHELL, script],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Terminal(process)


def commands_in(block: Block) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that it is said to print."""
    found: list[tuple[str, list[str]]] = []
    for part in re.split(r"^\$ ", block.text.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        found.append((command.strip(), settled(printed)))
    return found


def exports_in(block: Block) -> dict[str, str]:
    """The variables that a console block sets, for the rest of its page."""
    return dict(re.findall(r"^\$ export (\w+)=(\S+)$", block.text, flags=re.MULTILINE))


def _in_order(wanted: list[str], said: list[str]) -> bool:
    lines = iter(list(said))
    return all(line in lines for line in wanted)
