"""The documentation is true: its code runs, its tables are those of the code, its links lead somewhere."""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
import re
import shlex
from typing import TYPE_CHECKING, Final

import pytest

import squidmesh
from squidmesh import Retry, RunStatus, SquidMesh, SquidMeshError, Workflow, states, testing
from squidmesh.cli import commands
from squidmesh.events import EVENT_NAMES, Event
from squidmesh.states import JOB_MOVES, RUN_MOVES, JobState, ParkedReason
from tests.docs_kit import DOCS, ROOT, Block, Page, PageRun, code_in, commands_in, pages
from tests.test_architecture import LAYERS
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PAGES: Final = {page.name: page for page in pages()}

EXCUSED: Final = {
    ("docs/host-integration.md", "it needs a Django project"): 2,
    ("docs/host-integration.md", "it needs a pooler"): 1,
    ("docs/host-integration.md", "it needs a role of that name"): 1,
    ("docs/testing.md", "it needs a Django project"): 1,
    (
        "docs/transactions.md",
        "Django's settings are those of a whole process; the same is run in a process of its own by tests/runtime/test_orms.py",
    ): 1,
}
"""The blocks that are not run, by page and reason."""

OPTIONAL: Final = {"fastapi", "flask", "sqlalchemy"}
"""The packages that blocks may need which the tests run without."""

FORBIDDEN: Final = re.compile(
    r"/(?:work|opt|root|home)/|pypi\.org|pythonhosted|\b(?:TODO|FIXME|XXX)\b"
    r"|\b(?:blazing|powerful|seamless\w*|effortless\w*|robust|simply|cutting-edge|best-in-class|revolutionary)\b",
    re.IGNORECASE,
)
"""What no page says: places on somebody's machine, notes to oneself, and praise of oneself."""

AMERICAN: Final = re.compile(
    r"\b(?:behavior|color|serializ\w+|initializ\w+|recogniz\w+|cancell?ation policy|canceled)\b"
)


# -- what runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PAGES if not name.startswith("docs/adr/")])
def test_a_page_runs_from_top_to_end(
    name: str, fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block of Python, SQL and the shell, in order, with the output that the page shows."""
    monkeypatch.setenv("SQUIDMESH_DATABASE_URL", fresh_database)
    monkeypatch.delenv("SQUIDMESH_APP", raising=False)
    run = PageRun(PAGES[name], tmp_path, fresh_database)
    run.run()
    runnable = [
        b for b in PAGES[name].blocks() if b.language in ("python", "sql") and b.mark not in ("no-run", "needs")
    ]
    assert {block.line for block in runnable} <= set(run.ran)


def test_no_block_is_excused_but_those_listed() -> None:
    excused: dict[tuple[str, str], int] = {}
    for name, block in _all_blocks():
        if block.mark == "no-run":
            excused[name, block.argument] = excused.get((name, block.argument), 0) + 1
        assert block.mark != "needs" or block.argument in OPTIONAL
    assert excused == EXCUSED


def test_every_command_of_the_command_line_exists_with_its_options() -> None:
    """Commands are parsed, whether they are run or not; those of ``noxfile.py`` name a session."""
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), flags=re.MULTILINE))
    seen = 0
    for name, block in _all_blocks():
        if block.language != "console":
            continue
        for command, _ in commands_in(block):
            words = shlex.split(re.split(r" (?:[|&;<>]+) ?", command)[0])
            words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S+", word)]
            if words[:2] == ["python3", "noxfile.py"]:
                assert words[2] in sessions, f"{name}:{block.line}: {command}"
            elif words[:3] == ["python", "-m", "squidmesh"] or words[0] == "squidmesh":
                arguments = words[3:] if words[0] == "python" else words[1:]
                assert commands().parse(arguments).command == arguments[0], f"{name}:{block.line}: {command}"
            else:
                continue
            seen += 1
    assert seen > 20


def test_the_readme_begins_with_the_two_commands() -> None:
    first = next(block for block in PAGES["README.md"].blocks() if block.language == "console")
    assert [command for command, _ in commands_in(first)] == ["python3 noxfile.py demo", "python3 noxfile.py tests"]
    assert first.line < 15


# -- what is said about the code ---------------------------------------------------------------------------------------


def test_the_state_machine_is_the_one_in_the_code() -> None:
    page = PAGES["docs/state-machine.md"]
    for moves, heading in ((RUN_MOVES, ("run status", "may become")), (JOB_MOVES, ("job state", "may become"))):
        said = {code_in(old)[0]: set(code_in(new)) for old, new in page.table(*heading)}
        assert said == {str(old): {str(new) for new in found} for old, found in moves.items()}
    kinds: list[type[enum.Enum]] = [RunStatus, JobState, ParkedReason, states.AttemptStatus, states.StepStatus]
    first_columns = [[code_in(row[0])[0] for row in table[1:]] for table in page.tables()]
    for kind in kinds:
        assert [str(member.value) for member in kind] in first_columns, kind
    terminal = [code_in(row[0])[0] for row in page.table("run status", "may become") if "terminal" in row[1]]
    assert terminal == [str(status) for status in RunStatus if status.terminal]


def test_the_layers_are_those_that_are_enforced() -> None:
    rows = PAGES["docs/architecture.md"].table("layer", "modules", "what")
    said = [{word.rstrip("/") for word in code_in(modules)} for _, modules, _ in rows]
    assert said == [names - {"__init__", "__main__"} for names in LAYERS]


def test_every_event_is_listed_once() -> None:
    assert sorted(code_in(row[0])[0] for row in _event_table()) == sorted(EVENT_NAMES)


def test_events_carry_what_the_table_says(fresh_database: str) -> None:
    """A retry, a branch, a skipped join, a replay, a result that comes too late; a gate, a signal, and undoing."""
    heard: list[Event] = []
    with SquidMesh(fresh_database, workflows=[_eventful(fresh_database), _undone()]) as mesh:
        mesh.migrate()
        mesh.subscribe(heard.append)
        run, other = mesh.start_run("eventful"), mesh.start_run("undone")
        with mesh.worker(heartbeat=0.2, lease=2.0):
            mesh.send_signal(other.id, "paid", actor="bank")
            until(lambda: any(event.name == "gate.opened" for event in heard))
            for actor in ("ann", "bob"):
                mesh.approve_run(other.id, actor=actor)
            mesh.wait_for_run(other.id, timeout=30)
            mesh.wait_for_run(run.id, timeout=30)
        mesh.replay_run(run.id)
        assert mesh.events.flush(10)
    documented = _documented_events()
    for event in heard:
        always, perhaps, measured = documented[event.name]
        assert always <= event.metadata.keys() <= always | perhaps, event
        assert event.measurements.keys() <= measured, event
    unheard = set(EVENT_NAMES) - {event.name for event in heard}
    assert unheard == {"schedule.skipped", "worker.failed", "worker.declared_dead"}


def test_every_error_is_explained() -> None:
    """The table has each error with its code, the tree each error under its base."""
    page = PAGES["docs/errors.md"]
    rows = page.table("error", "code", "raised when", "what to do")
    known: set[type[SquidMeshError]] = {SquidMeshError, *_subclasses(SquidMeshError)}
    assert {(code_in(name)[0], code_in(code)[0]) for name, code, *_ in rows} == {(e.__name__, e.code) for e in known}
    tree = next(block for block in page.blocks() if block.text.startswith("SquidMeshError\n"))
    assert tree.text.splitlines() == ["SquidMeshError", *_tree(SquidMeshError)]


def test_every_reason_is_explained_in_order_of_precedence() -> None:
    page = PAGES["docs/explain.md"]
    tables = [table[1:] for table in page.tables() if table[0][0] == "reason"]
    assert [code_in(row[0])[0] for rows in tables for row in rows] == [str(reason) for reason in squidmesh.Reason]


def test_every_public_name_is_in_the_reference() -> None:
    page = PAGES["docs/reference.md"]
    sections = {code_in(title)[0] for title in page.sections(3) if code_in(title)}
    listed = {name for table in page.tables() for row in table for name in code_in(row[0])}
    assert set(squidmesh.__all__) <= sections | listed
    assert sections <= set(squidmesh.__all__)


@pytest.mark.parametrize("name", sorted(squidmesh.__all__))
def test_the_reference_says_what_a_name_takes_and_has(name: str) -> None:
    """Every parameter, default, method, property and value; signatures are compared word by word."""
    public = getattr(squidmesh, name)
    section = PAGES["docs/reference.md"].sections(3).get(f"`{name}`")
    if section is None:
        assert issubclass(public, Exception)
        return
    said = set(code_in(re.sub(r"```.*?```", "", section, flags=re.DOTALL)))
    missing = [word for word in _words_of(name, public) if word not in said]
    assert not missing


def test_the_page_on_testing_says_what_a_harness_takes_and_has() -> None:
    """Every method and property, word by word; a default that is an object is written as three dots."""
    said = {code_in(member)[0] for member, _ in PAGES["docs/testing.md"].table("member", "what it is")}
    for kind in (testing.Harness, testing.AsyncHarness):
        words = {
            re.sub(r"=<object.*?>", "=...", word).replace("workflow, count", "workflow, /, count")
            for word in _words_of(kind.__name__, kind)
        }
        annotated = {name for each in kind.__mro__ for name in inspect.get_annotations(each) if name[0] != "_"}
        assert said == (words - {_signature(kind.__name__, kind)}) | annotated


def test_the_reference_says_what_the_methods_raise() -> None:
    """What a method's docstring lists is in its row, or said of all methods together."""
    for method, _, raises in PAGES["docs/reference.md"].table("method", "what it does", "raises"):
        documented = inspect.getdoc(getattr(SquidMesh, code_in(method)[0].partition("(")[0])) or ""
        listed = re.findall(r"^    (\w+): ", documented.partition("Raises:")[2], flags=re.MULTILINE)
        assert set(listed) <= {"InvalidRunId", "RunNotFound", "ConnectionUnusable", *code_in(raises)}, method


def test_the_twin_is_what_the_reference_says_it_is() -> None:
    """It has the same options and methods, all of them awaited but for two."""
    methods = [name for name, _ in inspect.getmembers(squidmesh.AsyncSquidMesh, inspect.isfunction) if name[0] != "_"]
    plain = [m for m in methods if not inspect.iscoroutinefunction(getattr(squidmesh.AsyncSquidMesh, m))]
    assert plain == ["subscribe", "worker"]


# -- what is linked and written ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PAGES))
def test_links_lead_somewhere(name: str) -> None:
    """Files and headings; other sites are not visited."""
    page = PAGES[name]
    for link in page.links():
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.exists(), f"{name}: {link}"
        assert not anchor or anchor in Page(target).anchors(), f"{name}: {link}"


def test_every_page_is_in_the_index() -> None:
    index = PAGES["docs/index.md"]
    linked = {(index.path.parent / link.partition("#")[0]).resolve() for link in index.links()}
    assert set(DOCS.rglob("*.md")) - {index.path} <= linked


def test_decisions_are_numbered_without_gaps_and_have_the_four_parts() -> None:
    found = [page for name, page in PAGES.items() if name.startswith("docs/adr/")]
    assert [int(page.path.name[:4]) for page in found] == list(range(1, len(found) + 1))
    for page in found:
        assert page.text.startswith(f"# {page.path.name[:4]} "), page.name
        assert re.search(r"^Status: (accepted|superseded by \[\d{4}\])", page.text, flags=re.MULTILINE), page.name
        assert list(page.sections(2)) == ["Context", "Decision", "Consequences"], page.name


@pytest.mark.parametrize("name", list(PAGES))
def test_a_page_speaks_of_the_project_and_plainly(name: str) -> None:
    text = PAGES[name].text
    assert not [match.group() for match in (*FORBIDDEN.finditer(text), *AMERICAN.finditer(PAGES[name].prose()))]


@pytest.mark.parametrize("name", list(PAGES))
def test_files_and_names_that_a_page_speaks_of_exist(name: str) -> None:
    """What stands between backticks and looks like a file of ours, something in it, or a module of the package."""
    shown = {"manage.py"} | {block.argument for _, block in _all_blocks() if block.mark == "file"}
    for word in code_in(PAGES[name].prose()):
        if file := re.fullmatch(r"([\w/-]+/|[\w/-]+\.(?:py|sql|md))(?:: (\w+))?", word):
            places = [place / file[1] for place in (ROOT, ROOT / "squidmesh", ROOT / "sql" / "statements")]
            found = next((place for place in places if place.exists()), None)
            assert found or file[1] in shown, word
            assert not file[2] or (found and f"def {file[2]}(" in found.read_text()), word
        elif re.fullmatch(r"squidmesh(?:\.[a-z_]+)+", word):
            assert _found(word), word


# -- how the code is asked ---------------------------------------------------------------------------------------------


def _all_blocks() -> Iterator[tuple[str, Block]]:
    return ((name, block) for name, page in PAGES.items() for block in page.blocks())


def _event_table() -> list[list[str]]:
    return PAGES["docs/observability.md"].table("event", "when", "metadata", "measurements")


def _documented_events() -> Mapping[str, tuple[set[str], set[str], set[str]]]:
    """For each event its metadata that is always there, that may be there, and its measurements."""
    found: dict[str, tuple[set[str], set[str], set[str]]] = {}
    for event, _, metadata, measurements in _event_table():
        always, _, perhaps = metadata.partition(";")
        found[code_in(event)[0]] = set(code_in(always)), set(code_in(perhaps)), set(code_in(measurements))
    return found


def _eventful(dsn: str) -> Workflow:
    """A workflow in whose runs nearly everything happens that events tell of."""
    import psycopg

    eventful = Workflow("eventful")

    @eventful.step(retry=Retry(max_attempts=2), start=True)
    def fail() -> None:
        raise ConnectionError("as ever")

    @eventful.step
    def mend() -> None: ...

    stolen: list[bool] = []

    @eventful.step(start=True)
    def lose(ctx: squidmesh.Context) -> None:
        if not stolen:
            stolen.append(True)
            with psycopg.connect(dsn, autocommit=True) as connection:
                # As if this worker had been declared dead, and a dead worker had taken the job over.
                connection.execute(
                    "UPDATE squidmesh.jobs SET worker = gen_random_uuid() WHERE run_id = %s AND step = 'lose'",
                    [ctx.run_id],
                )

    @eventful.step(after=[fail, lose])
    def join() -> None: ...

    eventful.transition(fail, on="error", to=mend)
    return eventful


def _undone() -> Workflow:
    """A workflow that waits for people and for a signal, fails, and is undone at the second attempt."""
    undone = Workflow("undone")

    def give_back(ctx: squidmesh.Context) -> None:
        if ctx.attempt == 1:
            raise ConnectionError("not yet")

    @undone.step(compensate=give_back, compensate_retry=Retry(max_attempts=2))
    def take() -> None: ...

    @undone.step
    def fail() -> None:
        raise ConnectionError("as ever")

    undone.sequence(take, undone.approval("gate", approvers=2), undone.wait_for("paid"), fail)
    return undone


def _subclasses(base: type[SquidMeshError]) -> list[type[SquidMeshError]]:
    """The errors below another one that the package's modules define; those of the command line are its own."""
    for module in pkgutil.walk_packages(squidmesh.__path__, "squidmesh."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    below = [each for each in base.__subclasses__() if re.match(r"squidmesh\.(?!cli)", each.__module__)]
    return [each for one in sorted(below, key=lambda e: e.__name__) for each in (one, *_subclasses(one))]


def _tree(base: type[SquidMeshError], indent: str = "") -> Iterator[str]:
    below = [each for each in _subclasses(base) if base in each.__bases__]
    for each in below:
        last = each is below[-1]
        others = [other.__name__ for other in each.__bases__ if other.__module__ == "builtins"]
        yield f"{indent}{'└── ' if last else '├── '}{each.__name__}{''.join(f' ({other})' for other in others)}"
        yield from _tree(each, f"{indent}{'    ' if last else '│   '}")


def _words_of(name: str, public: object) -> Iterator[str]:
    """What the reference must have between backticks for a public name."""
    if not callable(public):
        return
    if isinstance(public, type) and issubclass(public, enum.Enum):
        yield from (str(member.value) for member in public)
    elif name in ("AsyncSquidMesh", "AsyncSchedules", "AsyncMeters"):
        return  # its documentation is that of its twin
    elif hasattr(public, "__dataclass_fields__") and name not in (
        "Retry",
        "Constant",
        "Exponential",
        "Outcome",
        "CatchUp",
        "Limit",
        "Rate",
    ):
        yield from public.__dataclass_fields__
    elif name not in (
        "Worker",
        "Schedules",
        "Meters",
        "WorkflowWarning",
    ):  # three are made by a mesh, the other by check()
        yield _signature(name, public)
    for member, value in inspect.getmembers(public):
        if member.startswith("_") or (isinstance(public, type) and issubclass(public, Exception)):
            continue
        if isinstance(value, property):
            yield member
        elif inspect.isfunction(value):
            yield _signature(member, value, is_method=True)


def _signature(name: str, function: object, *, is_method: bool = False) -> str:
    """A signature without annotations."""
    assert callable(function)
    parameters = list(inspect.signature(function).parameters.values())[is_method:]
    said: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in said and not any(p[0] == "*" for p in said):
            said.append("*")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        stars = "*" * (parameter.kind is parameter.VAR_POSITIONAL) + "**" * (parameter.kind is parameter.VAR_KEYWORD)
        said.append(f"{stars}{parameter.name}{default}")
    return f"{name}({', '.join(said)})"


def _found(word: str) -> bool:
    """Whether this is a module of the package, or something in one."""
    if word.startswith("squidmesh.") and word.split(".")[1] in _LOGGERS | _TABLES:
        return True
    parent, _, last = word.rpartition(".")
    try:
        importlib.import_module(word)
    except ModuleNotFoundError:
        try:
            return hasattr(importlib.import_module(parent), last)
        except ModuleNotFoundError:
            return False
    return True


_LOGGERS: Final = {"steps", "engine", "planner", "caretaker", "listener", "scheduler", "worker", "events"}
_TABLES: Final = {"runs", "jobs", "attempts", "workers", "schedules", "clock"}
