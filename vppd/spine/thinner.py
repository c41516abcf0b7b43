"""Which readings are worth a journal row. Pure."""

from dataclasses import dataclass
from datetime import datetime

from vppd.core.model import Point, Reading, UnitId
from vppd.core.records import ReadingRow

DEADBANDS: dict[Point, float] = {
    Point.SOC_PCT: 0.1,
    Point.SOH_PCT: 0.1,
    Point.VOLTAGE_V: 0.1,
    Point.CURRENT_A: 0.5,
    Point.TEMPERATURE_C: 0.2,
    Point.POWER_KW: 0.5,
    Point.REACTIVE_KVAR: 0.5,
    Point.FREQUENCY_HZ: 0.005,
    Point.CELL_MIN_V: 0.005,
    Point.CELL_MAX_V: 0.005,
    Point.CELL_MIN_C: 0.2,
    Point.CELL_MAX_C: 0.2,
    Point.PACK_V: 0.1,
    Point.PACK_A: 0.5,
    Point.BMS_SOC_PCT: 0.1,
    Point.BMS_SOH_PCT: 0.1,
    Point.LOAD_KW: 0.5,
    Point.LOAD_LOW_KW: 0.5,
    Point.LOAD_HIGH_KW: 0.5,
}
"""A change up to this is no change, in the point's own unit; any other point has none."""

ALIVE_S = 60.0
UNKEPT = frozenset({Point.HEARTBEAT})
"""Counters that say only that the link lives: they change by design and tell nothing later."""


@dataclass(frozen=True, slots=True)
class _Kept:
    at_s: float
    value: float
    quality: str


class ReadingThinner:
    """A row for every change beyond the point's deadband, for every change of quality, at most one
    a point in `row_s` seconds, and one in `alive_s` seconds while readings come.

    A change inside `row_s` is not lost: it is judged again with the next reading.
    """

    def __init__(self, row_s: float = 1.0, alive_s: float = ALIVE_S) -> None:
        self._row_s = row_s
        self._alive_s = alive_s
        self._kept: dict[tuple[UnitId, Point], _Kept] = {}

    def adopt(self, row_s: float) -> None:
        """Rows so often from now on."""
        self._row_s = row_s

    def offer(self, reading: Reading, utc: datetime) -> ReadingRow | None:
        """The row to keep of a reading that was true at `utc`, or None."""
        key = reading.unit, reading.point
        if reading.point in UNKEPT or not self._worth(self._kept.get(key), reading):
            return None
        self._kept[key] = _Kept(reading.at_s, reading.value, reading.quality)
        return ReadingRow(utc, reading.unit, reading.point, reading.value, reading.quality)

    def _worth(self, kept: _Kept | None, reading: Reading) -> bool:
        if kept is None:
            return True
        since_s = reading.at_s - kept.at_s
        if since_s < self._row_s:
            return False
        deadband = DEADBANDS.get(reading.point, 0.0)
        near = abs(reading.value - kept.value) <= deadband  # False too when either is no number
        unchanged = near or (reading.value != reading.value and kept.value != kept.value)
        return not unchanged or reading.quality != kept.quality or since_s >= self._alive_s
