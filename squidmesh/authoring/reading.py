"""Reads what an author wrote: each value is checked for its type and range, and a usable one comes back.

A problem is noted, never raised: an author gets all of them at once. What goes on is well typed, so that nothing
further on has to look at a value twice. Whether names and edges fit together is not asked here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from keyword import iskeyword
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar, cast

from squidmesh.definition import (
    COMPENSATION_RETRY,
    COMPLETE,
    DEFAULT_QUEUE,
    DEFAULT_VISIT_LIMIT,
    LONGEST_NAME,
    Options,
    Step,
)
from squidmesh.meters import Limit, Rate
from squidmesh.records import SCHEDULE_KEY
from squidmesh.retry import LONGEST_DELAY, NEVER, Retry, measured
from squidmesh.values.misfit import quote

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Policy = TypeVar("Policy", Limit, Rate, Retry)

_HIGHEST_PRIORITY: Final = 2**15 - 1
_MOST_VISITS: Final = 2**31 - 1

_NAME_RULE: Final = f"letters, digits, _ and -, not a digit first, not __ first, at most {LONGEST_NAME} characters"


class StepReference:
    """A declared step, as it is handed to ``after=``, ``sequence`` and ``transition``.

    Args:
        name: The step's name.
        workflow: The name of the workflow that it belongs to.
    """

    def __init__(self, name: str, workflow: str) -> None:
        self.name = name
        self.workflow = workflow

    def __repr__(self) -> str:
        return f"<step {self.name!r} of workflow {self.workflow!r}>"


Reference: TypeAlias = StepReference | str
"""A step: what the declaration returned, or its name (also of a step that is declared later)."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the values of one declaration.

    Args:
        workflow: The workflow's name.
        where: The declaration, as problems begin: "step 'load'".
        problems: Where problems are noted.
    """

    workflow: str
    where: str
    problems: list[str]

    def note(self, problem: str) -> None:
        """Note a problem of this declaration."""
        self.problems.append(f"{self.where}: {problem}")

    def name(self, value: object, what: str = "its name") -> str:
        """A name that the author gives to something; its text even if it cannot be one."""
        if not isinstance(value, str):
            self.note(f"{what} must be text, not {quote(value)}")
            return quote(value)
        problem = name_problem(value)
        if problem:
            self.note(f"{what} {quote(value)} {problem}")
        return plain_text(value)

    def key(self, value: object) -> str | None:
        """A key of the context, or None if none is given."""
        if value is None:
            return None
        if not isinstance(value, str) or not value.isidentifier() or iskeyword(value) or len(value) > LONGEST_NAME:
            self.note(
                f"output={quote(value)} must be one key that a parameter can have as its name: "
                f"a Python identifier of at most {LONGEST_NAME} characters, as text"
            )
            return None
        if value == SCHEDULE_KEY or value.startswith("__"):
            self.note(f"output={quote(value)} is reserved; choose another key")
        return plain_text(value)

    def flag(self, option: str, value: object) -> bool:
        """True or False."""
        if not isinstance(value, bool):
            self.note(f"{option}={quote(value)} must be True or False")
        return value is True

    def whole(self, option: str, value: object, *, least: int, most: int) -> int:
        """A whole number within limits."""
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.note(f"{option}={quote(value)} must be a whole number from {least} to {most}")
        return least

    def text(self, option: str, value: object, default: str = "") -> str:
        """Text that is not empty and can be stored."""
        if not isinstance(value, str) or not value.strip():
            self.note(f"{option}={quote(value)} must be text, and not empty")
            return default
        if not is_storable(value):
            self.note(f"{option} contains a NUL or half a surrogate pair, which Postgres cannot store; leave it out")
        return plain_text(value)

    def choice(self, option: str, value: object, allowed: Collection[str]) -> str | None:
        """One of a few words."""
        if isinstance(value, str) and value in allowed:
            return plain_text(value)
        self.note(f"{option}={quote(value)} must be one of: {', '.join(map(repr, allowed))}")
        return None

    def duration(self, option: str, value: object) -> float:
        """A positive duration, in seconds."""
        seconds = measured(value)
        if 0 < seconds <= LONGEST_DELAY:
            return seconds
        self.note(
            f"{option}={quote(value)} must be a positive number of seconds or timedelta, "
            f"at most {LONGEST_DELAY / 86400:g} days"
        )
        return 1.0

    def limit(self, option: str, value: object) -> float | None:
        """A positive duration in seconds, or None for none."""
        return None if value is None else self.duration(option, value)

    def retry(self, option: str, value: object, default: Retry) -> Retry:
        """A retry policy; the default one for None."""
        return self.policy(option, value, Retry, "Retry(max_attempts=3)") or default

    def policy(self, option: str, value: object, kind: type[Policy], example: str) -> Policy | None:
        """A retry policy, a limit or a rate; None for none, and for one that cannot be used."""
        if value is None:
            return None
        if not isinstance(value, kind):
            self.note(f"{option}={quote(value)} must be a {kind.__name__}, such as {example}")
            return None
        found = value.problems()
        for problem in found:
            self.note(problem)
        return None if found else value

    def until(self, value: object) -> Mapping[str, str | float]:
        """When a wait is over: an instant, or the key of the context that has one."""
        if isinstance(value, datetime):
            if value.tzinfo is None:
                self.note(f"until={quote(value)} says not in which time zone; give an aware datetime")
                return {"until": value.replace(tzinfo=UTC).isoformat()}
            return {"until": value.astimezone(UTC).isoformat()}
        if not isinstance(value, str) or not value.isidentifier() or iskeyword(value):
            self.note(f"until={quote(value)} must be an aware datetime, or the key of the context that has the instant")
            return {"until": "unknown", "key": 1}
        return {"until": plain_text(value), "key": 1}

    def reference(self, option: str, value: object) -> str | None:
        """The name of the step that was meant; None, with a problem noted, if it cannot be one."""
        if isinstance(value, StepReference):
            if value.workflow != self.workflow:
                self.note(
                    f"{option} names {value}; declare the function here as well, with this workflow's step(), "
                    "and use what that returns"
                )
                return None
            return value.name
        if isinstance(value, str):
            return plain_text(value)
        self.note(f"{option}={quote(value)} is not a step; use what step(), wait() or log() returned, or a step's name")
        return None

    def references(self, option: str, value: object) -> tuple[str, ...]:
        """The names of the steps in a list; repeats collapse, None is none."""
        if value is None:
            return ()
        if isinstance(value, str | StepReference) or not isinstance(value, Iterable):
            self.note(f"{option}={quote(value)} must be a list of steps: {option}=[...]")
            return ()
        names = [self.reference(option, item) for item in cast("Iterable[object]", value)]
        if not names:
            self.note(f"{option}=[] waits for nothing; leave it out, or list the steps to wait for")
        if COMPLETE in names:
            self.note(f"{option} lists COMPLETE, which is the end of a path, not a step")
        return tuple(dict.fromkeys(name for name in names if name is not None and name != COMPLETE))


class Given(NamedTuple):
    """The options of a step as the author gave them, not read yet."""

    output: object = None
    after: object = None
    start: object = False
    retry: object = None
    queue: object = DEFAULT_QUEUE
    priority: object = 0
    irreversible: object = False
    visit_limit: object = DEFAULT_VISIT_LIMIT
    compensate: object = None
    compensate_retry: object = None
    compensatable: object = True
    transaction: object = False
    timeout: object = None
    limit: object = None
    rate: object = None

    def read(self, reader: Reader, name: str) -> Step:
        """The step that they make."""
        options = Options(
            retry=reader.retry("retry", self.retry, NEVER),
            queue=reader.text("queue", self.queue, DEFAULT_QUEUE),
            priority=reader.whole("priority", self.priority, least=-_HIGHEST_PRIORITY, most=_HIGHEST_PRIORITY),
            compensate_retry=reader.retry("compensate_retry", self.compensate_retry, COMPENSATION_RETRY),
            transaction=reader.flag("transaction", self.transaction),
            timeout=reader.limit("timeout", self.timeout),
            limit=reader.policy("limit", self.limit, Limit, 'Limit(5, key="account_id")'),
            rate=reader.policy("rate", self.rate, Rate, 'Rate(100, per=60, key="account_id")'),
        )
        self._check_compensation(reader)
        return Step(
            name=name,
            output=reader.key(self.output),
            after=reader.references("after", self.after),
            start=reader.flag("start", self.start),
            irreversible=reader.flag("irreversible", self.irreversible),
            compensatable=reader.flag("compensatable", self.compensatable),
            visit_limit=reader.whole("visit_limit", self.visit_limit, least=1, most=_MOST_VISITS),
            options=options,
        )

    def _check_compensation(self, reader: Reader) -> None:
        if self.compensate is None:
            if self.compensate_retry is not None:
                reader.note("compensate_retry= is about a compensation; declare compensate= as well, or leave it out")
            return
        for option, value, forbidden in (
            ("irreversible=True", self.irreversible, True),
            ("compensatable=False", self.compensatable, False),
        ):
            if value is forbidden:
                reader.note(f"{option} says that it cannot be undone, but compensate= says how; keep one of the two")


def name_problem(value: str) -> str | None:
    """What is wrong with a name, or None."""
    if value.startswith("__"):
        return "is reserved: names that begin with __ belong to squidmesh"
    if len(value) > LONGEST_NAME or not value.replace("-", "_").isidentifier():
        return f"cannot be used; a name has {_NAME_RULE}"
    return None


def plain_text(text: str) -> str:
    """The text itself of a member of a StrEnum, which database drivers write in their own way."""
    return text if type(text) is str else str.__str__(text)


def is_storable(text: str) -> bool:
    """Whether Postgres can store the text: neither a NUL nor half a surrogate pair in it."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
