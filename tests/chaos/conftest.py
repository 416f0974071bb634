"""Fixtures for tests that kill, cut and freeze: a schema of its own for each test, processes that end with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab import Lab, laboratory

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def lab(dsn: str) -> Iterator[Lab]:
    """A migrated schema that this test has for itself; whatever was opened on it is closed at the end."""
    with laboratory(dsn) as opened:
        yield opened
