"""Where the database is, and how connections to it are set up. Nothing is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh import SquidMesh
from squidmesh.mesh import LIVELINESS

if TYPE_CHECKING:
    import pytest


def test_dead_networks_are_noticed_before_the_lease_is_past() -> None:
    settings = SquidMesh("postgresql://db/app").address.kwargs
    assert LIVELINESS.items() <= settings.items()
    patience = settings["keepalives_idle"] + settings["keepalives_interval"] * settings["keepalives_count"]
    assert max(patience, settings["tcp_user_timeout"] / 1000, settings["connect_timeout"]) < 30


def test_what_the_address_says_itself_stays() -> None:
    """Parameters given to the driver beside an address would win over it."""
    settings = SquidMesh("postgresql://db/app?keepalives_idle=300&application_name=billing").address.kwargs
    assert not {"keepalives_idle", "application_name"} & settings.keys()
    assert settings["connect_timeout"] == LIVELINESS["connect_timeout"]


def test_what_the_environment_says_stays_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    assert "connect_timeout" not in SquidMesh("postgresql://db/app").address.kwargs
