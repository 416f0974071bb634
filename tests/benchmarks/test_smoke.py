"""The harness works: everything is measured once, on so little that the figures mean nothing and nobody looks at them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.catalogue import BENCHMARKS, BY_NAME
from tests.benchmarks.figures import Figures, percentile
from tests.benchmarks.report import Results, headline_table

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_asked_for_is_measured_beside_its_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The chain is drained by a worker process, the limit by pgbench; both come out in the table and in the file."""
    file = tmp_path / "figures.json"

    main(["chain", "latency", "--quick", "--json", str(file)])

    written = json.loads(file.read_text())["benchmarks"]
    assert set(written) == {"limit", "chain", "latency"}
    chain = written["chain"]["runs"][0]
    assert written["chain"]["ratio"] == chain["value"] / written["limit"]["runs"][0]["value"]
    assert 0 < chain["commits/step"] < chain["statements/step"]
    # A step writes three rows; a run is claimed in one more, and an end removes one instead of moving it.
    assert chain["rows/step"] >= 3
    assert "of limit" in capsys.readouterr().out


def test_an_unknown_name_is_refused_before_a_server_is_started() -> None:
    with pytest.raises(SystemExit, match="no benchmark is called nonsense; there are limit, chain"):
        main(["nonsense"])


def test_all_benchmarks_say_what_they_measure_and_what_they_are_compared_with() -> None:
    for benchmark in BENCHMARKS:
        assert benchmark.about.endswith((".", "here."))
        assert benchmark.reference is None or benchmark.reference in BY_NAME


def test_a_ratio_is_the_median_of_the_ratios_of_pairs() -> None:
    """Not the ratio of medians: the machine's speed moves between pairs, and less within one."""
    results, chain = Results({}), BY_NAME["chain"]
    for limit, value in ((100.0, 50.0), (1000.0, 300.0), (10.0, 4.0)):
        results.add(BY_NAME["limit"], Figures(limit), None)
        results.add(chain, Figures(value), Figures(limit))

    assert results.to_json([chain])["benchmarks"]["chain"]["ratio"] == 0.4
    assert "0.400 of limit (0.300 - 0.500)" in headline_table(results, [chain])


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.0, 1.0)])
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected
