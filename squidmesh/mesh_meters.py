"""``mesh.meters``: the limits and rates of a database, for sync code. What is asked of it is in ``meter_flows``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from squidmesh.meter_flows import MeterFlows, MeterList
    from squidmesh.meters import Meter
    from squidmesh.retry import Seconds
    from squidmesh.schedules import Ask


class Meters:
    """The limits and rates that steps share: ``mesh.meters``. ``AsyncMeters`` is its twin.

    A limit or rate with a key has a name for each of the key's values, such as ``payments/charge:account_id=acct_1``;
    the limit of the queue ``mail`` is ``@mail``. A limit and a rate of one name are paused together.

    A pause holds up the claims of what it pauses until its commit; so none of this takes part in a caller's
    transaction, which may be long.

    Example::

        mesh.meters.pause("payments/charge:account_id=acct_1", seconds=600)
    """

    def __init__(self, flows: MeterFlows, ask: Ask) -> None:
        self._flows = flows
        self._ask = ask

    def list(self, prefix: str | None = None, limit: int = 100) -> MeterList:
        """Limits and rates by name: those in use or paused, and those without a key that this app declares.

        Args:
            prefix: Only names that begin so.
            limit: How many, up to 1,000.

        Raises:
            InvalidOption: ``prefix`` or ``limit`` cannot be used.
        """
        return self._ask(self._flows.list(prefix, limit))

    def pause(
        self,
        name: str,
        *,
        seconds: Seconds | None = None,
        until: datetime | None = None,
    ) -> Meter:
        """Let nothing begin that shares it, until the pause is over. What executes goes on.

        One that is paused for longer stays so; to end that sooner, resume it first.

        Args:
            name: Its name, with the value of its key, as ``list`` and ``explain_run`` show it.
            seconds: Seconds or timedelta from now, up to 366 days.
            until: An aware datetime, in place of ``seconds``.

        Raises:
            MeterNotFound: Neither this app's code nor the database knows it.
            InvalidOption: ``seconds`` or ``until`` cannot be used.
        """
        return self._ask(self._flows.pause(name, seconds, until))

    def resume(self, name: str) -> Meter:
        """End a pause: what waits begins at once. Resuming what is not paused is allowed.

        Args:
            name: Its name, as in ``pause``.

        Raises:
            MeterNotFound: Neither this app's code nor the database knows it.
        """
        return self._ask(self._flows.resume(name))
