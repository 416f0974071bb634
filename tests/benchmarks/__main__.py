"""Measure; ``nox -s bench -- --help`` lists what can be measured.

Runs are interleaved: each round measures everything once, and what is compared with a reference has it run right
before, because the same code moves by up to 40 % between runs that are minutes apart.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.catalogue import BENCHMARKS, BY_NAME
from tests.benchmarks.figures import QUICK, Scale
from tests.benchmarks.report import Results, detail_tables, headline_table, number
from tests.benchmarks.server import BenchServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.benchmarks.figures import Benchmark, Figures

REPEAT = 5


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure what is asked for, and print it."""
    asked = _parser().parse_args(arguments)
    chosen = _with_references(asked.names or [benchmark.name for benchmark in BENCHMARKS])
    scale = QUICK if asked.quick else Scale()
    rounds = asked.repeat or (1 if asked.quick else REPEAT)
    with BenchServer() as server:
        results = Results(server.about())
        for name, said in results.about.items():
            print(f"{name:10} {said}")
        print()
        for turn in range(1, rounds + 1):
            for benchmark, figures in _round(server, scale, chosen, results):
                print(
                    f"round {turn} of {rounds}: {benchmark.name:8} {number(figures.value)} {benchmark.unit}", flush=True
                )
    print(f"\n{headline_table(results, chosen)}\n\n{detail_tables(results, chosen)}")
    print("\nload at the end: {:.2f} {:.2f} {:.2f}".format(*os.getloadavg()))
    if asked.json is not None:
        asked.json.write_text(json.dumps(results.to_json(chosen), indent=1) + "\n")
    return results


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {benchmark.name:8}  {benchmark.about}" for benchmark in BENCHMARKS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=f"{__doc__}\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help="what to measure; everything by default")
    parser.add_argument("--repeat", type=int, metavar="N", help=f"rounds, {REPEAT} by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file, too")
    parser.add_argument("--quick", action="store_true", help="one round of very little: does everything work?")
    return parser


def _with_references(names: Sequence[str]) -> list[Benchmark]:
    unknown = sorted(set(names) - set(BY_NAME))
    if unknown:
        sys.exit(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    wanted: set[str] = set()
    for name in names:
        following: str | None = name
        while following is not None:
            wanted.add(following)
            following = BY_NAME[following].reference
    return [benchmark for benchmark in BENCHMARKS if benchmark.name in wanted]


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
    figures = benchmark.measure(server, scale)
    results.add(benchmark, figures, before)
    yield benchmark, figures


if __name__ == "__main__":
    main()
