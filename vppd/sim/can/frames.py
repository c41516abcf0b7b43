"""The frames of the two BMS models that the plant plays, typed from their documents. Pure.

`vpp-bms`: 11-bit identifiers, big-endian, amperes of one module, positive = charging.

    0x100-0x103 cell volts 1-4, 5-8, 9-12, 13-16: four u16, mV               every 500 ms
    0x110-0x111 temperatures 1-4, 5-8: four i16, 0.1 C                       every 500 ms
    0x120 pack u16 0.1 V · i16 0.1 A · SoC u8 % · max charge u8 A · max discharge u8 A    100 ms
    0x122 SoH u8 % · cycles u16                                              every 1 s
    0x130 faults u8 · warnings u8 · bit 0 of the third: balancing            every 1 s

`pylontech`: 11-bit identifiers, little-endian, amperes of the whole battery, positive = charging;
all every second.

    0x351 charge voltage u16 0.1 V · charge limit i16 0.1 A · discharge limit i16 0.1 A ·
          discharge voltage u16 0.1 V
    0x355 SoC u16 % · SoH u16 % · SoC u16 0.01 %
    0x356 voltage i16 0.01 V · current i16 0.1 A · temperature i16 0.1 C
    0x359 protection: byte 0 bit 1 over-voltage, 2 under-voltage, 3 over-temperature,
          4 under-temperature, 7 discharge over-current; byte 1 bit 0 charge over-current, 3 system;
          bytes 2 and 3 the alarms in the same places (3 of byte 3: communication inside);
          byte 4 modules; "PN"
    0x35C bit 7 charge enable, 6 discharge enable, 5 force charge      0x35E maker, 8 ASCII

What it hears is 0x305, the keep-alive of the inverter.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from vppd.sim.can import view as seen
from vppd.sim.can.view import BmsView

Encode = Callable[[BmsView], bytes]
CHARGE_MAX_V, DISCHARGE_MIN_V = 67.2, 44.8  # of 16 cells
PROTECTION_COLD_C, ALARM_COLD_C = -10.0, 0.0
MAKER = b"PYLON   "
KEEP_ALIVE = 0x305


@dataclass(frozen=True, slots=True)
class FrameKind:
    """One frame that a model sends."""

    identifier: int
    period_s: float
    encode: Encode


def _u8(value: float) -> int:
    return min(max(round(value), 0), 0xFF)


def _u16(value: float, scale: float = 1.0) -> int:
    return min(max(round(value / scale), 0), 0xFFFF)


def _i16(value: float, scale: float) -> int:
    return min(max(round(value / scale), -0x8000), 0x7FFF)


# vpp-bms


def _cells(first: int) -> Encode:
    def encode(view: BmsView) -> bytes:
        return struct.pack(">4H", *(_u16(v, 0.001) for v in view.cells_v[first : first + 4]))

    return encode


def _sensors(first: int) -> Encode:
    def encode(view: BmsView) -> bytes:
        return struct.pack(">4h", *(_i16(c, 0.1) for c in view.sensors_c[first : first + 4]))

    return encode


def _pack(view: BmsView) -> bytes:
    limits_a = _u8(int(view.charge_max_a)), _u8(int(view.discharge_max_a))
    volts, amperes = _u16(view.pack_v, 0.1), _i16(view.current_a, 0.1)
    return struct.pack(">HhBBB", volts, amperes, _u8(view.soc_pct), *limits_a)


def _health(view: BmsView) -> bytes:
    return struct.pack(">BH", _u8(view.soh_pct), _u16(view.cycles))


def _alarms(view: BmsView) -> bytes:
    return bytes([view.fault_bits & 0xFF, view.warning_bits & 0xFF, int(view.is_balancing)])


# pylontech


def _limits(view: BmsView) -> bytes:
    charge_a = view.charge_max_a * view.modules_parallel
    discharge_a = view.discharge_max_a * view.modules_parallel
    volts = _u16(CHARGE_MAX_V, 0.1), _u16(DISCHARGE_MIN_V, 0.1)
    return struct.pack("<HhhH", volts[0], _i16(charge_a, 0.1), _i16(discharge_a, 0.1), volts[1])


def _charge_state(view: BmsView) -> bytes:
    return struct.pack("<HHH", _u16(view.soc_pct), _u16(view.soh_pct), _u16(view.soc_pct, 0.01))


def _measured(view: BmsView) -> bytes:
    amperes = _i16(view.current_a * view.modules_parallel, 0.1)
    mean_c = sum(view.sensors_c) / len(view.sensors_c)
    return struct.pack("<hhh", _i16(view.pack_v, 0.01), amperes, _i16(mean_c, 0.1))


def _protection(view: BmsView) -> bytes:
    coldest_c = min(view.sensors_c)
    faults = _places(
        view.fault_bits, system=seen.SHORT_CIRCUIT, charging=view.current_a > 0.0
    ) | _cold(cold=coldest_c <= PROTECTION_COLD_C)
    alarms = _places(
        view.warning_bits & ~seen.IMBALANCE, system=0, charging=view.current_a > 0.0
    ) | _cold(cold=coldest_c <= ALARM_COLD_C)
    return struct.pack("<HHB2s", faults, alarms, _u8(view.modules_parallel), b"PN")


def _places(bits: int, *, system: int, charging: bool) -> int:
    """Faults and warnings have the same order in `bits`; both become two bytes, low first."""
    current = 1 << 8 if charging else 1 << 7
    places = (
        (seen.OVER_VOLTAGE, 1 << 1),
        (seen.UNDER_VOLTAGE, 1 << 2),
        (seen.OVER_TEMPERATURE, 1 << 3),
        (seen.OVER_CURRENT, current),
        (system, 1 << 11),
    )
    return sum(place for bit, place in places if bits & bit)


def _cold(*, cold: bool) -> int:
    return 1 << 4 if cold else 0


def _requests(view: BmsView) -> bytes:
    flags = view.may_charge << 7 | view.may_discharge << 6 | view.wants_charge << 5
    return bytes([flags, 0])


def _maker(_: BmsView) -> bytes:
    return MAKER


MODELS: dict[str, tuple[FrameKind, ...]] = {
    "vpp-bms": (
        *(FrameKind(0x100 + group, 0.5, _cells(4 * group)) for group in range(4)),
        *(FrameKind(0x110 + group, 0.5, _sensors(4 * group)) for group in range(2)),
        FrameKind(0x120, 0.1, _pack),
        FrameKind(0x122, 1.0, _health),
        FrameKind(0x130, 1.0, _alarms),
    ),
    "pylontech": (
        FrameKind(0x351, 1.0, _limits),
        FrameKind(0x355, 1.0, _charge_state),
        FrameKind(0x356, 1.0, _measured),
        FrameKind(0x359, 1.0, _protection),
        FrameKind(0x35C, 1.0, _requests),
        FrameKind(0x35E, 1.0, _maker),
    ),
}
