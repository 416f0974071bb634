"""Growth: do a million finished runs and a million sleeping jobs in the tables make steps slower?

The same chain is drained on empty tables and on full ones, one right after the other. The statements that the worker
sent are then planned in both databases, as it planned them: for their parameters, and for any.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import psycopg

from squidmesh import SquidMesh
from squidmesh.store.statements import sql_folder, sql_of
from tests.benchmarks.drain import SQUIDMESH, Drain, drain
from tests.benchmarks.figures import Figures
from tests.benchmarks.scaling import cost_ratios

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.benchmarks.figures import Scale
    from tests.benchmarks.server import BenchServer

FILL: Final = """
INSERT INTO squidmesh.runs (id, created_at, finished_at, seq, workflow, fingerprint, trigger, status, state, payload)
SELECT lpad(to_hex(n), 32, '0')::uuid, squidmesh.clock() - make_interval(secs => ({count} - n) * 0.1),
       squidmesh.clock() - make_interval(secs => ({count} - n) * 0.1 - 1), 6, 'history', 'gone', 'manual', 'completed',
       '{{}}', jsonb_build_object('number', n)
  FROM generate_series(1, {count}) n;
INSERT INTO squidmesh.attempts (run_id, worker, started_at, finished_at, seq, visit, attempt, saw, kind, status, step,
                                output)
SELECT lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(7), 32, '0')::uuid, squidmesh.clock(), squidmesh.clock(), s, 1, 1, s,
       'step', 'completed', 's' || s, jsonb_build_object('s' || s, n)
  FROM generate_series(1, {count}) n, generate_series(1, 5) s;
INSERT INTO squidmesh.jobs (run_id, since, ready_at, run_at, slot, visit, attempt, saw, priority, lane, state, kind,
                            step, queue)
SELECT lpad(to_hex(n + {count}), 32, '0')::uuid, squidmesh.clock(), squidmesh.clock(),
       squidmesh.clock() + make_interval(secs => 360000 + n), 0, 1, 1, 1, 0, 0, 'sleeping', 'step', 's', 'default'
  FROM generate_series(1, {count}) n;
"""
LEFT: Final = (
    "SELECT EXISTS (SELECT FROM squidmesh.jobs WHERE state = 'ready')"
    " OR EXISTS (SELECT FROM squidmesh.jobs WHERE state = 'claimed')"
)
"""Whether a chain has anything left to do, among jobs that sleep."""


def measure_growth(server: BenchServer, scale: Scale) -> Figures:
    """Steps/s of the chain beside a million finished runs and as many sleeping jobs, over that on empty tables."""
    full = server.template(f"filled_{scale.history}", lambda name: fill(server, name, scale.history))
    with TemporaryDirectory(prefix="squidmesh-bench-") as folder:
        record = str(Path(folder) / "statements")
        plans: list[dict[str, tuple[str, ...]]] = []

        def look(database: str) -> None:
            with server.connect(database) as connection:
                plans.append(_plans(connection, pickle.loads(Path(record).read_bytes())))

        engine = replace(SQUIDMESH, left=LEFT)
        chain = Drain(engine=engine, workflow="chain", runs=scale.chain_runs, steps=5, look=look, record=record)
        empty = drain(server, chain)
        beside = drain(server, replace(chain, template=full))
    compared = sorted(plans[0].keys() & plans[1].keys())
    differ = [name for name in compared if plans[0][name] != plans[1][name]]
    for name in differ:
        print(f"growth: the plan of {name} differs:\n  empty {plans[0][name]}\n  full  {plans[1][name]}")
    details = {f"{name} ratio": ratio for name, ratio in cost_ratios(empty.details, beside.details).items()}
    details |= {"wall ratio": empty.value / beside.value}
    for name in ("buffers/step", "vacuum's buffers/step", "WAL bytes/step without pages", "rows/step"):
        details[f"{name}, empty"], details[name] = empty.details[name], beside.details[name]
    details |= {"plans compared": len(compared), "plans that differ": len(differ)}
    return Figures(beside.value / empty.value, details)


def fill(server: BenchServer, database: str, count: int) -> None:
    """Fill a database: so many finished runs, each with five attempts, and so many jobs that sleep for days."""
    with SquidMesh(server.dsn(database)) as mesh:
        mesh.migrate()
    with server.connect(database) as connection:
        for statement in FILL.format(count=count).split(";"):
            connection.execute(statement.encode())
    server.settle(database)


def _plans(connection: psycopg.Connection[Any], sent: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What was sent, by its name, with the nodes of its plans: made for its parameters, and made for any."""
    found = {}
    with connection.transaction(force_rollback=True):
        connection.execute(sql_of("pin_plans"))
        for text, params in sent.items():
            if re.match(r"(WITH|SELECT|INSERT|UPDATE|DELETE)\b.*\bsquidmesh\.", text, re.DOTALL) and params:
                found[_title(text)] = (
                    *_nodes(connection, text, params),
                    "/",
                    *_nodes(connection, _numbered(text), None),
                )
    return found


def _nodes(connection: psycopg.Connection[Any], text: str, params: Any) -> tuple[str, ...]:
    how = "FORMAT JSON" if params else "FORMAT JSON, GENERIC_PLAN"
    row = psycopg.ClientCursor(connection).execute(f"EXPLAIN ({how}) {text}".encode(), params).fetchone()
    assert row is not None
    return tuple(_walk(row[0][0]["Plan"]))


def _walk(node: Mapping[str, Any]) -> list[str]:
    """Nodes that touch a table or an index; how the rest is joined and sorted costs what its rows cost."""
    on = node.get("Index Name") or node.get("Relation Name")
    own = [f"{node['Node Type']} {on}"] if on else []
    return own + [name for child in node.get("Plans", ()) for name in _walk(child)]


def _numbered(text: str) -> str:
    """The text with numbered parameters, as the server sees it."""
    names: dict[str, int] = {}
    return re.sub(r"%\((\w+)\)s", lambda found: f"${names.setdefault(found[1], len(names) + 1)}", text).replace(
        "%%", "%"
    )


def _title(text: str) -> str:
    """The name of its file."""
    return next(file.stem for file in (sql_folder() / "statements").iterdir() if sql_of(file.stem) == text)
