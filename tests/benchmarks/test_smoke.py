"""The harness works: everything is measured once, on so little that the figures mean nothing and nobody looks at them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks import rivals
from tests.benchmarks.__main__ import main
from tests.benchmarks.catalogue import BENCHMARKS, BY_NAME
from tests.benchmarks.crowd import WAYS
from tests.benchmarks.figures import QUICK, Figures, percentile
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


def test_everything_that_may_grow_is_measured_small_and_large(tmp_path: Path) -> None:
    """Each drains at least twice; what was not there, such as a plan that was not compared, would show as a nan or a 0."""
    file = tmp_path / "figures.json"

    main(["growth", "wide", "long", "loop", "context", "memory", "--quick", "--json", str(file)])

    measured = {name: found["runs"][0] for name, found in json.loads(file.read_text())["benchmarks"].items()}
    assert measured["growth"]["plans compared"] > 10
    for name in ("growth", "wide", "long", "loop", "context"):
        assert measured[name]["WAL ratio"] > 0
        assert measured[name]["buffers ratio"] > 0
    # Whatever else is written, the large value is.
    assert measured["context"]["WAL bytes/step without pages"] > QUICK.context_bytes / (QUICK.context_visits + 1)
    assert measured["memory"]["value"] > 10


def test_workers_and_clients_that_meet_are_measured(tmp_path: Path) -> None:
    """Two workers, fifty clients with each way to notify, and a constant load; and the chart shows what is compared."""
    file, chart = tmp_path / "figures.json", tmp_path / "chart.svg"

    main(["two", "async", "contention", "bloat", "--quick", "--json", str(file), "--svg", str(chart)])

    measured = {name: found["runs"][0] for name, found in json.loads(file.read_text())["benchmarks"].items()}
    assert {"limit", "chain", "two", "async"} < set(measured)
    for way in WAYS:
        assert measured["contention"][f"commits/s, {way}"] > 0
    assert measured["bloat"]["runs"] > 0
    assert {element.tag.rpartition("}")[2] for element in ET.parse(chart).iter()} >= {"svg", "rect", "text"}


def test_a_peer_that_cannot_be_installed_is_a_line_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its neighbours are measured all the same."""

    def refuse(peer: rivals.Peer) -> Path:
        raise rivals.Unavailable(f"{peer.name} is not there")

    monkeypatch.setattr(rivals, "python_of", refuse)
    file = tmp_path / "figures.json"

    main(["start:dbos", "--quick", "--json", str(file)])

    written = json.loads(file.read_text())["benchmarks"]
    assert written["start"]["runs"]
    assert not written["start:dbos"]["runs"]
    assert written["start:dbos"]["missing"] == "not measured: dbos is not there"


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
