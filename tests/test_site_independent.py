"""The whole daemon on a site made by other people: Modbus servers by libmodbus, modbus-serial,
jsmodbus and pymodbustcp-cli as the units, captures of real PMUs as the frequency.

The first three follow their setpoint by themselves and have the shipped profile's registers, less
some: modbus-serial refuses the holes between them, libmodbus (exception 2) and jsmodbus (an empty
answer) all above 0x1012. mbtcp-server only keeps what is written; its profile is the site's own,
all in holding registers. A server that is not installed is left out, and skips a test to say so.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.foreign_site import (
    COUNT_KW,
    PLAIN,
    SETPOINT,
    ForeignSite,
    Server,
    mbtcp_server,
    plain_registers,
    running_daemon,
    write_site,
)
from tests.replayed_pmu import replayed
from tests.sim_site import signed
from tests.test_c37118 import ZEEK
from tests.test_modbus_independent import libmodbus_device, libmodbus_tcp, on_node
from vppd.cli.scene import free_ports

__all__ = ["libmodbus_device"]

LIBMODBUS, SERIAL, JS, MBTCP = "libmodbus", "modbus-serial", "jsmodbus", "pymodbustcp-cli"
NAMES = (LIBMODBUS, SERIAL, JS, MBTCP)
NAMEPLATE = {"energy_capacity_kwh", "rated_power_kw", "cycles"}
LACKS = {LIBMODBUS: NAMEPLATE, JS: NAMEPLATE}  # of the shipped profile
SEL, GE, VIZIMAX = "sel_tcp", "ge_udp", "vizimax_tcp"
SITE_KW = 40.0
Servers = dict[str, Server]


def server_named(name: str, request: pytest.FixtureRequest, where: Path) -> Server:
    """A server that is not running yet. Skips when its maker's software is not here."""
    if name == LIBMODBUS:
        device = request.getfixturevalue("libmodbus_device")
        return Server(name, lambda port: libmodbus_tcp(device, str(port), "short"))
    if name == SERIAL:
        return Server(name, lambda port: on_node("modbus_serial_device.js", name, str(port)))
    if name == JS:
        return Server(name, lambda port: on_node("jsmodbus_device.js", name, "short", str(port)))
    program = mbtcp_server()
    if program is None:
        pytest.skip("mbtcp-server (PyPI pymodbustcp-cli) is not installed")
    log = where / "mbtcp-server.log"
    return Server(name, lambda port: plain_registers(program, port or free_ports(1)[0], log), PLAIN)


@pytest.fixture
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Servers]:
    """All that can run here, running."""
    found: Servers = {}
    with ExitStack() as stack:
        for name in NAMES:
            try:
                server = server_named(name, request, tmp_path)
                server.start()
            except pytest.skip.Exception:
                continue
            found[name] = server
            stack.callback(server.kill)
        if not found:
            pytest.skip("no Modbus server of other people is installed")
        yield found


@contextmanager
def site_of(servers: Servers, where: Path, *captures: str) -> Iterator[ForeignSite]:
    """The daemon on these servers and captures, every unit ready."""
    with ExitStack() as stack:
        pmus = {name: stack.enter_context(replayed(name)) for name in captures}
        write_site(where / "etc", servers, pmus)
        daemon = stack.enter_context(running_daemon(where / "etc", where))
        site = ForeignSite(servers, pmus, daemon)
        site.until("every unit is ready", lambda: set(site.states().values()) == {"ready"})
        yield site


@pytest.mark.parametrize("name", NAMES)
def test_takes_part(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server = server_named(name, request, tmp_path)
    server.start()
    try:
        assert server.holds(SETPOINT, 7) == [0] * 7
    finally:
        server.kill()


# setpoints


def test_commanded_read_back_and_left_at_zero(servers: Servers, tmp_path: Path) -> None:
    with site_of(servers, tmp_path, SEL) as site:
        for power_kw in (SITE_KW, -60.0):
            site.daemon.post("/v1/dispatch", power_kw=power_kw)
            site.until("all run at their share", share_and_show, site, power_kw)
        for name in servers:
            is_kept_alive(site, name)
            is_read_whole(site, name)
        assert site.daemon.stop() == 0
        for name, server in servers.items():
            assert server.holds(SETPOINT, 2) == [0, 0], name
    if MBTCP in servers:
        log = (tmp_path / "mbtcp-server.log").read_text()
        assert directions_written(log) in (["out", "in", "zero"], ["out", "zero", "in", "zero"])


def share_and_show(site: ForeignSite, power_kw: float) -> bool:
    """Every device was told an equal share, and the daemon shows of every unit what its device
    was told: asked, read back and measured."""
    told_kw = site.setpoints_kw()
    each_kw = power_kw / len(told_kw)
    return all(
        unit["state"] == "running"
        and abs(told_kw[name] - each_kw) <= COUNT_KW
        and unit["setpoint_kw"] == pytest.approx(each_kw)
        and unit["read_back_kw"] == pytest.approx(told_kw[name])
        and unit["power_kw"] == pytest.approx(told_kw[name])
        for name, unit in site.daemon.units().items()
    )


def is_kept_alive(site: ForeignSite, name: str) -> None:
    """Enabled, its command timeout programmed and renewed."""
    holds = partial(site.servers[name].holds, SETPOINT, 7)
    _, kvar, mode, enabled, reset, timeout_s, beat = holds()
    assert (kvar, mode, enabled, reset, timeout_s) == (0, 3, 1, 0, 5), name
    site.until(f"{name} hears a heartbeat", lambda: holds()[6] != beat)


def is_read_whole(site: ForeignSite, name: str) -> None:
    """All points are good but those the device lacks; it refused and never failed to answer."""
    telemetry = site.daemon.get(f"/v1/units/{name}/telemetry")
    assert (telemetry["soc_pct"], telemetry["temperature_c"]) == (55.3, 25.1), name
    bad = {point for point, word in telemetry["quality"].items() if word != "good"}
    assert bad == LACKS.get(name, set()), name
    link = site.links()[name]
    assert (link["no_reply"], link["bad_reply"], link["reconnects"]) == (0, 0, 1), name
    assert (link["holes"] > 0) == (name != MBTCP), name


def directions_written(log: str) -> list[str]:
    """What mbtcp-server says of the writes of its setpoint register, repeats left out. On the wire
    plus is charging."""
    lines = [line for line in log.splitlines() if f"Holding register @{SETPOINT}:" in line]
    words = [signed(int(line.partition("->")[2].split()[0])) for line in lines]
    told = ["out" if word < 0 else "in" if word > 0 else "zero" for word in words]
    return [direction for direction, _ in groupby(told)]


def test_a_killed_server_is_one_unit_less(servers: Servers, tmp_path: Path) -> None:
    if len(servers) == 1:
        pytest.skip("needs two servers")
    with site_of(servers, tmp_path, SEL) as site:
        site.daemon.post("/v1/dispatch", power_kw=SITE_KW)
        site.until("all share it", shared_by, site, set(servers))
        for name, server in servers.items():
            others = set(servers) - {name}
            connections = {each: site.links()[each]["reconnects"] for each in others}
            server.kill()
            site.until("the others take over", shared_by, site, others)
            assert site.states()[name] == "lost"
            assert {unit for code, unit in site.daemon.alarms() if code == "link_lost"} == {name}
            assert {each: site.links()[each]["reconnects"] for each in others} == connections
            server.start()
            site.until(f"{name} is back", shared_by, site, set(servers))


def shared_by(site: ForeignSite, names: set[str]) -> bool:
    """Whether just these units run, each device told an equal share."""
    each_kw = SITE_KW / len(names)
    running = {name for name, state in site.states().items() if state == "running"}
    return running == names and all(
        abs(site.servers[name].setpoint_kw - each_kw) <= COUNT_KW for name in names
    )


# frequency


def owed_kw(frequency_hz: float) -> float:
    """5 % droop on the 400 kW of the configuration."""
    return 400.0 / 0.05 * (50.0 - frequency_hz) / 50.0


def test_frequency_moves_the_setpoints(servers: Servers, tmp_path: Path) -> None:
    with site_of(servers, tmp_path, SEL) as site:
        took_s = []
        for fallen_hz in (49.7, 49.8, 49.7):
            took_s.append(site.moves(owed_kw(fallen_hz), site.measures, SEL, fallen_hz))
            site.moves(0.0, site.measures, SEL, 50.0)
        assert median(took_s) < 1.0, took_s
        site.moves(owed_kw(50.2), site.measures, SEL, 50.2)
        assert site.daemon.get("/v1/status")["frequency_hz"] == 50.2


def test_real_streams_decode_and_sixty_hertz_commands_nothing(
    servers: Servers, tmp_path: Path
) -> None:
    refused = {("frequency_implausible", VIZIMAX), ("pmu_time", VIZIMAX)}
    with site_of(servers, tmp_path, VIZIMAX, SEL, GE) as site:
        frequency = site.until("SEL's is believed", believed, site, SEL)
        is_sel_as_captured(frequency)
        is_vizimax_and_refused(site, frequency)
        site.until("it is alarmed", lambda: site.daemon.alarms() >= refused)
        site.moves(owed_kw(49.7), site.measures, SEL, 49.7)
        site.moves(0.0, site.silence, SEL)  # and GE's comes in its place
        is_ge_as_captured(believed(site, GE))
        site.moves(owed_kw(49.7), site.silence, SEL, False)
        site.silence(GE)
        site.moves(0.0, site.silence, SEL)  # 60 Hz is all that is left of PMUs
        frequency = believed(site, next(iter(servers)))
        assert frequency["frequency_hz"] == 49.98  # the first unit's own
        assert site.daemon.get("/v1/droop")["owed_kw"] == 0.0
        assert site.daemon.alarms() >= refused


def believed(site: ForeignSite, source: str) -> dict[str, Any]:
    """What is shown of the frequency, once all PMUs were heard and this source is acted on."""
    frequency = site.daemon.get("/v1/frequency")
    heard = {each["id"] for each in frequency["sources"]}
    return frequency if frequency["source"] == source and heard == set(site.pmus) else {}


def is_sel_as_captured(frequency: dict[str, Any]) -> None:
    """Against Zeek's decoding; the first frame stands for all, they differ by less."""
    assert frequency["quality"] == "good"
    assert (frequency["frequency_hz"], frequency["rocof_hz_per_s"]) == (50.0, 0.0)
    names = [each["name"] for each in frequency["phasors"]]
    assert names == ["V1LPM", "VALPM", "VBLPM", "VCLPM"]
    for phasor, (real, imaginary) in zip(frequency["phasors"], ZEEK[0], strict=True):
        angle_deg = math.degrees(math.atan2(imaginary, real))
        assert phasor["unit"] == "V"
        assert phasor["magnitude"] == pytest.approx(math.hypot(real, imaginary), rel=1e-3)
        assert phasor["angle_deg"] == pytest.approx(angle_deg, abs=0.5)


def is_ge_as_captured(frequency: dict[str, Any]) -> None:
    """Against Wireshark's decoding of the one frame."""
    assert (frequency["frequency_hz"], frequency["quality"]) == (50.0, "good")
    magnitudes = [each["magnitude"] for each in frequency["phasors"]]
    angles_deg = [each["angle_deg"] for each in frequency["phasors"]]
    assert magnitudes == pytest.approx([100.078, 99.946, 100.010], abs=1e-3)
    assert angles_deg == pytest.approx([-89.802, 150.112, 30.157], abs=1e-3)


def is_vizimax_and_refused(site: ForeignSite, frequency: dict[str, Any]) -> None:
    """First in the order of trust, decoded whole, and not believed."""
    source = next(each for each in frequency["sources"] if each["id"] == VIZIMAX)
    assert (source["believed"], source["quality"]) == (False, "implausible")
    assert source["text"] == "frequency outside 45 to 55 Hz; clock failure"
    assert [each["unit"] for each in source["phasors"]] == ["A"] * 5 + ["V"] * 5
    captured = site.pmus[VIZIMAX].captured(96, 64)  # FREQ, magnitude of the seventh phasor
    assert captured[0] == pytest.approx((60.0283, 95269.320), abs=1e-3)  # as Wireshark decodes it
    shown = source["frequency_hz"], source["phasors"][6]["magnitude"]
    assert any(shown == pytest.approx(each) for each in captured)
    counted = site.daemon.get("/v1/status")["diagnostics"]["pmus"][VIZIMAX]
    assert counted["published"] > 0
    assert (counted["bad_bytes"], counted["undecoded"]) == (0, 0)
    assert (counted["config"]["station"], counted["config"]["nominal_hz"]) == ("Reporting1", 60.0)
