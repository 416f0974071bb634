"""Durable workflows in plain Python functions, on the Postgres that you already have.

Declare a ``Workflow``, hand it to a ``SquidMesh``, start runs, and let a worker run them::

    from squidmesh import SquidMesh, Workflow

    orders = Workflow("orders")

    @orders.step(output="greeting")
    def greet(name: str = "world") -> str:
        return f"hello {name}"

    mesh = SquidMesh("postgresql://localhost/shop", workflows=[orders])

Everything here is public; of the submodules, those that the documentation names are.
"""

from squidmesh.async_client import AsyncSquidMesh
from squidmesh.authoring.cautions import WorkflowWarning
from squidmesh.client import SquidMesh
from squidmesh.context import Context, Outcome
from squidmesh.definition import COMPLETE
from squidmesh.errors import (
    AlreadyVoted,
    CommitUnknown,
    ConfigurationError,
    ConnectionUnusable,
    Defer,
    DefinitionError,
    Fail,
    IllegalMove,
    InconsistentRun,
    InvalidInput,
    InvalidOption,
    InvalidOutput,
    InvalidPayload,
    InvalidRunId,
    NotFound,
    NotRetryable,
    NotWaiting,
    RequestError,
    RetryAfter,
    RunNotFound,
    RunTimeout,
    SchemaError,
    SignalNotFound,
    SquidMeshError,
    StepError,
    TriggerNotFound,
    UnsafeReplay,
    WorkerStopped,
    WorkflowNotFound,
)
from squidmesh.explanation import Action, Cause, Explanation, Reason
from squidmesh.payload import now, today
from squidmesh.records import Attempt, AuditEvent, DeclaredStep, History, Run, StepRun
from squidmesh.retry import Constant, Exponential, Retry
from squidmesh.states import AttemptStatus, RunStatus, StepStatus
from squidmesh.worker.worker import Worker
from squidmesh.workflow import Workflow

__all__ = [
    "COMPLETE",
    "Action",
    "AlreadyVoted",
    "AsyncSquidMesh",
    "Attempt",
    "AttemptStatus",
    "AuditEvent",
    "Cause",
    "CommitUnknown",
    "ConfigurationError",
    "ConnectionUnusable",
    "Constant",
    "Context",
    "DeclaredStep",
    "Defer",
    "DefinitionError",
    "Explanation",
    "Exponential",
    "Fail",
    "History",
    "IllegalMove",
    "InconsistentRun",
    "InvalidInput",
    "InvalidOption",
    "InvalidOutput",
    "InvalidPayload",
    "InvalidRunId",
    "NotFound",
    "NotRetryable",
    "NotWaiting",
    "Outcome",
    "Reason",
    "RequestError",
    "Retry",
    "RetryAfter",
    "Run",
    "RunNotFound",
    "RunStatus",
    "RunTimeout",
    "SchemaError",
    "SignalNotFound",
    "SquidMesh",
    "SquidMeshError",
    "StepError",
    "StepRun",
    "StepStatus",
    "TriggerNotFound",
    "UnsafeReplay",
    "Worker",
    "WorkerStopped",
    "Workflow",
    "WorkflowNotFound",
    "WorkflowWarning",
    "now",
    "today",
]
