"""The contract between a step and the outside world: adapters, what they return, how they fail.

A step that calls a service through ``invoke`` sees one kind of result and one kind of error, whatever the adapter
does: an adapter that is broken, that raises, or that returns something else ends as a ``ToolError`` too. Its
``details`` are complete, so that the stored step error says which adapter failed and how. Nothing here retries, waits
or logs: retrying is the step's ``Retry``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, cast

from squidmesh.errors import Defer, StepError

if TYPE_CHECKING:
    from datetime import timedelta

    from squidmesh.records import JSON, JSONObject


class ErrorKind(StrEnum):
    """Why a tool failed. A closed list: whoever reads stored errors can rely on it."""

    ADAPTER_CONTRACT = "adapter_contract"
    """The adapter is not one, raised something unforeseen, or returned something else than a ``Result``."""
    INVALID_REQUEST = "invalid_request"
    """The request cannot be used; nothing was sent."""
    INVALID_CONTEXT = "invalid_context"
    """The context is not a mapping; nothing was sent."""
    INVALID_RESPONSE = "invalid_response"
    """An answer came, but its body is not what was asked of it (JSON, text)."""
    HTTP = "http"
    """The server answered with an error status (400 and above)."""
    REDIRECT = "redirect"
    """The server redirects too often, or to where the client does not go."""
    TOO_LARGE = "too_large"
    """The answer is larger than the limit."""
    TIMEOUT = "timeout"
    """No complete answer within the time allowed."""
    TRANSPORT = "transport"
    """The connection could not be made, or broke."""
    CERTIFICATE = "certificate"
    """The server's certificate is not trusted."""


class ToolError(StepError):
    """A tool failed. Raised out of a step, it is stored with everything it carries.

    Args:
        message: What went wrong, for people, without credentials.
        adapter: The adapter's name.
        kind: Why it failed.
        details: What else is worth storing: JSON values only, without credentials.
        retryable: Whether another attempt may succeed and may be made.
        retry_after: Seconds (or timedelta) that the service asked to wait, where it did.
        pause: Whether it asked that of all its callers: nothing begins before then that shares the step's ``rate=`` or
            ``limit=``, for the same value of the key.
    """

    code = "tool_error"

    def __init__(
        self,
        message: str,
        *,
        adapter: str,
        kind: ErrorKind,
        details: Mapping[str, JSON] | None = None,
        retryable: bool = False,
        retry_after: float | timedelta | None = None,
        pause: bool = False,
    ) -> None:
        complete = {**(details or {}), "adapter": adapter, "kind": kind.value}
        super().__init__(message, details=complete, retryable=retryable, retry_after=retry_after, pause=pause)
        self.adapter = adapter
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Result:
    """What an adapter returns.

    Args:
        adapter: The adapter's name.
        payload: What the service answered: a JSON value.
        metadata: How it was obtained (method, redacted address...): a JSON object.
    """

    adapter: str
    payload: JSON
    metadata: JSONObject = field(default_factory=dict[str, "JSON"])


class Adapter(Protocol):
    """Anything with a name and an ``invoke`` that returns a ``Result`` or raises a ``ToolError``."""

    @property
    def name(self) -> str:
        """The name under which errors and results are stored."""
        ...

    def invoke(self, request: Mapping[str, JSON], context: Mapping[str, JSON], /) -> Result:
        """Do what ``request`` says. ``context`` is whatever the step passed on; it may be empty."""
        ...


def invoke(adapter: Adapter, request: Mapping[str, JSON], context: Mapping[str, JSON] | None = None) -> Result:
    """Call an adapter; whatever goes wrong arrives as a ``ToolError``.

    Args:
        adapter: For example ``squidmesh.tools.http.HTTP``.
        request: What to do, in the adapter's own words.
        context: What else the adapter should know; empty when left out.

    Returns:
        The adapter's result.

    Raises:
        ToolError: It failed, in whatever way. Only a ``StepError`` or ``Defer`` that the adapter raises on purpose
            passes unchanged, because it already says what is to happen to the step.
    """
    name = _usable_name(adapter)
    _require_mapping(request, "request", ErrorKind.INVALID_REQUEST, name)
    given: Mapping[str, JSON] = {} if context is None else context
    _require_mapping(given, "context", ErrorKind.INVALID_CONTEXT, name)
    try:
        result = cast("object", adapter.invoke(request, given))
    except (StepError, Defer):
        raise
    except Exception as exc:
        # The exception's own text stays out of the message: it may hold what the adapter was told in confidence.
        said = f"adapter {name!r} raised {type(exc).__name__}; an adapter must report its failures as ToolError"
        raise _broken(name, said, exception=type(exc).__name__) from exc
    if not isinstance(result, Result):
        returned = type(result).__name__
        raise _broken(name, f"adapter {name!r} returned {returned}; an adapter must return a Result", returned=returned)
    return result


def _usable_name(adapter: object) -> str:
    name = getattr(adapter, "name", None)
    if not isinstance(name, str) or not name:
        shown = type(adapter).__name__
        raise _broken(shown, f"{shown} is not an adapter: an adapter has a name (a non-empty text)")
    if not callable(getattr(adapter, "invoke", None)):
        raise _broken(name, f"adapter {name!r} has no method invoke(request, context)")
    return name


def _require_mapping(value: object, what: str, kind: ErrorKind, adapter: str) -> None:
    if not isinstance(value, Mapping):
        given = type(value).__name__
        said = f"the {what} for adapter {adapter!r} must be a mapping, not {given}"
        raise ToolError(said, adapter=adapter, kind=kind, details={"given": given})


def _broken(adapter: str, said: str, **details: JSON) -> ToolError:
    return ToolError(said, adapter=adapter, kind=ErrorKind.ADAPTER_CONTRACT, details=details)
