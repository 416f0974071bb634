"""A bar chart of the results as an SVG file: plain text, no dependency, readable on light and on dark ground."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import escape

from tests.benchmarks.report import number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TITLES: Final = {
    "chain": "Durable steps of a five-step chain",
    "single": "Runs of a single step",
    "start": "Runs started by one client, one commit each",
    "latency": "From the start to the first step, idle worker: shorter is better",
}
"""The panels, by the benchmark that is compared with others."""

NAMES: Final = {"limit": "limit (pgbench)", "insert": "bare insert"}
WIDTH, LEFT, LONGEST = 760, 150, 380
"""Of the picture, of what stands before the bars, and of the longest bar; in pixels."""
BAR, GAP, HEAD = 18, 8, 30
STYLE: Final = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 14px }
  .note { fill: #57606a; font-size: 12px }
  .ours { fill: #0969da } .other { fill: #8c959f } .bound { fill: #d0d7de }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .note { fill: #8d96a0 }
    .ours { fill: #4493f8 } .other { fill: #656c76 } .bound { fill: #3d444d }
  }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Args:
        name: What stands before it.
        kind: "ours", "other" or "bound": what is compared, the peers, what the server can do.
        value: Its length.
        said: What stands behind it.
    """

    name: str
    kind: str
    value: float
    said: str


def draw(results: Mapping[str, Any]) -> str:
    """The chart.

    Args:
        results: What the JSON file holds: ``Results.to_json``.
    """
    panels = [(TITLES[name], bars) for name in TITLES if (bars := _bars(results["benchmarks"], name))]
    lines, top = [], 10
    for title, bars in panels:
        lines.append(_text(10, top + 18, title, "title"))
        top += HEAD
        most = max(bar.value for bar in bars)
        for bar in bars:
            lines += _drawn(bar, most, top)
            top += BAR + GAP
        top += GAP * 2
    about = results["about"]
    notes = f"Postgres {about['postgres']}, Python {about['python']}, {about['cpus']} CPUs shared by server and clients"
    lines.append(_text(10, top + 12, f"{notes}; fsync on; medians", "note"))
    size = f'width="{WIDTH}" height="{top + 24}" viewBox="0 0 {WIDTH} {top + 24}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            "<title>squidmesh beside what the server can do and beside its peers</title>",
            f"<style>{STYLE}</style>",
            *lines,
            "</svg>",
            "",
        ]
    )


def _bars(benchmarks: Mapping[str, Any], name: str) -> list[Bar]:
    """What the server can do, what we do, and what the peers do, the best first."""
    ours = benchmarks.get(name)
    if not ours or ours["median"] is None:
        return []
    unit = ours["unit"].removesuffix(" p50")
    bars = [Bar("squidmesh", "ours", ours["median"], _said(ours["median"], unit, ours))]
    bound = benchmarks.get(ours["reference"] or "")
    if bound:
        bars.insert(0, Bar(NAMES[ours["reference"]], "bound", bound["median"], f"{number(bound['median'])} {unit}"))
    peers = [
        Bar(other.partition(":")[2], "other", found["median"], _said(found["median"], unit, found))
        for other, found in benchmarks.items()
        if other.startswith(f"{name}:") and found["median"] is not None
    ]
    return bars + sorted(peers, key=lambda bar: bar.value, reverse=not unit.startswith("ms"))


def _said(value: float, unit: str, found: Mapping[str, Any]) -> str:
    said = f"{number(value)} {unit}"
    if found["ratio"] is None:
        return said
    beside = {"limit": "the limit", "insert": "an insert"}.get(found["reference"], "squidmesh")
    return f"{said}: {found['ratio']:.2g} {'times' if unit == 'ms' else 'of'} {beside}"


def _drawn(bar: Bar, most: float, top: float) -> Iterator[str]:
    length = max(bar.value / most * LONGEST, 1)
    yield _text(LEFT - 8, top + 14, bar.name, "", ' text-anchor="end"')
    yield f'<rect class="{bar.kind}" x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2"/>'
    yield _text(LEFT + length + 8, top + 14, bar.said, "")


def _text(x: float, y: float, said: str, kind: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{more}>{escape(said)}</text>'


if (
    __name__ == "__main__"
):  # draw the figures of an earlier run: python -m tests.benchmarks.chart figures.json chart.svg
    Path(sys.argv[2]).write_text(draw(json.loads(Path(sys.argv[1]).read_text())))
