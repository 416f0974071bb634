"""From runs to a report: medians, spreads, ratios; as tables for people and as JSON for programs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.benchmarks.figures import Benchmark, Figures

MOST_COLUMNS: Final = 8


@dataclass(slots=True)
class Results:
    """All runs, in the order in which they were made.

    Args:
        about: What was measured on.
    """

    about: Mapping[str, str]
    runs: dict[str, list[Figures]] = field(default_factory=lambda: defaultdict(list))
    ratios: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of each run to the reference that was run right before it."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why something was not measured."""

    def add(self, benchmark: Benchmark, figures: Figures, before: Figures | None) -> None:
        """Note a run, and that of its reference right before it."""
        self.runs[benchmark.name].append(figures)
        if before is not None:
            self.ratios[benchmark.name].append(figures.value / before.value)

    def detail(self, name: str, detail: str) -> float:
        """The median of a detail."""
        return median(figures.details[detail] for figures in self.runs[name])

    def to_json(self, benchmarks: Iterable[Benchmark]) -> dict[str, Any]:
        """Everything, for programs."""
        found = {}
        for benchmark in benchmarks:
            runs = self.runs.get(benchmark.name, [])
            ratios = self.ratios.get(benchmark.name, [])
            found[benchmark.name] = {
                "about": benchmark.about,
                "unit": benchmark.unit,
                "median": median(figures.value for figures in runs) if runs else None,
                "missing": self.missing.get(benchmark.name),
                "reference": benchmark.reference,
                "ratio": median(ratios) if ratios else None,
                "ratios": ratios,
                "runs": [{"value": figures.value, **figures.details} for figures in runs],
            }
        return {"about": dict(self.about), "benchmarks": found}


def headline_table(results: Results, benchmarks: Sequence[Benchmark]) -> str:
    """A line a benchmark: the median, from the lowest to the highest, and how it compares."""
    rows = [["benchmark", "runs", "median", "lowest - highest", "unit", "compared with the run right before it"]]
    for benchmark in benchmarks:
        values = [figures.value for figures in results.runs[benchmark.name]]
        if not values:
            rows.append([benchmark.name, "0", "", "", "", results.missing.get(benchmark.name, "not measured")])
            continue
        spread = f"{number(min(values))} - {number(max(values))}"
        ratio = _ratio(benchmark, results.ratios.get(benchmark.name, []))
        rows.append([benchmark.name, str(len(values)), number(median(values)), spread, benchmark.unit, ratio])
    return table(rows)


def detail_tables(results: Results, benchmarks: Sequence[Benchmark]) -> str:
    """What explains the headlines: a line a detail, a column a benchmark, medians; a table for those that share some."""
    return "\n\n".join(_detail_table(results, names) for names in _kin(results, benchmarks))


def _kin(results: Results, benchmarks: Sequence[Benchmark]) -> list[list[str]]:
    """The names of the benchmarks, those together that have a detail in common."""
    groups: list[tuple[list[str], set[str]]] = []
    for benchmark in benchmarks:
        names, details = [benchmark.name], {key for run in results.runs[benchmark.name] for key in run.details}
        for group in [group for group in groups if group[1] & details]:
            groups.remove(group)
            names, details = [*group[0], *names], group[1] | details
        groups.append((names, details))
    return [
        names[at : at + MOST_COLUMNS]
        for names, details in groups
        if details
        for at in range(0, len(names), MOST_COLUMNS)
    ]


def _detail_table(results: Results, names: Sequence[str]) -> str:
    details = list(dict.fromkeys(key for name in names for figures in results.runs[name] for key in figures.details))
    rows = [["median of", *names]]
    for detail in details:
        has = {name: detail in results.runs[name][0].details for name in names}
        rows.append([detail, *(number(results.detail(name, detail)) if has[name] else "" for name in names)])
    return table(rows)


def _ratio(benchmark: Benchmark, ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    return f"{median(ratios):.3f} of {benchmark.reference} ({min(ratios):.3f} - {max(ratios):.3f})"


def number(value: float) -> str:
    """A number with the digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under a heading, the first column to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
