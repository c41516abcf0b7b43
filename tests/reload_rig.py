"""A site whose plant has more devices than it uses, so that units can join, leave and move."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.site_rig import SiteRig, site_settings
from vppd.core.reloading import Verdict
from vppd.core.settings import Settings
from vppd.reload.change import Reload

DEVICES = ("A", "B", "C", "D", "E")


def plant_settings(**rest: Any) -> Settings:
    """All devices that there are."""
    return site_settings(DEVICES, **rest)


def used(settings: Settings, *names: str) -> Settings:
    """The same site with these units alone."""
    units = {unit.id: unit for unit in settings.units}
    return replace(settings, units=tuple(units[name] for name in names))


def with_unit(settings: Settings, name: str, **changes: Any) -> Settings:
    """The same site with one unit another."""
    units = (replace(each, **changes) if each.id == name else each for each in settings.units)
    return replace(settings, units=tuple(units))


def at_device_of(settings: Settings, name: str, other: str) -> Settings:
    """The same site with one unit on the device that the plant calls `other`."""
    at = next(unit for unit in plant_settings().units if unit.id == other).modbus
    return with_unit(settings, name, modbus=at)


class ReloadRig(SiteRig):
    """A `SiteRig` that reloads. `names` are the units that it has now; `device` says which device
    of the plant a unit is on."""

    def __init__(self, plant: Settings, first: Settings, **more: Any) -> None:
        super().__init__(plant, **more)
        self._first: Settings | None = first
        self.device: dict[str, str] = {}

    async def start(self, *arguments: Any, **more: Any) -> None:
        if self._first is not None:
            self.settings, self._first = self._first, None
            self.names = tuple(unit.id for unit in self.settings.units)
        await super().start(*arguments, **more)
        self.reloads = Reload(self.house)

    async def reload(self, new: Settings, *, dry_run: bool = False) -> Verdict:
        """Take these settings over."""
        verdict = await self.reloads.change(new, dry_run=dry_run)
        if not verdict.errors and not dry_run:
            self.settings = new
            self.names = tuple(unit.id for unit in new.units)
        assert self.house.settings == self.settings
        return verdict

    async def reloaded(self, new: Settings) -> Verdict:
        """Take over what has to be taken over."""
        verdict = await self.reload(new)
        assert verdict.errors == ()
        return verdict

    def writes(self, devices: Sequence[str], since_s: float) -> list[tuple[str, float, float]]:
        """Every setpoint that these devices were told since then: device, when, kW."""
        return [
            (name, round(each.at_s, 6), each.power_kw)
            for name in devices
            for each in self.told(name, since_s)
        ]

    def steepest_kw_per_s(self, device: str, since_s: float) -> float:
        """How fast a device was told to move at most, over two ticks at least."""
        told = self.told(device, since_s)
        return max(
            (
                abs(late.power_kw - early.power_kw) / max(late.at_s - early.at_s, 0.2)
                for early, late in zip(told, told[2:], strict=False)
            ),
            default=0.0,
        )
