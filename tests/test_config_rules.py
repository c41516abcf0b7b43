"""The rules between keys: each broken alone, each kept at its edge, and what only warns."""

import pytest

from tests.config_site import FIELD, FINE, GRID, TOY, VPPD, loaded, settings_of


def safety(**values: object) -> dict[str, str]:
    lines = "".join(f"      {name}: {value}\n" for name, value in values.items())
    return {"field.yaml": FIELD + lines}


SECOND = "building: B1, rated_power_kw: 5, energy_kwh: 20, safety: {soc_rate_max_pct_per_min: 1}, "


def second(text: str) -> dict[str, str]:
    """A second unit, as YAML in braces after what every unit has."""
    return {"field.yaml": f"{FIELD}  - {{{SECOND}{text}}}\n"}


def meter(text: str) -> dict[str, str]:
    """The meter at the point of connection."""
    return {"field.yaml": f"{FIELD}meter: {{{text}}}\n"}


def fire(text: str) -> dict[str, str]:
    return {"field.yaml": FIELD + f"interlock_inputs:\n  - {{{text}}}\n"}


def campus(text: str) -> dict[str, str]:
    states = f"[{{id: S, cities: [{{id: C, campuses: [{{id: K, buildings: [{text}]}}]}}]}}]"
    return {"campus.yaml": f"country:\n  states: {states}\n"}


def toy(old: str, new: str) -> dict[str, str]:
    assert TOY.count(old) == 1
    return {"devices/toy.yaml": TOY.replace(old, new)}


def grid(text: str) -> dict[str, str]:
    return {"grid.yaml": GRID + text}


def field(old: str, new: str) -> dict[str, str]:
    assert FIELD.count(old) == 1
    return {"field.yaml": FIELD.replace(old, new)}


HIL = {"vppd.yaml": VPPD.replace("simulation", "hil")}
HARDWARE = {"vppd.yaml": VPPD.replace("simulation", "hardware")}
CAN = "interface: slcan, channel: /tmp/can0"
LINK = "modbus: {profile: toy, host: 127.0.0.3}"

DIP = "{when: voltage_below, bound: 0.8, within_s: 2"


def ride(words: str) -> dict[str, str]:
    return {"grid.yaml": GRID + f"ride_through: {{{words}}}\n"}


ERRORS: list[tuple[dict[str, str], str]] = [
    (safety(soc_min_pct=50, soc_max_pct=50), "units[0].safety.soc_min_pct"),
    (safety(soc_max_pct=9), "units[0].safety.soc_max_pct"),
    (safety(cell_min_v=4.2), "units[0].safety.cell_min_v"),
    (safety(pack_max_v=44.8), "units[0].safety.pack_max_v"),
    (safety(temperature_max_c=60), "units[0].safety.temperature_max_c"),
    (safety(temperature_min_c=55), "units[0].safety.temperature_min_c"),
    (safety(charge_temperature_min_c=-11), "units[0].safety.charge_temperature_min_c"),
    (safety(charge_temperature_min_c=55), "units[0].safety.charge_temperature_min_c"),
    (toy("max_age_s: 1.0", "max_age_s: 0.9"), "units[0].modbus.poll_s"),
    ({"grid.yaml": "droop: {deadband_low_hz: 50}\n"}, "droop.deadband_low_hz"),
    ({"grid.yaml": "droop: {deadband_high_hz: 50}\n"}, "droop.deadband_high_hz"),
    ({"grid.yaml": "droop: {droop_pct: 0.4}\n"}, "droop.droop_pct"),
    ({"grid.yaml": "droop: {ramp_kw_per_s: 0}\n"}, "droop.ramp_kw_per_s"),
    (
        {"grid.yaml": "droop: {rocof_gain_pu_per_hz_per_s: -0.1}\n"},
        "droop.rocof_gain_pu_per_hz_per_s",
    ),
    (safety(ramp_max_kw_per_s=0), "units[0].safety.ramp_max_kw_per_s"),
    (second(f"id: A, {LINK}"), "units[1].id"),
    (second(f"id: site, {LINK}"), "units[1].id"),
    (second("id: B, modbus: {profile: toy, host: 127.0.0.2}"), "units[1].modbus.host"),
    (second("id: B, modbus: {profile: toy}"), "units[1].modbus.host"),
    (
        second("id: B, modbus: {profile: toy, host: 127.0.0.3, serial: ttyUSB0}"),
        "units[1].modbus.host",
    ),
    (toy("high: 10,", "high: 10, volatile: false,"), "writes.power_kw.volatile"),
    (toy("high: 9,", "high: 9, volatile: false,"), "writes.heartbeat.volatile"),
    (second("id: B"), "units[1].modbus"),
    (second(f"id: B, {LINK}, inverter: {{host: 127.0.0.3}}"), "units[1].inverter.host"),
    (second(f"id: B, {LINK}, inverter: {{port: 1502}}"), "units[1].inverter.host"),
    (second("id: B, inverter: {host: 192.168.1.4}"), "units[1].inverter.host"),
    (second(f"id: B, {LINK}, bms: {{dbc: vpp-bsm, {CAN}}}"), "units[1].bms.dbc"),
    (second(f"id: B, {LINK}, bms: {{dbc: toy, {CAN}}}"), "units[1].bms.dbc"),
    (second("id: B, modbus: {profile: vpp-bms, host: 127.0.0.3}"), "units[1].modbus.profile"),
    (second(f"id: B, {LINK}, bms: {{dbc: vpp-bms, channel: can0}}"), "units[1].bms.channel"),
    (
        second(f"id: B, {LINK}, bms: {{dbc: vpp-bms, interface: slcan, channel: /dev/ttyS0}}"),
        "units[1].bms.channel",
    ),
    (
        second("id: B, modbus: {profile: eastron-sdm630, host: 127.0.0.3}"),
        "units[1].modbus.profile",
    ),
    (
        {
            "field.yaml": FIELD
            + f"    bms: {{dbc: vpp-bms, {CAN}}}\n"
            + f"  - {{{SECOND}id: B, {LINK}, bms: {{dbc: vpp-bms, {CAN}}}}}\n"
        },
        "units[1].bms.interface",
    ),
    (
        {
            "field.yaml": FIELD
            + f"    bms: {{dbc: vpp-bms, {CAN}}}\n"
            + f"  - {{{SECOND}id: B, {LINK},"
            + f" bms: {{dbc: vpp-bms, {CAN}, id_offset: 512, bitrate: 125000}}}}\n"
        },
        "units[1].bms.bitrate",
    ),
    (
        {
            "field.yaml": FIELD
            + f"    bms: {{dbc: vpp-bms, {CAN}, serial_baudrate: 921600}}\n"
            + f"  - {{{SECOND}id: B, {LINK}, bms: {{dbc: vpp-bms, {CAN}, id_offset: 512}}}}\n"
        },
        "units[1].bms.channel",
    ),
    (
        {
            "field.yaml": FIELD
            + f"  - {{{SECOND}id: B, modbus: {{profile: toy, serial: /tmp/tty1}}}}\n"
            + f"  - {{{SECOND}id: C,"
            + " modbus: {profile: toy, serial: /tmp/tty1, unit_id: 2, parity: E}}\n"
        },
        "units[2].modbus.parity",
    ),
    (
        {
            "field.yaml": FIELD
            + f"  - {{{SECOND}id: B, modbus: {{profile: toy, serial: /tmp/can0}},"
            + f" bms: {{dbc: vpp-bms, {CAN}}}}}\n"
        },
        "units[1].bms.channel",
    ),
    (meter("profile: eastron-sdm630, host: 192.168.1.9"), "meter.host"),
    (meter("profile: eastron-sdm603, host: 127.0.0.9"), "meter.profile"),
    (meter("profile: eastron-sdm630"), "meter.host"),
    (meter("profile: eastron-sdm630, host: 127.0.0.2"), "meter.host"),
    (meter("profile: eastron-sdm630, host: 127.0.0.9, poll_s: 4"), "meter.poll_s"),
    (second("id: B, modbus: {profile: toi, host: 127.0.0.3}"), "units[1].modbus.profile"),
    (second("id: B, modbus: {profile: ../toy, host: 127.0.0.3}"), "units[1].modbus.profile"),
    (second("id: B, modbus: {profile: toy, host: 127.0.0.3, port: 0}"), "units[1].modbus.port"),
    (
        second("id: B, modbus: {profile: toy, host: 127.0.0.3, unit_id: 256}"),
        "units[1].modbus.unit_id",
    ),
    (second("id: B, modbus: {profile: toy, host: 10.0.0.3}"), "units[1].modbus.host"),
    (second("id: B, modbus: {profile: toy, serial: /dev/ttyUSB0}"), "units[1].modbus.serial"),
    (
        HIL | second("id: B, simulate: true, modbus: {profile: toy, host: bess1}"),
        "units[1].modbus.host",
    ),
    ({"grid.yaml": "pmu: {host: 192.168.1.1}\n"}, "pmu.host"),
    ({"grid.yaml": "pmu:\n  - {host: 127.0.0.1}\n  - {host: 127.0.0.2}\n"}, "pmu[1].id"),
    ({"grid.yaml": "pmu: {host: 127.0.0.1, id: A}\n"}, "pmu.id"),
    (fire("id: f, scope: B2, modbus: {host: 127.0.0.1, coil: 1}"), "interlock_inputs[0].scope"),
    (fire("id: A, scope: site, modbus: {host: 127.0.0.1, coil: 1}"), "interlock_inputs[0].id"),
    (
        fire("id: f, scope: site, modbus: {host: 127.0.0.1}"),
        "interlock_inputs[0].modbus.discrete_input",
    ),
    (
        fire("id: f, scope: site, modbus: {host: 127.0.0.1, coil: 1, discrete_input: 1}"),
        "interlock_inputs[0].modbus.discrete_input",
    ),
    (
        fire("id: f, scope: site, modbus: {host: 10.1.1.1, coil: 1}"),
        "interlock_inputs[0].modbus.host",
    ),
    (campus("{id: B2}"), "units[0].building"),
    (
        campus("{id: B1}, {id: B1}"),
        "country.states[0].cities[0].campuses[0].buildings[1].id",
    ),
    (campus("{id: B1}, {id: A}"), "country.states[0].cities[0].campuses[0].buildings[1].id"),
    ({"campus.yaml": "country: {states: [{id: S}, {id: S}]}\n"}, "country.states[1].id"),
    ({"vppd.yaml": VPPD.replace("here", "here, timezone: Asia")}, "site.timezone"),
    ({"vppd.yaml": VPPD.replace("here", "here, timezone: ../UTC")}, "site.timezone"),
    (toy("kind: timeout, timeout_s: 5, heartbeat_s: 2", "kind: none"), "units[0].modbus.profile"),
    (toy("heartbeat_s: 2", "heartbeat_s: 2.6"), "revert.timeout_s"),
    (toy("high: 9,", "high: 9, period_s: 3,"), "revert.timeout_s"),
    (toy("0x10,", "0x10, group: slow,"), "points.soc_pct.max_age_s"),
    (toy("0x10,", "0x10, moves_with: cycles, frozen_s: 9,"), "points.soc_pct.moves_with"),
    (
        toy("high: 9, read_back: setpoint_kw", "high: 9, read_back: mode"),
        "writes.heartbeat.read_back",
    ),
    ({"devices/toy.yaml": TOY + "enable: [{write: mode, value: 1}]\n"}, "enable[0].write"),
    (ride("profile: distribution"), "ride_through.profile"),
    (ride("profile: distribution, nominal_v: null"), "ride_through.nominal_v"),
    (ride(f"profile: transmission, rows: [{DIP}, then: cease}}]"), "ride_through.profile"),
]


@pytest.mark.parametrize(("files", "key"), ERRORS)
def test_a_broken_rule_is_one_error_at_its_key(files: dict[str, str], key: str) -> None:
    result = loaded(FINE | files)
    assert [each.key for each in result.errors] == [key], [str(each) for each in result.errors]


FINE_TOO: list[dict[str, str]] = [
    {},
    safety(soc_min_pct=49.9, soc_max_pct=50),
    safety(charge_temperature_min_c=-10),
    toy("heartbeat_s: 2", "heartbeat_s: 2.5"),
    {"grid.yaml": GRID + "droop: {rocof_gain_pu_per_hz_per_s: 0, droop_pct: 20}\n"},
    second("id: B, modbus: {profile: toy, host: 127.0.0.2, port: 503}"),
    second("id: B, modbus: {profile: toy, host: 127.0.0.2, unit_id: 2}"),
    second("id: B, modbus: {profile: toy, host: '::1'}"),
    second("id: B, modbus: {profile: toy, host: localhost}"),
    second("id: B, modbus: {profile: toy, serial: /run/plant/line}"),
    HARDWARE | second("id: B, modbus: {profile: toy, host: bess.local}"),
    HARDWARE | second("id: B, modbus: {profile: toy, serial: /dev/ttyUSB0}"),
    HIL | second("id: B, simulate: true, modbus: {profile: toy, host: 127.0.0.9}"),
    HARDWARE | {"grid.yaml": "pmu: {host: 192.168.1.1}\n"},
    fire("id: f, scope: B1, modbus: {host: 127.0.0.1, coil: 1}"),
    fire("id: f, scope: A, modbus: {host: 127.0.0.1, discrete_input: 0}"),
    second("id: B, inverter: {host: 127.0.0.3}"),
    second(f"id: B, {LINK}, inverter: {{host: 127.0.0.3, port: 1502}}"),
    second(f"id: B, {LINK}, bms: {{dbc: vpp-bms, {CAN}}}"),
    HARDWARE | second(f"id: B, {LINK}, bms: {{dbc: pylontech, channel: can0}}"),
    meter("profile: eastron-sdm630, serial: /run/plant/line"),
    HIL | meter("profile: eastron-sdm630, host: meter.local"),
    campus("{id: B1}"),
    campus("") | fire("id: f, scope: B1, modbus: {host: 127.0.0.1, coil: 1}"),
    ride(f"profile: none, rows: [{DIP}, then: cease}}]"),
    ride("profile: distribution, nominal_v: 6350.0"),
    ride(f"profile: transmission, rows: [{DIP}}}]"),
    toy("{kind: timeout, timeout_s: 5, heartbeat_s: 2}", "none")
    | field("energy_kwh: 20", "energy_kwh: 20\n    accept_no_revert: true"),
]


@pytest.mark.parametrize("files", FINE_TOO)
def test_what_keeps_the_rules_is_no_error(files: dict[str, str]) -> None:
    settings_of(loaded(FINE | files))


WARNINGS: list[tuple[dict[str, str], str]] = [
    (field("kw: 5", "kw: 6"), "units[0].rated_power_kw"),
    (
        field("_min: 1.0", "_min: 0.4"),
        "units[0].safety.soc_rate_max_pct_per_min",
    ),
    (
        field("building: B1", "building: B1\n    rated_apparent_kva: 4"),
        "units[0].rated_apparent_kva",
    ),
    (safety(charge_temperature_min_c=-1), "units[0].safety.charge_temperature_min_c"),
    (safety(runaway_temperature_c=60), "units[0].safety.runaway_temperature_c"),
    (safety(runaway_rate_max_c_per_min=0.5), "units[0].safety.runaway_rate_max_c_per_min"),
    ({"grid.yaml": ""}, "pmu"),
    ({"grid.yaml": GRID + "connection: {export_max_kw: 5.1}\n"}, "connection.export_max_kw"),
    ({"grid.yaml": GRID + "connection: {import_max_kw: 0.04}\n"}, "connection.import_max_kw"),
    ({"grid.yaml": GRID + "droop: {max_power_kw: 5.1}\n"}, "droop.max_power_kw"),
    ({"grid.yaml": GRID + "droop: {deadband_low_hz: 49.89}\n"}, "droop.deadband_low_hz"),
    ({"grid.yaml": GRID + "droop: {deadband_high_hz: 50.06}\n"}, "droop.deadband_high_hz"),
    ({"grid.yaml": GRID + "bands: {critical_low_hz: 49.95}\n"}, "bands.critical_low_hz"),
    (HIL, "mode"),
    (second(f"id: B, simulate: true, {LINK}"), "units[1].simulate"),
    (ride("profile: none, nominal_v: 6350.0, live_pu: 0.1"), "ride_through.live_pu"),
    ({"vppd.yaml": VPPD + "journal: {retain_days: 1}\n"}, "journal.retain_days"),
    ({"vppd.yaml": VPPD + "journal: {max_mb: 16}\n"}, "journal.max_mb"),
    (second(f"id: B, accept_no_revert: true, {LINK}"), "units[1].accept_no_revert"),
    (
        second("id: B, modbus: {profile: toy, host: 127.0.0.3, timeout_s: 5}"),
        "units[1].modbus.timeout_s",
    ),
    (toy("low: -10", "low: 1"), "writes.power_kw.low"),
    (toy("0x10,", "0x10, frozen_s: 3,"), "points.soc_pct.frozen_s"),
    (toy("soc_pct: {", "soh_pct: {"), "points"),
    (
        toy("power_kw: {address: 1, type: i16,", "power_kw: {address: 1, type: i16, sign: -1,"),
        "writes.power_kw.sign",
    ),
    ({"grid.yaml": "pmu: [{id: a, host: 127.0.0.1}, {id: b, host: 127.0.0.1}]\n"}, "pmu[1].port"),
    (toy("name: toy", "name: toys"), "name"),
]


@pytest.mark.parametrize(("files", "key"), WARNINGS)
def test_what_is_odd_is_a_warning_and_starts(files: dict[str, str], key: str) -> None:
    result = loaded(FINE | files)
    settings_of(result)
    assert [each.key for each in result.warnings] == [key], [str(each) for each in result.warnings]


def test_a_site_that_must_cease_and_has_nothing_to_see_its_voltage_is_told() -> None:
    rules = "ride_through: {profile: distribution, nominal_v: 6350.0}\n"
    result = loaded(FINE | {"grid.yaml": rules})
    assert "ride_through.nominal_v" in [each.key for each in result.warnings]
    settings_of(result)


def test_a_rating_in_watts_is_wondered_at() -> None:
    found = loaded(FINE | field("energy_kwh: 20", "energy_kwh: 0.8")).warnings
    assert any("9.6 min: is it in kW" in each.text for each in found), found


def test_a_real_site_is_told_which_files_are_not_there_and_a_simulated_one_is_not() -> None:
    files = {name: text for name, text in FINE.items() if name != "grid.yaml"}
    absent = [each for each in loaded(files | HARDWARE).warnings if "not there" in each.text]
    assert [each.file for each in absent] == ["grid.yaml", "campus.yaml"]
    assert not [each for each in loaded(files).warnings if "not there" in each.text]


def test_the_fine_site_has_no_finding() -> None:
    assert loaded(FINE).findings == ()
