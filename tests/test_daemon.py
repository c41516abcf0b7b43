"""What the operating system sees: start, watchdog, signals, kill -9, reload, stop.

The real process against the real plant, which is a process of its own and outlives it; systemd is
a socket that listens. What a device did is what the plant says, never what the daemon believes.
"""

import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.process_site import (
    NAMES,
    REVERT_S,
    WATCHDOG_S,
    Daemon,
    Site,
    Systemd,
    gone,
    until,
    write_config,
)
from vppd.cli.scene import free_ports
from vppd.cli.wire import ask
from vppd.spine.schema import APPLICATION_ID, STEPS

pytestmark = pytest.mark.timeout(90)

# `vppd run` whose tick can be held, spun for ever, or made to fail, by files in a directory
MISCHIEF = """
import sys
from pathlib import Path
from vppd import app
from vppd.cli.vppd import main

here = Path(sys.argv.pop(1))

class Tick(app.Tick):
    def once(self):
        (here / "first").touch()
        while (here / "hold").exists():
            pass
        if (here / "mistake").exists():
            raise KeyError("a mistake of ours")
        return super().once()

app.Tick = Tick
main()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One plant for all tests; its journal is on a small disk where that can be had."""
    directory = tmp_path_factory.mktemp("site")
    state = directory / "state"
    state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(state)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    site = Site(directory)
    try:
        yield site
    finally:
        site.close()
        if mounted:
            subprocess.run(["umount", "-l", str(state)], check=True)


def events(site: Site, code: str) -> list[str]:
    """What the journal says of this code; the daemon writes it at least once a second."""
    with closing(
        sqlite3.connect(f"file:{site.directory}/state/journal.db?mode=ro", uri=True)
    ) as db:
        rows = db.execute("SELECT text FROM event WHERE code = ? ORDER BY id", (code,))
        return [str(text) for (text,) in rows]


# ---- a start that must not be ------------------------------------------------------------------


class Field:
    """Listeners at every address of a configuration, which show whether anybody came."""

    def __init__(self, directory: Path) -> None:
        self.config = write_config(directory)
        text = "".join(path.read_text() for path in sorted(self.config.glob("*.yaml")))
        ports = [int(part.split(",")[0].split("}")[0]) for part in text.split("port: ")[1:]]
        assert len(ports) == len(NAMES) + 2
        self._listeners = [socket.create_server(("127.0.0.1", port)) for port in ports]
        for listener in self._listeners:
            listener.setblocking(False)

    def visits(self) -> int:
        count = 0
        for listener in self._listeners:
            with suppress(BlockingIOError):
                listener.accept()[0].close()
                count += 1
        return count

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    with closing(Field(tmp_path)) as field:
        yield field


def test_a_wrong_configuration_ends_it_with_every_error_before_a_device_is_touched(
    tmp_path: Path, field: Field
) -> None:
    path = field.config / "field.yaml"
    path.write_text(path.read_text().replace("energy_kwh: 250", "energy_kwh: no", 1))
    (field.config / "grid.yaml").write_text("droop: {droop_pct: 50}\nfrequency: 50\n")
    with closing(Systemd(tmp_path / "notify")) as systemd:
        daemon = Daemon(tmp_path, systemd)
        try:
            assert daemon.exit_code(10.0) == 78
        finally:
            daemon.end()
        assert not systemd.heard
    said = [line.split(": ")[:2] for line in daemon.words.splitlines()]
    assert ["field.yaml:2", "units[0].energy_kwh"] in said, daemon.words
    assert ["grid.yaml:1", "droop.droop_pct"] in said, daemon.words
    assert ["grid.yaml:2", "frequency"] in said, daemon.words
    assert field.visits() == 0
    assert not (tmp_path / "state").exists()


def test_a_journal_of_a_newer_vppd_ends_it_before_a_device_is_touched(
    tmp_path: Path, field: Field
) -> None:
    journal = tmp_path / "state" / "journal.db"
    journal.parent.mkdir()
    with closing(sqlite3.connect(journal)) as database:
        database.executescript(
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {len(STEPS) + 1};"
            "CREATE TABLE of_tomorrow (at)"
        )
    before = journal.read_bytes()
    daemon = Daemon(tmp_path, None)
    try:
        assert daemon.exit_code(10.0) == 78
        assert "newer" in daemon.words
        assert (journal.read_bytes(), field.visits()) == (before, 0)
        journal.unlink()  # the same start without it does come to the devices
        daemon = Daemon(tmp_path, None)
        until(field.visits, 10.0, lambda: daemon.words)
    finally:
        daemon.end()


# ---- systemd -----------------------------------------------------------------------------------


def test_ready_comes_after_the_first_tick_and_a_wedged_loop_ends_with_every_stack(
    site: Site, tmp_path: Path
) -> None:
    """Held in its first tick it cannot be ready; held later it ends itself, unfed, with 70."""
    (mischief := tmp_path / "mischief.py").write_text(MISCHIEF)
    (hold := tmp_path / "hold").touch()
    daemon = site.start(program=(str(mischief), str(tmp_path)), watchdog_s=2.0)
    begun_s, systemd = daemon.begun_s, site.systemd
    until((tmp_path / "first").exists, 10.0, lambda: daemon.words)
    assert not systemd.lines("READY", begun_s)
    hold.unlink()
    until(lambda: systemd.lines("READY", begun_s), 5.0, lambda: systemd.heard[-5:])
    site.running(100.0)
    wedged_s = time.monotonic()
    hold.touch()
    assert daemon.exit_code(10.0) == 70
    # a tick that was under way may still have fed it
    assert not systemd.fed(wedged_s + 0.2)
    assert " in once" in daemon.words
    assert "most recent call first" in daemon.words


def test_a_mistake_of_ours_tells_every_unit_0_and_ends_with_70(site: Site, tmp_path: Path) -> None:
    (mischief := tmp_path / "mischief.py").write_text(MISCHIEF)
    site.start(program=(str(mischief), str(tmp_path)))
    daemon = site.running(100.0)
    (tmp_path / "mistake").touch()
    assert daemon.exit_code(10.0) == 70
    assert all(site.plant.told_zero(name) for name in NAMES)
    assert "a mistake of ours" in daemon.words
    assert any("tick: KeyError" in text for text in events(site, "stopped"))


def test_a_second_daemon_goes_away_and_disturbs_nothing(site: Site, tmp_path: Path) -> None:
    daemon = site.running(100.0)
    before, ticks = daemon.socket.stat().st_ino, daemon.ticks()
    starts = events(site, "started")
    same_socket = Daemon(tmp_path, None, config=site.config, socket=daemon.socket)
    (other := tmp_path / "other").mkdir()
    same_state = Daemon(other, None, config=site.config, state=site.directory / "state")
    try:
        for second, named in ((same_socket, daemon.socket), (same_state, "state/journal.db")):
            assert second.exit_code(10.0) == 75
            assert f"{named}: stop it" in second.words
    finally:
        same_socket.end()
        same_state.end()
    assert daemon.alive()
    assert daemon.socket.stat().st_ino == before
    assert daemon.ticks() > ticks
    assert site.plant.held_kw(*NAMES) == pytest.approx([25.0] * len(NAMES), abs=1.0)
    assert events(site, "started") == starts


def test_the_watchdog_is_fed_and_the_status_is_the_decision(site: Site) -> None:
    daemon = site.running(100.0)
    (status := site.systemd.lines("STATUS")) or pytest.fail("no STATUS=")
    since_s = time.monotonic()
    until(lambda: len(site.systemd.fed(since_s)) >= 2, WATCHDOG_S + 1.0, lambda: status[-3:])
    until(lambda: site.systemd.lines("STATUS", since_s), 3.0, lambda: site.systemd.heard[-5:])
    said = site.systemd.lines("STATUS", since_s)[-1][1]
    assert said.startswith("owe +100.0 kW (operator:")
    assert said == daemon.get("/v1/status")["sentence"]


def test_stopped_it_does_not_feed_and_continued_it_goes_on(site: Site) -> None:
    """systemd ends it in the first case; its own bound must not in the second."""
    daemon, systemd = site.running(100.0), site.systemd
    daemon.send(signal.SIGSTOP)
    stopped_s = time.monotonic()
    try:
        end_s = stopped_s + WATCHDOG_S + 0.5
        until(lambda: time.monotonic() > end_s, WATCHDOG_S + 2.0, lambda: "time stands still")
        assert not systemd.fed(stopped_s + 0.2)
    finally:
        daemon.send(signal.SIGCONT)
    continued_s = time.monotonic()
    until(lambda: len(systemd.fed(continued_s)) >= 2, 8.0, lambda: daemon.words[-3000:])
    assert daemon.alive()
    site.running(100.0)


def test_a_dead_field_switch_is_no_reason_to_restart(site: Site) -> None:
    """All devices gone for 15 s: half are silent, half are refused."""
    daemon, plant = site.running(100.0), site.plant
    since_s = time.monotonic()
    for name, fault in zip(NAMES, ("silence", "silence", "connection_refused") * 2, strict=False):
        plant.inject(fault, name)
    plant.inject("interlock_silent", "door")
    lost = dict.fromkeys(NAMES, "lost")
    until(lambda: daemon.states() == lost, 6.0, daemon.states)
    until(lambda: time.monotonic() - since_s >= 15.0, 16.0, daemon.states)
    fed = [since_s, *site.systemd.fed(since_s), time.monotonic()]
    assert max(later - at for at, later in pairwise(fed)) < WATCHDOG_S
    assert daemon.alive()
    assert daemon.states() == lost
    plant.clear("all", "door")
    for name in NAMES:
        plant.clear("all", name)
    site.running(100.0)
    assert daemon.alive()


# ---- reload ------------------------------------------------------------------------------------


def reloaded(site: Site, verdict: str) -> None:
    """SIGHUP, and wait until systemd was told that it is over and the log says how."""
    since_s, said = time.monotonic(), site.daemon.words.count(verdict)
    site.daemon.send(signal.SIGHUP)
    until(lambda: site.systemd.lines("RELOADING", since_s), 5.0, lambda: site.systemd.heard[-5:])
    until(lambda: site.systemd.lines("READY", since_s), 5.0, lambda: site.systemd.heard[-5:])
    until(lambda: site.daemon.words.count(verdict) > said, 2.0, lambda: site.daemon.words[-2000:])


def scraped(port: int) -> bool:
    """Whether metrics are served there."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2.0) as answer:
            return b"vppd_" in answer.read()
    except OSError:
        return False


def test_reload_exchanges_ports_and_units_and_refuses_whole_what_cannot_be(site: Site) -> None:
    daemon, plant = site.running(100.0), site.plant
    vppd, field = site.config / "vppd.yaml", site.config / "field.yaml"
    vppd_was, field_was = vppd.read_text(), field.read_text()
    first, second, taken = free_ports(3)
    vppd.write_text(vppd_was + f"metrics: {{port: {first}}}\n")
    reloaded(site, '"event": "reloaded"')
    assert scraped(first)
    vppd.write_text(vppd_was + f"metrics: {{port: {second}}}\n")
    reloaded(site, '"event": "reloaded"')
    assert (scraped(first), scraped(second)) == (False, True)

    ticks = daemon.ticks()
    with socket.create_server(("127.0.0.1", taken)):
        vppd.write_text(vppd_was + f"metrics: {{port: {taken}}}\nweb: {{enabled: true}}\n")
        field.write_text(field_was.replace("  - {id: C,", "  # - {id: C,"))
        reloaded(site, '"event": "reload_refused"')
        assert scraped(second), "the old one runs on"
    reply = ask(str(daemon.socket), "POST", "/v1/reload", {"dry_run": True})
    assert (reply.status, reply.body["reloaded"]) == (200, False)
    assert {"units.C", "web.enabled"} <= {each["key"] for each in reply.body["changes"]}
    assert [each["id"] for each in daemon.get("/v1/units")["units"]] == list(NAMES)

    vppd.write_text(vppd_was)
    reloaded(site, "units.C: (C) -> (not there)")
    assert [each["id"] for each in daemon.get("/v1/units")["units"]] == ["A", "B", "D"]
    until(lambda: sum(plant.held_kw(*"ABD")) > 99.0, 4.0, lambda: plant.held_kw(*NAMES))
    assert plant.held_kw("C") == [0.0]
    assert not scraped(second)
    field.write_text(field_was)
    reloaded(site, "units.C: (not there) -> (C)")
    until(lambda: plant.held_kw("C")[0] > 24.0, 4.0, lambda: plant.held_kw(*NAMES))
    until(lambda: daemon.ticks() > ticks + 20, 6.0, lambda: "no ticks")
    state = site.directory / "state"
    with closing(sqlite3.connect(f"file:{state}/journal.db?mode=ro", uri=True)) as db:

        def rows() -> list[tuple[str]]:
            return db.execute("SELECT text FROM event WHERE code = 'reload'").fetchall()

        until(lambda: len(rows()) == 5, 5.0, rows)
        assert all("by SIGHUP" in text for (text,) in rows())


def test_reload_takes_a_droop_over_without_a_bump_and_refuses_another_site_whole(
    site: Site,
) -> None:
    daemon, plant = site.running(100.0), site.plant
    grid, vppd = site.config / "grid.yaml", site.config / "vppd.yaml"
    grid_was, vppd_was = grid.read_text(), vppd.read_text()
    held_kw, ticks = plant.held_kw(*NAMES), daemon.ticks()
    at_s = {name: plant.state(name)["setpoints"][-1]["at_s"] for name in NAMES}

    grid.write_text(grid_was.replace("droop_pct: 5.0", "droop_pct: 4.0"))
    reloaded(site, '"event": "reloaded"')
    assert daemon.get("/v1/droop")["droop_pct"] == 4.0
    until(lambda: daemon.ticks() > ticks + 20, 6.0, lambda: "no ticks")
    for name, before_kw in zip(NAMES, held_kw, strict=True):
        since = [each for each in plant.state(name)["setpoints"] if each["at_s"] > at_s[name]]
        assert all(abs(each["power_kw"] - before_kw) < 0.25 for each in since), since
    assert plant.held_kw(*NAMES) == pytest.approx(held_kw, abs=0.25)

    grid.write_text(grid_was)
    vppd.write_text(vppd_was.replace("id: lab", "id: other"))
    reloaded(site, "another id is another site; restart needed")
    assert daemon.get("/v1/droop")["droop_pct"] == 4.0
    grid.write_text("droop: {droop_pct: fast}\n")
    reloaded(site, "grid.yaml:1: droop.droop_pct")
    reply = ask(str(daemon.socket), "POST", "/v1/reload")
    assert reply.status == 422
    assert "droop.droop_pct" in str(reply.body)
    assert daemon.get("/v1/droop")["droop_pct"] == 4.0

    vppd.write_text(vppd_was)
    grid.write_text(grid_was)
    plant.inject("frequency_step", "grid", frequency_hz=49.7)  # 4 % of 400 kW: 60, not 48

    def droop_kw() -> float:
        return float(daemon.get("/v1/droop")["asked_kw"])

    until(lambda: abs(droop_kw() - 60.0) < 2.0, 4.0, droop_kw)
    plant.inject("frequency_step", "grid", frequency_hz=50.0)
    reloaded(site, '"event": "reloaded"')
    assert daemon.get("/v1/droop")["droop_pct"] == 5.0
    until(lambda: abs(droop_kw()) < 0.1, 4.0, droop_kw)


# ---- the disk ----------------------------------------------------------------------------------


def test_a_full_disk_does_not_stop_control(site: Site) -> None:
    state = site.directory / "state"
    if not state.is_mount():
        pytest.skip("no right to mount a small disk")
    daemon, plant, filler = site.running(100.0), site.plant, state / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    until(lambda: "journal_failed" in daemon.alarms(), 10.0, daemon.alarms)
    ticks = daemon.ticks()
    answer = daemon.post("/v1/dispatch", power_kw=200, duration_s=900)
    assert answer["journaled"] is False
    until(lambda: min(plant.gives_kw(*NAMES)) > 49.0, 5.0, lambda: plant.gives_kw(*NAMES))
    since_s = time.monotonic()
    until(lambda: len(site.systemd.fed(since_s)) >= 2, WATCHDOG_S, lambda: "not fed")
    assert daemon.ticks() > ticks + 10
    filler.unlink()
    until(lambda: "journal_failed" not in daemon.alarms(), 20.0, daemon.alarms)
    with closing(sqlite3.connect(f"file:{state}/journal.db?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT body_json FROM command WHERE verb = 'dispatch'").fetchall()
    assert any("200" in str(body) for (body,) in rows), "what waited was written"


def test_a_journal_that_cannot_be_opened_starts_the_site_tripped_and_says_so(
    tmp_path: Path,
) -> None:
    """What was latched is not known, so all of it is; the socket tells both."""
    write_config(tmp_path)
    (tmp_path / "file").touch()
    daemon = Daemon(tmp_path, None, state=tmp_path / "file" / "state")
    try:
        until(daemon.answers, 10.0, lambda: daemon.words)
        assert daemon.alarms() >= {"journal_failed", "trip_state_unreadable"}
        assert daemon.get("/v1/status")["shut_by"].startswith("trip_state_unreadable")
        daemon.send(signal.SIGTERM)
        assert daemon.exit_code(5.0) == 0
    finally:
        daemon.end()


# ---- sudden death ------------------------------------------------------------------------------


def test_after_kill_9_devices_go_to_0_and_what_was_latched_still_is(site: Site) -> None:
    """A is tripped by an interlock that is healthy again; B is disabled; C and D give power."""
    daemon, plant = site.running(200.0), site.plant
    plant.inject("interlock", "door")
    until(lambda: daemon.states()["A"] == "tripped", 5.0, daemon.states)
    plant.clear("interlock", "door")
    assert daemon.post("/v1/units/B/control", command="disable")["journaled"] is True
    until(lambda: min(plant.gives_kw("C", "D")) > 90.0, 5.0, lambda: plant.gives_kw(*NAMES))

    daemon.send(signal.SIGKILL)
    daemon.exit_code(5.0)

    def given_kw() -> float:
        return max(map(abs, plant.gives_kw("C", "D")))

    until(lambda: given_kw() < 0.1, REVERT_S + 1.0, given_kw)
    assert plant.held_kw("C", "D") == [0.0, 0.0]
    assert {plant.state(name)["setpoints"][-1]["source"] for name in "CD"} == {"timeout"}

    daemon = site.controlled()
    assert daemon.states()["A"] == "tripped"
    assert daemon.states()["B"] == "disabled"
    assert "interlock_input" in daemon.alarms()
    daemon.dispatch(150.0)
    until(lambda: min(plant.gives_kw("C", "D")) > 74.0, 5.0, lambda: plant.gives_kw(*NAMES))
    assert plant.held_kw("A", "B") == [0.0, 0.0]
    assert plant.gives_kw("A", "B") == pytest.approx([0.0, 0.0], abs=0.1)
    daemon.control("A", "reset")
    daemon.control("B", "enable")
    site.running(200.0)


# ---- a stop that was asked for -----------------------------------------------------------------


def test_sigterm_tells_every_unit_0_before_it_ends(site: Site) -> None:
    daemon, plant = site.running(200.0), site.plant
    daemon.post("/v1/units/A/power", power_kw=30, reactive_kvar=20, duration_s=900)

    def given_kvar() -> float:
        return float(plant.state("A")["reactive_kvar"])

    until(lambda: abs(given_kvar() - 20.0) < 1.0, 5.0, given_kvar)
    daemon.send(signal.SIGTERM)
    assert daemon.exit_code(5.0) == 0
    assert all(plant.told_zero(name) for name in NAMES)
    assert site.systemd.lines("STOPPING", daemon.begun_s)
    assert not daemon.socket.exists()
    assert events(site, "stopped")[-1] == "SIGTERM"


def test_sigint_is_the_same_and_waits_for_a_dead_unit_only_so_long(site: Site) -> None:
    daemon, plant = site.running(200.0), site.plant
    plant.inject("silence", "D")
    daemon.send(signal.SIGINT)
    assert daemon.exit_code(8.0) == 0
    assert all(plant.told_zero(name) for name in "ABC")
    assert plant.held_kw("D")[0] > 40.0, "it never heard: its own timer has not run out yet"
    plant.clear("silence", "D")


# ---- the plant as a child ----------------------------------------------------------------------


def test_a_simulated_plant_that_dies_is_restarted_and_none_is_left_over(tmp_path: Path) -> None:
    write_config(tmp_path, mode="simulation")
    daemon = Daemon(tmp_path, None).ready()
    try:
        (plant,) = daemon.children()
        os.kill(plant, signal.SIGKILL)
        lost = dict.fromkeys(NAMES, "lost")
        until(lambda: daemon.states() == lost, 5.0, daemon.states)
        assert "task_restarted" in daemon.alarms()
        ready = dict.fromkeys(NAMES, "ready")
        until(lambda: daemon.states() == ready, 15.0, daemon.states)
        (plant,) = daemon.children()
        said = len(daemon.words)
        os.killpg(daemon.pid, signal.SIGINT)  # Ctrl-C, which a terminal tells the whole group
        assert daemon.exit_code(5.0) == 0
        assert gone(plant)
        assert "link_lost" not in daemon.words[said:], "the plant went before it was told 0 kW"
        said = len(daemon.words)
        daemon = Daemon(tmp_path, None)
        until(lambda: "plant_serves" in daemon.words[said:], 15.0, lambda: daemon.words[said:])
        (plant,) = daemon.children()
        daemon.send(signal.SIGKILL)
        until(lambda: gone(plant), 5.0, lambda: f"pid {plant} lives on")
    finally:
        daemon.end()
