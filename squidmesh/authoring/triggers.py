"""What is wrong with a workflow's triggers: their names, their payloads, their schedules."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from squidmesh.cron import Cron, CronError
from squidmesh.definition import TriggerKind
from squidmesh.records import SCHEDULE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from squidmesh.definition import Trigger
    from squidmesh.payload import Contract

    Declared: TypeAlias = tuple[Trigger, Contract]


def problems(declared: Sequence[Declared]) -> Iterator[str]:
    """Everything that is wrong with these triggers, alone and together."""
    counts = Counter(trigger.name for trigger, _ in declared)
    for name, count in counts.items():
        if count > 1:
            hint = "; payload= of the workflow declares 'manual' already" if name == "manual" else ""
            yield f"trigger {name!r}: is declared {count} times; give each its own name{hint}"
    for trigger, contract in declared:
        where = f"trigger {trigger.name!r}"
        yield from (f"{where}: {problem}" for problem in contract.problems())
        if any(field.name == SCHEDULE_KEY for field in contract.fields):
            yield f"{where}: the payload field {SCHEDULE_KEY!r} is reserved for runs that cron starts; rename it"
        if trigger.kind is TriggerKind.CRON:
            yield from (f"{where}: {problem}" for problem in _cron_problems(trigger, contract))
    yield from _conflicts(declared)


def payload_keys(declared: Iterable[Declared]) -> frozenset[str]:
    """Every key that a run may have from its start."""
    keys: set[str] = set()
    for trigger, contract in declared:
        keys.update(field.name for field in contract.fields)
        keys.update(map(str, contract.record.computed))
        if trigger.kind is TriggerKind.CRON:
            keys.add(SCHEDULE_KEY)
    return frozenset(keys)


def never_fires(trigger: Trigger) -> bool:
    """Whether a cron trigger has an expression that names no time at all."""
    return trigger.expression is not None and trigger.expression.strip().lower() == "@reboot"


def _cron_problems(trigger: Trigger, contract: Contract) -> Iterator[str]:
    try:
        Cron.parse(trigger.expression or "", trigger.timezone or "UTC")
    except CronError as error:
        yield str(error)
    required = [field.name for field in contract.fields if field.required]
    if required:
        yield (
            f"cron starts runs without a payload, but {', '.join(required)} of {contract.record.name} must be given; "
            "give each a default, or the trigger another payload="
        )


def _conflicts(declared: Iterable[Declared]) -> Iterator[str]:
    """Steps are shared by all triggers, so a key must have one type whoever started the run."""
    types: dict[str, dict[str, list[str]]] = {}
    for trigger, contract in declared:
        for field in contract.fields:
            types.setdefault(field.name, {}).setdefault(field.shape.text, []).append(trigger.name)
    for name, known in types.items():
        if len(known) > 1:
            said = "; ".join(f"{text} in {', '.join(triggers)}" for text, triggers in known.items())
            yield f"payload field {name!r}: has different types across triggers ({said}); give it one type or two names"
