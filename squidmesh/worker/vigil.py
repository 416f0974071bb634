"""When the engine looks for work, when it naps, and when it tells others that it sleeps. Only its thread changes this.

Starts notify only workers that have said that they sleep. So a worker that is about to sleep says so, commits, and
looks once more: what was started in between was not announced.

Of the timers, the sleeping jobs, it knows the earliest of each queue, by what the database says how long that takes:
no clock is asked what time it is. All workers that sleep know it, or an earlier one: whoever sets one that is earlier
than the earliest tells them, and whoever looks learns what comes next.
"""

from __future__ import annotations

from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from squidmesh.worker.settings import WorkerSettings

LATE_STARTS: Final = 0.1
"""Seconds within which a start that found this worker awake has committed; one that takes longer waits for a beat."""

LONGEST_UNLOOKED: Final = 1.0
"""Seconds until a busy worker looks for parked jobs: nobody tells it of those that others made."""

LATEST: Final = 0.1
"""Seconds until a busy worker looks for timers that others have set: so late may one be that nobody told it of."""

LONGEST_HIDDEN: Final = 1.0
"""Seconds between looks below the floors, which may have to read much that has passed; nothing is hidden for longer."""

SHORTEST_HOLD: Final = 0.02
LONGEST_HOLD: Final = 1.0
"""Seconds between looks, from the one to the other, while a job is due that somebody else holds."""

BUSY_TURNS: Final = 10
"""After so many turns without a nap the worker tells starts that they need not notify it."""


class Look(IntEnum):
    """For what a turn looks beside ready jobs."""

    NOTHING = 0
    TIMERS = 1
    """Sleeping jobs that are due."""
    EVERYTHING = 2
    """And parked jobs whose step only this worker knows."""
    BELOW_FLOORS = 3
    """And whatever is hidden by what it remembers of earlier looks."""


class Vigil:
    """What is known of when to look next.

    Args:
        settings: How long it naps, and whether it polls.
        now: The monotonic time.

    Attributes:
        look: For what to look in the next turn.
        idle_said: Whether the database has it that this worker sleeps.
    """

    def __init__(self, settings: WorkerSettings, now: float) -> None:
        self.look = Look.EVERYTHING
        self.idle_said = False
        self._settings = settings
        self._looked = self._looked_at_timers = now
        self._looked_below = -inf
        self._idle = False
        self._busy_turns = 0
        self._look_again: float | None = None
        self._timers: dict[str, float] = {}
        """When the next timer of each queue is due, or somebody may have let go of one, on the monotonic clock."""
        self._hold = SHORTEST_HOLD

    def patience(self, now: float, others: Iterable[float], *, stopping: bool) -> float | None:
        """Seconds to wait for a message: a nap before going to sleep, then until a timer; None without one.

        Args:
            now: The monotonic time.
            others: When the engine has reasons of its own to go on.
            stopping: Whether it will not go to sleep any more, nor wake anything.
        """
        times = [*others]
        if not stopping:
            times += self._timers.values()
            if self._look_again is not None:
                times.append(self._look_again)
        if self._settings.poll is not None:
            times.append(self._looked + self._settings.poll)
        until = max(min(times) - now, 0.0001) if times else None
        if self._idle or stopping:
            return until
        return self._settings.nap if until is None else min(until, self._settings.nap)

    def waited_in_vain(self, patience: float | None) -> None:
        """Nothing came: after a whole nap, go to sleep, and look once more."""
        if patience == self._settings.nap:
            self._idle, self.look, self._busy_turns = True, Look.EVERYTHING, 0

    def waited(self, seconds: float) -> None:
        """Something came after so many seconds: a worker that had time for a nap is not busy."""
        if seconds >= self._settings.nap:
            self._busy_turns = 0

    def wake(self, now: float) -> bool:
        """Whether to look now: somebody said so, a timer is due, or it is time to poll."""
        poll = self._settings.poll
        if (self._look_again is not None and self._look_again <= now) or (
            poll is not None and now - self._looked >= poll
        ):
            self._look_again, self.look = None, Look.EVERYTHING
        elif any(at <= now for at in self._timers.values()):
            self.look = max(self.look, Look.TIMERS)
        return self.look is not Look.NOTHING

    def begin_turn(self, now: float) -> tuple[Look, bool | None]:
        """For what the turn looks; and what it tells starts of this worker's sleep, None if nothing changes."""
        self._busy_turns += 1
        if self._busy_turns > BUSY_TURNS:
            self._idle = False
        if now - self._looked > LONGEST_UNLOOKED:
            self.look = Look.EVERYTHING
        elif now - self._looked_at_timers > LATEST:
            self.look = max(self.look, Look.TIMERS)
        if self.look is not Look.NOTHING:
            self._looked_at_timers = now
            self._timers = {queue: at for queue, at in self._timers.items() if at > now}
        look = self._look_at_everything(now) if self.look is Look.EVERYTHING else self.look
        return look, self._idle if self._idle is not self.idle_said else None

    def _look_at_everything(self, now: float) -> Look:
        """Also below the floors, unless it has just been done: then that is due again soon."""
        self._looked = now
        again = self._looked_below + LONGEST_HIDDEN
        if again <= now:
            self._looked_below = now
            return Look.BELOW_FLOORS
        self._look_again = again if self._look_again is None else min(self._look_again, again)
        return Look.EVERYTHING

    def end_turn(self, now: float, idle: bool | None) -> None:
        """The turn has committed.

        Args:
            now: The monotonic time.
            idle: What it told starts.
        """
        self.look = Look.NOTHING
        if idle is None:
            return
        self.idle_said = idle
        if idle:
            # Until this commit starts found us awake and did not notify, and the turn's own look may have missed
            # them; some of them commit only after the next one.
            self.look, self._look_again = Look.EVERYTHING, now + LATE_STARTS

    # -- timers --------------------------------------------------------------------------------------------------

    def timers(self, now: float) -> dict[str, float]:
        """Seconds until the next timer of each queue; without those for which others may look before we commit."""
        return {queue: at - now for queue, at in self._timers.items() if at - now > LATE_STARTS}

    def next_timer(self, now: float) -> float | None:
        """Seconds until the next timer of all queues; None if none is known."""
        return min(self._timers.values(), default=now) - now if self._timers else None

    def note_timer(self, queue: str, at: float) -> None:
        """A timer was set."""
        self._timers = {**self._timers, queue: min(at, self._timers.get(queue, at))}

    def note_looked(self, now: float, dues: Mapping[str, float], woken: int) -> None:
        """The database was asked for timers.

        Args:
            now: The monotonic time.
            dues: Seconds until the next one of each queue; 0 if some are due still.
            woken: How many were due, and are ready now.
        """
        held = not woken and any(seconds <= 0 for seconds in dues.values())
        if held:
            pause, self._hold = self._hold, min(self._hold * 2, LONGEST_HOLD)
        else:
            pause, self._hold = 0.0, SHORTEST_HOLD
        self._timers = {queue: now + (seconds if seconds > 0 else pause) for queue, seconds in dues.items()}
