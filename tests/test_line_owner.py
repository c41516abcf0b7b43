"""A serial line has one owner: the second is refused before it says a word, and told what to do.
And an adapter that somebody closed in spite of that, or that was reset, is opened again."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.bms_rig import Ear, Lawicel, shipped, until
from tests.modbus_device import Rig, unit_settings
from tests.modbus_device import shipped as battery_profile
from tests.rig import HandClock
from tests.survey_site import READS, Pty, battery, seat, site, stopping, unit
from vppd.cli.vppd import main
from vppd.core.model import DeviceNotice, LinkChange, Point
from vppd.core.settings import BmsSettings
from vppd.field.drivers.can import REOPEN_MAX_S, CanBus, overhear
from vppd.field.drivers.can_port import CanHeldError
from vppd.field.drivers.hold import IN_USE, HeldError, hold
from vppd.field.drivers.modbus import Endpoint, Line, LineHeld
from vppd.field.survey.can import survey_can
from vppd.field.survey.remarks import ASK_BY_CTL_OR_STOP, ASK_OR_STOP, Remark, Verdict
from vppd.field.survey.scan import scan_line
from vppd.field.survey.whole import survey
from vppd.spine.clock import SystemClock

CLOCK = SystemClock()
BOUND_S = 60.0
PYLON = shipped("pylontech")
SOC_88, SOC_10 = b"t355458005E00\r", b"t35540A005E00\r"


class Standing(HandClock):
    """Time stands until it is moved; who sleeps makes a turn of the loop."""

    turns = 0

    async def sleep_until(self, deadline_s: float) -> None:
        self.turns += 1
        await asyncio.sleep(0.002)

    async def moved(self, seconds: float) -> None:
        """Return when the bus, open, has looked at everything that came until then."""
        self.t_s += seconds
        enough = self.turns + 3
        await until(lambda: self.turns >= enough, BOUND_S)


@asynccontextmanager
async def running(adapter: Lawicel, ear: Ear) -> AsyncIterator[CanBus]:
    bus = CanBus("slcan", str(adapter.path), 500_000, 115_200, ear.clock)
    bus.join(ear.bms)
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        group.create_task(bus.run())
        try:
            yield bus
        finally:
            bus.stop()


async def said_until(adapter: Lawicel, line: bytes, ear: Ear, soc_pct: float) -> None:
    """The battery repeats itself, as batteries do; an adapter that is closed passes nothing on."""
    async with asyncio.timeout(BOUND_S):
        while ear.value(Point.BMS_SOC_PCT) != soc_pct:
            if adapter.open:
                adapter.say(line)
            await asyncio.sleep(0.02)


@contextmanager
def held_line() -> Iterator[Pty]:
    """A serial line that another program holds, on which nothing ever comes."""
    made = Pty({1: battery()})
    file = hold(made.path)
    os.set_blocking(made.master, False)
    yield made
    with pytest.raises(BlockingIOError):
        os.read(made.master, 1)
    for each in (file, made.master, made.slave):
        os.close(each)


@pytest.fixture
def line() -> Iterator[Pty]:
    with held_line() as made:
        yield made


# ---- the lock ------------------------------------------------------------------------------------


def test_a_line_is_held_once_by_whatever_name_it_is_called(line: Pty, tmp_path: Path) -> None:
    (tmp_path / "by-id").symlink_to(line.path)
    for path in (line.path, str(tmp_path / "by-id")):
        with pytest.raises(HeldError, match=r"in use by another program \(a running vppd\?\)"):
            hold(path)
    with pytest.raises(FileNotFoundError):
        hold(str(tmp_path / "none"))


def test_a_refused_holder_leaves_no_file_open(line: Pty) -> None:
    def files() -> int:
        known = [each for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        return sum(str(each.readlink()) == line.path for each in known)

    before = files()
    with pytest.raises(HeldError):
        hold(line.path)
    assert files() == before == 2  # the fixture's


def test_a_child_that_lives_on_does_not_hold_it() -> None:
    made = Pty({})
    file = hold(made.path)
    waits = [sys.executable, "-c", "print('here', flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(waits, stdin=pipe, stdout=pipe, close_fds=False) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"here\n"
        os.close(file)
        os.close(hold(made.path))
        assert child.poll() is None
        child.communicate(b"\n")
    os.close(made.master)
    os.close(made.slave)


# ---- who comes second ----------------------------------------------------------------------------


async def test_a_listener_beside_a_daemon_is_refused_and_the_adapter_stays_open(
    tmp_path: Path,
) -> None:
    clock = Standing()
    ear = Ear(PYLON, clock)
    with Lawicel(tmp_path / "adapter") as adapter:
        async with running(adapter, ear):
            await said_until(adapter, SOC_88, ear, 88.0)
            await until(lambda: "t30580000000000000000" in adapter.lines, BOUND_S)
            before = commands(adapter)
            with pytest.raises(CanHeldError) as refused:
                await overhear("slcan", str(adapter.path), 500_000, 115_200, 0.1, CLOCK)
            assert str(refused.value).startswith(f"slcan {adapter.path}: {IN_USE}")
            clock.t_s += 1.0
            await said_until(adapter, SOC_10, ear, 10.0)
            assert commands(adapter) == before
            assert adapter.open
    assert ear.links == [("b1/bms", True)]
    assert ear.notices == []


def commands(adapter: Lawicel) -> list[str]:
    return [line for line in adapter.lines if line[:1] != "t"]


async def test_when_the_daemon_has_left_the_line_is_free(tmp_path: Path) -> None:
    ear = Ear(PYLON, Standing())
    with Lawicel(tmp_path / "adapter") as adapter:
        async with running(adapter, ear):
            await until(lambda: adapter.open, BOUND_S)
        await until(lambda: not adapter.open, BOUND_S)
        os.close(hold(str(adapter.path)))


async def test_a_daemon_says_that_its_adapter_is_held_and_takes_it_when_it_is_free(
    tmp_path: Path,
) -> None:
    ear = Ear(PYLON, Standing())
    with Lawicel(tmp_path / "adapter") as adapter:
        file = hold(str(adapter.path))
        async with running(adapter, ear):
            await until(lambda: bool(ear.notices and ear.links), BOUND_S)
            text = f"slcan {adapter.path}: {IN_USE}: stop it"
            assert {each.text for each in told(ear, DeviceNotice)} == {text}
            assert {each.text for each in told(ear, LinkChange)} == {text}
            assert adapter.lines == []
            os.close(file)
            await said_until(adapter, SOC_88, ear, 88.0)
            await until(lambda: ear.links == [("b1/bms", False), ("b1/bms", True)], BOUND_S)
            await until(lambda: ear.notices == [("can_lost", True), ("can_lost", False)], BOUND_S)


def told(ear: Ear, kind: Any) -> list[Any]:
    return [each for each in ear.reports if isinstance(each, kind)]


async def test_a_daemon_says_that_its_modbus_line_is_held_and_takes_it_when_it_is_free() -> None:
    made = await Pty({1: battery()}).start()
    file = hold(made.path)
    at = {"serial": made.path, "baudrate": 115_200, "poll_s": 0.1, "timeout_s": 1.0}
    rig = Rig(CLOCK, [unit_settings("U1", None, 0, **at)], battery_profile())
    with stopping(made):
        async with asyncio.timeout(BOUND_S), rig.running():
            await until(lambda: bool(rig.of(LinkChange)), BOUND_S)
            assert rig.of(LinkChange)[0].text == f"{made.path}: {IN_USE}: stop it"
            assert made.functions == []
            os.close(file)
            await until(lambda: len(rig.of(LinkChange)) > 1, BOUND_S)
            assert rig.of(LinkChange)[1].up


async def test_a_modbus_line_of_ours_is_refused_to_the_survey() -> None:
    made = await Pty({1: battery()}).start()
    endpoint = Endpoint(None, 0, made.path, 115_200)
    ours = Line(endpoint, CLOCK, lambda: None)
    at = seat(0, host=None, serial=made.path, baudrate=115_200, timeout_s=1.0)
    settings = site(unit(modbus=at), profiles={"p": battery_profile()})
    words: list[str] = []
    with stopping(made):
        await ours.connect(1.0)
        (sheet,) = await survey(settings, CLOCK)
        assert await scan_line(endpoint, (1,), {}, 0.1, CLOCK, words.append) == []
        with pytest.raises(LineHeld):
            await Line(endpoint, CLOCK, lambda: None).connect(1.0)
        assert made.functions == []
        ours.close()
        (after,) = await survey(settings, CLOCK)
    assert sheet.remarks == (held(made.path),)
    assert words == [f"{made.path}: {IN_USE}: {ASK_BY_CTL_OR_STOP}"]
    assert after.verdict is Verdict.OK
    assert set(made.functions) <= READS


def held(where: str) -> Remark:
    return Remark(Verdict.WRONG, "reachable", f"{where}: {IN_USE}", ASK_OR_STOP)


async def test_a_held_adapter_is_left_alone_by_the_survey(line: Pty) -> None:
    bms = BmsSettings(dbc="pylontech", interface="slcan", channel=line.path)
    settings = site(unit(modbus=seat(1), bms=bms), profiles={"p": battery_profile()})
    (sheet,) = await survey_can(replace(settings, bms_profiles={"pylontech": PYLON}), CLOCK)
    assert sheet.remarks == (held(f"slcan {line.path}"),)


# ---- as a person sees it -------------------------------------------------------------------------


FIELD = """\
units:
  - id: A
    building: B
    rated_power_kw: 100
    energy_kwh: 250
    modules_parallel: 23
    modbus: {{profile: vpp-bess-v2, serial: {line}, timeout_s: 0.3}}
    bms: {{dbc: vpp-bms, interface: slcan, channel: {can}}}
"""


def vppd(*words: object) -> Result:
    return CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)


def test_check_live_names_the_port_and_the_remedy(line: Pty, tmp_path: Path) -> None:
    with held_line() as can:
        field = FIELD.format(line=line.path, can=can.path)
        (tmp_path / "vppd.yaml").write_text("site: {id: here}\nmode: hardware\n", encoding="utf-8")
        (tmp_path / "field.yaml").write_text(field, encoding="utf-8")
        result = vppd("check", "--live", "--config", tmp_path, "--socket", tmp_path / "none")
    assert result.exit_code == 1, result.output
    for where in (f"slcan {can.path}", line.path):
        text = f"{where}: in use by another program (a running vppd?)"
        assert f"  WRONG  reachable  {text}\n" in result.stdout
    assert result.stdout.count("-> ask it with --socket, or stop it") == 2


def test_discover_names_the_port_and_the_remedy(line: Pty, tmp_path: Path) -> None:
    words = "in use by another program (a running vppd?): ask it with vppctl --socket, or stop it"
    for where, place in (
        (("--serial", line.path), line.path),
        (("--can", f"slcan:{line.path}"), f"slcan:{line.path}"),
    ):
        result = vppd("discover", *where, "--config", tmp_path)
        assert result.exit_code == 1
        assert f"{place}: {words}\n" in result.stderr
        assert "Traceback" not in result.output


# ---- an adapter that was closed, or forgot that it was opened ------------------------------------


async def test_an_adapter_closed_by_another_program_is_opened_again(tmp_path: Path) -> None:
    clock = Standing()
    ear = Ear(PYLON, clock)
    with Lawicel(tmp_path / "adapter") as adapter:
        async with running(adapter, ear) as bus:
            await said_until(adapter, SOC_88, ear, 88.0)
            other = os.open(adapter.path, os.O_RDWR | os.O_NOCTTY)
            os.write(other, b"C\r")
            os.close(other)
            await until(lambda: not adapter.open, BOUND_S)
            adapter.lines.clear()
            await clock.moved(0.0)
            clock.t_s += ear.bms.quiet_s + 0.01
            await said_until(adapter, SOC_10, ear, 10.0)
            assert bus.counters.reopened == 1
            again = [line for line in commands(adapter) if line]
            assert again == ["C", "C", "S6", "O", "O"], "closed, and opened as at first"
    assert ear.links == [("b1/bms", True), ("b1/bms", False), ("b1/bms", True)]
    assert ear.notices == [], "the lost battery is told; its adapter is in order"


async def test_how_long_a_silence_may_last(tmp_path: Path) -> None:
    """A battery that is switched off: its adapter is opened anew ever more rarely, up to a bound;
    its loss is told once."""
    clock = Standing()
    ear = Ear(PYLON, clock)
    quiet_s = ear.bms.quiet_s
    waits_s = [quiet_s, 2 * quiet_s, 4 * quiet_s, *2 * [quiet_s + REOPEN_MAX_S]]
    with Lawicel(tmp_path / "adapter") as adapter:
        async with running(adapter, ear) as bus:
            await opened_anew_after(waits_s, clock, bus)
            assert ear.links == [("b1/bms", False)]
            await said_until(adapter, SOC_88, ear, 88.0)
            await opened_anew_after([quiet_s], clock, bus)
    assert ear.links == [("b1/bms", False), ("b1/bms", True), ("b1/bms", False)]
    assert ear.notices == []


async def opened_anew_after(waits_s: Sequence[float], clock: Standing, bus: CanBus) -> None:
    for wait_s in waits_s:
        await clock.moved(0.0)
        before = bus.counters.reopened
        await clock.moved(wait_s - 0.01)
        assert bus.counters.reopened == before
        clock.t_s += 0.02
        await until(lambda before=before: bus.counters.reopened == before + 1, BOUND_S)  # type: ignore[misc]


async def test_other_interfaces_are_not_opened_anew(tmp_path: Path) -> None:
    clock = Standing()
    ear = Ear(PYLON, clock)
    with Lawicel(tmp_path / "line") as adapter:
        bus = CanBus("serial", str(adapter.path), 500_000, 115_200, clock)
        bus.join(ear.bms)
        async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
            group.create_task(bus.run())
            for _ in range(3):
                await clock.moved(ear.bms.quiet_s + REOPEN_MAX_S)
            bus.stop()
    assert bus.counters.reopened == 0
    assert ear.links == [("b1/bms", False)]
