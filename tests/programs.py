"""Postgres' own client programs, as a DBA would use them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import TestServer


def run_program(server: TestServer, name: str, *arguments: str, stdin: str = "") -> str:
    """Run one of them and return what it prints.

    Args:
        server: The server whose programs are used: another version's pg_dump would refuse to work.
        name: ``psql`` or ``pg_dump``.
        arguments: Its arguments.
        stdin: What it reads.
    """
    found = str(server.embedded.bin / name) if server.embedded else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on the path")
    done = subprocess.run([found, *arguments], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dump(server: TestServer, dsn: str, schema: str) -> list[str]:
    """What ``pg_dump`` says of a schema, as if its name were squidmesh; without what differs from call to call."""
    text = run_program(server, "pg_dump", "--schema-only", "--no-owner", f"--schema={schema}", dsn)
    lines = (line.replace(f"{schema}.", "squidmesh.").rstrip() for line in text.splitlines())
    noise = ("--", "\\restrict", "\\unrestrict", "SET ", "SELECT pg_catalog.set_config", f"CREATE SCHEMA {schema};")
    return [line for line in lines if line and not line.startswith(noise)]
