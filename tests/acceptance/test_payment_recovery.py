"""The example of the documentation: by itself, and as an app that the command line runs, its gateway's refusals counted."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any

import pytest

from squidmesh import SquidMesh
from tests.acceptance.cli_kit import ROOT, CommandLine, Said

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from tests.conftest import TestServer

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The example as a module."""
    spec = spec_from_file_location("payment_recovery", EXAMPLES / "payment_recovery.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def database(postgres: TestServer) -> Iterator[str]:
    """A migrated database that this module has for itself."""
    name = postgres.create_database()
    dsn = postgres.dsn_for(name)
    SquidMesh(dsn).migrate()
    yield dsn
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def by_itself(database: str) -> Iterator[subprocess.Popen[str]]:
    """The example, run by itself; begun before all else, because it takes 8 seconds."""
    environ = {**CommandLine().environ, "SQUIDMESH_DATABASE_URL": database}
    command = [sys.executable, str(EXAMPLES / "payment_recovery.py")]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def recovered(
    by_itself: subprocess.Popen[str], example: Any, postgres: TestServer
) -> Iterator[tuple[Said, list[int], str]]:
    """What ``start --wait`` said, what the gateway answered, and where it happened."""
    del by_itself
    name = postgres.create_database()
    cli = CommandLine(postgres.dsn_for(name), app="payment_recovery:mesh", directory=EXAMPLES)
    cli("migrate").ok()
    with example.running_gateway() as gateway, cli.worker() as worker:
        payload = ("-p", "account_id=acct_1", "-p", "invoice_id=inv_2", "-p", "attempt_id=att_3")
        said = cli("start", "payment_recovery", *payload, "-p", f"gateway_url={gateway.url}", "--wait", "--json").ok()
        assert worker.stop() == 0
    yield said, list(gateway.statuses), postgres.dsn_for(name)
    postgres.drop_database(name)


def test_the_gateway_refused_twice_and_was_asked_three_times(recovered: tuple[Said, list[int], str]) -> None:
    said, statuses, _ = recovered
    assert statuses == [503, 503, 200]
    run = said.json["run"]
    assert run["status"] == "completed"
    assert run["context"] == {
        "invoice": {"id": "inv_2", "status": "open"},
        "gateway_check": {"invoice_id": "inv_2", "status": "settled"},
        "notified": "acct_1",
        "key": f"{run['id']}:notify_customer:1",
    }


def test_every_attempt_is_recorded_with_its_error(recovered: tuple[Said, list[int], str]) -> None:
    said, _, dsn = recovered
    found = CommandLine(dsn, app=None)("inspect", said.json["run"]["id"], "--history", "--json").ok().json
    attempts = {step_run["step"]: step_run["attempts"] for step_run in found["step_runs"]}
    assert {step: [a["status"] for a in made] for step, made in attempts.items()} == {
        "load_invoice": ["completed"],
        "wait_for_settlement": ["completed"],
        "log_recovery_attempt": ["completed"],
        "check_gateway_status": ["failed", "failed", "completed"],
        "notify_customer": ["completed"],
    }
    for refused in attempts["check_gateway_status"][:2]:
        assert refused["error"]["type"] == "ToolError"
        assert refused["error"]["details"]["status"] == 503
        assert refused["error"]["retryable"] is True


def test_by_itself_it_tells_what_happened(by_itself: subprocess.Popen[str]) -> None:
    said, _ = by_itself.communicate(timeout=60)
    assert by_itself.returncode == 0
    assert "completed; the gateway answered [503, 503, 200]" in said
    assert said.count("answered 503") == 2
