"""vppctl as people and scripts use it: the real command against a real socket."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import sqlite3
import struct
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.api_site import UNITS, Rig, make_rig, open_directory, serving, until
from vppd.cli import tables, vppctl, words
from vppd.cli.values import duration_s
from vppd.core.alarms import Code
from vppd.core.model import LinkChange, Point
from vppd.field.sunspec.curves import CurveKind
from vppd.northbound.history import SELECTS
from vppd.record import DecisionLog
from vppd.spine.clock import SystemClock
from vppd.spine.journal import SqliteJournal

B1, B2, B3, B4 = UNITS
IST = "Asia/Kolkata"


class Said:
    """What one run of the command said, and its exit code."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code, self.out, self.err = code, out.decode(), err.decode()

    def json(self) -> Any:
        return json.loads(self.out)


async def run(*arguments: str, **environment: str) -> Said:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vppd.cli.vppctl", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Said(process.returncode, out, err)


class Bench:
    """A live site and the command that asks it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    async def says(self, words_: str, code: int = 0) -> Said:
        said = await run("--socket", str(self.rig.path), *words_.split())
        assert said.code == code, (words_, said.out, said.err)
        return said


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    rig = make_rig(tmp_path / "v.sock", clock=SystemClock())
    async with serving(rig):
        yield Bench(rig)


# ---- looking --------------------------------------------------------------------------------


async def test_status_is_one_screen_that_tells_the_truth(bench: Bench) -> None:
    bench.rig.frequency_hz = 49.7
    bench.rig.values[B2, Point.SOC_PCT] = None
    bench.rig.lose(B2, Point.SOC_PCT)
    bench.rig.site.gate.trip(B3, Code.OVER_TEMPERATURE, "61.0 °C", "vppd")
    await bench.rig.beat(15)
    said = await bench.says("status")
    lines = said.out.splitlines()
    assert lines[0].startswith("The Lab (lab): degraded, mode hardware, up ")
    assert lines[1].startswith("owe +48.0 kW (idle +0.0, droop +48.0), give +")
    assert any(line.startswith("49.700 Hz, low, pmu") for line in lines)
    units = {line.split()[0]: line.split() for line in lines if line.startswith("B")}
    assert units["B2"][1:6] == ["stopped", "+0.0", "+0.0", "+0.0", "?"], "blind: no discharge"
    assert units["B3"][1:5] == ["tripped", "+0.0", "+0.0", "+0.0"]
    assert units["B3"][-1] == "over_temperature"
    tripped = r"EMERGENCY over_temperature B3 at \d\d:\d\d:\d\d IST \([\d.]+ s ago\): 61.0 °C"
    assert re.search(tripped, said.out), "not as if it were so now"
    assert "IST" in said.out, "times are the site's"
    assert "    inspect, then reset" in lines
    assert lines[-1].startswith("ticks 0, late 0, lag p99")
    assert len(lines) <= 24
    assert max(len(line) for line in lines) <= 100


async def test_every_verb_that_shows_shows(bench: Bench) -> None:
    bench.rig.values[B1, Point.SOC_PCT] = 10.5
    await bench.rig.beat(3)
    for verb, shown in (
        ("units", "B1    ready"),
        ("unit B1", "soc_low"),
        ("campus", "registered"),
        ("frequency", "50.0000 Hz, normal"),
        ("alarms", "no alarms"),
        ("violations", "soc_low"),
        ("why B1", "owed"),
    ):
        said = await bench.says(verb)
        assert shown in said.out, (verb, said.out)
        assert said.err == ""


async def test_json_is_what_the_daemon_said(bench: Bench) -> None:
    for verb in ("--json status", "status --json"):
        status = (await bench.says(verb)).json()
        assert (status["site"], len(status["units"])) == ("lab", 4)
    refused = await bench.says("--json power B9 10", code=1)
    assert refused.json()["type"] == "urn:vppd:problem:unknown-unit"


async def test_why_tells_the_whole_chain(bench: Bench) -> None:
    bench.rig.values[B1, Point.SOC_PCT] = 11.5
    await bench.says("power B1 90")
    await bench.rig.beat(10)
    said = await bench.says("why B1")
    words_ = [line.split()[0] for line in said.out.splitlines()[1:]]
    assert words_ == ["owed", "asked", "cut", "got", "write", "read", "measured", "rule"]
    assert "soc_low +90.0 -> +50.0 kW" in said.out


async def test_the_market_says_it_is_not_there(bench: Bench) -> None:
    assert "market layer not configured" in (await bench.says("market", code=1)).err


# ---- commanding -----------------------------------------------------------------------------


async def test_dispatch_takes_minus_and_release(bench: Bench) -> None:
    said = await bench.says("dispatch -50 --for 2m --strategy priority")
    [plan] = bench.rig.site.bus.plans()
    assert (plan.power_kw, plan.strategy, plan.unit) == (-50.0, "priority", "site")
    assert 110.0 < plan.valid_until_s - bench.rig.site.clock.now_s() <= 120.0
    assert said.out.startswith("plan site -50.0 kW, priority by operator:")
    assert "expected -50.0 kW, bound by -" in said.out
    assert "released: plan site -50.0 kW" in (await bench.says("dispatch release")).out
    assert bench.rig.site.bus.plans() == ()
    assert "nothing to release" in (await bench.says("dispatch release")).out


async def test_power_pins_a_unit(bench: Bench) -> None:
    await bench.says("power B1 -20 --kvar -5 --droop --for 90s")
    [plan] = bench.rig.site.bus.plans()
    assert (plan.unit, plan.power_kw, plan.reactive_kvar, plan.droop) == ("B1", -20.0, -5.0, True)
    await bench.says("power B1 release")
    assert bench.rig.site.bus.plans() == ()


async def test_what_binds_a_plan_is_shown(bench: Bench) -> None:
    bench.rig.values[B2, Point.SOC_PCT] = 10.0
    await bench.rig.beat(3)
    said = await bench.says("dispatch 400")
    assert "expected +300.0 kW, bound by room, soc_low" in said.out
    assert "B2: soc_low +100.0 -> +0.0 kW" in said.out


async def test_stop_and_reset(bench: Bench) -> None:
    gate = bench.rig.site.gate

    def shut() -> bool:
        return gate.shut_by is not None

    said = await bench.says("disable B1")
    assert "disabled: B1 by " in said.out
    assert "latched" not in said.out
    assert gate.latches.disabled(B1)
    await bench.says("enable B1")
    assert not gate.latches.disabled(B1)
    assert "latched: site: emergency_stop" in (await bench.says("estop")).out
    assert shut()
    assert "reset: site: emergency_stop" in (await bench.says("reset")).out
    assert not shut()
    await bench.says("estop B2")
    said = await bench.says("reset D1")
    assert "nothing was latched on D1" in said.out
    assert "still latched: B2: emergency_stop" in said.out
    await bench.says("reset B2")
    assert gate.latches.all() == ()


def test_events_say_nothing_twice_and_who_did_it() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as rows:
        rows.execute('CREATE TABLE trip (at, scope, code, action, text, "by")')
        made = [("61 C", "vppd"), ("by a (uid 1)", "a (uid 1)"), ("pressed by a", "b"), ("", "a")]
        for at, (text, by) in enumerate(made):
            rows.execute("INSERT INTO trip VALUES (?, 'B1', 'c', 'trip', ?, ?)", (at, text, by))
        rows.execute("CREATE TABLE command (at, unit, verb, user, verdict, text)")
        rows.execute("INSERT INTO command VALUES (0, 'B1', 'enable', 'a', 'accepted', '')")
        trips = [row[4] for row in rows.execute(SELECTS["trip"] + " ORDER BY at")]
        commands = [row[4] for row in rows.execute(SELECTS["command"])]
    assert trips == ["61 C; by vppd", "by a (uid 1)", "pressed by a; by b", "by a"]
    assert commands == ["accepted"]


async def test_droop_on_and_off(bench: Bench) -> None:
    assert "droop is off" in (await bench.says("droop off")).out
    assert not bench.rig.site.tick.duty.droop.enabled
    await bench.says("droop on")
    assert bench.rig.site.tick.duty.droop.enabled


async def test_what_could_not_be_journaled_is_said(bench: Bench) -> None:
    bench.rig.journal.broken = True
    assert "NOT journaled" in (await bench.says("droop off")).out


async def test_a_refusal_is_exit_1_with_the_remedy(bench: Bench) -> None:
    for verb, why in (
        ("dispatch 500", "-400 to 400"),
        ("dispatch 10 --strategy luck", "must be one of proportional"),
        ("power B9 1", "there are B1, B2, B3, B4"),
        ("reload", "restart it"),
        ("unit B%2F1", "there is no unit B%2F1"),
        ("why B1 --at noon", "ISO 8601"),
    ):
        said = await bench.says(verb, code=1)
        assert why in said.err, (verb, said.err)
        assert said.out == ""
    assert bench.rig.site.bus.plans() == ()


# ---- events, top ----------------------------------------------------------------------------


async def test_events_follow(bench: Bench) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vppd.cli.vppctl", "--socket", str(bench.rig.path), "--json"),
        *("events", "--follow"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        await process.stdout.readuntil(b'"event": "status"')
        await bench.rig.post("/v1/droop", {"enabled": False})
        line = await process.stdout.readuntil(b'"event": "command"')
        assert line
        assert b'"verb": "droop"' in await process.stdout.readline()
    finally:
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def test_top_draws_on_a_terminal_of_80_by_24(bench: Bench) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vppd.cli.vppctl", "--socket", str(bench.rig.path), "top"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    drawn = b""

    def read() -> bytes:
        nonlocal drawn
        try:
            drawn += os.read(ours, 65536)
        except BlockingIOError:
            pass
        except OSError:
            return drawn
        return drawn

    await until(lambda: b"Ctrl-C ends" in read(), 20.0)
    first = len(drawn)
    await bench.rig.post("/v1/units/B4/power", {"power_kw": 40})
    await bench.rig.beat(3)
    await until(lambda: b"+40.0" in read()[first:], 20.0)
    process.send_signal(signal.SIGINT)
    await until(lambda: read() is not None and process.returncode is not None)
    os.close(ours)
    assert process.returncode == 0
    assert b"B4" in drawn[:first]
    assert b"B1" not in drawn[first:], "only what changed is written"
    assert b"Traceback" not in drawn


async def test_top_without_a_terminal_is_one_picture(bench: Bench) -> None:
    said = await bench.says("top")
    assert "The Lab (lab)" in said.out
    assert "50.000 Hz" in said.out
    assert (await bench.says("top --once")).out.splitlines()[-6:-2] == said.out.splitlines()[-6:-2]


# ---- nobody there ---------------------------------------------------------------------------


async def last_words(directory: Path) -> None:
    """A journal as a daemon leaves it."""
    clock = SystemClock()
    journal = SqliteJournal(directory / "journal.db", clock, lambda *_: None)
    await journal.open()
    rig = make_rig(directory / "v.sock", journal, clock=clock)
    log = DecisionLog(journal, rig.site.gate, rig.site.assets)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(journal.run())
        rig.values[B1, Point.SOC_PCT] = 10.5
        rig.frequency_hz = 49.7
        async with serving(rig):
            await rig.post("/v1/units/B1/power", {"power_kw": 40})
            for _ in range(5):
                await rig.beat()
                log.note(rig.decisions[0], rig.site.bus.snapshot())
            rig.site.gate.report(LinkChange(B2, False, clock.now_s(), "cable"))
            await rig.post("/v1/droop", {"enabled": True})
        await journal.close()


async def test_without_a_daemon_the_last_rows_are_shown(tmp_path: Path) -> None:
    await last_words(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    where = ("--socket", str(tmp_path / "v.sock"), "--state", str(tmp_path))
    for verb in ("status", "dispatch 10", "top"):
        said = await run(*where, *verb.split())
        assert said.code == 3
        assert "vppd is not running" in said.err
        assert f"the last rows of {tmp_path}/journal.db" in said.out
        assert "s old" in said.out
    assert "49.700 Hz" in said.out
    assert "soc_low" in said.out
    assert "command power B1: accepted" in said.out
    assert "event link_lost B2" in said.out
    shown = (await run(*where, "--json", "status")).json()
    assert [each["id"] for each in shown["units"]] == ["B1", "B2", "B3", "B4"]
    assert "soc_low" in shown["units"][0]["bound_by"]
    assert 0.0 <= shown["site"]["age_s"] < 60.0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before, "read only"


@pytest.mark.skipif(os.getuid() != 0, reason="needs two users")
@pytest.mark.parametrize("crashed", [False, True])
async def test_the_last_rows_need_no_right_to_write(crashed: bool) -> None:
    script = (
        "import os, sys, sqlite3; from pathlib import Path;"
        "from vppd.cli.last_rows import last_rows, shown;"
        "os.setgid(65534); os.setuid(65534);"
        "print('\\n'.join(shown(last_rows(Path(sys.argv[1])))))"
    )
    with open_directory() as directory:
        await last_words(directory)
        (directory / "journal.db").chmod(0o644)
        with contextlib.ExitStack() as stack:
            if crashed:  # a writer that is gone left its -wal and -shm behind
                link = sqlite3.connect(directory / "journal.db")
                stack.callback(link.close)
                link.execute("INSERT INTO word (text) VALUES ('x')")
                link.commit()
                assert (directory / "journal.db-wal").exists()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", script, str(directory)), stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"49.700 Hz" in out


async def test_a_journal_that_is_not_one_is_said_so(tmp_path: Path) -> None:
    where = ("--socket", str(tmp_path / "v.sock"), "--state", str(tmp_path))
    said = await run(*where, "status")
    assert (said.code, said.out) == (3, "")
    assert "there is no" in said.err
    (tmp_path / "journal.db").write_bytes(b"not a database" * 100)
    said = await run(*where, "status")
    assert said.code == 3
    assert "file is not a database" in said.err
    (tmp_path / "journal.db").unlink()
    sqlite3.connect(tmp_path / "journal.db").close()
    assert (await run(*where, "status")).code == 3
    assert "Traceback" not in said.err


async def test_a_socket_nobody_listens_on(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "v.sock"))
    said = await run("status", VPPD_SOCKET=str(tmp_path / "v.sock"), VPPD_STATE=str(tmp_path))
    assert said.code == 3
    assert "nobody listens" in said.err


# ---- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        *("", "fly", "dispatch", "dispatch x", "dispatch nan", "dispatch inf", "why", "unit"),
        *("dispatch 1 --for 5x", "dispatch 1 --for -5m", "power B1", "power B1 5 --kvar x"),
        *("droop maybe", "enable", "events --last x"),
    ],
)
def test_wrong_words_are_exit_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        vppctl.main(["--socket", "/nowhere", *line.split()])
    assert ended.value.code == 2
    assert "usage: vppctl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "curve B1 --set 92:30,98:0",
            "which curve? Say B1 KIND --set ...; KIND is one of volt_var",
        ),
        ("curve B1 volt_var --off", "--off goes with --set"),
    ],
)
def test_a_curve_is_named_before_it_is_set(
    line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        vppctl.main(["--socket", "/nowhere", *line.split()])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_the_kinds_of_curves_are_those_of_the_inverter() -> None:
    assert [kind.value for kind in CurveKind] == list(vppctl.KINDS)


async def test_power_of_a_units_own_plan_is_not_idle(bench: Bench) -> None:
    await bench.says(f"power {B1} 40")
    await bench.rig.beat(60)
    said = await bench.says("status")
    assert "owe +40.0 kW (base +40.0, droop +0.0)" in said.out
    why = await bench.says(f"why {B1}")
    assert "base +40.0, droop" in why.out
    assert "idle" not in why.out


def test_the_meter_stands_on_the_screen() -> None:
    meter = {"up": True, "text": "", "export_kw": 12.0, "other_load_kw": None}
    assert tables.meter_line(meter) == ["meter +12.0 kW to the grid, other load ? kW"]
    assert tables.meter_line({**meter, "up": False, "text": "no answer within 1 s"}) == [
        "meter silent: no answer within 1 s"
    ]
    assert tables.meter_line(None) == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90s", 90.0), ("15m", 900.0), ("2h", 7200.0), ("1h30m", 5400.0), ("0.5h", 1800.0)),
        *(("45", 45.0), ("1d", 86400.0)),
    ],
)
def test_time_spans(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


def test_single_values() -> None:
    assert words.number(None) == "?"
    assert words.number(-0.04) == "-0.0"
    assert words.number(12) == "+12.0"
    assert words.span(None) == "?"
    assert [words.span(s) for s in (0.06, 9.94, 59.6, 3661, 90000)] == [
        "0.1 s",
        "9.9 s",
        "1 min",
        "1 h 1 min",
        "1 d 1 h",
    ]
    assert words.codes([]) == "-"


def test_times_are_shown_in_the_sites_zone() -> None:
    answer = {"at": "2026-01-01T00:00:00.000Z", "deep": [{"at": "2026-01-01T00:00:00Z"}], "n": 1}
    assert words.localised(answer, IST) == {
        "at": "2026-01-01 05:30:00 IST",
        "deep": [{"at": "2026-01-01 05:30:00 IST"}],
        "n": 1,
    }
    assert words.localised("2026-01-01T00:00:00Z", "No/Where") == "2026-01-01 00:00:00 UTC"


def test_tables_are_aligned() -> None:
    lines = words.table(("unit", "kW"), [("B1", "+1.0"), ("LONGER", "-100.0")], "lr")
    assert lines == ["unit        kW", "B1        +1.0", "LONGER  -100.0"]


async def test_release_and_power_factor_are_words_of_the_command(bench: Bench) -> None:
    said = await bench.says("release B1", code=1)
    assert "no `release` steps" in said.err
    bench.rig.actuators[B1].releases = True
    said = await bench.says("release B1")
    assert said.out.startswith("release B1: done")
    assert "released: B1 by " in said.out
    assert "until `vppctl enable B1`" in said.out
    assert (await bench.says("enable B1")).out == "enable B1: done\n"
    said = await bench.says("--json power B2 40 --pf 0.8 --leading")
    assert said.json()["plan"]["reactive_kvar"] == pytest.approx(-30.0)
    said = await bench.says("--json power B2 40 --pf 0.8")
    assert said.json()["plan"]["reactive_kvar"] == pytest.approx(30.0)
    assert "not allowed with" in (await bench.says("power B2 40 --pf 0.8 --kvar 3", code=2)).err
    assert "above 0 and up to 1" in (await bench.says("power B2 40 --pf 1.2", code=2)).err
    assert "beyond the apparent power" in (await bench.says("power B2 40 --pf 0.1", code=1)).err
