"""``squidmesh check-deploy``: would the runs that are live finish with the code at hand?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from squidmesh.cli.app import opened_mesh
from squidmesh.cli.exits import Exit
from squidmesh.cli.output import Column, Row, Table, talk
from squidmesh.records import StrandingReason

if TYPE_CHECKING:
    from argparse import Namespace

    from squidmesh.cli.arguments import Commands
    from squidmesh.cli.output import Screen
    from squidmesh.records import DeployCheck, Stranding

_WORDS: Final = {
    StrandingReason.WORKFLOW_GONE: "this code has no such workflow",
    StrandingReason.STEP_GONE: "this code has no function for the step",
    StrandingReason.COMPENSATION_GONE: "this code has no compensation for the step, should such a run fail",
    StrandingReason.PARAMETER_MISSING: "its function needs {key!r}, which these runs do not have",
    StrandingReason.NEWER_GRAPH: "a newer squidmesh stored the graph; this one cannot read it",
}


def add(commands: Commands) -> None:
    """Add the command."""
    commands.add(
        "check-deploy", "say which live runs could not finish with the code at hand; exit code 8 if there are any", run
    )


def run(options: Namespace, screen: Screen) -> int:
    """Compare, and tell."""
    with opened_mesh(options, needs_app=True) as mesh:
        check = mesh.check_deploy()
    if options.json:
        screen.write_json(ok=check.ok, runs=check.runs, strandings=check.strandings)
    else:
        _tell(check, screen)
    return Exit.OK if check.ok else Exit.STRANDS


def _tell(check: DeployCheck, screen: Screen) -> None:
    if check.ok:
        talk(f"each of {check.runs} live runs can finish with this code")
        return
    columns = [
        Column("workflow", flexible=True),
        Column("graph"),
        Column("step", flexible=True, optional=True),
        Column("now", right=True),
        Column("later", right=True),
    ]
    table = Table(columns, note_title="reason")
    table.rows = [_row(stranding) for stranding in check.strandings]
    screen.say("\n".join(table.lines(screen)))
    talk("keep a worker with the code that these runs began with, until none is left")


def _row(stranding: Stranding) -> Row:
    cells = [
        stranding.workflow,
        stranding.fingerprint,
        stranding.step or "",
        str(stranding.runs_now),
        str(stranding.runs_later),
    ]
    return Row(cells, note=_WORDS[stranding.reason].format(key=stranding.key))
