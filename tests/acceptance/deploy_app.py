"""Two versions of one app, as they are side by side during a deploy: in the second, ``charge`` is called ``bill``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from squidmesh import SquidMesh, Workflow

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Order:
    folder: str


def orders(version: str, paying: str) -> Workflow:
    """The workflow; each step but ``hold`` returns which version has run it."""
    workflow = Workflow("orders", payload=Order)

    def by() -> str:
        return version

    @workflow.step
    def hold(folder: str) -> None:
        """Say that it runs, then wait to be let go."""
        (Path(folder) / "held").touch()
        while not (Path(folder) / "go").exists():
            time.sleep(0.01)

    def named(name: str) -> Callable[..., str]:
        return workflow.step(name=name, output=f"{name}_by")(by)

    workflow.sequence(named("reserve"), hold, named(paying), named("send"))  # type: ignore[arg-type]
    return workflow


old = SquidMesh(workflows=[orders("old", "charge")])
new = SquidMesh(workflows=[orders("new", "bill")])
