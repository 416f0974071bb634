"""``squidmesh diff``: where two runs part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh.cli.app import opened_mesh
from squidmesh.cli.exits import Exit
from squidmesh.cli.output import Column, Row, Table, one_line, talk

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from squidmesh.cli.arguments import Commands
    from squidmesh.cli.output import Screen
    from squidmesh.records import RunDiff, StepDifference


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("diff", "compare two runs, such as a run and its replay, step by step", run)
    parser.add_argument("a", metavar="A", help="a run")
    parser.add_argument("b", metavar="B", help="another one")


def run(options: Namespace, screen: Screen) -> int:
    """Compare, and tell."""
    with opened_mesh(options) as mesh:
        found = mesh.diff_runs(options.a, options.b)
    if options.json:
        screen.write_json(same=found.same, diff=found, parted_at=found.parted_at)
    else:
        _tell(found, screen)
    return Exit.OK


def _tell(found: RunDiff, screen: Screen) -> None:
    if found.same:
        talk("the runs do not differ in anything but time and place")
        return
    columns = [
        Column("step", flexible=True),
        Column("what"),
        Column(str(found.a), flexible=True),
        Column(str(found.b), flexible=True),
    ]
    table = Table(columns)
    for what, pair in _of_run(found):
        table.rows.append(Row(["", what, *pair]))
    for step in found.steps:
        name = step.step if step.visit == 1 else f"{step.step} (visit {step.visit})"
        for what, pair in _of_step(step):
            table.rows.append(Row([name, what, *pair]))
            name = ""
    screen.say("\n".join(table.lines(screen)))
    if found.parted_at is not None:
        talk(f"they part at {found.parted_at.step}")


def _of_run(found: RunDiff) -> list[tuple[str, list[str]]]:
    pairs = {"workflow": found.workflow, "graph": found.graph, "trigger": found.trigger, "status": found.status}
    return [*_said(pairs), *_keys("payload", found.payload_keys)]


def _of_step(found: StepDifference) -> list[tuple[str, list[str]]]:
    pairs = {"status": found.status, "outcome": found.outcome, "attempts": found.attempts, "error": found.error_type}
    return [*_said(pairs), *_keys("output", found.output_keys)]


def _said(pairs: Mapping[str, tuple[object, object] | None]) -> list[tuple[str, list[str]]]:
    """What differs, in words; a dash where one side has nothing."""
    return [
        (what, ["-" if side is None else one_line(str(side)) for side in pair])
        for what, pair in pairs.items()
        if pair is not None
    ]


def _keys(what: str, keys: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    said = one_line(", ".join(keys))
    return [(what, [f"differs in {said}", ""])] if keys else []
