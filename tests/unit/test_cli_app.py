"""Loading the host's app: what may stand at ``module:attribute``, and what is said of what may not."""

from __future__ import annotations

import sys
from argparse import Namespace
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from squidmesh import AsyncSquidMesh, SquidMesh
from squidmesh.cli.app import connection_to, find_mesh, load
from squidmesh.cli.exits import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = """
    from squidmesh import AsyncSquidMesh, SquidMesh, Workflow

    orders = Workflow("orders")

    @orders.step
    def price() -> None: ...

    mesh = SquidMesh("postgresql://app/db", workflows=[orders], schema="shop")
    twin = AsyncSquidMesh("postgresql://app/db", workflows=[orders], schema="shop")
    number = 5

    def make() -> SquidMesh:
        return mesh

    def fail() -> SquidMesh:
        raise KeyError("no setting")

    class Holder:
        inner = mesh
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with an app in it."""
    (tmp_path / "shop_app.py").write_text(dedent(APP))
    (tmp_path / "broken_app.py").write_text("raise RuntimeError('no settings\\nat all')\n")
    (tmp_path / "needy_app.py").write_text("import no_such_library\n")
    (tmp_path / "wrong_app.py").write_text(
        "from squidmesh import SquidMesh, Workflow\nSquidMesh(workflows=[Workflow('x')])\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("SQUIDMESH_APP", "SQUIDMESH_DATABASE_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    for name in ("shop_app", "broken_app", "needy_app", "wrong_app"):
        sys.modules.pop(name, None)


def options(**given: str | None) -> Namespace:
    return Namespace(**{"app": None, "dsn": None, "schema": None, "command": "start", **given})


@pytest.mark.parametrize("attribute", ["mesh", "make", "Holder.inner"])
def test_a_mesh_or_what_makes_one_is_found_in_the_current_directory(attribute: str) -> None:
    assert isinstance(load(f"shop_app:{attribute}"), SquidMesh)


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("shop_app", "write module:attribute"),
        ("shop_app:", "write module:attribute"),
        ("no_such_app:mesh", "there is no module 'no_such_app'"),
        ("shop_app.deeper:mesh", "there is no module .shop_app.deeper."),
        ("needy_app:mesh", "importing needy_app failed: No module named 'no_such_library'"),
        ("broken_app:mesh", "RuntimeError: no settings at all"),
        ("shop_app:mash", r"has no mash; did you mean shop_app:mesh\?"),
        ("shop_app:number", "it is of type int, not a SquidMesh, an AsyncSquidMesh or a function returning one"),
        ("shop_app:fail", r"calling fail\(\) failed: KeyError: 'no setting'"),
        ("wrong_app:mesh", "importing wrong_app failed: DefinitionError: workflow 'x' cannot be used"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_the_reason(app: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        load(app)
    assert "\n" not in str(refused.value)


def test_an_app_is_found_through_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUIDMESH_APP", "shop_app:mesh")
    assert find_mesh(options(), needs_app=True).schema == "shop"


def test_a_command_that_needs_an_app_says_how_to_name_it() -> None:
    with pytest.raises(UsageError, match="start needs your app: --app module:attribute, or SQUIDMESH_APP"):
        find_mesh(options(), needs_app=True)


def test_without_an_app_there_are_no_workflows_and_the_default_schema() -> None:
    mesh = find_mesh(options(dsn="postgresql://x/y"))
    assert (mesh.schema, mesh.registry.workflows, mesh.address.dsn) == ("squidmesh", {}, "postgresql://x/y")


def test_options_are_stronger_than_the_app_and_its_subscribers_stay() -> None:
    mesh = find_mesh(options(app="shop_app:mesh", dsn="postgresql://other/db", schema="tenant"))
    original = load("shop_app:mesh")
    assert mesh is not original
    assert (mesh.address.dsn, mesh.schema, set(mesh.registry.workflows)) == (
        "postgresql://other/db",
        "tenant",
        {"orders"},
    )
    assert mesh.events is original.events


def test_an_async_app_is_used_through_its_sync_twin() -> None:
    assert isinstance(load("shop_app:twin"), AsyncSquidMesh)
    mesh = find_mesh(options(app="shop_app:twin"))
    assert isinstance(mesh, SquidMesh)
    assert (mesh.address.dsn, mesh.schema, set(mesh.registry.workflows)) == ("postgresql://app/db", "shop", {"orders"})


def test_an_app_that_needs_nothing_else_is_used_as_it_is() -> None:
    assert find_mesh(options(app="shop_app:make")) is load("shop_app:mesh")


def test_without_an_address_it_says_where_one_may_stand() -> None:
    with pytest.raises(UsageError, match=r"--dsn postgresql://\.\.\., SQUIDMESH_DATABASE_URL, or DATABASE_URL"):
        connection_to(SquidMesh())


def test_an_address_that_cannot_be_read_is_not_repeated_with_its_password() -> None:
    with pytest.raises(UsageError, match="cannot be read") as refused:
        connection_to(SquidMesh("user:secret host"))
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.filterwarnings("default::squidmesh.WorkflowWarning")
def test_a_warning_about_a_workflow_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "warned_app.py").write_text(
        dedent(
            """
            from squidmesh import SquidMesh, Workflow
            looping = Workflow("looping")
            @looping.step(start=True)
            def again() -> None: ...
            looping.sequence(again, again)
            mesh = SquidMesh(workflows=[looping])
            """
        )
    )
    load("warned_app:mesh")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("squidmesh: warning: workflow 'looping':")
