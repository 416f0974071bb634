"""``squidmesh approve``, ``reject``, ``unblock``, ``signal``, ``retry`` and ``cancel``: what people do to a run.

Each prints the run's status, and says beside it what became of what was asked. What a call did is known from the events
that it is told of: between the call and a look at the run, somebody else may have done more.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from squidmesh import events
from squidmesh.authoring.wording import listed
from squidmesh.cli.app import opened_mesh
from squidmesh.cli.exits import Exit
from squidmesh.cli.output import talk
from squidmesh.cli.values import actor_of, object_of, payload_of
from squidmesh.cli.views import error_line, run_json, votes_for
from squidmesh.planner.decisions import RESOLUTIONS
from squidmesh.states import RunStatus, StepStatus
from squidmesh.steering import remark

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Generator

    from squidmesh.cli.arguments import Commands
    from squidmesh.cli.output import Screen
    from squidmesh.client import SquidMesh
    from squidmesh.events import Event
    from squidmesh.records import JSONObject, Run

_PATIENCE: Final = 5.0
"""Seconds to wait for being told of what is done already."""

_RESOLVED: Final = {"rerun": "runs again", "completed": "is taken as completed", "failed": "is taken as failed"}
"""What becomes of a step, by the resolution."""


def add(commands: Commands) -> None:
    """Add the commands."""
    for verb, act in (("approve", approve), ("reject", reject)):
        parser = commands.add(verb, f"{verb} what a run waits for, and print its status", act)
        _add_run(parser, step=f"which step to {verb}, where several wait")
        _add_remark(parser, needs_actor=True)
        parser.add_argument("--metadata", metavar="JSON", help="what else to keep with it: an object, @file or -")
    unblocking = commands.add("unblock", "let a paused run go on, and print its status", unblock)
    _add_run(unblocking, step="which step is meant, where several wait")
    unblocking.add_argument(
        "--resolution",
        choices=RESOLUTIONS,
        help="of a step that was interrupted or quarantined: run it again, or take it as completed or failed",
    )
    unblocking.add_argument(
        "--output",
        metavar="JSON",
        help="with --resolution completed: what the step is taken to have returned; an object, @file or -",
    )
    _add_remark(unblocking)
    _add_signal(commands)
    retrying = commands.add("retry", "let a failed run go on from where it failed, and print its status", retry)
    _add_run(retrying)
    _add_remark(retrying)
    cancelling = commands.add("cancel", "cancel a run, and print its status", cancel)
    _add_run(cancelling)
    cancelling.add_argument("--compensate", action="store_true", help="and undo what its steps did")
    cancelling.add_argument(
        "--force", action="store_true", help="wait for nothing that still executes: its result will come too late"
    )
    _add_remark(cancelling)


def _add_signal(commands: Commands) -> None:
    signalling = commands.add("signal", "send a signal to a run, and print its status", signal)
    _add_run(signalling)
    signalling.add_argument("name", metavar="NAME", help="the signal's name")
    signalling.add_argument(
        "-p",
        "--param",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a key of the payload: key=text, or key:=json for numbers, lists and the like; repeatable",
    )
    signalling.add_argument("--payload", metavar="JSON", help="the payload as JSON; @file reads a file, - reads stdin")
    signalling.add_argument("--key", metavar="KEY", help="your name for this delivery: sent again, it changes nothing")
    signalling.add_argument("--actor", metavar="WHO", help="who sends it, for the run's history: a text or an object")


def _add_run(parser: ArgumentParser, *, step: str | None = None) -> None:
    parser.add_argument("run_id", metavar="RUN_ID", help="the run")
    if step is not None:
        parser.add_argument("--step", metavar="STEP", help=step)


def _add_remark(parser: ArgumentParser, *, needs_actor: bool = False) -> None:
    said = "who does it, for the run's history: a text or an object"
    parser.add_argument("--actor", metavar="WHO", required=needs_actor, help=said)
    parser.add_argument("--comment", metavar="WHY", help="why, for the run's history")


# -- the commands ------------------------------------------------------------------------------------------------------


def approve(options: Namespace, screen: Screen) -> int:
    """Approve what waits for it."""
    actor, metadata = actor_of(options.actor), object_of(options.metadata, "--metadata")
    with opened_mesh(options) as mesh:
        with _told(mesh) as told:
            run = mesh.approve_run(
                options.run_id, step=options.step, actor=actor, comment=options.comment, metadata=metadata
            )
        (about,) = _metadata(told, events.GATE_DECIDED)
        talk(_onward(run, f"approved {about['step']!r}") if about["decision"] != "voted" else _voted(mesh, run, about))
    return _show(run, options, screen)


def _voted(mesh: SquidMesh, run: Run, about: JSONObject) -> str:
    """What is said of an approval that is not the last one needed."""
    history, graph = mesh.inspect_run(run.id, include_history=True).history, mesh.registry.graph(run.fingerprint)
    said = f"approved {about['step']!r}"
    if history is None or graph is None:
        return said
    needed = int(graph.steps[about["step"]].settings["approvers"])
    votes = votes_for(history, about["step"], about["visit"])
    return f"{said}: that is {votes} of {needed} approvals; the next one must come from somebody else"


def reject(options: Namespace, screen: Screen) -> int:
    """Reject what waits for approval."""
    actor, metadata = actor_of(options.actor), object_of(options.metadata, "--metadata")
    with opened_mesh(options) as mesh, _told(mesh) as told:
        run = mesh.reject_run(
            options.run_id, step=options.step, actor=actor, comment=options.comment, metadata=metadata
        )
    (about,) = _metadata(told, events.GATE_DECIDED)
    talk(_onward(run, f"rejected {about['step']!r}"))
    return _show(run, options, screen)


def unblock(options: Namespace, screen: Screen) -> int:
    """Let a paused run go on."""
    actor, output = actor_of(options.actor), object_of(options.output, "--output")
    with opened_mesh(options) as mesh, _told(mesh) as told:
        run = mesh.unblock_run(
            options.run_id,
            step=options.step,
            resolution=options.resolution,
            output=output,
            actor=actor,
            comment=options.comment,
        )
    (about,) = _metadata(told, events.GATE_DECIDED)
    became = "is over" if about["decision"] == "resumed" else _RESOLVED[about["resolution"]]
    talk(_onward(run, f"{about['step']!r} {became}"))
    return _show(run, options, screen)


def signal(options: Namespace, screen: Screen) -> int:
    """Send a signal."""
    actor, payload = actor_of(options.actor), payload_of(options.payload, options.param)
    with opened_mesh(options, needs_app=True) as mesh, _told(mesh) as told:
        run = mesh.send_signal(options.run_id, options.name, payload, key=options.key, actor=actor)
    if not _metadata(told, events.SIGNAL_RECEIVED):
        talk(f"signal {options.name!r} was sent under the key {options.key!r} before; nothing was changed")
    elif ended := _metadata(told, events.STEP_COMPLETED):
        talk(_onward(run, f"signal {options.name!r} has ended {ended[0]['step']!r}"))
    else:
        talk(f"signal {options.name!r} is kept until the run waits for it")
    return _show(run, options, screen)


def retry(options: Namespace, screen: Screen) -> int:
    """Let a failed run go on."""
    actor = actor_of(options.actor)
    remark(actor=actor, comment=options.comment)  # what cannot be used is refused before the run is looked for
    # With the app: queues, retries and the deadline are those of today's code.
    with opened_mesh(options, needs_app=True) as mesh:
        # Read first: a failed run stands still, and a worker may complete more as soon as it is retried.
        history = mesh.inspect_run(options.run_id, include_history=True).history
        run = mesh.retry_run(options.run_id, actor=actor, comment=options.comment)
    talk(_onward(run, "", goes_on="it goes on with"))
    done = [step.step for step in (history.steps if history else ()) if step.status is StepStatus.COMPLETED]
    if done:
        talk(f"it keeps the results of {listed(done)}")
    return _show(run, options, screen)


def cancel(options: Namespace, screen: Screen) -> int:
    """Cancel a run."""
    actor = actor_of(options.actor)
    with opened_mesh(options) as mesh, _told(mesh) as told:
        run = mesh.cancel_run(
            options.run_id,
            compensate=options.compensate,
            force=options.force,
            actor=actor,
            comment=options.comment,
        )
    steps = listed(run.current_steps)
    if options.compensate and not _metadata(told, events.RUN_TRANSITION):
        talk(f"it was {run.status} already: nothing was changed, so nothing is undone because of this")
    elif run.status is RunStatus.CANCELLING:
        then = "what its steps did is undone, and the run cancelled," if options.compensate else "the run is cancelled"
        talk(f"told {steps} to stop; {then} when that has ended")
    elif run.status is RunStatus.COMPENSATING:
        talk(f"undoing what its steps did, beginning with {steps}")
    return _show(run, options, screen)


# -- what they say -----------------------------------------------------------------------------------------------------


@contextmanager
def _told(mesh: SquidMesh) -> Generator[list[Event]]:
    """The events of what is done meanwhile, complete at the end."""
    heard: list[Event] = []
    forget = mesh.subscribe(heard.append)
    try:
        yield heard
        mesh.events.flush(_PATIENCE)
    finally:
        forget()


def _metadata(told: list[Event], name: str) -> list[JSONObject]:
    return [event.metadata for event in told if event.name == name]


def _onward(run: Run, done: str, *, goes_on: str = "the run goes on with") -> str:
    """What was done, and what that means for the run."""
    steps = listed(run.current_steps)
    match run.status:
        case RunStatus.COMPLETED | RunStatus.CANCELLED:
            so = f"the run has {'completed' if run.status is RunStatus.COMPLETED else 'been cancelled'}"
        case RunStatus.FAILED:
            so = f"the run has failed: {error_line(run.error)}"
        case RunStatus.FAILING:
            so = f"the run is failing, and waits for {steps}: {error_line(run.error)}"
        case RunStatus.COMPENSATING:
            so = f"what the run's steps did is being undone, {steps} first: {error_line(run.error)}"
        case RunStatus.PAUSED:
            so = f"the run waits for people at {steps}"
        case _:
            so = f"{goes_on} {steps}"
    return f"{done}; {so}" if done else so


def _show(run: Run, options: Namespace, screen: Screen) -> int:
    if options.json:
        screen.write_json(run=run_json(run))
    else:
        screen.say(str(run.status))
    return Exit.OK
