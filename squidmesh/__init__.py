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
    CommitUnknown,
    ConfigurationError,
    ConnectionUnusable,
    Defer,
    DefinitionError,
    Fail,
    IllegalMove,
    InvalidInput,
    InvalidOption,
    InvalidOutput,
    InvalidPayload,
    InvalidRunId,
    NotFound,
    RequestError,
    RetryAfter,
    RunExists,
    RunNotFound,
    RunTimeout,
    SchemaError,
    SquidMeshError,
    StepError,
    TriggerNotFound,
    UnsafeReplay,
    WorkerStopped,
    WorkflowNotFound,
)
from squidmesh.payload import now, today
from squidmesh.records import (
    Attempt,
    AuditEvent,
    DeclaredStep,
    DeployCheck,
    History,
    Run,
    RunDiff,
    StepDifference,
    StepRun,
    Stranding,
    StrandingReason,
)
from squidmesh.retry import Constant, Exponential, Retry
from squidmesh.states import AttemptStatus, RunStatus, StepStatus
from squidmesh.worker.worker import Worker
from squidmesh.workflow import Workflow

__all__ = [
    "COMPLETE",
    "AsyncSquidMesh",
    "Attempt",
    "AttemptStatus",
    "AuditEvent",
    "CommitUnknown",
    "ConfigurationError",
    "ConnectionUnusable",
    "Constant",
    "Context",
    "DeclaredStep",
    "Defer",
    "DefinitionError",
    "DeployCheck",
    "Exponential",
    "Fail",
    "History",
    "IllegalMove",
    "InvalidInput",
    "InvalidOption",
    "InvalidOutput",
    "InvalidPayload",
    "InvalidRunId",
    "NotFound",
    "Outcome",
    "RequestError",
    "Retry",
    "RetryAfter",
    "Run",
    "RunDiff",
    "RunExists",
    "RunNotFound",
    "RunStatus",
    "RunTimeout",
    "SchemaError",
    "SquidMesh",
    "SquidMeshError",
    "StepDifference",
    "StepError",
    "StepRun",
    "StepStatus",
    "Stranding",
    "StrandingReason",
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
