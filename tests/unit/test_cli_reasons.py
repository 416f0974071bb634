"""The page of ``squidmesh explain``: what it says, and that what it tells one to type can be typed."""

from __future__ import annotations

import io
import shlex
from argparse import Namespace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from squidmesh.cli import commands
from squidmesh.cli.commands.reasons import command, page
from squidmesh.cli.output import Screen
from squidmesh.definition import Options, Step, StepKind
from squidmesh.explanation import Action
from squidmesh.meters import MeterTable, Rate
from squidmesh.planner.outcome import Abandoned, Failed
from squidmesh.planner.sight import SeenMeter
from tests.property.sights import explained
from tests.property.simulator import NOW, Simulator
from tests.property.strategies import flow

if TYPE_CHECKING:
    from squidmesh.explanation import Explanation

PLAIN = Screen(io.StringIO())
NARROW = Screen(io.StringIO(), width=72)
ID = "00000000-0000-0000-0000-000000000000"


def options(**given: str) -> Namespace:
    return Namespace(**{"app": None, "dsn": None, "schema": None, **given})


def interrupted() -> Explanation:
    sim = Simulator(flow("pay -> x", "a -> y", start="pay a", steps=(Step(name="pay", irreversible=True),)))
    sim.end("pay", Abandoned({"type": "WorkerDied", "message": "worker 7 on host-1\nwas declared \033[31mdead"}))
    return explained(sim)


def test_what_a_ready_step_shares_is_told_and_what_is_paused_may_be_resumed() -> None:
    name, until = "orders/charge:account=it's a", NOW + timedelta(minutes=5)
    meters = (
        SeenMeter(kind="limit", name=name, held=2, paused_until=until),
        SeenMeter(kind="rate", name=name, tokens=1.5, refilled_ago=0.0),
        SeenMeter(kind="queue", name="@mail", held=3),
    )
    known = MeterTable({"orders/charge:account": 5}, {"orders/charge:account": Rate(9, per=60)})
    said = page(explained(Simulator(flow("a -> b")), known=known, meters=meters), options(app="m:app"), PLAIN)
    assert [line.strip() for line in said if ", 1 tokens" in line or "at work" in line] == [
        f"limit: {name}, 2 of 5 at work, paused until 2026-03-01 09:05:00 UTC",
        f"rate: {name}, 1 tokens",
        "limit of the queue: @mail, 3 of ? at work",
    ]
    (resume,) = [line.strip() for line in said if "meters resume" in line]
    assert shlex.split(resume) == ["squidmesh", "meters", "resume", name, "--app", "m:app"]
    assert commands().parse(shlex.split(resume)[1:]).name == name


def test_a_page_has_the_sentence_what_shows_it_what_else_holds_and_what_may_be_done() -> None:
    assert page(interrupted(), options(), PLAIN) == [
        f"run      {ID}",
        "workflow story",
        "status   running, started 2026-03-01 08:00:00 UTC, 60 min ago",
        "reason   interrupted, step pay",
        "",
        (
            "Step 'pay' cannot be undone, and was cut off in the middle (WorkerDied: worker 7 on host-1 was declared "
            "?[31mdead): look at what it did, then say what is to become of it."
        ),
        "",
        "known    job: step pay, visit 1, attempt 1, parked in the queue default, live since 2026-03-01 08:30:00 UTC",
        "         last attempt 1: abandoned, 2026-03-01 09:00:00 UTC, worker 00000000-0000-0000-0000-000000000001",
        "         error: WorkerDied: worker 7 on host-1 was declared ?[31mdead",
        "",
        "also     step 'a' is ready, next in the queue 'default'",
        "",
        "you can  run 'pay' once more: if it did nothing, or may be done twice",
        f"           squidmesh unblock {ID} --step pay --resolution rerun",
        "         take 'pay' as completed: if it was done (give its output)",
        f"           squidmesh unblock {ID} --step pay --resolution completed",
        "         take 'pay' as failed: the run goes the way of errors, or fails",
        f"           squidmesh unblock {ID} --step pay --resolution failed",
        "         cancel it: nothing more of it is begun",
        f"           squidmesh cancel {ID}",
    ]


def test_a_terminals_width_is_kept_but_by_commands_which_are_copied() -> None:
    lines = page(interrupted(), options(), NARROW)
    assert [line for line in lines if len(line) > 72 and "squidmesh " not in line] == []
    assert f"           squidmesh unblock {ID} --step pay --resolution rerun" in lines


def test_where_no_worker_is_alive_it_says_how_to_start_one() -> None:
    sim = Simulator(flow("a -> b", steps=(Step(name="a", options=Options(queue="mail")),)))
    lines = page(explained(sim, servers=0), options(app="shop:mesh"), PLAIN)
    assert "you can  start a worker for the queue 'mail'" in lines
    assert "           squidmesh worker --queues mail:10 --app shop:mesh" in lines
    lines = page(explained(sim, knowing=0), options(), PLAIN)
    assert "you can  start a worker whose code has it for the queue 'mail'" in lines
    assert "           squidmesh worker --queues mail:10 --app MODULE:ATTRIBUTE" in lines


def test_what_takes_the_code_is_said_where_it_is_missing() -> None:
    sim = Simulator(flow("a -> END"))
    sim.end("a", Failed({"type": "E", "message": "no"}))
    lines = page(explained(sim, registered=False), options(), PLAIN)
    assert lines[-1] == "         replay it, with the code of story: add --app MODULE:ATTRIBUTE"
    assert f"           squidmesh retry {ID} --app MODULE:ATTRIBUTE" in lines


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"schema": "other", "dsn": "host=db dbname=x"}, "--dsn 'host=db dbname=x' --schema other"),
        ({"dsn": "postgresql://me:secret@db/x"}, "--dsn URL"),
    ],
)
def test_commands_go_where_this_one_went_and_repeat_no_password(given: dict[str, str], words: str) -> None:
    said = command(Action("cancel_run", {}, ""), interrupted(), options(**given))
    assert said == f"squidmesh cancel {ID} {words}"


def test_names_of_steps_are_quoted_for_the_shell() -> None:
    said = command(Action("approve_run", {"step": "it's; rm"}, "", ("actor",)), interrupted(), options())
    assert said.endswith(" --actor NAME")
    assert shlex.split(said)[3:5] == ["--step", "it's; rm"]


def test_what_it_tells_one_to_type_is_understood() -> None:
    vote = Step(name="vote", kind=StepKind.APPROVAL)
    pause = Step(name="look", kind=StepKind.PAUSE)
    paid = Step(name="paid", kind=StepKind.SIGNAL, settings={"signal": "paid"})
    book, pay = Step(name="book", compensate="unbook"), Step(name="pay", irreversible=True)
    live = Simulator(
        flow(
            "vote -> x",
            "look -> y",
            "paid -> z",
            "book -> w",
            "book -error-> z",
            start="vote look paid book",
            steps=(vote, pause, paid, book),
        )
    )
    live.end("book")
    ending = live.fork()
    ending.start("w")
    ending.cancel()
    failed = Simulator(flow("pay -> b", steps=(pay,)))
    failed.end("pay")
    failed.end("b", Failed({"type": "E", "message": "no"}, retryable=False))
    done = failed.fork()
    told = [
        (why, action) for why in (explained(s) for s in (live, ending, failed, done)) for action in why.next_actions
    ]
    told += [(interrupted(), action) for action in interrupted().next_actions]
    assert len({action.name for _, action in told}) == 7
    grammar = commands()
    if "approve" not in grammar.parser.format_help():
        pytest.skip("the commands that decide are not there yet")
    for why, action in told:
        words = shlex.split(command(action, why, options()))
        assert grammar.parse(words[1:]).command == words[1]
