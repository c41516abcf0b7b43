"""Small sites for the simulator's tests, built from settings alone."""

import struct
from typing import Any, Literal

from vppd.core.settings import (
    InputModbusSettings,
    InterlockInputSettings,
    ModbusSettings,
    PmuSettings,
    Settings,
    SiteSettings,
    UnitSettings,
)

HOST = "192.168.1.100"


def unit(name: str = "B1", *, profile: str = "vpp-bess-v2", **modbus: Any) -> UnitSettings:
    where = {"host": HOST, "unit_id": 1, **modbus}
    return UnitSettings(
        id=name,
        building="D1",
        rated_power_kw=100.0,
        rated_apparent_kva=110.0,
        energy_kwh=250.0,
        modules_parallel=23,
        modbus=ModbusSettings(profile=profile, **where),
    )


def interlock(name: str = "fire", healthy: Literal[0, 1] = 1, **modbus: Any) -> Any:
    where = {"host": HOST, "unit_id": 9, "discrete_input": 3, **modbus}
    return InterlockInputSettings(
        id=name, scope="site", modbus=InputModbusSettings(**where), healthy=healthy
    )


def pmu(**settings: Any) -> PmuSettings:
    return PmuSettings(**{"host": "192.168.10.100", "port": 4712, "idcode": 241, **settings})


def site(
    *units: UnitSettings, mode: Literal["simulation", "hil", "hardware"] = "simulation", **rest: Any
) -> Settings:
    return Settings(site=SiteSettings(id="lab"), mode=mode, units=units, profiles={}, **rest)


def signed(raw: int) -> int:
    return int(struct.unpack(">h", struct.pack(">H", raw))[0])
