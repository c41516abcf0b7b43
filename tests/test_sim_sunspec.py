"""The simulated SunSpec inverter: registers typed by hand from the model documents, what it does
with a hand-held clock, and pysunspec2's own client over a real socket."""

import asyncio
import json
import math
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
import sunspec2
import sunspec2.device
from hypothesis import given
from hypothesis import strategies as st
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP
from sunspec2.modbus.modbus import ModbusClientException

from tests.sim_site import unit
from vppd.core.settings import InverterSettings
from vppd.sim.modbus_pdu import RefusedError
from vppd.sim.modbus_server import TcpLine
from vppd.sim.slave import Slave
from vppd.sim.sunspec import models as sunspec_models
from vppd.sim.sunspec import models_1xx as sunspec_models_1xx
from vppd.sim.sunspec.device import SimSunSpec
from vppd.sim.sunspec.image import scaled, unscaled
from vppd.sim.sunspec.power import Room, fit
from vppd.sim.sunspec.readings import State
from vppd.sim.sunspec.storage import storage_pct
from vppd.sim.sunspec.table import KINDS, Table, points
from vppd.sim.unit import SimUnit

T = TypeVar("T")
Kind = Literal["der", "storage"]
KINDS_OF_DEVICE: tuple[Kind, ...] = ("der", "storage")
DER = [701, 702, 703, 704, 705, 64900, 706, 711, 712, 713, 714, 715]
STORAGE = [103, 120, 121, 64900, 122, 123, 124, 160]
DEFINITIONS = Path(sunspec2.__file__).parent / "models"
sunspec2.device.set_model_defs_path([str(DEFINITIONS)])


class Grid:
    """The frequency that everybody measures."""

    def __init__(self) -> None:
        self.frequency_hz = 50.0

    def __call__(self) -> float:
        return self.frequency_hz


class HandClock:
    """Time that only the test moves."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now_s(self) -> float:
        return self.at_s

    def utc(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    async def sleep_until(self, deadline_s: float) -> None:
        self.at_s = max(self.at_s, deadline_s)


class Rig:
    """One inverter and the hand on its clock."""

    def __init__(self, drive: Kind = "der", **how: Any) -> None:
        settings = replace(unit(), inverter=InverterSettings(host="inverter", drive=drive))
        self.grid, self.clock = Grid(), HandClock()
        self.unit = SimUnit(settings, 0.0, self.grid, seed=1)
        self.sim = SimSunSpec(settings, self.unit, **how)
        self.sim.advance(0.0)

    def wait(self, duration_s: float) -> None:
        self.clock.at_s += duration_s
        self.sim.advance(self.clock.at_s)

    def read(self, model: int, name: str, count: int = 1) -> list[int]:
        return list(self.sim.read_registers(3, self.sim.image.address(model, name), count))

    def word(self, model: int, name: str) -> int:
        return self.read(model, name)[0]

    def double(self, model: int, name: str) -> int:
        high, low = self.read(model, name, 2)
        return high << 16 | low

    def write(self, model: int, name: str, *words: int, source: str = "modbus") -> None:
        address = self.sim.image.address(model, name)
        self.sim.write_registers(address, [word & 0xFFFF for word in words], source)

    def drive(self, power_w: int) -> None:
        """WSet with its enable, as a controller does it: mode watts, then the value."""
        high, low = struct.unpack(">HH", struct.pack(">i", power_w))
        self.write(704, "WSetEna", 1, 1, high, low)

    def refused(self, model: int, name: str, *words: int) -> int:
        with pytest.raises(RefusedError) as refusal:
            self.write(model, name, *words)
        return refusal.value.code

    def sources(self) -> list[str]:
        return [entry.source for entry in self.unit.setpoints]


@pytest.fixture
def der() -> Rig:
    return Rig("der")


@pytest.fixture
def storage() -> Rig:
    return Rig("storage")


# --- the tables ---

TABLES: list[Table] = [
    value
    for module in (sunspec_models_1xx, sunspec_models)
    for value in vars(module).values()
    if isinstance(value, Table)
]


def defined(group: dict[str, Any], counts: Sequence[int], prefix: str = "") -> Iterator[Any]:
    """(name, type, registers, scale factor, writable) of a definition file, groups counted out."""
    for point in group.get("points", []):
        writable = point.get("access") == "RW"
        yield prefix + point["name"], point["type"], point["size"], point.get("sf"), writable
    for child in group.get("groups", []):
        repeats = child.get("count", 1) != 1
        for index in range(1, (counts[0] if repeats else 1) + 1):
            name = f"{prefix}{child['name']}[{index}]." if repeats else f"{prefix}{child['name']}."
            yield from defined(child, counts[1:] if repeats else counts, name)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.model))
def test_the_typed_tables_agree_with_the_published_definitions(table: Table) -> None:
    text = (DEFINITIONS / "json" / f"model_{table.model}.json").read_text(encoding="utf-8")
    wanted = list(defined(json.loads(text)["group"], (3, 4)))
    laid = table.layout(3, 4)
    assert [(p.name, p.type.registers, p.scale, p.writable) for p in laid] == [
        (name, size, scale, writable) for name, _, size, scale, writable in wanted
    ]
    for point, (_, kind, _, _, _) in zip(laid, wanted, strict=True):
        assert point.kind.rstrip("0123456789") == kind.rstrip("0123456789")
        assert point.is_text or point.kind == kind


def test_a_table_with_a_hole_or_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="offset 3 is due"):
        points("2 A uint16; 4 B uint16")
    with pytest.raises(ValueError, match="no type"):
        points("2 A uint15")


# --- golden registers, typed by hand ---


def test_the_head_of_the_device_is_what_the_document_says(der: Rig) -> None:
    words = der.sim.read_registers(3, 40000, 72)
    assert words[:4] == [0x5375, 0x6E53, 1, 66]
    assert words[4:9] == [0x5650, 0x5020, 0x7369, 0x6D00, 0]  # "VPP sim"
    assert words[20:23] == [0x4445, 0x5220, 0x696E]  # "DER in"
    assert words[36:44] == [0] * 8  # Opt is not implemented
    assert words[52:54] == [0x4231, 0]  # "B1"
    assert words[68:72] == [1, 0x8000, 701, 153]  # DA, pad, the next model


def test_the_measured_registers_of_a_der(der: Rig) -> None:
    der.drive(48_000)
    der.wait(5.0)
    words = der.sim.read_registers(3, 40070, 124)
    assert words[:10] == [701, 153, 2, 1, 3, 1, 0, 0, 0, 1]  # three phases, on, running, connected
    # 48 kW in tens of watts, no var, PF 1.000, 69.3 A, 400.0 V, 230.9 V, 50.000 Hz
    assert words[10:19] == [4800, 4800, 0, 1000, 693, 4000, 2309, 0, 50_000]
    assert words[35:41] == [250, 298, 394, 0x8000, 0x8000, 0x8000]
    assert words[41:48] == [1600, 1600, 0, 1000, 693, 4000, 2309]
    assert words[48:64] == [0xFFFF] * 16  # energy of a phase
    assert words[110:113] == [0xFFFF, 0, 0]
    # A, V, Hz, W, PF, VA, Var, Wh, varh, temperature
    assert words[113:123] == [0xFFFF, 0xFFFF, 0xFFFD, 1, 0xFFFD, 1, 1, 0, 0, 0xFFFF]
    assert words[123] == 0  # no alarm text


def test_charging_is_negative_on_the_wire(der: Rig) -> None:
    der.drive(-48_000)
    der.wait(5.0)
    assert der.word(701, "W") == 0xED40  # -4800
    assert der.word(701, "PF") == 0xFC18  # -1.000
    assert der.word(714, "DCW") == 0xEDB8  # -48 kW x 0.975: -4680
    assert der.word(714, "DCA") > 0x8000


def test_the_dc_side_is_behind_the_efficiency(der: Rig) -> None:
    der.drive(48_000)
    der.wait(5.0)
    assert der.word(714, "DCW") == 4923  # 48 kW over 0.975
    volts = der.word(714, "Prt[1].DCV") / 100
    assert der.read(714, "DCA_SF", 2) == [0, 0xFFFE]  # whole amperes, hundredths of a volt
    amperes = der.word(714, "DCA")
    assert volts * amperes == pytest.approx(49_231, rel=2e-3)
    assert der.read(714, "Prt[1].PrtTyp", 6) == [1, 1, 0x6261, 0x7474, 0x6572, 0x7900]  # "battery"


def test_the_measured_registers_of_an_older_device(storage: Rig) -> None:
    storage.write(124, "StorCtl_Mod", 2)
    storage.write(124, "OutWRte", 4800)  # 48.00 %
    storage.wait(5.0)
    words = storage.sim.read_registers(3, 40070, 52)
    assert words[:7] == [103, 50, 693, 693, 693, 693, 0xFFFF]
    assert words[7:14] == [4000, 4000, 4000, 2309, 2309, 2309, 0xFFFF]
    assert words[14:24] == [4800, 1, 5000, 0xFFFE, 4800, 1, 0, 1, 1000, 0xFFFF]
    assert words[31:33] == [4923, 1]
    assert words[33:40] == [298, 394, 0x8000, 0x8000, 0xFFFF, 4, 0xFFFF]
    assert words[40:52] == [0, 0, 0, 0, 0, 0, *[0xFFFF] * 6]


def test_what_is_not_implemented_reads_so_exactly(der: Rig, storage: Rig) -> None:
    for name, words in {
        "WRmp": [0xFFFF],
        "WRmpRef": [0xFFFF],
        "AntiIslEna": [0xFFFF],
    }.items():
        assert der.read(704, name) == words
    assert der.read(702, "WOvrExtRtg", 4) == [0xFFFF] * 4
    assert der.read(702, "IntIslandCatRtg") == [0xFFFF]
    assert der.read(702, "PF_SF") == [0x8000]  # nothing uses it
    assert der.read(702, "S_SF") == [0x8000]
    assert der.read(703, "ESRndTms", 4) == [0xFFFF] * 4
    assert der.read(705, "RvrtTms", 5) == [0xFFFF] * 5
    assert der.read(706, "Crv[1].Pt[3].V", 2) == [0xFFFF, 0x8000]
    assert storage.read(120, "AhrRtg", 2) == [0xFFFF, 0x8000]
    assert storage.read(120, "Pad") == [0x8000]
    assert storage.read(122, "ActVAh", 4) == [0] * 4  # an accumulator has no other word for it
    assert storage.read(122, "TmSrc", 6) == [0, 0, 0, 0, 0xFFFF, 0xFFFF]
    assert storage.read(124, "MinRsvPct") == [0xFFFF]
    assert storage.read(160, "module[1].Tms", 2) == [0xFFFF, 0xFFFF]


def test_the_chain_ends_and_nothing_is_behind_it() -> None:
    for base in (0, 40000, 50000):
        rig = Rig(base=base)
        assert rig.sim.read_registers(3, base, 2) == [0x5375, 0x6E53]
        end = rig.sim.image.address(715, "OpCtl") + 1
        assert rig.sim.read_registers(3, end, 2) == [0xFFFF, 0]
        with pytest.raises(RefusedError, match="2"):
            rig.sim.read_registers(3, end + 1, 2)


# --- who may write what ---


def test_exceptions(der: Rig) -> None:
    with pytest.raises(RefusedError, match="1"):
        der.sim.read_registers(4, 40000, 2)
    with pytest.raises(RefusedError, match="2"):
        der.sim.read_registers(3, 39999, 2)
    assert der.refused(701, "W", 0) == 2
    assert der.refused(704, "WSetRvrtTms", 0, 10, 0, 0) == 2  # runs into Rem, which is only read
    assert der.refused(704, "WSet", 0) == 2  # half a value
    assert der.refused(704, "WSetMod", 1, 0) == 2
    assert der.refused(704, "WSetMod", 2) == 3
    assert der.refused(704, "WSetEna", 0xFFFF) == 3
    assert der.refused(704, "VarSetMod", 5) == 3
    assert der.refused(704, "WMaxLimPct", 1001) == 3
    assert der.refused(704, "WSetPct", -1001) == 3
    assert der.refused(704, "WRmp", 10) == 3  # not implemented
    der.write(704, "WRmp", 0xFFFF)  # the word for it may be written back
    assert der.refused(705, "Crv[1].ActPt", 3) == 2  # the curve that acts
    der.write(705, "Crv[2].ActPt", 3)
    assert der.refused(64900, "Own1", 1) == 2


def test_a_refused_block_writes_nothing(der: Rig) -> None:
    before = der.read(704, "WSetEna", 4)
    assert der.refused(704, "WSetEna", 1, 9, 0, 5000) == 3
    assert der.read(704, "WSetEna", 4) == before
    assert der.sim.released


# --- power ---


@pytest.mark.parametrize(
    ("mode", "raw", "power_kw"), [(1, 0, 0.0), (0, 300, 30.0), (0, -1000, -100.0)]
)
def test_wset_by_its_mode(der: Rig, mode: int, raw: int, power_kw: float) -> None:
    der.write(704, "WSetPct", raw)
    der.write(704, "WSetEna", 1, mode)
    der.wait(5.0)
    assert der.sim.power_kw == pytest.approx(power_kw, abs=1e-3)


def test_power_up_enables_nothing_and_a_setpoint_alone_does_nothing(der: Rig) -> None:
    der.write(704, "WSet", 0, 30_000)
    der.wait(5.0)
    assert der.sim.power_kw == 0.0
    assert der.sim.released
    assert der.word(701, "InvSt") == 7  # standby


def test_release_is_idle_and_is_told(der: Rig) -> None:
    der.drive(60_000)
    der.wait(5.0)
    assert (der.sim.released, der.word(704, "WSetEna")) == (False, 1)
    assert der.sim.power_kw == pytest.approx(60.0, abs=1e-3)
    der.write(704, "WSetEna", 0)
    der.wait(5.0)
    assert (der.sim.released, der.word(704, "WSetEna")) == (True, 0)
    assert der.sim.power_kw == pytest.approx(0.0, abs=1e-3)
    assert der.read(704, "WSet", 2) == [0, 60_000]


def test_limits_throttle(der: Rig) -> None:
    der.drive(90_000)
    der.write(704, "WMaxLimPctEna", 1, 250)
    der.wait(5.0)
    assert der.sim.power_kw == pytest.approx(25.0, abs=1e-3)
    assert der.word(701, "InvSt") == 4
    assert der.double(701, "ThrotSrc") == 1
    der.drive(-90_000)  # the limit is of the output
    der.write(702, "WChaRteMax", 4000)
    der.wait(5.0)
    assert der.sim.power_kw == pytest.approx(-40.0, abs=1e-3)


@pytest.mark.parametrize(
    ("priority", "power_kw", "reactive_kvar"),
    [(0, 90.0, math.sqrt(110**2 - 90**2)), (1, math.sqrt(110**2 - 100**2), 100.0)],
)
def test_the_circle_by_priority(
    der: Rig, priority: int, power_kw: float, reactive_kvar: float
) -> None:
    der.drive(90_000)
    der.write(704, "VarSetEna", 1, 4, priority, *divmod(100_000, 0x10000))
    der.wait(20.0)
    assert der.sim.power_kw == pytest.approx(power_kw, abs=0.01)
    assert der.unit.reactive_kvar == pytest.approx(reactive_kvar, abs=0.01)
    assert der.word(701, "Var") == round(reactive_kvar * 100)
    assert der.sim.state is State.THROTTLED


@pytest.mark.parametrize(
    ("mode", "reactive_kvar"),
    [(0, -50.0), (1, -55.0), (2, -0.5 * math.sqrt(110**2 - 60**2)), (3, -55.0)],
)
def test_var_by_its_mode(der: Rig, mode: int, reactive_kvar: float) -> None:
    der.drive(60_000)
    der.write(704, "VarSetPct", -500)
    der.write(704, "VarSetEna", 1, mode)
    der.wait(10.0)
    assert der.unit.reactive_kvar == pytest.approx(reactive_kvar, abs=0.01)


@pytest.mark.parametrize(("excitation", "sign"), [(0, 1), (1, -1)])
def test_fixed_power_factor_of_both_directions(der: Rig, excitation: int, sign: int) -> None:
    for way, power_w in (("PFWInj", 60_000), ("PFWAbs", -60_000)):
        der.drive(power_w)
        der.write(704, f"{way}.PF", 900, excitation)
        der.write(704, f"{way}Ena", 1)
        der.wait(10.0)
        assert der.unit.reactive_kvar == pytest.approx(sign * 29.059, abs=0.01)


@given(
    st.floats(-300, 300), st.floats(-300, 300), st.floats(0, 150), st.floats(0, 150), st.booleans()
)
def test_no_wish_leaves_the_circle_or_changes_sign(
    wish_kw: float, wish_kvar: float, most_kw: float, apparent_kva: float, first: bool
) -> None:
    room = Room(most_kw, most_kw, apparent_kva, most_kw, most_kw)
    got = fit(wish_kw, wish_kvar, room, reactive_first=first)
    assert math.hypot(got.power_kw, got.reactive_kvar) <= apparent_kva + 1e-9
    assert abs(got.power_kw) <= min(abs(wish_kw), most_kw) + 1e-9
    assert got.power_kw * wish_kw >= 0.0
    assert got.reactive_kvar * wish_kvar >= 0.0


# --- reversion and heartbeats ---


def test_reversion_counts_down_and_goes_to_its_value(der: Rig) -> None:
    der.write(704, "WSetEnaRvrt", 1, 0, 10)
    der.drive(50_000)
    assert der.double(704, "WSetRvrtRem") == 10
    der.wait(4.0)
    assert der.double(704, "WSetRvrtRem") == 6
    der.wait(5.75)
    assert der.double(704, "WSetRvrtRem") == 1
    assert der.sim.setpoint_kw == 50.0
    der.wait(0.25)
    assert der.double(704, "WSetRvrtRem") == 0
    assert der.sim.setpoint_kw == 0.0
    assert der.read(704, "WSetEna", 4) == [1, 1, 0, 0]
    assert der.sources()[-1] == "timeout"
    der.wait(5.0)
    assert der.sim.power_kw == pytest.approx(0.0, abs=1e-3)


def test_reversion_goes_to_the_value_that_was_set(der: Rig) -> None:
    der.write(704, "WSetRvrt", 0, 7000)
    der.write(704, "WSetEnaRvrt", 1, 0, 2)
    der.drive(50_000)
    der.wait(3.0)
    assert der.sim.setpoint_kw == 7.0


@pytest.mark.parametrize("renewal", ["same value", "time", "heartbeat"])
def test_what_keeps_a_setpoint_alive(der: Rig, renewal: str) -> None:
    der.write(704, "WSetEnaRvrt", 1, 0, 4)
    der.drive(50_000)
    for beat in range(1, 6):
        der.wait(3.0)
        if renewal == "same value":
            der.write(704, "WSet", 0, 50_000)
        elif renewal == "time":
            der.write(704, "WSetRvrtTms", 0, 4)
        else:
            der.write(715, "ControllerHb", 0, beat)
        assert der.double(704, "WSetRvrtRem") == 4
    assert der.sim.setpoint_kw == 50.0
    der.wait(4.0)
    assert der.sim.setpoint_kw == 0.0


def test_a_heartbeat_that_does_not_change_keeps_nothing_alive(der: Rig) -> None:
    der.write(704, "WSetEnaRvrt", 1, 0, 4)
    der.write(715, "ControllerHb", 0, 7)
    der.drive(50_000)
    for _ in range(4):
        der.wait(1.0)
        der.write(715, "ControllerHb", 0, 7)
    assert der.sim.setpoint_kw == 0.0
    der.write(715, "ControllerHb", 0, 8)  # and what ran out it does not wake
    assert der.sim.setpoint_kw == 0.0


def test_without_its_enable_no_timer_runs(der: Rig) -> None:
    der.write(704, "WSetRvrtTms", 0, 2)
    der.drive(50_000)
    der.wait(60.0)
    assert der.sim.setpoint_kw == 50.0


def test_the_other_timers_of_a_der(der: Rig) -> None:
    der.drive(90_000)
    der.write(704, "VarSetEnaRvrt", 1, 0, 5)
    der.write(704, "VarSetEna", 1, 4, 0, 0, 20_000)
    der.write(704, "WMaxLimPctEna", 1, 300, 800, 1, 0, 8)
    der.wait(4.0)
    assert (der.sim.setpoint_kw, der.sim.setpoint_kvar) == (30.0, 20.0)
    der.wait(1.0)
    assert (der.sim.setpoint_kw, der.sim.setpoint_kvar) == (30.0, 0.0)
    assert der.double(704, "WMaxLimPctRvrtRem") == 3
    der.wait(3.0)
    assert der.sim.setpoint_kw == 80.0


def test_the_timer_runs_too_when_only_the_unit_is_looked_at(der: Rig) -> None:
    der.write(704, "WSetEnaRvrt", 1, 0, 10)
    der.drive(50_000)
    der.unit.advance(30.0)
    assert der.unit.power_kw == pytest.approx(0.0, abs=1e-3)


def test_the_device_beats_once_a_second(der: Rig) -> None:
    assert der.double(715, "DERHb") == 0
    der.wait(120.5)
    assert der.double(715, "DERHb") == 120


def test_reset_is_power_up(der: Rig) -> None:
    der.write(704, "WSetEnaRvrt", 1, 0, 10)
    der.drive(50_000)
    der.wait(5.0)
    der.sim.reset()
    assert der.read(704, "WSetEna", 4) == [0, 1, 0, 0]
    assert der.read(704, "WSetEnaRvrt", 5) == [0] * 5
    assert (der.sim.released, der.sim.power_kw, der.sources()[-1]) == (True, 0.0, "reset")


# --- operation and enter service ---


def test_stop_and_standby(der: Rig) -> None:
    der.drive(50_000)
    der.write(715, "OpCtl", 2)
    der.wait(5.0)
    assert (der.word(701, "InvSt"), der.word(701, "ConnSt")) == (7, 1)
    assert der.sim.power_kw == pytest.approx(0.0, abs=1e-3)
    der.write(715, "OpCtl", 3)
    der.wait(5.0)
    assert der.sim.power_kw == pytest.approx(50.0, abs=1e-3)
    der.write(715, "OpCtl", 0)
    der.wait(5.0)
    assert (der.word(701, "InvSt"), der.word(701, "ConnSt"), der.word(701, "St")) == (0, 0, 0)
    assert der.refused(715, "OpCtl", 4) == 3


def test_it_enters_service_after_the_delay_when_the_grid_is_good(der: Rig) -> None:
    der.drive(50_000)
    der.write(703, "ESDlyTms", 0, 10)
    der.write(703, "ES", 0)
    der.wait(1.0)
    der.grid.frequency_hz = 51.0
    der.write(703, "ES", 1)
    der.wait(60.0)
    assert der.word(701, "ConnSt") == 0
    der.grid.frequency_hz = 50.0
    der.wait(0.25)
    der.wait(4.75)
    assert der.double(703, "ESDlyRemTms") == 5
    der.wait(10.0)
    assert (der.word(701, "ConnSt"), der.double(703, "ESDlyRemTms")) == (1, 0)
    assert der.sim.power_kw == pytest.approx(50.0, abs=0.1)


# --- curves ---


def test_a_curve_is_adopted_in_two_steps(der: Rig) -> None:
    der.write(705, "Crv[2].Pt[1].V", 900, 300, 970)
    der.write(705, "AdptCrvReq", 2)
    assert der.word(705, "AdptCrvRslt") == 0
    assert der.word(705, "Crv[1].Pt[1].V") == 920
    der.wait(1.0)
    assert der.word(705, "AdptCrvRslt") == 1
    assert der.read(705, "Crv[1].Pt[1].V", 3) == [900, 300, 970]
    assert (der.word(705, "Crv[1].ReadOnly"), der.word(705, "Crv[2].ReadOnly")) == (1, 0)


@pytest.mark.parametrize("model", [705, 706, 712])
def test_what_cannot_be_adopted_fails(der: Rig, model: int) -> None:
    axis = "W" if model == 712 else "V"
    der.write(model, f"Crv[2].Pt[2].{axis}", 1)  # goes backwards
    der.write(model, "Crv[3].ActPt", 5)
    before = der.read(model, "Crv[1].ActPt", 4)
    for slot in (0, 2, 3, 4):
        der.write(model, "AdptCrvReq", slot)
        der.wait(1.0)
        assert der.word(model, "AdptCrvRslt") == 2, slot
    der.write(model, "AdptCrvReq", 1)
    der.wait(1.0)
    assert der.word(model, "AdptCrvRslt") == 1
    assert der.read(model, "Crv[1].ActPt", 4) == before


def test_two_slots_are_possible() -> None:
    rig = Rig(curves=2)
    assert (rig.word(705, "NCrv"), rig.word(711, "NCtl"), rig.word(711, "L")) == (2, 2, 32)


def test_frequency_droop_acts(der: Rig) -> None:
    der.drive(20_000)
    # slot 2: dead bands 0.1 and 0.2 Hz, droops 5 and 4 %
    der.write(711, "Ctl[2].DbOf", 0, 100, 0, 200, 50, 40)
    der.write(711, "AdptCtlReq", 2)
    der.wait(1.0)
    der.grid.frequency_hz = 50.35  # 0.25 Hz above the band: 0.25 / (50 x 0.05) = 10 %
    der.wait(5.0)
    assert der.sim.power_kw == pytest.approx(20.0, abs=1e-3)
    der.write(711, "Ena", 1)
    der.wait(5.0)
    assert der.sim.power_kw == pytest.approx(10.0, abs=1e-3)
    assert der.double(701, "ThrotSrc") & 1 << 5
    der.grid.frequency_hz = 49.4  # 0.4 Hz below: 0.4 / (50 x 0.04) = 20 %
    der.wait(5.0)
    assert der.sim.power_kw == pytest.approx(40.0, abs=1e-3)
    der.grid.frequency_hz = 50.05
    der.wait(5.0)
    assert der.sim.power_kw == pytest.approx(20.0, abs=1e-3)


def test_droop_goes_no_lower_than_its_least_power(der: Rig) -> None:
    der.drive(20_000)
    der.write(711, "Ctl[2].PMin", 0)
    der.write(711, "AdptCtlReq", 2)
    der.write(711, "Ena", 1)
    der.wait(1.0)
    der.grid.frequency_hz = 51.5
    der.wait(5.0)
    assert der.sim.power_kw == pytest.approx(0.0, abs=1e-3)


def test_a_droop_of_nothing_is_not_adopted(der: Rig) -> None:
    der.write(711, "Ctl[2].KOf", 0)
    der.write(711, "AdptCtlReq", 2)
    der.wait(1.0)
    assert (der.word(711, "AdptCtlRslt"), der.word(711, "Ctl[1].KOf")) == (2, 50)


# --- the older kind ---


@pytest.mark.parametrize(
    ("mode", "out_pct", "in_pct", "power_pct"),
    [
        (0, 50, 50, 0),
        (1, 50, 30, -30),
        (2, 50, 30, 50),
        (2, -50, 100, -50),
        (1, 100, -40, 40),
        (3, 0, 0, 0),
        (3, 50, 0, 50),
        (3, 0, 30, -30),
        (3, 50, -50, 50),
        (3, -50, 50, -50),
    ],
)
def test_storage_control(mode: int, out_pct: int, in_pct: int, power_pct: int) -> None:
    assert storage_pct(mode, out_pct, in_pct) == power_pct
    rig = Rig("storage")
    rig.write(124, "OutWRte", 100 * out_pct, 100 * in_pct)
    rig.write(124, "StorCtl_Mod", mode)
    rig.wait(5.0)
    assert rig.sim.power_kw == pytest.approx(power_pct, abs=1e-3)
    assert rig.sim.released == (mode == 0)
    wanted = 6 if power_pct == 0 else 3 if power_pct > 0 else 4
    assert rig.word(124, "ChaSt") == wanted


def test_rates_are_percent_of_wchamax(storage: Rig) -> None:
    storage.write(124, "WChaMax", 8000)
    storage.write(124, "OutWRte", 5000)
    storage.write(124, "StorCtl_Mod", 2)
    storage.wait(5.0)
    assert storage.sim.power_kw == pytest.approx(40.0, abs=1e-3)


def test_rates_revert(storage: Rig) -> None:
    storage.write(124, "InOutWRte_RvrtTms", 10)
    storage.write(124, "OutWRte", 5000)
    storage.write(124, "StorCtl_Mod", 2)
    for _ in range(3):
        storage.wait(8.0)
        storage.write(124, "OutWRte", 5000)  # the same value renews
    assert storage.sim.setpoint_kw == 50.0
    storage.wait(10.0)
    assert (storage.sim.setpoint_kw, storage.sim.released) == (0.0, True)
    assert storage.word(124, "StorCtl_Mod") == 0
    assert storage.read(124, "OutWRte", 2) == [10_000, 10_000]
    assert storage.sources()[-1] == "timeout"


def test_the_limit_of_123_and_its_timer(storage: Rig) -> None:
    storage.write(124, "OutWRte", 9000)
    storage.write(124, "StorCtl_Mod", 2)
    storage.write(123, "WMaxLimPct_RvrtTms", 10)
    storage.write(123, "WMaxLimPct", 200)
    storage.write(123, "WMaxLim_Ena", 1)
    storage.wait(5.0)
    assert storage.sim.power_kw == pytest.approx(20.0, abs=1e-3)
    assert storage.word(103, "St") == 5
    storage.wait(5.0)
    assert storage.sim.setpoint_kw == 90.0
    assert storage.word(123, "WMaxLim_Ena") == 0


@pytest.mark.parametrize(
    ("mode", "name", "reactive_kvar"),
    [(1, "VArWMaxPct", -20.0), (2, "VArMaxPct", -22.0), (3, "VArAvalPct", -22.0), (0, "", 0.0)],
)
def test_var_of_123(storage: Rig, mode: int, name: str, reactive_kvar: float) -> None:
    if name:
        storage.write(123, name, -200)
    storage.write(123, "VArPct_Mod", mode, 1)
    storage.wait(5.0)
    assert storage.unit.reactive_kvar == pytest.approx(reactive_kvar, abs=1e-3)


def test_power_factor_and_connection_of_123(storage: Rig) -> None:
    storage.write(124, "OutWRte", 6000)
    storage.write(124, "StorCtl_Mod", 2)
    storage.write(123, "OutPFSet", -900)
    storage.write(123, "OutPFSet_Ena", 1)
    storage.wait(5.0)
    assert storage.unit.reactive_kvar == pytest.approx(-29.059, abs=0.01)
    storage.write(123, "Conn_RvrtTms", 20)
    storage.write(123, "Conn", 0)
    storage.wait(10.0)
    assert storage.sim.power_kw == pytest.approx(0.0, abs=1e-3)
    assert (storage.word(103, "St"), storage.word(122, "ECPConn")) == (1, 1)
    storage.wait(10.0)
    assert storage.word(123, "Conn") == 1
    assert storage.sim.setpoint_kw == 60.0


def test_charging_from_the_grid_can_be_forbidden(storage: Rig) -> None:
    storage.write(124, "InWRte", 5000)
    storage.write(124, "StorCtl_Mod", 1)
    storage.write(124, "ChaGriSet", 0)
    storage.wait(5.0)
    assert storage.sim.power_kw == 0.0


def test_modules_count_a_direction_each(storage: Rig) -> None:
    storage.write(124, "InWRte", 5000)
    storage.write(124, "StorCtl_Mod", 1)
    storage.wait(5.0)
    assert storage.word(160, "N") == 2
    assert storage.word(160, "module[1].DCW") == 0
    assert storage.word(160, "module[2].DCW") == 4875  # 50 kW x 0.975
    assert storage.word(103, "DCW") == 0x10000 - 4875


@pytest.mark.parametrize(("soc_pct", "state"), [(0.0, 2), (100.0, 5), (50.0, 6)])
def test_charge_state(storage: Rig, soc_pct: float, state: int) -> None:
    storage.unit.battery.soc_pct = soc_pct
    assert (storage.word(124, "ChaState"), storage.word(124, "ChaSt")) == (100 * soc_pct, state)


# --- energy ---


@pytest.mark.parametrize("drive", KINDS_OF_DEVICE)
def test_energy_is_what_flowed(drive: Kind) -> None:
    rig = Rig(drive)
    if drive == "der":
        rig.drive(50_000)
    else:
        rig.write(124, "OutWRte", 5000)
        rig.write(124, "StorCtl_Mod", 2)
    rig.wait(3600.0)
    low = rig.read(701, "TotWhInj", 4)[2:] if drive == "der" else rig.read(103, "WH", 2)
    assert (low[0] << 16 | low[1]) == pytest.approx(50_000, abs=10)
    assert rig.sim.meter.dc_out_wh == pytest.approx(50_000 / 0.975, abs=10)
    assert rig.sim.meter.absorbed_wh == 0.0


# --- faults ---


@pytest.mark.parametrize("drive", KINDS_OF_DEVICE)
def test_fault_bits_stop_it_and_alarm_bits_only_tell(drive: Kind) -> None:
    rig = Rig(drive)
    if drive == "der":
        rig.drive(50_000)
    else:
        rig.write(124, "OutWRte", 5000)
        rig.write(124, "StorCtl_Mod", 2)
    events = (701, "Alrm") if drive == "der" else (103, "Evt1")
    state = (701, "InvSt", 6) if drive == "der" else (103, "St", 7)
    rig.sim.alarm_bits = 1 << 7
    rig.wait(5.0)
    assert rig.double(*events) == 1 << 7
    assert rig.sim.power_kw == pytest.approx(50.0, abs=1e-3)
    rig.sim.fault_bits = 1 << 0
    rig.wait(5.0)
    assert rig.double(*events) == 1 << 7 | 1
    assert rig.word(state[0], state[1]) == state[2]
    assert rig.sim.power_kw == pytest.approx(0.0, abs=1e-3)
    rig.sim.fault_bits = 0
    rig.wait(5.0)
    assert rig.sim.power_kw == pytest.approx(50.0, abs=1e-3)


def test_latched_faults_wait_for_alarm_reset(der: Rig) -> None:
    der.drive(50_000)
    der.sim.latched_bits = 1 << 15
    der.unit.latched_fault_bits = 1
    der.wait(5.0)
    assert der.double(701, "Alrm") == 1 << 16 | 1 << 15
    assert der.read(701, "MnAlrmInfo", 3) == [0x6261, 0x7474, 0x6572]  # "batter"
    assert der.word(713, "Sta") == 2
    der.write(715, "AlarmReset", 1)
    assert der.word(715, "AlarmReset") == 0
    der.wait(5.0)
    assert der.double(701, "Alrm") == 0
    assert der.sim.power_kw == pytest.approx(50.0, abs=1e-3)


def test_a_forced_state_is_told(der: Rig) -> None:
    der.sim.forced_state = State.STARTING
    assert der.word(701, "InvSt") == 2


def test_frozen_registers_stand_still_while_the_power_moves(der: Rig) -> None:
    der.drive(50_000)
    der.wait(5.0)
    before = der.read(701, "ID", 100) + der.read(715, "DERHb", 2)
    der.sim.is_frozen = True
    der.drive(-50_000)
    der.wait(5.0)
    assert der.read(701, "ID", 100) + der.read(715, "DERHb", 2) == before
    assert der.sim.power_kw == pytest.approx(-50.0, abs=1e-3)
    der.sim.is_frozen = False
    assert der.read(701, "ID", 100) != before[:100]


def test_writes_ignored_and_refused(der: Rig) -> None:
    der.sim.ignores_writes = True
    der.drive(50_000)
    assert der.read(704, "WSetEna", 4) == [0, 1, 0, 0]
    assert der.sim.setpoint_kw == 0.0
    der.sim.ignores_writes, der.sim.refuses_code = False, 6
    assert der.refused(704, "WSetEna", 1) == 6


@pytest.mark.parametrize("drive", KINDS_OF_DEVICE)
def test_at_local_the_controls_are_refused_and_it_idles(drive: Kind) -> None:
    rig = Rig(drive)
    if drive == "der":
        rig.drive(50_000)
    rig.sim.is_local = True
    rig.wait(5.0)
    assert rig.sim.power_kw == pytest.approx(0.0, abs=1e-3)
    if drive == "der":
        assert rig.word(715, "LocRemCtl") == 1
        assert rig.refused(704, "WSetEna", 1) == 4
        rig.write(715, "ControllerHb", 0, 1)
    else:
        assert rig.refused(124, "StorCtl_Mod", 1) == 4


def test_a_broken_timer_cannot_be_enabled(der: Rig, storage: Rig) -> None:
    der.sim.timer_broken = storage.sim.timer_broken = True
    der.write(704, "WSetEnaRvrt", 1, 0, 10)
    der.drive(50_000)
    assert der.read(704, "WSetEnaRvrt", 5) == [0] * 5
    der.wait(60.0)
    assert der.sim.setpoint_kw == 50.0
    storage.write(124, "InOutWRte_RvrtTms", 10)
    assert storage.word(124, "InOutWRte_RvrtTms") == 0


def test_hidden_points_read_as_not_implemented(der: Rig) -> None:
    der.sim.hidden = {(701, "W"), (701, "Hz")}
    words = der.sim.read_registers(3, 40070, 30)
    assert (words[10], words[17:19]) == (0x8000, [0xFFFF, 0xFFFF])
    assert words[15] == 4000
    assert list(der.sim.read_registers(3, 40080, 1)) == [0x8000]
    assert list(der.sim.read_registers(3, 40088, 1)) == [0xFFFF]  # the half that is asked for


def test_a_scale_factor_changes_at_run_time(der: Rig) -> None:
    der.drive(48_000)
    der.wait(5.0)
    der.sim.rescale(701, "W_SF", 2)
    der.sim.rescale(704, "WSet_SF", 3)
    assert (der.word(701, "W"), der.word(701, "W_SF")) == (480, 2)
    assert (der.read(704, "WSet", 2), der.word(704, "WSet_SF")) == ([0, 48], 3)
    der.wait(5.0)
    assert der.sim.power_kw == pytest.approx(48.0, abs=1e-3)


def test_who_wrote_is_remembered(der: Rig) -> None:
    der.write(704, "WSetEna", 1, source="rival")
    der.drive(50_000)
    assert der.sources()[-2:] == ["rival", "sunspec"]


def test_an_order_of_other_models_is_refused() -> None:
    with pytest.raises(ValueError, match="order"):
        Rig(order=[701, 702])


@given(st.integers(-10, 10), st.sampled_from(["int16", "uint16", "int32", "uint32"]), st.data())
def test_a_number_survives_its_exponent(exponent: int, kind: str, data: st.DataObject) -> None:
    point = points(f"2 A {kind}")[0]
    raw = data.draw(st.integers(KINDS[kind].lowest, KINDS[kind].highest))
    assert unscaled(scaled(raw, exponent), exponent, point) == raw


# --- pysunspec2's own client over a real socket ---


@asynccontextmanager
async def served(rig: Rig) -> AsyncIterator[int]:
    line = TcpLine("127.0.0.1", 0)
    slave = Slave(1, rig.clock)
    slave.device = rig.sim
    line.slaves[1] = slave
    await line.start()
    yield line.port
    line.close()


def talk(port: int, work: Callable[[Any], T]) -> T:
    client = SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=port, timeout=5.0)
    client.scan(connect=True)
    client.connect()
    try:
        return work(client)
    finally:
        client.close()


async def with_client(rig: Rig, work: Callable[[Any], T]) -> T:
    async with served(rig) as port:
        return await asyncio.to_thread(talk, port, work)


def found(client: Any) -> list[int]:
    """By the walk over the chain; a model without definition has no place in `model_list`."""
    return [key for key in client.models if isinstance(key, int)]


def point_of(client: Any, model: int, name: str) -> Any:
    """The client's point for a name of ours: `Crv[1].Pt[2].V`, `PFWInj.PF`."""
    at = client.models[model][0]
    *groups, last = name.split(".")
    for group in groups:
        word, _, index = group.partition("[")
        at = getattr(at, word)
        at = at[int(index.rstrip("]")) - 1] if index else at
    return at.points[last]


def everything(rig: Rig) -> list[tuple[int, str]]:
    models = STORAGE if 124 in rig_models(rig) else DER
    return [
        (model, name)
        for model in (1, *models)
        if model != 64900
        for name in rig.sim.image.names(model, "")
    ]


def rig_models(rig: Rig) -> set[int]:
    end = len(rig.sim.image.words) - 2
    return rig.sim.image.models(rig.sim.image.base, end)


@pytest.mark.parametrize("base", [0, 40000, 50000])
@pytest.mark.parametrize(("drive", "models"), [("der", DER), ("storage", STORAGE)])
async def test_the_client_finds_every_model_in_any_order(
    drive: Kind, models: list[int], base: int
) -> None:
    for order in (None, models[::-1], sorted(models, key=lambda model: model * 7 % 11)):
        rig = Rig(drive, base=base, order=order)
        assert await with_client(rig, found) == [1, *(order or models)]
        where = await with_client(rig, lambda client: client.base_addr)
        assert where == base


@pytest.mark.parametrize("drive", KINDS_OF_DEVICE)
async def test_the_client_reads_every_point_as_we_have_it(drive: Kind) -> None:
    rig = Rig(drive)
    if drive == "der":
        rig.drive(-48_000)
        rig.write(704, "VarSetEna", 1, 4, 0, 0, 30_000)
    else:
        rig.write(124, "OutWRte", -4800)
        rig.write(124, "StorCtl_Mod", 2)
    rig.wait(60.0)

    def check(client: Any) -> int:
        for model, name in everything(rig):
            point = point_of(client, model, name)
            assert client.models[model][0].model_addr + point.offset == rig.sim.image.address(
                model, name
            )
            raw = rig.sim.image.raw(model, name)
            if point.pdef["type"] not in ("string", "pad"):
                assert point.value == raw, (model, name)
        assert not any(model.error_info for model in client.model_list)
        return len(client.model_list)

    assert await with_client(rig, check) == len(DER if drive == "der" else STORAGE)


# What the rig measures in `scaled_rig`, in SunSpec's units: the truth, not what the image says.
DER_TRUTH = {
    (701, "W"): -48_000.0,
    (701, "VA"): 56_603.887,
    (701, "Var"): 30_000.0,
    (701, "PF"): -0.847998,
    (701, "A"): 81.700674,
    (701, "LLV"): 400.0,
    (701, "Hz"): 50.0,
    (701, "TmpAmb"): 25.0,
    (702, "WMaxRtg"): 100_000.0,
    (702, "VAMax"): 110_000.0,
    (702, "VarMaxAbs"): 110_000.0,
    (702, "VNom"): 400.0,
    (702, "AMaxRtg"): 158.7713,
    (703, "ESVHi"): 105.0,
    (703, "ESHzLo"): 49.5,
    (704, "PFWInj.PF"): 1.0,
    (704, "WMaxLimPct"): 100.0,
    (705, "Crv[1].Pt[1].V"): 92.0,
    (705, "Crv[3].Pt[4].Var"): -44.0,
    (705, "Crv[2].RspTms"): 5.0,
    (706, "Crv[1].Pt[2].V"): 110.0,
    (706, "Crv[1].Pt[1].W"): 100.0,
    (706, "Crv[1].RspTms"): 10.0,
    (711, "Ctl[1].DbOf"): 0.036,
    (711, "Ctl[2].KUf"): 0.05,
    (711, "Ctl[2].RspTms"): 5.0,
    (712, "Crv[1].Pt[3].W"): 100.0,
    (712, "Crv[1].Pt[3].Var"): -44.0,
    (713, "WHRtg"): 250_000.0,
    (713, "SoH"): 98.0,
    (714, "DCW"): -46_800.0,
}
STORAGE_TRUTH = {
    (103, "A"): 69.282032,
    (103, "PPVphAB"): 400.0,
    (103, "W"): -48_000.0,
    (103, "Hz"): 50.0,
    (103, "VA"): 48_000.0,
    (103, "VAr"): 0.0,
    (103, "PF"): -100.0,
    (103, "DCW"): -46_800.0,
    (120, "WRtg"): 100_000.0,
    (120, "VARtg"): 110_000.0,
    (120, "VArRtgQ4"): -110_000.0,
    (120, "ARtg"): 158.7713,
    (120, "WHRtg"): 250_000.0,
    (120, "MaxChaRte"): 100_000.0,
    (120, "MaxDisChaRte"): 100_000.0,
    (121, "WMax"): 100_000.0,
    (121, "VRef"): 400.0,
    (121, "VAMax"): 110_000.0,
    (121, "VArMaxQ4"): -110_000.0,
    (121, "ECPNomHz"): 50.0,
    (122, "WAval"): 100_000.0,
    (122, "VArAval"): 98_974.744,
    (123, "WMaxLimPct"): 100.0,
    (124, "WChaMax"): 100_000.0,
    (124, "WChaGra"): 100.0,
    (160, "module[2].DCW"): 46_800.0,
}


OF_SETTINGS = {121, 123, 124}  # a factor that cannot hold them changes what 122 may tell


def scaled_rig(drive: Kind, exponent: int, spared: frozenset[int] = frozenset()) -> Rig:
    """Every scale factor at this exponent but those of the spared models, and power flowing. The
    power is put there: a setpoint would not fit every factor, and no time passes."""
    exponents = {
        (table.model, point.name): exponent
        for table in TABLES
        for point in table.points
        if point.kind == "sunssf" and table.model not in spared
    }
    rig = Rig(drive, exponents=exponents)
    rig.unit.inverter.power_kw = -48.0
    rig.unit.inverter.reactive_kvar = 30.0 if drive == "der" else 0.0
    return rig


@pytest.mark.parametrize("exponent", range(-10, 11))
@pytest.mark.parametrize(("drive", "truth"), [("der", DER_TRUTH), ("storage", STORAGE_TRUTH)])
async def test_the_client_reads_the_truth_under_every_exponent(
    drive: Kind, truth: dict[tuple[int, str], float], exponent: int
) -> None:
    others = {key: value for key, value in truth.items() if key[0] not in OF_SETTINGS}
    settings = {key: value for key, value in truth.items() if key[0] in OF_SETTINGS}
    compared = await compare(scaled_rig(drive, exponent, frozenset(OF_SETTINGS)), others, exponent)
    compared += await compare(scaled_rig(drive, exponent), settings, exponent)
    assert compared > 0


async def compare(rig: Rig, truth: dict[tuple[int, str], float], exponent: int) -> int:
    """How many values fitted their registers; those that did not stand at the type's end."""

    def check(client: Any) -> int:
        compared = 0
        for (model, name), value in truth.items():
            point = point_of(client, model, name)
            told = point.cvalue  # the client looks at the scale factor only now
            assert point.sf_value == exponent, (model, name)
            raw = value / 10.0**exponent
            bits = 16 * point.len
            signed = point.pdef["type"].startswith("int")
            low, high = (
                (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 2)
            )
            if low <= raw <= high:
                compared += 1
                step = 10.0**exponent
                slack = 0.5 * step + 1e-6 * abs(value)
                assert abs(told - value) <= slack, (model, name)
            else:
                assert point.value == (low if raw < low else high), (model, name)
        return compared

    return await with_client(rig, check)


WRITTEN = {
    "der": [
        *((704, name) for name in ("WSet", "WSetRvrt", "WSetPct", "VarSet", "VarSetPct")),
        *((704, name) for name in ("WMaxLimPct", "WMaxLimPctRvrt")),
        *((702, name) for name in ("WMax", "VAMax", "VarMaxInj", "VNom", "AMax")),
        *((705, f"Crv[2].{name}") for name in ("Pt[1].V", "Pt[1].Var", "RspTms")),
        *((706, f"Crv[3].{name}") for name in ("Pt[1].V", "Pt[4].W", "RspTms")),
        *((711, f"Ctl[2].{name}") for name in ("DbOf", "DbUf", "KOf", "KUf", "RspTms")),
        *((712, f"Crv[2].{name}") for name in ("Pt[1].W", "Pt[1].Var")),
    ],
    "storage": [
        *((121, name) for name in ("WMax", "VRef", "VAMax", "VArMaxQ1", "VArMaxQ4", "ECPNomHz")),
        *((123, name) for name in ("WMaxLimPct", "VArWMaxPct", "VArMaxPct", "VArAvalPct")),
        *((124, name) for name in ("WChaMax", "WChaGra", "OutWRte", "InWRte")),
    ],
}


@pytest.mark.parametrize("exponent", range(-10, 11))
@pytest.mark.parametrize("drive", KINDS_OF_DEVICE)
async def test_what_the_client_writes_arrives_under_every_exponent(
    drive: Kind, exponent: int
) -> None:
    rig = scaled_rig(drive, exponent)
    percent = {"WSetPct", "VarSetPct", "WMaxLimPct", "WMaxLimPctRvrt", "WChaGra", "OutWRte"}
    percent |= {"InWRte", "VArWMaxPct", "VArMaxPct", "VArAvalPct"}

    raws = {
        key: 0 if key[1] in percent and 7 * 10.0**exponent > 100.0 else 7 for key in WRITTEN[drive]
    }

    def write(client: Any) -> None:
        for (model, name), raw in raws.items():
            point_of(client, model, name).cvalue = raw * 10.0**exponent
        for model in {model for model, _ in raws}:
            client.models[model][0].write()
            client.models[model][0].read()
        for (model, name), raw in raws.items():
            assert point_of(client, model, name).value == raw, (model, name)

    await with_client(rig, write)
    for (model, name), raw in raws.items():
        arrived = rig.sim.image.given(model, name)
        assert arrived == pytest.approx(raw * 10.0**exponent, rel=1e-12), (model, name)


async def test_the_client_drives_it(der: Rig) -> None:
    def drive(client: Any) -> None:
        control = client.models[704][0]
        control.WSetMod.value = 1
        control.WSet.cvalue = -75_000
        control.WSetEnaRvrt.value = 1
        control.WSetRvrtTms.value = 30
        control.write()
        control.WSetEna.value = 1
        control.write()

    await with_client(der, drive)
    der.wait(5.0)
    assert der.sim.power_kw == pytest.approx(-75.0, abs=1e-3)
    assert der.double(704, "WSetRvrtRem") == 25

    def measured(client: Any) -> tuple[float, float]:
        return client.models[701][0].W.cvalue, client.models[704][0].WSet.cvalue

    assert await with_client(der, measured) == (-75_000.0, -75_000.0)


async def test_the_client_is_told_the_exception(der: Rig) -> None:
    def write(client: Any) -> str:
        point = client.models[704][0].WSetMod
        point.value = 9
        with pytest.raises(ModbusClientException) as refusal:
            point.write()
        return str(refusal.value)

    assert "3" in await with_client(der, write)
