"""`vppd commission` against a whole site on virtual time: the real house and its gate, drivers over
the real protocol, the simulated plant with its meter, and the real socket. Every fault is at the
device or in a profile, none in the daemon."""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests import process_site
from tests.config_site import FINE, loaded, settings_of
from tests.site_rig import SiteRig, profile, site_settings
from tests.survey_site import inverter_seat, seat, unit
from tests.virtual_time import virtual
from vppd.app import site_of
from vppd.cli.commission.bump import BumpTest, Daemon, Refused
from vppd.cli.commission.command import Prepared, perform, prepare
from vppd.cli.commission.preflight import forbids, words
from vppd.core.alarms import Code
from vppd.core.asset import asset_of
from vppd.core.model import Point
from vppd.core.profile import DeviceProfile, Writable
from vppd.core.records import CommandRow, EventRow
from vppd.core.settings import MeterSettings, Settings
from vppd.field.step_verdict import Allowed
from vppd.northbound.commission import reactive_point
from vppd.northbound.server import Server
from vppd.sim.inverter import Inverter

HOLD_S = 12.0
METER = MeterSettings(profile="eastron-sdm630", host="10.0.1.90", unit_id=1)


def settings(**changed: Any) -> Settings:
    """Two units and a meter; `own` replaces the shipped map of the units."""
    own: DeviceProfile | None = changed.pop("own", None)
    made = site_settings(("A", "B"), meter=METER, **changed)
    profiles = {**made.profiles, METER.profile: meter_profile()}
    if own is not None:
        profiles[own.name] = own
    return replace(made, profiles=profiles)


def meter_profile() -> DeviceProfile:
    """The shipped map, as the configuration reads it."""
    text = FINE["field.yaml"] + "meter: {profile: eastron-sdm630, host: 127.0.0.9}\n"
    return settings_of(loaded(FINE | {"field.yaml": text})).profiles[METER.profile]


@dataclass
class Bench:
    """A running site with its socket, and the command that asks it."""

    rig: SiteRig
    path: Path
    output: Path
    said: list[str] = field(default_factory=list)
    prepared: Prepared | None = None
    test: BumpTest | None = None

    async def prepare(self, power_kw: float = 5.0) -> Prepared:
        self.prepared = await prepare(Daemon(str(self.path)), "A", power_kw, HOLD_S)
        return self.prepared

    async def commission(
        self, meanwhile: Callable[["Bench"], Any] | None = None, settling_s: float = 5.0
    ) -> int:
        """The whole command but for its words and its question; the exit code."""
        prepared = await self.prepare()
        assert list(forbids(prepared.bump, prepared.basis, prepared.view)) == []
        self.test = BumpTest(
            Daemon(str(self.path)), self.rig.clock, prepared.bump, prepared.basis, self.said.append
        )
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(
                perform(self.test, prepared, Allowed(settling_s=settling_s), self.output)
            )
            if meanwhile is not None:
                await meanwhile(self)
        return running.result()

    @property
    def report(self) -> str:
        (path,) = self.output.glob("*.md")
        return path.read_text()

    @property
    def causes(self) -> list[str]:
        return [line for line in self.said if line.startswith("probable cause")]

    def account(self) -> str:
        return "\n".join(self.said)

    def event(self) -> EventRow:
        rows = [row for row in self.rig.rows() if isinstance(row, EventRow)]
        (found,) = [row for row in rows if row.code == Code.COMMISSIONED]
        return found

    def most_kw(self) -> float:
        """The largest setpoint unit A was told."""
        return max(abs(each.power_kw) for each in self.rig.told("A"))


@contextlib.asynccontextmanager
async def bench(tmp_path: Path, **changed: Any) -> AsyncIterator[Bench]:
    async with SiteRig(settings(**changed)) as rig:
        server = Server(site_of(rig.house, dict, None), tmp_path / "v.sock")
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(server.run())
            await rig.until((tmp_path / "v.sock").exists, within_s=5.0)
            await rig.run(2.0)
            yield Bench(rig, tmp_path / "v.sock", tmp_path / "out")
            task.cancel()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path


# ---- a healthy unit -------------------------------------------------------------------------


@virtual
async def test_a_healthy_unit_passes_with_plausible_numbers(place: Path) -> None:
    async with bench(place) as site:
        site.rig.plant.inject("site_load", "meter", load_kw=37.0)
        await site.rig.run(2.0)
        assert await site.commission() == 0, site.account()
        assert site.causes == []
        assert site.most_kw() == pytest.approx(5.0)
        assert max(abs(each.power_kw) for each in site.rig.told("B")) == 0.0
        report = site.report
        assert report.startswith("# Bump test of A: PASS")
        for words_ in ("vpp-bess-v2", "UTC; 2026-01-01", "IST", "settings sha256", "uid "):
            assert words_ in report, words_
        assert "**fail**" not in report
        for what in ("controller: sign", "controller: scale", "meter: sign", "dc: scale"):
            assert f"| {what} | **pass** |" in report
        row = next(line for line in report.splitlines() if line.startswith("| controller | 0.00"))
        _, _, _, _, final, error, times, dead, *_ = (cell.strip() for cell in row.split("|"))
        assert (float(final), float(error), float(times)) == (5.0, 0.0, 1.0)
        assert 0.0 < float(dead) <= 1.6, "half a second of ramp, a write, half a second of poll"
        event = site.event()
        path = next(site.output.glob("*.md"))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        assert json.loads(event.data_json) == {
            "verdict": "pass",
            "report": path.name,
            "sha256": sha256,
            "uid": json.loads(event.data_json)["uid"],
        }
        assert f"sha256: {sha256}" in site.said
        assert site.rig.house.bus.plans() == ()


@virtual
async def test_the_report_stands_for_the_files_beside_it(place: Path) -> None:
    async with bench(place) as site:
        assert await site.commission() == 0, site.account()
        named = dict(re.findall(r"\| (\S+\.(?:svg|csv)) \| ([0-9a-f]{64}) \|", site.report))
        beside = {path.name for path in site.output.iterdir()} - {
            next(site.output.glob("*.md")).name
        }
        assert named.keys() == beside
        assert len(named) == 4
        for name, sha256 in named.items():
            assert hashlib.sha256((site.output / name).read_bytes()).hexdigest() == sha256
        for name in (name for name in named if name.endswith(".svg")):
            text = (site.output / name).read_text()
            ET.fromstring(text)  # noqa: S314  our own
            for label in ("setpoint", "controller", "meter", "time, s", "power, kW", "± 0.25 kW"):
                assert f">{label}" in text or label in text, label
        rows = (site.output / next(n for n in named if n.endswith(".csv"))).read_text()
        assert rows.splitlines()[0] == "at_s,trace,value"
        assert {line.split(",")[1] for line in rows.splitlines()[1:]} >= {"told", "meter", "dc"}


@virtual
async def test_it_is_readable_in_the_events_of_the_socket(place: Path) -> None:
    async with bench(place) as site:
        assert await site.commission() == 0, site.account()
        daemon = Daemon(str(site.path))
        for body in (
            {"verdict": "pass", "sha256": "0" * 63, "report": "x.md"},
            {"verdict": "fine", "sha256": "0" * 64, "report": "x.md"},
            {"verdict": "pass", "report": "x.md"},
        ):
            with pytest.raises(Refused):
                await daemon.post("/v1/units/A/commission", body)
        commands = [row for row in site.rig.rows() if isinstance(row, CommandRow)]
        assert ("commission", "accepted") in {(row.verb, row.verdict) for row in commands}


# ---- seeded faults at the device ------------------------------------------------------------


@virtual
async def test_a_meter_with_its_ct_reversed_is_found(place: Path) -> None:
    async with bench(place) as site:
        site.rig.plant.inject("ct_reversed", "meter")
        await site.rig.run(2.0)
        assert await site.commission() == 1
        assert "meter: CT reversed" in site.causes[0], site.account()
        await _at_rest(site)


@virtual
async def test_a_controller_that_measures_the_other_way_is_found(place: Path) -> None:
    async with bench(place) as site:
        site.rig.plant.inject("inverted_sign", "A")
        await site.rig.run(2.0)
        assert await site.commission() == 1
        assert "wrong way" in site.account()
        assert "sign of controller is inverted in the profile, or its CT reversed" in site.causes[0]
        await _at_rest(site)


@virtual
async def test_a_controller_that_measures_ten_times_is_found(place: Path) -> None:
    async with bench(place) as site:
        site.rig.plant.inject("scale_ten", "A")
        await site.rig.run(2.0)
        assert await site.commission() == 1
        assert "more than twice the bump" in site.account()
        assert "scale of controller in the profile is times 10 too much" in site.causes[0]
        await _at_rest(site)


@virtual
async def test_a_slow_device_is_found(place: Path) -> None:
    class Sluggish(Inverter):
        """An inverter that takes its time."""

        def advance(self, command_kw: float, command_kvar: float, duration_s: float) -> None:
            super().advance(command_kw, command_kvar, duration_s / 25.0)

    async with bench(place) as site:
        site.rig.plant.unit("A").inverter = Sluggish(100.0, 110.0)
        assert await site.commission() == 1
        assert "settling time: fail" in site.account(), site.account()
        assert "BROKEN OFF" not in site.account()


@virtual
async def test_a_device_that_takes_setpoints_and_does_nothing_is_found(place: Path) -> None:
    class Idle(Inverter):
        """Its breaker is open."""

        def advance(self, command_kw: float, command_kvar: float, duration_s: float) -> None:
            super().advance(0.0, 0.0, duration_s)

    async with bench(place) as site:
        site.rig.plant.unit("A").inverter = Idle(100.0, 110.0)
        assert await site.commission() == 1
        assert "takes the setpoint and does nothing" in site.causes[0], site.account()


@virtual
async def test_power_that_shows_at_another_unit_is_found(place: Path) -> None:
    """A gateway that hands the setpoints of A on to B's inverter."""

    class Giving(Inverter):
        """Hands on what it is told."""

        told_kw = 0.0

        def advance(self, command_kw: float, command_kvar: float, duration_s: float) -> None:
            self.told_kw = command_kw
            super().advance(0.0, 0.0, duration_s)

    class Taking(Inverter):
        """Does what the other is told."""

        def advance(self, command_kw: float, command_kvar: float, duration_s: float) -> None:
            super().advance(command_kw + giving.told_kw, command_kvar, duration_s)

    async with bench(place) as site:
        giving = Giving(100.0, 110.0)
        site.rig.plant.unit("A").inverter = giving
        site.rig.plant.unit("B").inverter = Taking(100.0, 110.0)
        assert await site.commission() == 1
        assert site.causes == [
            "probable cause: wrong unit: the power appears at B. Look at address, port and unit id"
            " of both, and at the labels of the cables"
        ], site.account()


@virtual
async def test_a_wrong_unit_id_is_found_before_anything_is_asked(place: Path) -> None:
    async with bench(place) as site:
        site.rig.plant.inject("wrong_unit_id", "A")
        await site.rig.until(lambda: site.rig.state("A") == "lost", within_s=10.0)
        made = await site.prepare()
        reasons = list(forbids(made.bump, made.basis, made.view))
        assert any("A is lost" in reason for reason in reasons), reasons
        assert any("link_lost" in reason for reason in reasons)


# ---- wrong profiles -------------------------------------------------------------------------


def turned(**changed: Any) -> DeviceProfile:
    """The shipped map with its setpoint, and the read-back of it, otherwise."""
    made = profile("vpp-bess-v2")
    point, write = made.points[Point.SETPOINT_KW], made.writes[Writable.POWER_KW]
    return replace(
        made,
        points={**made.points, Point.SETPOINT_KW: replace(point, **changed)},
        writes={**made.writes, Writable.POWER_KW: replace(write, **changed)},
    )


@virtual
async def test_an_inverted_sign_of_the_setpoint_is_found(place: Path) -> None:
    async with bench(place, own=turned(sign=1)) as site:
        assert await site.commission() == 1
        assert site.causes == [
            "probable cause: the sign of the setpoint is inverted in the profile"
            " (writes.power_kw.sign): told to discharge, the device charges"
        ], site.account()
        assert "ABORTED" in site.report
        assert json.loads(site.event().data_json)["verdict"] == "aborted"
        assert site.most_kw() <= 5.0
        await _at_rest(site)


@virtual
async def test_a_setpoint_scaled_times_ten_is_found_and_ends_at_once(place: Path) -> None:
    async with bench(place, own=turned(scale=0.01)) as site:
        begun_s = site.rig.now_s
        assert await site.commission() == 1
        assert "writes.power_kw.scale) is times 10 too much" in site.causes[0], site.account()
        large = [each for each in site.rig.told("A", begun_s) if abs(each.power_kw) > 10.0]
        assert large[-1].at_s - large[0].at_s < 2.0, "a poll, a look, and the way back"
        assert "times 10" in site.report
        await _at_rest(site)


@virtual
async def test_a_setpoint_scaled_down_ten_times_is_found(place: Path) -> None:
    async with bench(place, own=turned(scale=1.0)) as site:
        assert await site.commission() == 1
        assert "writes.power_kw.scale) is times 0.1" in site.causes[0], site.account()


# ---- what breaks it off ---------------------------------------------------------------------


async def _while_bumping(site: Bench) -> None:
    await site.rig.until(lambda: site.rig.held_kw("A") == 5.0, within_s=60.0)
    await site.rig.run(1.0)


async def _fault(site: Bench) -> None:
    await _while_bumping(site)
    site.rig.plant.inject("fault_bits", "A", bits=1)


async def _silence(site: Bench) -> None:
    await _while_bumping(site)
    site.rig.plant.inject("silence", "A")


async def _stop(site: Bench) -> None:
    await _while_bumping(site)
    await Daemon(str(site.path)).post("/v1/units/site/control", {"command": "emergency_stop"})


async def _interrupt(site: Bench) -> None:
    await _while_bumping(site)
    assert site.test is not None
    site.test.stop = "interrupted by the operator (SIGINT)"


ENDS = [
    (_fault, "device_fault"),
    (_silence, "no answer within 1 s"),
    (_stop, "emergency_stop"),
    (_interrupt, "interrupted by the operator"),
]


@pytest.mark.parametrize(("end", "word"), ENDS)
def test_trouble_ends_it_at_0_kw(place: Path, end: Callable[[Bench], Any], word: str) -> None:
    @virtual
    async def run() -> None:
        async with bench(place) as site:
            assert await site.commission(end) == 1
            assert word in site.account()
            assert "BROKEN OFF" in site.account()
            await site.rig.until(lambda: abs(site.rig.gives_kw("A")) < 0.1, within_s=8.0)
            assert json.loads(site.event().data_json)["verdict"] == "aborted"
            assert word in site.report
            assert site.causes == [], "a device that is stopped is not a device that is wrong"

    run()


@virtual
async def test_a_tool_that_dies_leaves_its_power_for_a_lease_only(place: Path) -> None:
    async with bench(place) as site:
        prepared = await site.prepare()
        test = BumpTest(
            Daemon(str(site.path)), site.rig.clock, prepared.bump, prepared.basis, site.said.append
        )
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(test.run())
            await _while_bumping(site)
            running.cancel()
        await site.rig.until(lambda: site.rig.held_kw("A") == 0.0, within_s=6.0)
        assert site.rig.house.bus.plans() == ()


@virtual
async def test_another_operator_is_obeyed_and_not_fought(place: Path) -> None:
    async def other(site: Bench) -> None:
        await _while_bumping(site)
        body = {"power_kw": 20.0, "duration_s": 900}
        await Daemon(str(site.path)).post("/v1/units/A/power", body)

    async with bench(place) as site:
        assert await site.commission(other) == 1
        assert "commands A now" in site.account()
        await site.rig.until(lambda: site.rig.held_kw("A") == 20.0, within_s=5.0)
        (plan,) = site.rig.house.bus.plans()
        assert plan.power_kw == 20.0


# ---- before anything moves ------------------------------------------------------------------


@virtual
async def test_what_forbids_it_is_said_in_words(place: Path) -> None:
    async with bench(place) as site:
        made = await site.prepare(power_kw=11.0)
        assert any("more than 10 %" in each for each in forbids(made.bump, made.basis, made.view))
        made = await site.prepare(power_kw=0.5)
        assert any("steps of 0.1" in each for each in forbids(made.bump, made.basis, made.view))
        site.rig.plant.inject("soc", "A", soc_pct=9.0)
        site.rig.plan(20.0, "A", source="operator:eva")
        await site.rig.run(3.0)
        made = await site.prepare()
        reasons = list(forbids(made.bump, made.basis, made.view))
        assert any("operator:eva holds A at +20.0 kW" in each for each in reasons), reasons
        assert any("its limits leave -100.0 to +0.0 kW" in each for each in reasons)
        assert any("SoC 9.0 %" in each for each in reasons)


@virtual
async def test_what_will_be_done_is_said_in_words(place: Path) -> None:
    async with bench(place) as site:
        site.rig.plan(30.0)
        await site.rig.run(5.0)
        made = await site.prepare()
        text = "\n".join(words(made.bump, made.basis, made.view, made.status))
        assert "Bump test of A (100 kW, 250 kWh, modbus vpp-bess-v2, meter eastron-sdm630)" in text
        assert "+5 kW (discharge), 0, -5 kW (charge) and 0, each for 12 s: about 1 min." in text
        assert "judged by: active power of the controller" in text
        assert "and by: the site meter less what the other units gave" in text
        assert "(same device: not independent)" in text
        assert "B running +15.0 kW" in text


@virtual
async def test_beside_a_working_site_the_others_are_taken_off_the_meter(place: Path) -> None:
    async with bench(place) as site:
        site.rig.plan(30.0)
        site.rig.plant.inject("site_load", "meter", load_kw=20.0)
        await site.rig.run(5.0)
        assert await site.commission() == 0, site.account()
        await site.rig.until(lambda: abs(site.rig.gives_kw("A") - 15.0) < 0.2, within_s=5.0)


async def _at_rest(site: Bench) -> None:
    await site.rig.until(lambda: abs(site.rig.gives_kw("A")) < 0.1, within_s=3.0)
    assert site.rig.held_kw("A") == 0.0
    (plan,) = site.rig.house.bus.plans()
    assert plan.power_kw == 0.0, "and it stays there"


# ---- the command as a process ---------------------------------------------------------------


@pytest.fixture(scope="module")
def site() -> Iterator[process_site.Site]:
    with tempfile.TemporaryDirectory(prefix="vppd-test-") as name:
        made = process_site.Site(Path(name))
        try:
            made.controlled()
            yield made
        finally:
            made.close()


def command(site: process_site.Site, *more: str, typed: str = "") -> subprocess.Popen[str]:
    socket, output = site.daemon.socket, site.directory / "reports"
    running = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "vppd", "commission", "A", "--socket", str(socket)),
            *("--output", str(output), "--hold", "5s", *more),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert running.stdin is not None
    running.stdin.write(typed)
    running.stdin.flush()
    return running


def test_ctrl_c_breaks_it_off_at_0_kw_with_a_report(site: process_site.Site) -> None:
    running = command(site, "--yes")
    process_site.until(
        lambda: site.plant.held_kw("A") == [5.0], 20.0, lambda: site.plant.state("A")
    )
    running.send_signal(signal.SIGINT)
    process_site.until(lambda: site.plant.told_zero("A"), 5.0, lambda: site.plant.state("A"))
    said, _ = running.communicate(timeout=30.0)
    assert running.returncode == 1, said
    assert "BROKEN OFF: interrupted by the operator (SIGINT)" in said
    assert "held at 0 kW for 15 min; for longer: vppctl disable A" in said
    assert "journaled: vppctl events" in said
    (report,) = (site.directory / "reports").glob("*.md")
    sha256 = hashlib.sha256(report.read_bytes()).hexdigest()
    shown = site.daemon.get("/v1/events/recent?last=20")["events"]
    (row,) = [each for each in shown if each["code"] == "commissioned"]
    assert row["unit"] == "A"
    assert f"aborted; {report.name} sha256 {sha256}" in row["text"]
    site.daemon.post("/v1/units/A/power", power_kw=None)


def test_without_the_name_of_the_unit_nothing_is_asked(site: process_site.Site) -> None:
    told = len(site.plant.state("A")["setpoints"])
    running = command(site, typed="yes\n")
    said, _ = running.communicate(timeout=30.0)
    assert running.returncode == 1
    assert "not confirmed: nothing was asked of the unit" in said
    assert site.plant.held_kw("A") == [0.0]
    assert all(each["power_kw"] == 0.0 for each in site.plant.state("A")["setpoints"][told:])


@pytest.mark.parametrize(
    ("devices", "point"),
    [
        ({"modbus"}, Point.REACTIVE_KVAR),
        ({"modbus", "inverter"}, Point.INVERTER_KVAR),
        ({"inverter"}, Point.REACTIVE_KVAR),
    ],
)
def test_reactive_power_is_read_where_the_setpoints_go(devices: set[str], point: Point) -> None:
    seats: dict[str, Any] = {"modbus": seat(502), "inverter": inverter_seat(502)}
    configured = unit(**{name: at for name, at in seats.items() if name in devices})
    model = profile("vpp-bess-v2") if "modbus" in devices else None
    assert reactive_point(asset_of(configured, model)) is point


def test_what_is_not_possible_is_refused(site: process_site.Site) -> None:
    running = command(site, "--yes", "--power-kw", "50")
    said, _ = running.communicate(timeout=30.0)
    assert running.returncode == 1
    assert "NOT possible: a bump of 50 kW is more than 10 % of 100 kW" in said
    assert not list((site.directory / "reports").glob(".*")), "nothing is left behind"


@pytest.mark.parametrize(
    ("words_", "code", "said"),
    [
        (("B9",), 2, "there is no unit B9"),
        (("A", "--hold", "1s"), 2, "--hold 1s: a step is held for 5s to 5m"),
        (("A", "--settle", "soon"), 2, "--settle soon: a time is 90s, 15m"),
        (("A", "--hold", "soon"), 2, "a time is 90s"),
        (("A", "--power-kw", "-5"), 2, "--power-kw"),
        (("A", "--socket", "/nowhere"), 3, "vppd is not running"),
    ],
)
def test_exit_codes(site: process_site.Site, words_: tuple[str, ...], code: int, said: str) -> None:
    socket = ("--socket", str(site.daemon.socket)) if "--socket" not in words_ else ()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "vppd", "commission", *words_, *socket],
        capture_output=True,
        text=True,
        check=False,
        timeout=30.0,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr
