"""When the engine looks for work, when it naps, and when it tells others that it sleeps. Only its thread touches this.

Starts notify only workers that have said that they sleep. So a worker that is about to sleep says so, commits, and
looks once more: what was started in between was not announced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squidmesh.worker.settings import WorkerSettings

LATE_STARTS: Final = 0.1
"""Seconds within which a start that found this worker awake has committed; one that takes longer waits for a beat."""

LONGEST_UNLOOKED: Final = 1.0
"""Seconds until a busy worker looks for timers and parked jobs: nobody tells it of those that others made."""

BUSY_TURNS: Final = 10
"""After so many turns without a nap the worker tells starts that they need not notify it."""


class Vigil:
    """What is known of when to look next.

    Args:
        settings: How long it naps, and whether it polls.
        now: The monotonic time.

    Attributes:
        look: Whether to look for ready jobs, timers and parked jobs in the next turn.
        idle_said: Whether the database has it that this worker sleeps.
    """

    def __init__(self, settings: WorkerSettings, now: float) -> None:
        self.look = True
        self.idle_said = False
        self._settings = settings
        self._looked = now
        self._idle = False
        self._busy_turns = 0
        self._next_due: float | None = None

    def patience(self, now: float, others: Iterable[float], *, stopping: bool) -> float | None:
        """Seconds to wait for a message: a nap before going to sleep, then until a timer; None without one.

        Args:
            now: The monotonic time.
            others: When the engine has reasons of its own to go on.
            stopping: Whether it will not go to sleep any more.
        """
        times = [*others, *([] if self._next_due is None else [self._next_due])]
        if self._settings.poll is not None:
            times.append(self._looked + self._settings.poll)
        until = max(min(times) - now, 0.0001) if times else None
        if self._idle or stopping:
            return until
        return self._settings.nap if until is None else min(until, self._settings.nap)

    def waited_in_vain(self, patience: float | None) -> None:
        """Nothing came: after a whole nap, go to sleep, and look once more."""
        if patience == self._settings.nap:
            self._idle, self.look, self._busy_turns = True, True, 0

    def waited(self, seconds: float) -> None:
        """Something came after so many seconds: a worker that had time for a nap is not busy."""
        if seconds >= self._settings.nap:
            self._busy_turns = 0

    def wake(self, now: float) -> bool:
        """Whether to look now: somebody said so, a timer is due, or it is time to poll."""
        poll = self._settings.poll
        if self._next_due is not None and self._next_due <= now:
            self._next_due, self.look = None, True
        elif poll is not None and now - self._looked >= poll:
            self.look = True
        return self.look

    def begin_turn(self, now: float) -> tuple[bool, bool | None]:
        """Whether the turn looks; and what it tells starts of this worker's sleep, None if nothing changes."""
        self._busy_turns += 1
        if self._busy_turns > BUSY_TURNS:
            self._idle = False
        if self.look or now - self._looked > LONGEST_UNLOOKED:
            self.look, self._looked = True, now
        return self.look, self._idle if self._idle is not self.idle_said else None

    def end_turn(self, now: float, idle: bool | None, next_due: float | None) -> None:
        """The turn has committed.

        Args:
            now: The monotonic time.
            idle: What it told starts.
            next_due: Seconds until the next timer, if it has learned of one.
        """
        self.look = False
        if next_due is not None:
            self._note_due(now + max(next_due, 0.0))
        if idle is None:
            return
        self.idle_said = idle
        if idle:
            # Until this commit starts found us awake and did not notify, and the turn's own look may have missed
            # them; some of them commit only after the next one.
            self.look = True
            self._note_due(now + LATE_STARTS)

    def _note_due(self, at: float) -> None:
        self._next_due = at if self._next_due is None else min(at, self._next_due)
