"""The schedules of a harness: registered when it opens, and fired when their time comes, as a worker's scheduler does.

There the hours pass and nobody is asked; here the driver asks when the next nominal time is, and fires what is due when
it gets there.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from squidmesh.clock import new_id
from squidmesh.errors import HarnessError
from squidmesh.scheduler import tell
from squidmesh.store.schedules import read_agenda
from squidmesh.testing.inline import BETWEEN_LOOKS, LOOKS

if TYPE_CHECKING:
    from datetime import datetime

    from squidmesh.events import EventBus
    from squidmesh.scheduling import Scheduling
    from squidmesh.testing.sessions import Session


class Calendar:
    """Registers and fires schedules.

    Args:
        session: Where the database is, and time.
        scheduling: What to do.
        bus: Where events go.
    """

    def __init__(self, session: Session, scheduling: Scheduling, bus: EventBus) -> None:
        self._session = session
        self._scheduling = scheduling
        self._bus = bus

    def register(self) -> None:
        """Store the graphs and the schedules of the workflows, as they are declared."""
        ask, scheduling = self._session.ask, self._scheduling
        ask(scheduling.register_graphs())
        # In the name of a worker that there is not: so no code is newer, and a crash takes nothing back.
        nobody = new_id()
        if not ask(scheduling.is_registered(nobody)):
            ask(scheduling.register(nobody))

    def fire(self) -> None:
        """Fire what is due.

        Raises:
            HarnessError: Another transaction holds a schedule that is due.
        """
        looks = LOOKS
        while (seconds := self._seconds()) is not None and seconds <= 0:
            fired = self._session.ask(self._scheduling.fire())
            tell(fired, self._bus)
            if fired.moved:
                continue
            looks -= 1
            if not looks:
                raise HarnessError("another transaction holds a schedule that is due; commit it, or roll it back")
            time.sleep(BETWEEN_LOOKS)

    def next_timer(self) -> datetime | None:
        """The next nominal time."""
        seconds = self._seconds()
        return None if seconds is None else self._session.now + timedelta(seconds=max(seconds, 0.0))

    def _seconds(self) -> float | None:
        return self._session.ask(read_agenda(self._scheduling.triggers)).seconds
