"""SunSpec devices for tests, their registers made by pysunspec2 itself, on a small Modbus server.

`Inverter` behaves as one device of models 704 and 715, or of 123 and 124: what it gives is what its
registers say, a timer of its own takes it back, curves are adopted. It is written from the models'
definitions and knows nothing of the driver.
"""

import os
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sunspec2
import sunspec2.device as ssd
from sunspec2.file import client as sunspec_file

from tests.modbus_device import Asked, FakeDevice, Server
from vppd.core.model import Cleared, DeviceReport, Point, Reading, UnitId
from vppd.core.ports import Clock
from vppd.core.settings import InverterSettings, ModbusSettings, UnitSettings
from vppd.field.drivers.link import Link
from vppd.field.drivers.modbus import Endpoint, quiet_pymodbus
from vppd.field.drivers.sunspec import SunSpecDevice
from vppd.field.presence import Presence
from vppd.spine.bus import Bus

PACKAGE = Path(sunspec2.__file__).parent
SAMPLES = PACKAGE / "tests" / "test_data"
ssd.set_model_defs_path([os.fspath(PACKAGE / "models")])  # its default begins with "."
U1 = UnitId("U1")
MARKER = (0x5375, 0x6E53)
END = (0xFFFF, 0)


def raw(words: str) -> dict[str, Any]:
    """Raw values of points, as "W=480 W_SF=2"."""
    return {name: int(value) for name, value in (word.split("=") for word in words.split())}


COMMON = {"Mn": "Acme", "Md": "PCS-100", "Vr": "1.2.3", "SN": "A1", "DA": 1}
# 100 kW and 110 kVA; 48.0 kW out, 5.0 kvar in, 50.01 Hz, 41.5 C, on and running.
M701 = {
    **raw("ACType=2 St=1 InvSt=3 ConnSt=1 Alrm=0 DERMode=1"),
    **raw("W=4800 VA=4826 Var=-500 PF=995 Hz=50010 TmpCab=415"),
    **raw("W_SF=1 VA_SF=1 Var_SF=1 PF_SF=-3 Hz_SF=-3 Tmp_SF=-1"),
}
M702 = {
    **raw("WMaxRtg=10000 VAMaxRtg=11000 VarMaxInjRtg=6000 VarMaxAbsRtg=6000"),
    **raw("WChaRteMaxRtg=9500 WDisChaRteMaxRtg=10000 VNomRtg=400 VMaxRtg=480"),
    **raw("VMinRtg=320 WMax=9800 VAMax=10500 WChaRteMax=9000 WDisChaRteMax=9900"),
    **raw("W_SF=1 VA_SF=1 Var_SF=1 V_SF=0 PF_SF=-3 A_SF=0"),
}
M704 = {
    **raw("WSetEna=0 WSetMod=0 WSet=0 WSetRvrt=0 WSetPct=0 WSetPctRvrt=0"),
    **raw("WSetEnaRvrt=0 WSetRvrtTms=0 WSetRvrtRem=0 VarSetEna=0 VarSetMod=0"),
    **raw("VarSetPri=0 VarSet=0 VarSetRvrt=0 VarSetPct=7 VarSetPctRvrt=8"),
    **raw("VarSetEnaRvrt=0 VarSetRvrtTms=0 VarSetRvrtRem=0 WMaxLimPctEna=0"),
    **raw("WMaxLimPct=1000 WMaxLimPct_SF=-1 WSet_SF=1 WSetPct_SF=-1"),
    **raw("VarSet_SF=1 VarSetPct_SF=-1 PF_SF=-3"),
}
M713 = {"WHRtg": 25000, "SoC": 553, "SoH": 990, "Sta": 0, "WH_SF": 1, "Pct_SF": -1}
M714 = {
    **raw("PrtAlrms=0 NPrt=1 DCA=700 DCW=5000 DCA_SF=-1 DCV_SF=-1"),
    **raw("DCW_SF=1 DCWH_SF=0 Tmp_SF=0"),
    "Prt": [{"PrtTyp": 1, "ID": 1, "DCA": 700, "DCV": 7143, "DCW": 5000}],
}
M715 = {"LocRemCtl": 0, "DERHb": 77, "ControllerHb": 0, "AlarmReset": 0, "OpCtl": 1}
M103 = {
    **raw("A=700 AphA=700 AphB=700 AphC=700 A_SF=-1 PhVphA=2300"),
    **raw("PhVphB=2300 PhVphC=2300 V_SF=-1 W=480 W_SF=2 Hz=5001 Hz_SF=-2"),
    **raw("VA=483 VA_SF=2 VAr=-50 VAr_SF=2 PF=995 PF_SF=-1 WH=1 WH_SF=3"),
    **raw("DCA=700 DCA_SF=-1 DCV=7143 DCV_SF=-1 DCW=500 DCW_SF=2"),
    **raw("TmpCab=415 Tmp_SF=-1 St=4 Evt1=0 Evt2=0"),
}
M120 = {
    **raw("DERTyp=82 WRtg=1000 WRtg_SF=2 VARtg=1100 VARtg_SF=2"),
    **raw("MaxChaRte=950 MaxChaRte_SF=2 MaxDisChaRte=1000 MaxDisChaRte_SF=2"),
}
M121 = {"WMax": 980, "WMax_SF": 2, "VAMax": 1050, "VAMax_SF": 2}
M123 = {
    **raw("Conn=1 WMaxLimPct=100 WMaxLim_Ena=0 OutPFSet=100 OutPFSet_Ena=0"),
    **raw("VArWMaxPct=0 VArMaxPct=3 VArAvalPct=4 VArPct_WinTms=5 VArPct_RvrtTms=0"),
    **raw("VArPct_RmpTms=6 VArPct_Mod=0 VArPct_Ena=0 VArPct_SF=-1"),
    **raw("WMaxLimPct_SF=0 OutPFSet_SF=-2"),
}
M124 = {
    **raw("WChaMax=1000 WChaGra=100 WDisChaGra=100 StorCtl_Mod=0 MinRsvPct=10"),
    **raw("ChaState=553 OutWRte=0 InWRte=0 InOutWRte_WinTms=0 InOutWRte_RvrtTms=0"),
    **raw("InOutWRte_RmpTms=0 WChaMax_SF=2 WChaDisChaGra_SF=0 MinRsvPct_SF=0"),
    **raw("ChaState_SF=-1 InOutWRte_SF=-2"),
}
_SLOT = {"ActPt": 2, "DeptRef": 1, "Pri": 1, "VRef": 100, "RspTms": 5}


def _volt_var(read_only: int) -> dict[str, Any]:
    points = [{"V": 9200, "Var": 4400}, {"V": 10800, "Var": -4400}, *({"V": 0, "Var": 0},) * 2]
    return {**_SLOT, "ReadOnly": read_only, "Pt": points}


M705 = {
    **raw("Ena=1 AdptCrvReq=0 AdptCrvRslt=0 NPt=4 NCrv=3 V_SF=-2"),
    **raw("DeptRef_SF=-2 RspTms_SF=0"),
    "Crv": [_volt_var(1), _volt_var(1), _volt_var(0)],
}
_DROOP = {"DbOf": 60, "DbUf": 40, "KOf": 500, "KUf": 400, "RspTms": 5, "PMin": 0}
M711 = {
    **raw("Ena=0 AdptCtlReq=0 AdptCtlRslt=0 NCtl=2 Db_SF=-3 K_SF=-4"),
    "RspTms_SF": 0,
    "Ctl": [{**_DROOP, "ReadOnly": 1}, {**_DROOP, "ReadOnly": 0}],
}

DER: dict[int, Mapping[str, Any]] = {
    **dict(zip((701, 702, 704, 705, 711), (M701, M702, M704, M705, M711), strict=True)),
    **dict(zip((713, 714, 715), (M713, M714, M715), strict=True)),
}
STORAGE: dict[int, Mapping[str, Any]] = {120: M120, 121: M121, 103: M103, 123: M123, 124: M124}


def model_words(number: int, values: Mapping[str, Any]) -> list[int]:
    """The registers of one model as pysunspec2 encodes raw values; what is left out is not
    implemented."""
    model = ssd.Model(model_id=number, data={"ID": number, **values})
    octets = model.get_mb()
    words = list(struct.unpack(f">{len(octets) // 2}H", octets))
    return [number, len(words) - 2, *words[2:]]


def chain_words(models: Sequence[tuple[int, Mapping[str, Any]]]) -> list[int]:
    """Marker, common model, these models, end."""
    words = [*MARKER, *model_words(1, COMMON)]
    for number, values in models:
        words += model_words(number, values)
    return [*words, *END]


def sample_words(name: str) -> list[int]:
    """The image of one of pysunspec2's own sample devices, with the marker and the end that its
    client leaves out."""
    device = sunspec_file.FileClientDevice(os.fspath(SAMPLES / name))
    device.scan()
    octets = bytes(device.get_mb())
    return [*MARKER, *struct.unpack(f">{len(octets) // 2}H", octets), *END]


@dataclass
class Inverter(FakeDevice):
    """Holding registers from `base`."""

    base: int = 40000
    words: list[int] = field(default_factory=lambda: chain_words(list(DER.items())))
    places: dict[int, int] = field(default_factory=dict)  # model: address of its id

    def __post_init__(self) -> None:
        self.load(self.words)

    def load(self, words: Sequence[int]) -> None:
        """Have these registers, as after a power-up."""
        self.words = list(words)
        self.holding = {self.base + at: word for at, word in enumerate(words)}
        self.places, at = {}, 2
        while at + 1 < len(words) and words[at] != 0xFFFF:
            self.places.setdefault(words[at], self.base + at)
            at += 2 + words[at + 1]

    def restart(self) -> None:
        """Power-up: all as it was at first."""
        self.load(self.words)

    def at(self, model: int, name: str) -> int:
        """The address of a point of the fixed part."""
        values = dict(DER.get(model) or STORAGE.get(model) or {})
        made = ssd.Model(model_id=model, data={"ID": model, **values})
        return int(self.places[model] + made.points[name].offset)

    def word(self, model: int, name: str) -> int:
        return self.holding[self.at(model, name)]

    def long(self, model: int, name: str) -> int:
        at = self.at(model, name)
        value = self.holding[at] << 16 | self.holding[at + 1]
        return value - (1 << 32) if value >= 1 << 31 else value

    def put(self, model: int, name: str, *words: int) -> None:
        at = self.at(model, name)
        self.holding.update({at + n: word & 0xFFFF for n, word in enumerate(words)})

    def frames(self, model: int) -> list[Asked]:
        """The writes that came for one model."""
        first = self.places[model]
        span = range(first, first + 2 + self.holding[first + 1])
        return [asked for asked in self.writes() if asked.address in span]


def unit_of(port: int, **changes: Any) -> UnitSettings:
    inverter = {
        key: changes.pop(key)
        for key in ("drive", "revert_s", "on_stop", "base", "poll_s", "timeout_s")
        if key in changes
    }
    modbus = ModbusSettings(profile="p", host="127.0.0.1")
    plain = {"building": "B", "rated_power_kw": 100.0, "energy_kwh": 250.0, "modbus": modbus}
    at = InverterSettings(host="127.0.0.1", port=port, **inverter)
    return UnitSettings(id=U1, inverter=at, **{**plain, **changes})


class SunSpecRig:
    """Our driver on its link, and everything it said."""

    def __init__(self, clock: Clock, unit: UnitSettings) -> None:
        quiet_pymodbus()
        assert unit.inverter is not None
        self.clock, self.bus = clock, Bus(clock)
        self.reports: list[DeviceReport] = []
        self.readings: list[Reading] = []
        self.bus.tap(lambda each: self.readings.append(each) if isinstance(each, Reading) else None)
        self.presence = Presence(U1, self.reports.append)
        self.device = SunSpecDevice(
            unit, self.bus, clock, self.reports.append, self.presence, phase_share=0.0
        )
        endpoint = Endpoint(unit.inverter.host, unit.inverter.port)
        self.link = Link(endpoint, clock, [self.device])
        self.device.actuator.wake = self.link.wake

    def offer(self, power_kw: float, kvar: float = 0.0) -> None:
        now_s = self.clock.now_s()
        cleared = Cleared(U1, power_kw, kvar, power_kw, kvar, (), now_s, now_s + 1.0)
        self.device.actuator.offer(cleared)

    async def tick(self, duration_s: float, power_kw: float, kvar: float = 0.0) -> None:
        """Let time pass in ticks of 0.1 s, each offering the power."""
        end_s = self.clock.now_s() + duration_s
        while self.clock.now_s() < end_s - 1e-6:
            self.offer(power_kw, kvar)
            await self.clock.sleep_until(self.clock.now_s() + 0.1)

    def value(self, point: Point) -> float | None:
        return self.bus.snapshot().fresh(U1, point)

    def of(self, kind: Any) -> list[Any]:
        return [each for each in self.reports if isinstance(each, kind)]


@asynccontextmanager
async def driven(
    clock: Clock, group: Any, inverter: FakeDevice, **unit: Any
) -> AsyncIterator[tuple[SunSpecRig, Server]]:
    """The driver before an inverter, discovering it."""
    server = Server(clock, {1: inverter})
    await server.start()
    rig = SunSpecRig(clock, unit_of(server.port, **unit))
    group.create_task(rig.link.run())
    try:
        yield rig, server
    finally:
        rig.link.stop()
        server.stop()
