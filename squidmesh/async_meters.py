"""``AsyncMeters``: the thin twin of ``Meters`` for async code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh.mesh_meters import Meters

if TYPE_CHECKING:
    from datetime import datetime

    from squidmesh.async_schedules import AsyncAsk
    from squidmesh.meter_flows import MeterFlows, MeterList
    from squidmesh.meters import Meter
    from squidmesh.retry import Seconds


class AsyncMeters:
    """The twin of ``Meters`` for async code: the same methods, awaited. Its documentation is there."""

    def __init__(self, flows: MeterFlows, ask: AsyncAsk) -> None:
        self._flows = flows
        self._ask = ask

    async def list(self, prefix: str | None = None, limit: int = 100) -> MeterList:
        return await self._ask(self._flows.list(prefix, limit))

    async def pause(
        self,
        name: str,
        *,
        seconds: Seconds | None = None,
        until: datetime | None = None,
    ) -> Meter:
        return await self._ask(self._flows.pause(name, seconds, until))

    async def resume(self, name: str) -> Meter:
        return await self._ask(self._flows.resume(name))


for _name, _method in vars(AsyncMeters).items():
    if _method.__class__.__name__ == "function" and not _method.__doc__ and hasattr(Meters, _name):
        _method.__doc__ = getattr(Meters, _name).__doc__
