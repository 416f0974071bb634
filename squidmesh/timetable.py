"""Schedules as values: what is declared (``Policy``), and what a row of the table says (``Schedule``).

Nothing here knows what time it is; which nominal times fire is decided in ``planner.firing``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from squidmesh.retry import LONGEST_DELAY, measured
from squidmesh.values.misfit import quote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from uuid import UUID

    from squidmesh.records import JSONObject
    from squidmesh.retry import Seconds

DAY: Final = 86400.0

SHORTEST_WINDOW: Final = 1.0
"""Seconds. Nobody fires at the very instant, so a shorter window would lose nominal times for nothing."""

Mode: TypeAlias = Literal["latest", "all"]
OverlapName: TypeAlias = Literal["allow", "skip", "queue"]


class Overlap(StrEnum):
    """What happens to a nominal time that comes while the run before is live."""

    ALLOW = "allow"
    """Its run starts beside it."""
    SKIP = "skip"
    """It is passed over."""
    QUEUE = "queue"
    """It waits until that run has ended; then it has been missed until now, and ``catch_up`` says what follows."""


@dataclass(frozen=True, slots=True)
class CatchUp:
    """What happens to nominal times that were missed: nobody was there, or the run before was still live.

    Args:
        window: Seconds or timedelta. What was missed for longer is passed over.
        mode: Of several that were missed, "latest" starts a run for the newest only, "all" for each, oldest first.

    Example:
        >>> CatchUp(3600, "all")
        CatchUp(window=3600, mode='all')
    """

    window: Seconds = DAY
    mode: Mode = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a schedule behaves beside its expression. Made by ``Policy.read``, which checks.

    Args:
        window: Seconds; what was missed for longer is passed over.
        every: Whether each missed nominal time gets a run, and not the newest only.
        overlap: What happens while the run before is live.
        jitter: Seconds; runs begin up to so much after their nominal time.
    """

    window: float = DAY
    every: bool = False
    overlap: Overlap = Overlap.ALLOW
    jitter: float = 0.0

    @property
    def mode(self) -> Mode:
        """The mode of catching up, by name."""
        return "all" if self.every else "latest"

    @staticmethod
    def read(catch_up: object, overlap: object, jitter: object) -> tuple[Policy, tuple[tuple[str, str], ...]]:
        """The policy that was given, and what is wrong with it: pairs of an option and its problem.

        Args:
            catch_up: A ``CatchUp``; seconds or a timedelta stand for its window; None for the default.
            overlap: "allow", "skip" or "queue".
            jitter: Seconds or a timedelta.
        """
        given = CatchUp() if catch_up is None else catch_up
        missed = given if isinstance(given, CatchUp) else CatchUp(given)  # type: ignore[arg-type]  # looked at below
        found = tuple(_problems(missed, overlap, jitter))
        if found:
            return Policy(), found
        window, late, name = measured(missed.window), measured(jitter), Overlap(str(overlap))
        return Policy(window=window, every=missed.mode == "all", overlap=name, jitter=late), ()


def _problems(catch_up: CatchUp, overlap: object, jitter: object) -> Iterator[tuple[str, str]]:
    if not SHORTEST_WINDOW <= measured(catch_up.window) <= LONGEST_DELAY:
        longest = f"{LONGEST_DELAY / DAY:g} days"
        yield "catch_up", f"has a window of {quote(catch_up.window)}; it must be seconds or timedelta, 1 s to {longest}"
    if catch_up.mode not in ("latest", "all"):
        yield "catch_up", f"has the mode {quote(catch_up.mode)}; it must be 'latest' or 'all'"
    if not isinstance(overlap, str) or overlap not in tuple(Overlap):
        yield "overlap", f"must be one of {', '.join(repr(str(known)) for known in Overlap)}, not {quote(overlap)}"
    if not 0 <= measured(jitter) <= DAY:
        yield "jitter", f"must be seconds or timedelta, from 0 to a day, not {quote(jitter)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule, as it stands.

    Args:
        name: Its name; "workflow/trigger" of one that is declared in code.
        workflow: The workflow whose runs it starts.
        trigger: The trigger whose contract their payload meets.
        source: Where it comes from: "code" or "api".
        expression: The cron expression.
        timezone: The IANA zone whose clock it is read by.
        policy: How it behaves beside that.
        payload: What is not left to the defaults of the trigger's contract.
        paused: Whether a person has paused it.
        retired: Whether the code does not declare it any more.
        next_at: The next nominal time; past while it waits for the run before, None if it never fires.
        last_at: The latest nominal time that a run was started for.
        last_run: That run.
        skipped: How many nominal times were passed over, at least.
        last_skipped: The latest of them.
        skip_reason: Why: "missed", "superseded", "overlap" or "payload".
    """

    name: str
    workflow: str
    trigger: str
    source: str
    expression: str
    timezone: str
    policy: Policy = field(default_factory=Policy)
    payload: JSONObject = field(default_factory=dict[str, object])
    paused: bool = False
    retired: bool = False
    next_at: datetime | None = None
    last_at: datetime | None = None
    last_run: UUID | None = None
    skipped: int = 0
    last_skipped: datetime | None = None
    skip_reason: str | None = None

    def key(self, nominal_at: datetime) -> str:
        """What the run for a nominal time is named by: no other of the workflow has this name."""
        return f"schedule:{self.name}:{nominal_at.timestamp():.0f}"
