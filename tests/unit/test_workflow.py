"""What an author writes, and what comes of it."""

from __future__ import annotations

import asyncio
import functools
import inspect
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypedDict

import pytest

from squidmesh.context import Context  # noqa: TC001 - looked up when a step is declared
from squidmesh.definition import COMPLETE, Options, Parameter, Step, StepKind, Transition, Trigger, TriggerKind
from squidmesh.errors import DefinitionError, TriggerNotFound
from squidmesh.retry import NEVER, Exponential, Retry
from squidmesh.workflow import Workflow

if TYPE_CHECKING:
    from squidmesh.authoring.reading import Reference


@dataclass
class FailedPayment:
    account_id: str
    invoice_id: str
    gateway_url: str


@dataclass
class Digest:
    day: str = "today"


def work() -> None:
    """A step's function."""


# -- the workflow of the design, whole ---------------------------------------------------------------------------


def payment_recovery() -> Workflow:
    workflow = Workflow("payment_recovery", payload=FailedPayment)

    @workflow.step
    def load_invoice(invoice_id: str) -> dict[str, Any]:
        return {"invoice": {"id": invoice_id, "status": "open"}}

    settle = workflow.wait("wait_for_settlement", seconds=5)
    note = workflow.log("log_recovery_attempt", "Invoice loaded, checking gateway status")

    @workflow.step(retry=Retry(max_attempts=5, backoff=Exponential(min=1, max=30)), queue="gateway", priority=-1)
    def check_gateway_status(invoice: dict[str, Any], gateway_url: str) -> dict[str, Any]:
        return {"gateway_check": {"invoice_id": invoice["id"], "status": gateway_url}}

    @workflow.step(irreversible=True, visit_limit=2)
    async def notify_customer(ctx: Context, account_id: str, gateway_check: dict[str, Any], note: str = "") -> None:
        del ctx, account_id, gateway_check, note

    workflow.sequence(load_invoice, settle, note, check_gateway_status, notify_customer)
    workflow.transition(check_gateway_status, on="error", to=notify_customer, recovery="compensation")
    return workflow


def test_the_definition_is_what_was_declared() -> None:
    definition = payment_recovery().check()
    assert definition.workflow == "payment_recovery"
    assert definition.steps == (
        Step(name="load_invoice", takes=(Parameter("invoice_id", required=True),)),
        Step(name="wait_for_settlement", kind=StepKind.WAIT, settings={"seconds": 5.0}),
        Step(
            name="log_recovery_attempt",
            kind=StepKind.LOG,
            settings={"message": "Invoice loaded, checking gateway status", "level": "info"},
        ),
        Step(
            name="check_gateway_status",
            takes=(Parameter("invoice", required=True), Parameter("gateway_url", required=True)),
            options=Options(
                retry=Retry(max_attempts=5, backoff=Exponential(min=1, max=30)), queue="gateway", priority=-1
            ),
        ),
        Step(
            name="notify_customer",
            takes=(
                Parameter("account_id", required=True),
                Parameter("gateway_check", required=True),
                Parameter("note", required=False),
            ),
            irreversible=True,
            visit_limit=2,
        ),
    )
    assert definition.transitions == (
        Transition("load_invoice", "ok", "wait_for_settlement"),
        Transition("wait_for_settlement", "ok", "log_recovery_attempt"),
        Transition("log_recovery_attempt", "ok", "check_gateway_status"),
        Transition("check_gateway_status", "ok", "notify_customer"),
        Transition("check_gateway_status", "error", "notify_customer", "compensation"),
    )
    assert definition.triggers == (Trigger(name="manual"),)
    assert [step.name for step in definition.entries] == ["load_invoice"]


def test_the_functions_are_the_live_side_of_the_steps() -> None:
    workflow = payment_recovery()
    functions = workflow.functions
    assert list(functions) == ["load_invoice", "check_gateway_status", "notify_customer"]
    assert [function.is_async for function in functions.values()] == [False, False, True]
    assert functions["check_gateway_status"].retry == Retry(max_attempts=5, backoff=Exponential(min=1, max=30))
    assert functions["load_invoice"].retry is NEVER
    assert functions["notify_customer"].context_parameter == "ctx"
    with pytest.raises(TypeError):
        functions["other"] = functions["load_invoice"]  # type: ignore[index]


# -- decorated functions -----------------------------------------------------------------------------------------


def test_a_declared_step_is_still_the_function() -> None:
    workflow = Workflow("orders")

    @workflow.step
    def add(one: int, two: int = 2) -> dict[str, int]:
        """Adds."""
        return {"sum": one + two}

    @workflow.step(name="other", output="text")
    async def add_later(one: int, *, two: int) -> str:
        return f"{one + two}"

    assert add(1) == {"sum": 3}
    assert add(1, two=1) == {"sum": 2}
    assert asyncio.run(add_later(1, two=5)) == "6"
    assert (add.name, add_later.name) == ("add", "other")
    assert (add.__name__, add.__doc__, add.__module__) == ("add", "Adds.", __name__)
    assert list(inspect.signature(add).parameters) == ["one", "two"]
    assert repr(add) == "<step 'add' of workflow 'orders'>"


def test_a_function_may_be_a_step_of_two_workflows() -> None:
    one, two = Workflow("one"), Workflow("two")
    shared = two.step(one.step(work))
    assert shared.function is work
    assert (one.functions["work"].workflow, two.functions["work"].workflow) == ("one", "two")
    one.check()
    two.check()


def test_a_decorator_applied_twice_is_a_duplicate() -> None:
    workflow = Workflow("orders")
    workflow.step(workflow.step(work))
    with pytest.raises(DefinitionError, match="step 'work': is declared 2 times"):
        workflow.check()


def test_a_partial_takes_what_it_has_not_been_given() -> None:
    def charge(amount: int, *, currency: str, **rest: Any) -> None: ...

    workflow = Workflow("orders")
    step = workflow.step(name="charge")(functools.partial(charge, currency="EUR"))
    assert [taken.name for taken in step.takes] == ["amount"]
    assert step.bind({"amount": 3, "currency": "USD", "else": 1}, context) == {"amount": 3, "else": 1}


def test_a_wrapped_function_takes_what_the_inner_one_takes() -> None:
    def traced(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    workflow = Workflow("orders")

    @workflow.step
    @traced
    def charge(amount: int) -> None: ...

    assert charge.takes == (Parameter("amount", required=True),)


def test_a_static_method_is_a_step() -> None:
    workflow = Workflow("orders")

    class Steps:
        @workflow.step
        @staticmethod
        async def charge(amount: int = 0) -> None:
            """Charges."""

    workflow.check()
    assert Steps.charge.is_async
    assert asyncio.run(Steps.charge(amount=3)) is None


def test_annotations_may_name_what_is_local_where_the_step_is_declared() -> None:
    @dataclass
    class Local:
        number: int

    class Output(TypedDict):
        total: int

    workflow = Workflow("orders")

    @workflow.step
    def add(local: Local) -> Output:
        return {"total": local.number}

    step = workflow.functions["add"]
    assert step.bind({"local": {"number": 3}}, context) == {"local": Local(3)}
    assert step.signature.returns.keys == {"total"}


# -- references --------------------------------------------------------------------------------------------------


def test_a_step_is_named_by_what_declared_it_or_by_its_name_also_ahead_of_its_declaration() -> None:
    workflow = Workflow("orders")
    workflow.sequence("first", "second")
    workflow.transition("second", on="error", to="third")
    first = workflow.step(name="first")(work)
    second = workflow.wait("second", seconds=timedelta(minutes=1))
    references: list[Reference] = [first, "fourth", second, first]
    workflow.log("third", "waited", after=references)
    workflow.step(name="fourth", after=["first"])(work)
    with pytest.raises(DefinitionError) as caught:
        workflow.check()
    assert len(caught.value.problems) == 2  # a wait has no error, and a join no transition: the names are all known
    assert workflow.functions["fourth"].name == "fourth"


def test_names_in_after_are_kept_once() -> None:
    workflow = Workflow("orders")
    first = workflow.step(name="first")(work)
    workflow.log("join", "done", after=[first, "first", first])
    assert workflow.check().by_name["join"].after == ("first",)


def test_a_name_from_an_enum_is_plain_text() -> None:
    """A driver of a database may write a member of an Enum by its name."""

    class Names(StrEnum):
        FIRST = "first"
        QUEUE = "queue"
        REVIEW = "review"
        KEY = "key"

    workflow = Workflow("orders")
    workflow.step(name=Names.FIRST, queue=Names.QUEUE, output=Names.KEY)(lambda: 3)
    workflow.transition(Names.FIRST, on=Names.REVIEW, to=COMPLETE)
    definition = workflow.check()
    (step,), (edge,) = definition.steps, definition.transitions
    assert {type(text) for text in (step.name, step.output, step.options.queue, edge.source, edge.outcome)} == {str}


# -- triggers ----------------------------------------------------------------------------------------------------


def test_without_triggers_there_is_a_manual_one_without_payload() -> None:
    workflow = Workflow("orders")
    workflow.step(work)
    assert workflow.check().triggers == (Trigger(name="manual"),)
    assert workflow.contract("manual").fields == ()


def test_the_payload_of_the_workflow_belongs_to_a_manual_trigger_that_comes_first() -> None:
    workflow = Workflow("orders", payload=FailedPayment)
    workflow.manual("by_hand", payload=Digest)
    workflow.step(work)
    assert [trigger.name for trigger in workflow.check().triggers] == ["manual", "by_hand"]
    assert [field.name for field in workflow.contract("by_hand").fields] == ["day"]
    assert [field.name for field in workflow.contract("manual").fields] == ["account_id", "invoice_id", "gateway_url"]


def test_with_triggers_and_without_a_payload_there_is_no_other() -> None:
    workflow = Workflow("orders")
    workflow.cron("daily", "0  9 * * 1-5", timezone="Europe/Berlin", payload=Digest)
    workflow.manual("by_hand")
    workflow.step(work)
    assert workflow.check().triggers == (
        Trigger(name="daily", kind=TriggerKind.CRON, expression="0  9 * * 1-5", timezone="Europe/Berlin"),
        Trigger(name="by_hand"),
    )
    with pytest.raises(TriggerNotFound) as caught:
        workflow.contract("manual")
    assert caught.value.details == {"workflow": "orders", "trigger": "manual", "known": ["daily", "by_hand"]}


# -- checked and frozen ------------------------------------------------------------------------------------------


def test_check_freezes_and_checking_again_changes_nothing() -> None:
    workflow = Workflow("orders")
    workflow.step(work)
    before = workflow.frozen
    definition = workflow.check()
    assert (before, workflow.frozen) == (False, True)
    assert workflow.check() is definition
    assert workflow.definition is definition
    assert repr(workflow) == "<Workflow 'orders', 1 steps, frozen>"


def test_what_is_missing_can_be_added_after_a_failed_check() -> None:
    workflow = Workflow("orders")
    workflow.step(name="first")(work)
    workflow.step(name="second")(work)
    with pytest.raises(DefinitionError):
        workflow.check()
    workflow.sequence("first", "second")
    assert workflow.check().entries[0].name == "first"


def test_a_frozen_workflow_takes_nothing_more() -> None:
    workflow = Workflow("orders")
    workflow.step(work)
    decorate = workflow.step(name="later")
    fingerprint = workflow.check().fingerprint
    additions = [
        lambda: decorate(work),
        lambda: workflow.step(work),
        lambda: workflow.wait("w", seconds=1),
        lambda: workflow.log("l", "hello"),
        lambda: workflow.sequence("work", "work"),
        lambda: workflow.transition("work", to=COMPLETE),
        lambda: workflow.manual("by_hand"),
        lambda: workflow.cron("daily", "@daily"),
    ]
    for add in additions:
        with pytest.raises(
            DefinitionError, match="it was checked and cannot be changed any more; declare everything before"
        ):
            add()  # type: ignore[no-untyped-call]
    assert workflow.check().fingerprint == fingerprint
    assert list(workflow.functions) == ["work"]


def test_a_workflow_of_ten_thousand_steps_is_checked() -> None:
    """Nothing in the check recurses or looks at every pair of steps."""
    workflow = Workflow("large")

    def write() -> Digest: ...  # type: ignore[empty-body]

    previous = workflow.step(name="begin")(work).name
    for number in range(2500):
        one = workflow.step(name=f"one{number}", after=[previous])(write)
        workflow.step(name=f"two{number}", after=[previous])(work)
        workflow.step(name=f"both{number}", after=[one, f"two{number}"])(work)
        previous = workflow.wait(f"wait{number}", seconds=1).name
        workflow.transition(f"both{number}", to=previous)
    assert len(workflow.check().steps) == 10_001


def context() -> Context:
    from uuid import UUID

    from squidmesh.context import Context

    return Context(
        run_id=UUID(int=1), workflow="orders", trigger="manual", step="it", visit=1, attempt=1, payload={}, state={}
    )


@pytest.mark.parametrize(
    ("queues", "expected"), [(("slow", "slow"), "slow"), (("slow", "default"), "default"), (("b", "a"), "b")]
)
def test_waits_and_logs_are_filed_where_the_functions_are(queues: tuple[str, str], expected: str) -> None:
    """A fleet that serves no default queue would strand them there."""
    workflow = Workflow("filed")
    first, second = (workflow.step(name=f"s{i}", queue=queue)(lambda: None) for i, queue in enumerate(queues))
    workflow.sequence(first, workflow.wait("rest", seconds=1), workflow.log("note", "rested"), second)
    steps = workflow.check().by_name
    assert {steps["rest"].options.queue, steps["note"].options.queue} == {expected}
