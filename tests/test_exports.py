"""The public API is a list: what is added to it or taken from it is a decision, not an accident."""

from __future__ import annotations

import inspect

import squidmesh
from squidmesh import AsyncSquidMesh, SquidMesh

PUBLIC = """
COMPLETE Action AlreadyVoted AsyncMeters AsyncSchedules AsyncSquidMesh Attempt AttemptStatus AuditEvent CatchUp Cause CommitUnknown ConfigurationError ConnectionUnusable Constant Context
DeclaredStep Defer DefinitionError DeployCheck Explanation Exponential Fail History IllegalMove InconsistentRun InvalidInput InvalidOption InvalidOutput
InvalidPayload InvalidRunId Limit Meter MeterNotFound Meters NotFound NotRetryable NotWaiting Outcome Rate Reason RequestError Retry RetryAfter Run RunDiff RunExists RunNotFound RunStatus RunTimeout
Schedule ScheduleExists ScheduleNotFound Schedules SchemaError SignalNotFound SquidMesh SquidMeshError StepDifference StepError StepRun StepStatus Stranding StrandingReason Tick TransactionError TriggerNotFound UnsafeReplay Worker WorkerStopped
Workflow WorkflowNotFound WorkflowWarning now today
""".split()

RUNTIME_API = """
approve_run cancel_run check_deploy close diff_runs explain_run inspect_run list_runs migrate reject_run replay_run retry_run send_signal start_run start_runs
subscribe unblock_run wait_for_run worker
""".split()


def test_the_public_names_are_these() -> None:
    assert sorted(squidmesh.__all__) == sorted(PUBLIC)
    assert all(hasattr(squidmesh, name) for name in PUBLIC)


def test_every_public_name_is_documented() -> None:
    """A constant cannot carry a docstring; everything else does."""
    undocumented = [name for name in PUBLIC if name != "COMPLETE" and not inspect.getdoc(getattr(squidmesh, name))]
    assert not undocumented


def test_the_twins_have_the_same_methods_with_the_same_arguments_and_documentation() -> None:
    """``AsyncSquidMesh`` differs from ``SquidMesh`` in that its methods are awaited, and in nothing else."""
    for twin in (SquidMesh, AsyncSquidMesh):
        assert [name for name in dir(twin) if not name.startswith("_") and callable(getattr(twin, name))] == RUNTIME_API
    for name in RUNTIME_API:
        sync, asynchronous = getattr(SquidMesh, name), getattr(AsyncSquidMesh, name)
        if name != "close":
            assert inspect.getdoc(sync) == inspect.getdoc(asynchronous), name
        named = [
            [(p.name, p.default, p.kind) for p in inspect.signature(method).parameters.values()]
            for method in (sync, asynchronous)
        ]
        assert named[0] == named[1], name
