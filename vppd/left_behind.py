"""Devices that keep their last setpoint when nobody commands them, remembered over restarts.

A device without a timer of its own (`accept_no_revert`) may stay at its power when a run ended
without bringing it to 0: kill -9, power cut. If it is then in the files no more, nobody would ever
tell it otherwise. The next start says so; what it cannot do is command a device that it was not
given.
"""

import json
from collections.abc import Collection, Mapping

from vppd.core.alarms import Code
from vppd.core.model import UnitId
from vppd.core.ports import Clock, Journal
from vppd.core.records import KeptRow
from vppd.core.settings import Settings, UnitSettings
from vppd.spine.alarms import AlarmBoard

KEPT = "commanded without a timer"
_LAST = "SELECT value_json FROM kept WHERE name = ?"


def unattended(settings: Settings) -> Mapping[str, str]:
    """Where each unit is that holds its setpoint for ever; simulated ones end with their plant."""
    return {
        unit.id: _place(unit)
        for unit in settings.units
        if unit.accept_no_revert
        and (settings.mode == "hardware" or (settings.mode == "hil" and not unit.simulate))
    }


class LeftBehind:
    """What the last run commanded, and what this one does."""

    def __init__(self, journal: Journal, clock: Clock, alarms: AlarmBoard) -> None:
        self._journal, self._clock, self._alarms = journal, clock, alarms
        self._known: Mapping[str, str] | None = None
        self._left: dict[str, str] = {}

    async def begin(self, settings: Settings) -> None:
        """Raise an alarm for each device of the last run that may still hold a setpoint and is not
        in these settings. It stands until that device is configured again, or this run ends."""
        last, now = await self._last(), unattended(settings)
        self._left = {id_: place for id_, place in last.items() if now.get(id_) != place}
        for id_, place in self._left.items():
            text = (
                f"the last run ended without bringing {id_} at {place} to 0 kW, and that device is"
                " not configured any more: it may hold its last setpoint"
            )
            self._alarms.set(Code.LEFT_BEHIND, UnitId(id_), True, text)
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """These devices are commanded from now on; those that left were brought to 0, or that they
        were not was told."""
        now, stands = unattended(settings), self._alarms.stands
        self._left |= {
            id_: place
            for id_, place in (self._known or {}).items()
            if now.get(id_) != place and stands(Code.LEFT_BEHIND, UnitId(id_))
        }
        for id_, place in self._left.items():
            if now.get(id_) == place:
                self._alarms.set(Code.LEFT_BEHIND, UnitId(id_), False, "configured again")
        self._remember(now)

    def rested(self, moving: Collection[UnitId]) -> None:
        """The run ends; all but these read back 0 kW."""
        known = self._known or {}
        self._remember({id_: place for id_, place in known.items() if id_ in moving})

    def _remember(self, places: Mapping[str, str]) -> None:
        if places != self._known:
            self._known = places
            self._journal.append(KeptRow(self._clock.utc(), KEPT, json.dumps(places)))

    async def _last(self) -> Mapping[str, str]:
        """Empty when the journal cannot be read, which has an alarm of its own."""
        try:
            rows = await self._journal.select(_LAST, [KEPT])
        except OSError:
            return {}
        found = json.loads(str(rows[0][0])) if rows else {}
        return {str(id_): str(place) for id_, place in found.items()}


def _place(unit: UnitSettings) -> str:
    """Where setpoints go."""
    at = unit.inverter or unit.modbus
    if at is None:
        return "nowhere"
    line = at.serial if at.serial is not None else f"{at.host}:{at.port}"
    return f"{line} unit {at.unit_id}"
