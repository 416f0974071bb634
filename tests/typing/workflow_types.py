"""What type checkers make of the authoring surface. Never run: it is checked (``test_typing.py``, and by mypy itself).

A declared step keeps the types of its function. Each ``type: ignore`` here pins an error: one that is not needed is an
error too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypedDict, assert_type

from squidmesh import COMPLETE, Context, Retry, Workflow
from squidmesh.authoring.functions import StepFunction
from squidmesh.authoring.reading import StepReference
from squidmesh.definition import Definition
from squidmesh.payload import Contract


@dataclass
class Payment:
    amount: int


class Digest(TypedDict):
    day: str


workflow = Workflow("payments", payload=Payment)
Workflow("digests", payload=Digest)
Workflow("nothing")


# -- functions keep their types ----------------------------------------------------------------------------------


@workflow.step
def load(amount: int, currency: str = "EUR") -> dict[str, int]:
    return {currency: amount}


@workflow.step(output="receipt", after=[load], retry=Retry(max_attempts=3))
async def charge(context: Context, *, amount: int) -> str:
    return f"{context.idempotency_key} {amount}"


assert_type(load(5), dict[str, int])
assert_type(load(5, currency="USD"), dict[str, int])
assert_type(load.name, str)
assert_type(load.function(5), dict[str, int])
load("5")  # type: ignore[arg-type]
load(5, "EUR", 3)  # type: ignore[call-arg]
load(amuont=5)  # type: ignore[call-arg]


async def use(context: Context) -> None:
    assert_type(await charge(context, amount=5), str)
    await charge(context, 5)  # type: ignore[call-arg]


as_function: Callable[[int, str], dict[str, int]] = load
as_step: StepFunction[..., object] = load
as_async_step: StepFunction[..., object] = charge


class Service:
    def refund(self, amount: int) -> None: ...


assert_type(workflow.step(Service().refund)(amount=5), None)
assert_type(workflow.step(lambda: 3)(), int)


# -- options -----------------------------------------------------------------------------------------------------

workflow.step(retry=3)  # type: ignore[call-overload]
workflow.step(after=load)  # type: ignore[call-overload]
workflow.step(timeout_seconds=3)  # type: ignore[call-overload]
workflow.step("load")  # type: ignore[call-overload]

pause = workflow.wait("pause", seconds=5)
assert_type(pause, StepReference)
workflow.wait("longer", seconds=timedelta(minutes=5), after=[load, "charge"])
workflow.wait("text", seconds="5")  # type: ignore[arg-type]
note = workflow.log("note", "hello", level="warning", start=True)
assert_type(note, StepReference)
workflow.log("loud", "hello", level="loud")  # type: ignore[arg-type]

# -- edges -------------------------------------------------------------------------------------------------------

workflow.sequence(load, pause, note, charge, "later", COMPLETE)
workflow.sequence(load, Service().refund)  # type: ignore[arg-type]
workflow.transition(load, on="error", to=charge, recovery="compensation")
workflow.transition(load, to=COMPLETE)
workflow.transition(load, on="error", to=charge, recovery="redo")  # type: ignore[arg-type]
workflow.transition(load, charge)  # type: ignore[call-arg]

# -- triggers, and what comes out --------------------------------------------------------------------------------

workflow.manual("by_hand", payload=Payment)
workflow.cron("daily", "0 9 * * 1-5", timezone="Europe/Berlin", payload=Digest)
workflow.manual("by_value", payload=Payment(5))  # type: ignore[arg-type]
assert_type(workflow.check(), Definition)
assert_type(workflow.definition, Definition)
assert_type(workflow.contract("daily"), Contract)
assert_type(workflow.functions, Mapping[str, StepFunction[..., object]])
assert_type(workflow.name, str)
assert_type(workflow.frozen, bool)
