"""Measure; ``nox -s bench -- --help`` lists what can be measured.

Runs are interleaved: each round measures everything once, and what is compared with a reference has it run right
before, because the same code moves by up to 40 % between runs that are minutes apart.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.catalogue import BENCHMARKS, BY_NAME, RIVALS
from tests.benchmarks.chart import draw
from tests.benchmarks.figures import QUICK, Scale
from tests.benchmarks.report import Results, detail_tables, headline_table, number
from tests.benchmarks.rivals import Unavailable
from tests.benchmarks.server import BenchServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.benchmarks.figures import Benchmark, Figures

REPEAT = 5


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure what is asked for, and print it."""
    asked = _parser().parse_args(arguments)
    chosen = _chosen(asked)
    scale = QUICK if asked.quick else Scale()
    if asked.million:
        scale = replace(scale, memory_runs=100_000)
    if asked.seconds:
        scale = replace(scale, bloat_seconds=asked.seconds)
    rounds = asked.repeat or (1 if asked.quick else REPEAT)
    width = max(len(benchmark.name) for benchmark in chosen)
    with BenchServer() as server:
        results = Results(server.about())
        for name, said in results.about.items():
            print(f"{name:10} {said}")
        print()
        for turn in range(1, rounds + 1):
            for benchmark, figures in _round(server, scale, chosen, results):
                said = f"{benchmark.name:{width}} {number(figures.value)} {benchmark.unit}"
                print(f"round {turn} of {rounds}: {said}", flush=True)
            _write(results.to_json(chosen), asked)  # after each round: many take hours
    print(f"\n{headline_table(results, chosen)}\n\n{detail_tables(results, chosen)}")
    print("\nload at the end: {:.2f} {:.2f} {:.2f}".format(*os.getloadavg()))
    return results


def _write(figures: Mapping[str, Any], asked: argparse.Namespace) -> None:
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    if asked.svg is not None:
        asked.svg.write_text(draw(figures))


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {benchmark.name:10}  {benchmark.about}" for benchmark in BENCHMARKS)
    compared = ", ".join(name for name, rivals in RIVALS.items() if rivals)
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=f"{__doc__}\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help="what to measure; everything by default")
    parser.add_argument("--repeat", type=int, metavar="N", help=f"rounds, {REPEAT} by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file, too")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the chart: what is compared with something")
    parser.add_argument(
        "--peers",
        action="store_true",
        help=f"install the peers and measure them beside {compared}; one alone is named as chain:dbos",
    )
    parser.add_argument("--quick", action="store_true", help="one round of very little: does everything work?")
    parser.add_argument("--million", action="store_true", help="memory: over 1,000,000 steps instead of 100,000")
    parser.add_argument("--seconds", type=float, metavar="S", help="bloat: so long instead of a minute")
    return parser


def _chosen(asked: argparse.Namespace) -> list[Benchmark]:
    """What is asked for, with all that it is compared with."""
    names = asked.names or [benchmark.name for benchmark in BENCHMARKS]
    unknown = sorted(set(names) - set(BY_NAME))
    if unknown:
        ours = ", ".join(benchmark.name for benchmark in BENCHMARKS)
        sys.exit(f"no benchmark is called {', '.join(unknown)}; there are {ours}")
    if asked.peers:
        names = [*names, *(rival.name for name in names for rival in RIVALS.get(name, ()))]
    wanted: set[str] = set()
    for name in names:
        following: str | None = name
        while following is not None:
            wanted.add(following)
            following = BY_NAME[following].reference
    return [benchmark for benchmark in BY_NAME.values() if benchmark.name in wanted]


def _round(
    server: BenchServer, scale: Scale, chosen: Sequence[Benchmark], results: Results
) -> Iterator[tuple[Benchmark, Figures]]:
    """Measure each once; those with a reference right after it."""
    references = {benchmark.reference for benchmark in chosen}
    for benchmark in chosen:
        if benchmark.name not in references:  # else it is measured with whatever is compared with it
            yield from _measured(server, scale, benchmark, results)


def _measured(
    server: BenchServer, scale: Scale, benchmark: Benchmark, results: Results
) -> Iterator[tuple[Benchmark, Figures]]:
    """Measure one right after its reference, which has one, too."""
    before = None
    if benchmark.reference is not None:
        for reference, figures in _measured(server, scale, BY_NAME[benchmark.reference], results):
            before = figures
            yield reference, figures
    try:
        figures = benchmark.measure(server, scale)
    except Unavailable as why:
        results.missing[benchmark.name] = f"not measured: {why}"
        return
    results.add(benchmark, figures, before)
    yield benchmark, figures


if __name__ == "__main__":
    main()
