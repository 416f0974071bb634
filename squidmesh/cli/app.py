"""Finding the host's app and its database: ``module:attribute``, options and environment become one ``SquidMesh``."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict

from squidmesh.authoring.cautions import WorkflowWarning
from squidmesh.cli.exits import UsageError
from squidmesh.cli.output import one_line, talk
from squidmesh.client import SquidMesh
from squidmesh.mesh import Mesh
from squidmesh.store.migrations import check_connection_schema
from squidmesh.store.statements import DEFAULT_SCHEMA

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Generator
    from types import ModuleType

CONNECT_SECONDS: Final = 10
"""How long the first connection may take, unless the address or PGCONNECT_TIMEOUT says otherwise."""


@contextmanager
def opened_mesh(options: Namespace, *, needs_app: bool = False) -> Generator[SquidMesh]:
    """The host's ``SquidMesh``, or one without workflows; connected once to see that it works.

    Args:
        options: The common options.
        needs_app: Whether the command is of no use without workflows.

    Raises:
        UsageError: There is no app where one is needed, it cannot be loaded, or no database is known.
        psycopg.OperationalError: The database cannot be reached.
        SchemaError: Its schema is missing or not served by this code.
    """
    mesh = find_mesh(options, needs_app=needs_app)
    with connection_to(mesh) as connection:
        check_connection_schema(connection, mesh.schema)
    with mesh:
        yield mesh


def find_mesh(options: Namespace, *, needs_app: bool = False) -> SquidMesh:
    """The host's ``SquidMesh``, or one without workflows.

    Raises:
        UsageError: There is no app where one is needed, or it cannot be loaded.
    """
    app: str | None = options.app or os.environ.get("SQUIDMESH_APP")
    if app:
        return _client_of(load(app), options.dsn, options.schema)
    if needs_app:
        raise UsageError(f"{options.command} needs your app: --app module:attribute, or SQUIDMESH_APP")
    return SquidMesh(options.dsn, schema=options.schema or DEFAULT_SCHEMA)


def connection_to(mesh: Mesh) -> psycopg.Connection[Any]:
    """A new connection in autocommit mode; a server that does not answer is given up soon.

    Raises:
        UsageError: No database is known, or its address cannot be read.
        psycopg.OperationalError: It cannot be reached.
    """
    given = mesh.address.dsn or os.environ.get("SQUIDMESH_DATABASE_URL") or os.environ.get("DATABASE_URL")
    if not given:
        raise UsageError("no database is known: --dsn postgresql://..., SQUIDMESH_DATABASE_URL, or DATABASE_URL")
    try:
        parts = conninfo_to_dict(given)
    except psycopg.ProgrammingError:
        # What libpq says of it may repeat the password.
        said = "the address of the database cannot be read; write postgresql://user:password@host:port/database"
        raise UsageError(said) from None
    settings = dict(mesh.address.kwargs)
    if "connect_timeout" not in parts and "PGCONNECT_TIMEOUT" not in os.environ:
        settings["connect_timeout"] = CONNECT_SECONDS
    return psycopg.connect(given, **settings)


def load(app: str) -> Mesh:
    """The app at ``module:attribute``; the current directory can be imported from.

    Raises:
        UsageError: There is none, or it is not a ``SquidMesh``, an ``AsyncSquidMesh``, or a function returning one.
    """
    module_name, colon, path = app.partition(":")
    if not (module_name and colon and path):
        raise UsageError(f"--app {app}: write module:attribute, such as billing:mesh")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - as text, as sys.path has it
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    with warnings.catch_warnings(record=True) as said:
        try:
            found = _attribute(app, _import(app, module_name), path)
        finally:
            _pass_on(said)
    return found


def _import(app: str, module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            where = f"{os.getcwd()} and the installed packages"  # noqa: PTH109
            raise UsageError(f"--app {app}: there is no module {error.name!r} in {where}") from error
        raise UsageError(f"--app {app}: importing {module_name} failed: {error} (--debug shows where)") from error
    except Exception as error:  # the host's code may raise anything
        said = f"{type(error).__name__}: {one_line(str(error))}"
        raise UsageError(f"--app {app}: importing {module_name} failed: {said} (--debug shows where)") from error


def _attribute(app: str, module: ModuleType, path: str) -> Mesh:
    found: object = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            known = [key for key, value in vars(module).items() if isinstance(value, Mesh)]
            hint = f"; did you mean {module.__name__}:{known[0]}?" if known else ""
            raise UsageError(f"--app {app}: {module.__name__} has no {path}{hint}") from error
    if callable(found) and not isinstance(found, Mesh):
        try:
            found = found()
        except Exception as error:  # the host's code may raise anything
            said = f"{type(error).__name__}: {one_line(str(error))}"
            raise UsageError(f"--app {app}: calling {path}() failed: {said} (--debug shows where)") from error
    if not isinstance(found, Mesh):
        wanted = "a SquidMesh, an AsyncSquidMesh or a function returning one"
        raise UsageError(f"--app {app}: it is of type {type(found).__name__}, not {wanted}")
    return found


def _pass_on(said: list[warnings.WarningMessage]) -> None:
    """What is probably not meant in a workflow is said in our own way, all else in Python's."""
    for warning in said:
        if issubclass(warning.category, WorkflowWarning):
            talk(f"warning: {one_line(str(warning.message))}")
        else:
            warnings.showwarning(
                cast("Warning", warning.message), warning.category, warning.filename, warning.lineno, warning.file
            )


def _client_of(mesh: Mesh, dsn: str | None, schema: str | None) -> SquidMesh:
    """The app's mesh as a sync one, at another address if asked for."""
    if isinstance(mesh, SquidMesh) and dsn is None and schema is None:
        return mesh
    address = mesh.address
    client = SquidMesh(
        dsn or address.dsn,
        workflows=mesh.registry.workflows.values(),
        schema=schema or mesh.schema,
        listen_dsn=address.listen_dsn if dsn is None else None,
        polling_only=address.polling_only,
        prepared_statements=address.prepare,
    )
    client.events = mesh.events  # who subscribed to the app's events goes on hearing of them
    return client
