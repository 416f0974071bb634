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
from squidmesh.async_meters import AsyncMeters
from squidmesh.async_schedules import AsyncSchedules
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
    MeterNotFound,
    NotFound,
    NotRetryable,
    NotWaiting,
    RequestError,
    RetryAfter,
    RunExists,
    RunNotFound,
    RunTimeout,
    ScheduleExists,
    ScheduleNotFound,
    SchemaError,
    SignalNotFound,
    SquidMeshError,
    StepError,
    TransactionError,
    TriggerNotFound,
    UnsafeReplay,
    WorkerStopped,
    WorkflowNotFound,
)
from squidmesh.explanation import Action, Cause, Explanation, Reason
from squidmesh.mesh_meters import Meters
from squidmesh.meters import Limit, Meter, Rate
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
    Tick,
)
from squidmesh.retry import Constant, Exponential, Retry
from squidmesh.schedules import Schedules
from squidmesh.states import AttemptStatus, RunStatus, StepStatus
from squidmesh.timetable import CatchUp, Schedule
from squidmesh.worker.worker import Worker
from squidmesh.workflow import Workflow

__all__ = [
    "COMPLETE",
    "Action",
    "AlreadyVoted",
    "AsyncMeters",
    "AsyncSchedules",
    "AsyncSquidMesh",
    "Attempt",
    "AttemptStatus",
    "AuditEvent",
    "CatchUp",
    "Cause",
    "CommitUnknown",
    "ConfigurationError",
    "ConnectionUnusable",
    "Constant",
    "Context",
    "DeclaredStep",
    "Defer",
    "DefinitionError",
    "DeployCheck",
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
    "Limit",
    "Meter",
    "MeterNotFound",
    "Meters",
    "NotFound",
    "NotRetryable",
    "NotWaiting",
    "Outcome",
    "Rate",
    "Reason",
    "RequestError",
    "Retry",
    "RetryAfter",
    "Run",
    "RunDiff",
    "RunExists",
    "RunNotFound",
    "RunStatus",
    "RunTimeout",
    "Schedule",
    "ScheduleExists",
    "ScheduleNotFound",
    "Schedules",
    "SchemaError",
    "SignalNotFound",
    "SquidMesh",
    "SquidMeshError",
    "StepDifference",
    "StepError",
    "StepRun",
    "StepStatus",
    "Stranding",
    "StrandingReason",
    "Tick",
    "TransactionError",
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
