"""The point list of the station: the shipped default, and what a list may not contain. Pure.

The default holds what the procedure of the Rajasthan load despatch centre for the first charging
of storage asks for (read in a trade paper's account of it, not in the original), and the points
used with plants under automatic generation control. Powers are MW and Mvar on the wire, energy MWh.

| address | what |
| --- | --- |
| 1001 to 1099 | measured values |
| 1101 to 1199 | states |
| 3001 to 3099 | set-points |
| 3101 to 3199 | switches |

Site values are named as the station gets them: `power_kw`, `available_up_kw`; a name that the site
does not know, or knows no value of now, goes out as invalid. States are 0 or 1.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from vppd.core.settings_scada import StationPointSettings
from vppd.grid.orders import OrderKind

SETPOINTS = {
    "order_kw": OrderKind.ABSOLUTE,
    "order_delta_kw": OrderKind.DELTA,
    "order_kvar": OrderKind.REACTIVE,
}
ORDERS_SWITCH = "orders_enabled"
DROOP_SWITCH = "droop_enabled"
KILO = 1e-3

_Point = StationPointSettings


def _measured(address: int, value: str, name: str, scale: float, moves_by: float) -> _Point:
    return _Point(
        address=address,
        kind="measured",
        value=value,
        name=name,
        scale=scale,
        moves_by=moves_by,
        cyclic=value in {"power_kw", "frequency_hz"},
    )


def _state(address: int, value: str, name: str) -> _Point:
    return _Point(address=address, kind="single", value=value, name=name)


DEFAULT: tuple[_Point, ...] = (
    _measured(1001, "power_kw", "active power, MW", KILO, 5.0),
    _measured(1002, "reactive_kvar", "reactive power, Mvar", KILO, 5.0),
    _measured(1003, "frequency_hz", "frequency, Hz", 1.0, 0.005),
    _measured(1004, "voltage_v", "voltage at the connection, kV", KILO, 40.0),
    _measured(1005, "current_a", "current at the connection, A", 1.0, 5.0),
    _measured(1006, "energy_export_kwh", "energy delivered, MWh", KILO, 10.0),
    _measured(1007, "energy_import_kwh", "energy taken, MWh", KILO, 10.0),
    _measured(1008, "stored_kwh", "state of charge, MWh", KILO, 5.0),
    _measured(1009, "stored_max_kwh", "highest state of charge, MWh", KILO, 5.0),
    _measured(1010, "soc_pct", "state of charge, %", 1.0, 0.5),
    _measured(1011, "available_up_kw", "can be given more now, MW", KILO, 5.0),
    _measured(1012, "available_down_kw", "can be taken more now, MW", KILO, 5.0),
    _measured(1013, "regulation_up_kw", "regulation limit up, MW", KILO, 5.0),
    _measured(1014, "regulation_down_kw", "regulation limit down, MW", KILO, 5.0),
    _measured(1015, "discharge_ramp_kw_per_s", "discharge ramp rate, MW/s", KILO, 0.5),
    _measured(1016, "charge_ramp_kw_per_s", "charge ramp rate, MW/s", KILO, 0.5),
    _measured(1017, "order_kw", "set-point in force, MW", KILO, 0.0),
    _measured(1018, "order_delta_kw", "regulation in force, MW", KILO, 0.0),
    _measured(1019, "schedule_kw", "schedule, MW", KILO, 1.0),
    _measured(1020, "ambient_c", "outside temperature, degrees Celsius", 1.0, 0.5),
    _measured(1021, "clock_offset_s", "master's clock less the station's, s", 1.0, 0.05),
    _measured(1022, "order_kvar", "reactive set-point in force, Mvar", KILO, 0.0),
    _state(1101, "grid_connected", "on the grid (0: stand-alone)"),
    _state(1102, "automatic", "automatic (0: by hand)"),
    _state(1103, "charging", "charging"),
    _state(1104, "discharging", "discharging"),
    _state(1105, "orders_enabled", "available for orders (AGC)"),
    _state(1106, "order_active", "an order is followed"),
    _state(1107, "remote", "remote (0: local)"),
    _state(1108, "alarm", "an alarm stands"),
    _Point(address=1109, kind="double", value="breaker_closed", name="circuit breaker"),
    _state(1110, DROOP_SWITCH, "answers frequency"),
    _Point(address=3001, kind="setpoint", value="order_kw", scale=KILO, name="power, MW"),
    _Point(address=3002, kind="setpoint", value="order_delta_kw", scale=KILO, name="change, MW"),
    _Point(address=3003, kind="setpoint", value="order_kvar", scale=KILO, name="reactive, Mvar"),
    _Point(address=3101, kind="switch", value=ORDERS_SWITCH, name="orders on (AGC)"),
    _Point(address=3102, kind="switch", value=DROOP_SWITCH, name="answers frequency"),
)


def wrong(points: Iterable[StationPointSettings]) -> Iterator[str]:
    """Everything that makes a list unusable, each as a sentence."""
    listed = tuple(points)
    for address, times in Counter(point.address for point in listed).items():
        if times > 1:
            yield f"address {address} is given {times} times"
    for point in listed:
        if point.scale == 0.0:
            yield f"point {point.address}: a scale of 0 tells nothing"
        if point.moves_by < 0.0:
            yield f"point {point.address}: a dead band is not negative"
        if point.kind == "setpoint" and point.value not in SETPOINTS:
            yield f"point {point.address}: {point.value} is no set-point ({', '.join(SETPOINTS)})"
