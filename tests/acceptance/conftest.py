"""Fixtures of the command line's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squidmesh import SquidMesh
from tests.acceptance.cli_kit import CommandLine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import TestServer


@pytest.fixture(scope="module")
def database(postgres: TestServer) -> Iterator[str]:
    """A migrated database that this module has for itself."""
    name = postgres.create_database()
    dsn = postgres.dsn_for(name)
    SquidMesh(dsn).migrate()
    yield dsn
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def squidmesh(database: str) -> CommandLine:
    """The command line on that database, with the app."""
    return CommandLine(database)
