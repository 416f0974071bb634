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
    from collections.abc import Iterator, Mapping, Sequence

TITLES: Final = {
    "chain": "Durable steps of a five-step chain",
    "single": "Runs of a single step",
    "start": "Runs started by one client, one commit each",
    "latency": "From the start to the first step, idle worker: shorter is better",
}
"""The panels, by the benchmark that is compared with others."""

NAMES: Final = {"limit": "limit (pgbench)", "insert": "bare insert"}
WIDTH, LEFT, LONGEST = 760, 150, 340
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
    lines.append(_text(10, top + 12, f"{notes}; fsync on; medians of pairs", "note"))
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
    """What the server can do, what we do, and what the peers do, the best first.

    The lengths are medians of paired ratios: what was measured minutes apart cannot be compared.
    """
    ours = benchmarks.get(name)
    if not ours or ours["median"] is None:
        return []
    unit = ours["unit"].removesuffix(" p50")
    bars = [Bar("squidmesh", "ours", 1.0, f"{number(ours['median'])} {unit}")]
    if ours["ratio"]:
        bound = 1 / ours["ratio"]
        bars.insert(0, Bar(NAMES[ours["reference"]], "bound", bound, _said(bound, [1 / r for r in ours["ratios"]])))
    peers = [
        Bar(other.partition(":")[2], "other", found["ratio"], _said(found["ratio"], found["ratios"]))
        for other, found in benchmarks.items()
        if other.startswith(f"{name}:") and found["ratio"]
    ]
    return bars + sorted(peers, key=lambda bar: bar.value, reverse=not unit.startswith("ms"))


def _said(ratio: float, ratios: Sequence[float]) -> str:
    said = f"{ratio:.2g} times squidmesh"
    return f"{said} ({min(ratios):.2g} to {max(ratios):.2g})" if len(ratios) > 1 else said


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
