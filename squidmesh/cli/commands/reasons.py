"""``squidmesh explain``: why a run is where it is, what shows it, and what may be done, with the commands to copy."""

from __future__ import annotations

import json
import os
import shlex
import textwrap
from datetime import datetime
from typing import TYPE_CHECKING, Final

from psycopg.conninfo import conninfo_to_dict

from squidmesh.cli.app import opened_mesh
from squidmesh.cli.exits import Exit
from squidmesh.cli.output import one_line, plain, took
from squidmesh.cli.views import error_line, style_of
from squidmesh.explanation import Reason

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator

    from squidmesh.cli.arguments import Commands
    from squidmesh.cli.output import Screen, Style
    from squidmesh.explanation import Action, Explanation
    from squidmesh.records import JSON, JSONObject

_NAMES: Final = 9
"""Columns that the names on the left take."""

_VERBS: Final = {
    "approve_run": "approve",
    "reject_run": "reject",
    "unblock_run": "unblock",
    "send_signal": "signal",
    "retry_run": "retry",
    "replay_run": "replay",
    "cancel_run": "cancel",
}
_NEED_APP: Final = ("retry", "replay", "signal")
"""The verbs that are of no use without the host's app."""

_PLACEHOLDERS: Final = {"actor": "--actor NAME", "payload": "--payload JSON"}
"""What only the caller can give."""

_URGENT: Final = Reason.PAUSED_FOR_APPROVAL.precedence


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("explain", "say why a run is where it is, and what may be done about it", explain)
    parser.add_argument("run_id", metavar="RUN_ID", help="the run")


def explain(options: Namespace, screen: Screen) -> int:
    """Explain a run."""
    with opened_mesh(options) as mesh:
        why = mesh.explain_run(options.run_id)
    if options.json:
        screen.write_json(explanation=plain(why))
    else:
        screen.say("\n".join(page(why, options, screen)))
    return Exit.OK


def page(why: Explanation, options: Namespace, screen: Screen) -> list[str]:
    """An explanation as people read it.

    Args:
        why: The explanation.
        options: How this command was called, for the commands that it prints.
        screen: What may be used there.
    """
    created = _instant(why.evidence["run"]["created_at"])
    where = f"{why.reason}{f', step {why.step}' if why.step else ''}"
    over = why.status.terminal
    started = f"started {_time(created)}{'' if over else f', {took(why.at - created)} ago'}"
    lines = [
        *_named("run", [screen.paint(str(why.run_id), "bold")], screen),
        *_named("workflow", [why.workflow], screen),
        *_named("status", [f"{screen.paint(str(why.status), style_of(why.status))}, {started}"], screen),
        *_named("reason", [screen.paint(where, _style(why))], screen),
        "",
        *_wrapped(one_line(why.summary), screen, 0),
    ]
    for name, said in (("known", _known(why)), ("also", (cause.summary for cause in why.also))):
        if told := [line for text in said for line in _wrapped(one_line(text), screen, _NAMES)]:
            lines += ["", *_named(name, told, screen)]
    return [*lines, "", *_named("you can", list(_possible(why, options, screen)), screen)]


def _style(why: Explanation) -> Style:
    if why.reason.precedence < _URGENT:
        return "red"
    return style_of(why.status) if why.status.terminal else "yellow" if _is_stuck(why.reason) else "cyan"


def _is_stuck(reason: Reason) -> bool:
    return reason.precedence < Reason.WAITING_FOR_SIGNAL.precedence


def _named(name: str, lines: Iterable[str], screen: Screen) -> list[str]:
    """Lines behind a name."""
    first, *others = lines
    return [f"{screen.paint(name.ljust(_NAMES), 'dim')}{first}", *(f"{' ' * _NAMES}{line}".rstrip() for line in others)]


def _wrapped(text: str, screen: Screen, used: int) -> list[str]:
    """Text in as many lines as it takes on a terminal, in one elsewhere; of a list, all but the first are set in."""
    if screen.width is None:
        return [text]
    width, inside = max(screen.width - used, 20), "  " if used else ""
    return textwrap.wrap(text, width, subsequent_indent=inside, break_on_hyphens=False, break_long_words=False)


# -- what is known -----------------------------------------------------------------------------------------------------


def _known(why: Explanation) -> Iterator[str]:
    """The rows that show the reason, in short."""
    seen = why.evidence
    if job := seen.get("job"):
        due = f", due {_time(_instant(job['run_at']))}" if job["run_at"] else ""
        what = "compensation" if job["kind"] == "compensation" else job["kind"]
        yield (
            f"job: {what} {job['step']}, visit {job['visit']}, attempt {job['attempt']}, {job['state']} in the queue "
            f"{job['queue']}, live since {_time(_instant(job['since']))}{due}"
        )
    yield from map(_meter, seen.get("meters", ()))
    if worker := seen.get("worker"):
        late = worker["late_seconds"]
        lease = "no row" if late is None else f"lease {f'ended {took(late)} ago' if late > 0 else f'for {took(-late)}'}"
        yield f"worker: {worker['id']} on {worker['host'] or 'an unknown host'}, pid {worker['pid']}, {lease}"
    if attempt := seen.get("attempt"):
        yield from _attempt(attempt)
    elif error := seen["run"]["error"]:
        yield f"error: {error_line(error)}"
    if audit := seen.get("audit"):
        who = f" by {_actor(audit['actor'])}" if audit["actor"] is not None else ""
        yield f"cancelled: {_time(_instant(audit['at']))}{who}"
        if audit["comment"]:
            yield f"comment: {audit['comment']}"
    if deadline := seen["run"]["deadline"]:
        yield f"deadline of the run: {_time(_instant(deadline))}"


def _meter(meter: JSONObject) -> str:
    """What a ready step shares with others; how much there is of it is known with the code only."""
    if meter["kind"] == "rate":
        has = "tokens unknown" if meter["tokens"] is None else f"{int(meter['tokens'] + 1e-9)} tokens"
    else:
        has = f"{meter['held']} of {'?' if meter['most'] is None else meter['most']} at work"
    paused = f", paused until {_time(_instant(meter['paused_until']))}" if meter["paused_until"] else ""
    return f"{'limit of the queue' if meter['kind'] == 'queue' else meter['kind']}: {meter['name']}, {has}{paused}"


def _attempt(attempt: JSONObject) -> Iterator[str]:
    lasted = ""
    if attempt["started_at"]:
        lasted = f" after {took(_instant(attempt['finished_at']) - _instant(attempt['started_at']))}"
    by = f", worker {attempt['worker']}" if attempt["worker"] else ""
    what = "compensation of" if attempt["kind"] == "compensation" else "attempt"
    ended = f"{attempt['status']}{lasted}, {_time(_instant(attempt['finished_at']))}{by}"
    number = f"{what} {attempt['attempt']}" if what == "attempt" else f"{what} {attempt['step']}, {attempt['attempt']}"
    yield f"last {number}: {ended}"
    if error := attempt["error"]:
        yield f"error: {error_line(error)}"


def _actor(actor: JSON) -> str:
    return actor if isinstance(actor, str) else json.dumps(actor, ensure_ascii=False)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _time(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


# -- what may be done --------------------------------------------------------------------------------------------------


def _possible(why: Explanation, options: Namespace, screen: Screen) -> Iterator[str]:
    """What may be done, each with its command."""
    said = [
        *_about_workers(why, options),
        *_about_pauses(why, options),
        *((a.why, command(a, why, options)) for a in why.next_actions),
    ]
    for what, how in said:
        yield from _wrapped(one_line(what), screen, _NAMES)
        if how:
            yield f"  {screen.paint(how, 'bold')}"
    if not said:
        yield "wait" if not why.status.terminal else "leave it"
    if hidden := _without_code(why):
        yield from _wrapped(f"{hidden}, with the code of {why.workflow}: add --app MODULE:ATTRIBUTE", screen, _NAMES)


def _without_code(why: Explanation) -> str:
    """What else could be done by a process that has the workflow's code."""
    if "because" in why.details.get("replay", {}):
        return "replay it"
    waiting = any(cause.reason is Reason.WAITING_FOR_SIGNAL for cause in why.causes)
    return "send it the signal" if waiting and not any(a.name == "send_signal" for a in why.next_actions) else ""


def _about_workers(why: Explanation, options: Namespace) -> Iterator[tuple[str, str]]:
    """What gets on once there is a worker: the one thing to be done that is not asked of the run."""
    queues: dict[str, str] = {}
    for cause in why.causes:
        if cause.reason is Reason.NO_WORKER_KNOWS_STEP:
            queues.setdefault(str(cause.details["queue"]), " whose code has it")
        elif cause.details.get("workers") == 0 or cause.details.get("alive") == 0:
            queues.setdefault(str(cause.evidence["job"]["queue"]), "")
    for queue, knows in queues.items():
        words = [_joined(["squidmesh", "worker", "--queues", f"{queue}:10"]), *_where(options, needs_app=True)]
        yield f"start a worker{knows} for the queue {queue!r}", " ".join(words)


def _about_pauses(why: Explanation, options: Namespace) -> Iterator[tuple[str, str]]:
    """What is paused may be resumed: for all runs that share it."""
    for cause in why.causes:
        if cause.reason is Reason.KEY_PAUSED:
            words = [_joined(["squidmesh", "meters", "resume", str(cause.details["meter"])])]
            why_not = "end the pause, for all that share it: if it is not needed any more"
            yield why_not, " ".join([*words, *_where(options, needs_app=False)])


def command(action: Action, why: Explanation, options: Namespace) -> str:
    """The command that does it, to be copied: placeholders are in capitals."""
    verb, said = _VERBS[action.name], dict(action.arguments)
    words = ["squidmesh", verb, str(why.run_id)]
    if verb == "signal":
        words.append(str(said.pop("name")))
    for name, value in said.items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, str(value)]
    placeholders = [_PLACEHOLDERS[name] for name in action.needs]
    return " ".join([_joined(words), *placeholders, *_where(options, needs_app=verb in _NEED_APP)])


def _joined(words: Iterable[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)


def _where(options: Namespace, *, needs_app: bool) -> list[str]:
    """The common options that this command was given, for the next one. A password is not repeated."""
    words: list[str] = []
    if options.app:
        words += ["--app", shlex.quote(options.app)]
    elif needs_app and not os.environ.get("SQUIDMESH_APP"):
        words += ["--app", "MODULE:ATTRIBUTE"]
    if options.dsn:
        words += ["--dsn", "URL" if conninfo_to_dict(options.dsn).get("password") else shlex.quote(options.dsn)]
    return words + (["--schema", shlex.quote(options.schema)] if options.schema else [])
