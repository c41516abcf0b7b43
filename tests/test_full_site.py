"""A full site: four units, each with its controller, its BMS on CAN and its SunSpec inverter, over
TCP sockets, a serial line and two CAN interfaces. The plant is a process of its own and the daemon,
in mode hardware, cannot tell it from a field.

Every row of the safety table is seen at the devices: the fault is injected there, and what the
inverter holds afterwards is what counts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.process_site import Daemon, Json, Site, until, write_grid
from vppd import config
from vppd.cli.scene import free_ports
from vppd.cli.survey import live_sheets
from vppd.cli.wire import Reply
from vppd.cli.wire import ask as daemon_ask

NAMES = ("A", "B", "C", "D")
WITHIN_S = 12.0  # a poll, a time-out, a rule's own window, and a slow machine
DISCHARGE_KW, CHARGE_KW = 20.0, -20.0


def write_full(directory: Path) -> Path:
    """Units that differ in how each device is reached."""
    config = directory / "etc"
    config.mkdir(exist_ok=True)
    ports = iter(free_ports(9))
    serial = f"serial: {directory}/tty0, baudrate: 115200"
    controllers = {
        "A": f"host: 127.0.0.1, port: {next(ports)}",
        "B": f"{serial}, unit_id: 2",
        "C": f"host: 127.0.0.1, port: {next(ports)}, unit_id: 2",
        "D": f"host: 127.0.0.1, port: {next(ports)}",
    }
    inverters = {
        "A": f"host: 127.0.0.1, port: {next(ports)}",
        "B": f"host: 127.0.0.1, port: {next(ports)}, unit_id: 126",
        "C": f"host: 127.0.0.1, port: {next(ports)}, drive: storage",
        "D": f"{serial}, unit_id: 4",
    }
    can = f"interface: slcan, channel: {directory}/can"
    bms = {
        "A": f"dbc: vpp-bms, {can}0",
        "B": f"dbc: vpp-bms, {can}0, id_offset: 512",
        "C": f"dbc: pylontech, {can}1",
        "D": f"dbc: vpp-bms, {can}1",
    }
    (config / "vppd.yaml").write_text("site: {id: lab}\nmode: hardware\nclock: {sync: assume}\n")
    # a sensor that jumps is no battery that burns, but for the unit that shows just that
    heats = {name: 3 if name == "B" else 1000 for name in NAMES}
    rows = [
        f"  - {{id: {name}, building: NORTH, rated_power_kw: 100, energy_kwh: 250,"
        " modules_parallel: 23, safety: {ramp_max_kw_per_s: 100,"
        f" runaway_rate_max_c_per_min: {heats[name]}}},\n"
        f"     modbus: {{profile: vpp-bess-v2, {controllers[name]}}},\n"
        f"     bms: {{{bms[name]}}},\n     inverter: {{{inverters[name]}}}}}"
        for name in NAMES
    ]
    meter = f"meter: {{profile: eastron-sdm630, host: 127.0.0.1, port: {next(ports)}}}"
    door = (
        "interlock_inputs:\n  - {id: door, scope: A,"
        f" modbus: {{host: 127.0.0.1, port: {next(ports)}, unit_id: 9, discrete_input: 3}}}}"
    )
    (config / "field.yaml").write_text("\n".join(["units:", *rows, meter, door]) + "\n")
    write_grid(config, next(ports), 5.0)
    return config


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("full"), write_full)
    try:
        made.start().ready(30.0)
        yield made
    finally:
        made.close()


def held_kw(site: Site, unit: str) -> float:
    """What the inverter of a unit was told and holds."""
    return float(site.plant.state(unit)["setpoint_kw"])


def view(daemon: Daemon, unit: str) -> Json:
    return daemon.get(f"/v1/units/{unit}")


def bound_by(daemon: Daemon, unit: str) -> list[str]:
    codes: list[str] = view(daemon, unit)["bound_by"]
    return codes


def account(site: Site) -> object:
    status = site.daemon.get("/v1/status")
    return {
        "units": status["units"],
        "alarms": [(each["code"], each["unit"], each["text"]) for each in status["alarms"]],
        "held_kw": {name: held_kw(site, name) for name in NAMES},
    }


def soon(site: Site, condition: Any, within_s: float = WITHIN_S) -> None:
    until(condition, within_s, lambda: account(site))


def ask(site: Site, unit: str, power_kw: float) -> None:
    """An operator's order for one unit."""
    site.daemon.post(f"/v1/units/{unit}/power", power_kw=power_kw, duration_s=600)


def test_every_device_of_every_unit_is_read_and_the_inverters_obey(site: Site) -> None:
    for number, name in enumerate(NAMES, start=1):
        ask(site, name, 10.0 * number)
    for number, name in enumerate(NAMES, start=1):
        soon(site, lambda name=name, kw=10.0 * number: abs(held_kw(site, name) - kw) < 0.2)
        soon(site, lambda name=name, kw=10.0 * number: abs(gives_kw(site, name) - kw) < 1.0)
    for name in NAMES:
        seen = view(site.daemon, name)
        assert seen["state"] == "running", seen
        assert seen["bms"], seen
        assert seen["inverter"], seen
    soon(site, lambda: abs(meter_kw(site.daemon) - 100.0) < 5.0)


def gives_kw(site: Site, unit: str) -> float:
    return float(site.plant.state(unit)["power_kw"])


def meter_kw(daemon: Daemon) -> float:
    found = daemon.get("/v1/status")["meter"]
    return float(found["export_kw"]) if found and found["export_kw"] is not None else float("nan")


# --- the safety table ---


@dataclass(frozen=True)
class Row:
    """One fault at a device, and what must be left: kW out and in, None for as asked."""

    fault: str
    unit: str
    code: str
    out_kw: float | None
    in_kw: float | None
    how: Mapping[str, object] = field(default_factory=dict)
    latched: bool = False
    target: str = ""

    def __str__(self) -> str:
        return f"{self.fault}-{self.unit}-{self.code}"


STOP, FREE = 0.0, None
TABLE = (
    Row("bms_cell", "A", "cell_under_voltage", STOP, FREE, {"cell": 3, "cell_v": 2.75}),
    Row("bms_cell", "B", "cell_over_voltage", FREE, STOP, {"cell": 16, "cell_v": 4.22}),
    Row("voltage", "A", "pack_under_voltage", STOP, FREE, {"pack_v": 44.5}),
    Row("voltage", "D", "pack_over_voltage", FREE, STOP, {"pack_v": 67.5}),
    Row("current_surge", "B", "over_current", STOP, FREE, {"current_a": 130.0}),
    Row(
        "bms_temperature", "A", "temperature_high", STOP, STOP, {"sensor": 5, "temperature_c": 56.0}
    ),
    Row(
        "bms_temperature", "D", "temperature_low", STOP, STOP, {"sensor": 1, "temperature_c": -11.0}
    ),
    Row("bms_temperature", "B", "charge_cold", FREE, STOP, {"sensor": 8, "temperature_c": -1.0}),
    Row(
        "bms_temperature",
        "D",
        "over_temperature",
        STOP,
        STOP,
        {"sensor": 2, "temperature_c": 61.0},
        latched=True,
    ),
    Row("soc", "A", "soc_low", STOP, FREE, {"soc_pct": 9.0}),
    Row("soc", "C", "soc_high", FREE, STOP, {"soc_pct": 96.0}),
    Row("bms_soc", "B", "soc_low", STOP, FREE, {"soc_pct": 9.0}),
    Row("bms_fault_bits", "A", "bms_fault", STOP, STOP, {"bits": 16}, latched=True),
    Row("fault_bits", "D", "device_fault", STOP, STOP, {"bits": 4}, latched=True),
    Row("inverter_fault", "A", "inverter_fault", STOP, STOP, latched=True),
    Row("inverter_fault", "C", "inverter_fault", STOP, STOP, latched=True),
    Row("interlock", "A", "interlock_input", STOP, STOP, latched=True, target="door"),
    Row("interlock_silent", "A", "interlock_silent", STOP, STOP, target="door"),
    Row("bms_limits", "B", "bms_limit", STOP, STOP, {"charge_max_a": 0.0, "discharge_max_a": 0.0}),
    Row("bms_forbid", "C", "bms_forbids", STOP, STOP),
    Row("bms_silence", "A", "link_lost", STOP, STOP),
    Row("bms_silence", "C", "link_lost", STOP, STOP),
    Row("can_down", "D", "link_lost", STOP, STOP),
    Row("silence", "A", "link_lost", STOP, STOP),
    Row("silence", "B", "link_lost", STOP, STOP, target="B/inverter"),
    Row("meter_silence", "A", "connection", STOP, STOP, target="meter"),
)


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_a_row_of_the_safety_table(site: Site, row: Row) -> None:
    """What stops is told to the inverter; what may go on goes on; and it ends with its cause."""
    for name in NAMES:
        ask(site, name, 0.0)
    soon(site, lambda: site.daemon.states()[row.unit] in {"ready", "running", "limited"}, 30.0)
    first_kw, second_kw = (
        (CHARGE_KW, DISCHARGE_KW) if row.out_kw is FREE else (DISCHARGE_KW, CHARGE_KW)
    )
    if row.code in {"reading_stale", "link_lost"} or row.latched or "surge" in row.fault:
        first_kw, second_kw = DISCHARGE_KW, CHARGE_KW
    ask(site, row.unit, first_kw)
    soon(site, lambda: abs(held_kw(site, row.unit) - first_kw) < 0.2)
    target = row.target or row.unit
    site.plant.inject(row.fault, target, **row.how)
    try:
        soon(site, lambda: row.code in reasons(site.daemon, row.unit))
        left_kw = left(row, first_kw)
        if "/inverter" not in target:
            soon(site, lambda: abs(held_kw(site, row.unit) - left_kw) < 0.2)
        else:
            soon(site, lambda: gives_kw(site, row.unit) == pytest.approx(left_kw, abs=0.5), 20.0)
        if not row.latched and "silen" not in row.fault and row.fault != "current_surge":
            ask(site, row.unit, second_kw)
            left_kw = left(row, second_kw)
            soon(site, lambda: abs(held_kw(site, row.unit) - left_kw) < 0.2)
    finally:
        site.plant.clear(row.fault, target)
        if row.fault == "soc":
            site.plant.inject("soc", row.unit, soc_pct=50.0)
    if row.latched:
        assert site.daemon.states()[row.unit] == "tripped"
        soon(site, lambda: reset(site.daemon, row))
    soon(site, lambda: site.daemon.states()[row.unit] not in {"tripped", "lost", "starting"}, 30.0)
    ask(site, row.unit, DISCHARGE_KW)
    soon(site, lambda: abs(held_kw(site, row.unit) - DISCHARGE_KW) < 0.2, 30.0)


def left(row: Row, asked_kw: float) -> float:
    room_kw = row.out_kw if asked_kw > 0.0 else row.in_kw
    return asked_kw if room_kw is None else room_kw


def reasons(daemon: Daemon, unit: str) -> set[str]:
    """Who bounds the unit now, and what stands against it."""
    rows = daemon.get("/v1/safety/violations")["violations"]
    told = {row["rule"] for row in rows if row["unit"] == unit and row["cleared_at"] is None}
    return told | set(bound_by(daemon, unit))


def reset(daemon: Daemon, row: Row) -> bool:
    """An operator resets until the cause is seen gone."""
    daemon.control(row.unit, "reset")
    return daemon.states()[row.unit] != "tripped"


def test_a_hot_battery_that_heats_fast_is_shut_down(site: Site) -> None:
    ask(site, "B", DISCHARGE_KW)
    site.plant.inject("over_temperature", "B", temperature_c=59.0, rate_c_per_s=2.0)
    try:
        soon(
            site,
            lambda: (
                "over_temperature" in reasons(site.daemon, "B")
                or "thermal_runaway" in reasons(site.daemon, "B")
            ),
            60.0,
        )
        soon(site, lambda: held_kw(site, "B") == 0.0)
        assert site.daemon.states()["B"] == "tripped"
    finally:
        site.plant.clear("over_temperature", "B")


def test_what_the_bms_says_otherwise_is_alarmed(site: Site) -> None:
    site.plant.inject("bms_soc", "D", soc_pct=70.0)
    try:
        soon(site, lambda: "bms_disagrees" in reasons(site.daemon, "D"))
    finally:
        site.plant.clear("bms_soc", "D")
    soon(site, lambda: "bms_disagrees" not in reasons(site.daemon, "D"))


def test_the_curves_of_an_inverter_are_shown_and_changed_by_an_operator(site: Site) -> None:
    curves = {each["kind"]: each for each in site.daemon.get("/v1/units/A/curves")["curves"]}
    assert set(curves) == {"volt_var", "volt_watt", "frequency_droop", "watt_var"}
    wanted = [[92.0, 30.0], [98.0, 0.0], [102.0, 0.0], [108.0, -30.0]]
    given = site.daemon.post("/v1/units/A/curves", kind="volt_var", points=wanted)
    assert given["curves"][0]["points"] == wanted
    shown = {each["kind"]: each for each in site.daemon.get("/v1/units/A/curves")["curves"]}
    assert shown["volt_var"]["points"] == wanted
    assert shown["volt_var"]["enabled"]
    falling = ask_daemon(
        site, "/v1/units/A/curves", {"kind": "volt_var", "points": [[9, 0], [8, 0]]}
    )
    assert (falling.status, falling.body["field"]) == (422, "points")
    other = ask_daemon(site, "/v1/units/C/curves", {"kind": "volt_var", "points": wanted})
    assert other.status == 409, "an older inverter has no such model"
    events = site.daemon.get("/v1/events/recent?last=200")["events"]
    assert any("curve" in str(each) for each in events)


def ask_daemon(site: Site, route: str, body: Json) -> Reply:
    return daemon_ask(str(site.daemon.socket), "POST", route, body)


def test_a_survey_that_does_not_see_the_daemon_leaves_its_lines_alone(site: Site) -> None:
    settings = config.load(site.config).settings
    assert settings is not None
    sheets = {sheet.device: sheet for sheet in live_sheets(settings, running=False)}
    held = {f"{name}/bms": f"slcan {site.directory}/can{name in 'CD':d}" for name in NAMES}
    held |= dict.fromkeys(("B/controller", "D"), f"{site.directory}/tty0")
    for name, where in held.items():
        (remark,) = sheets[name].remarks
        assert remark.text == f"{where}: in use by another program (a running vppd?)"
        assert remark.remedy == "ask it with --socket, or stop it"
    others = {name for name, sheet in sheets.items() if "in use" in str(sheet.remarks)}
    assert others == held.keys()


def test_a_full_site_stops_at_zero_and_gives_its_inverters_back(site: Site) -> None:
    """The last test of this site: SIGTERM, 0 kW read back everywhere."""
    for name in NAMES:
        ask(site, name, DISCHARGE_KW)
    soon(site, lambda: held_kw(site, "A") == pytest.approx(DISCHARGE_KW, abs=0.2))
    site.daemon.send(15)
    assert site.daemon.exit_code(10.0) == 0
    for name in NAMES:
        assert site.plant.state(name)["setpoints"][-1]["power_kw"] == 0.0
