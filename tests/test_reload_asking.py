"""Asking for a reload while files change under it: what rules is what was read, what is told is
what rules, and a file that is wrong or out of reach changes nothing.

A whole site on virtual time over real files and the real notify socket.
"""

import asyncio
import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.process_site import Systemd, until, write_config
from tests.reload_rig import ReloadRig
from tests.virtual_time import run_virtual
from vppd import config
from vppd.core.records import EventRow
from vppd.core.reloading import Verdict
from vppd.core.settings import Settings
from vppd.reload.asking import Reloader
from vppd.spine.notify import Notifier

CHANGES = 10
RATED_KW, RAMP_KW_PER_S, RESOLUTION_KW = 100.0, 100.0, 0.1
LEASE_S = 2.5  # half of the devices' own timer, by when a lease is renewed


def settings_of(directory: Path) -> Settings:
    settings = config.load(directory).settings
    assert settings is not None
    return settings


class FileRig(ReloadRig):
    """A site that reads its own files again."""

    def __init__(self, directory: Path) -> None:
        self.directory = write_config(directory)
        self.systemd = Systemd(directory / "notify")
        self.begun = True
        self._notify = {"NOTIFY_SOCKET": str(self.systemd.path)}
        settings = settings_of(self.directory)
        super().__init__(settings, settings)

    async def start(self, *arguments: Any, **more: Any) -> None:
        await super().start(*arguments, **more)
        self.reloader = self.asking(self.directory)
        self.employ("reload", self.reloader.run)

    def asking(self, directory: Path) -> Reloader:
        notifier = Notifier(self._notify)
        journal, clock = self.journal, self.clock
        return Reloader(self.reloads, directory, notifier, clock, journal, lambda: self.begun)

    async def __aexit__(self, *raised: Any) -> None:
        await super().__aexit__(*raised)
        self.systemd.close()

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.directory / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def events(self, code: str) -> list[EventRow]:
        return [each for each in self.rows() if isinstance(each, EventRow) and each.code == code]

    def digests(self, row: EventRow) -> dict[str, str]:
        """What the audit says the files were."""
        found: dict[str, str] = json.loads(row.data_json)["sha256"]
        return found

    def heard(self, key: str, times: int) -> None:
        """Wait in real time for systemd to hear it."""
        until(lambda: len(self.systemd.lines(key)) >= times, 60.0, lambda: self.systemd.heard)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_written_while_units_leave_waits_for_the_next_reload_and_the_audit_knows(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with FileRig(tmp_path) as rig:
            rig.plan(100.0)
            await rig.run(4.0)
            grid, field = rig.directory / "grid.yaml", rig.directory / "field.yaml"
            rig.edit("field.yaml", "  - {id: C,", "  # - {id: C,")
            ruling = {path.name: sha256(path) for path in (grid, field)}
            async with asyncio.TaskGroup() as tasks:
                first = tasks.create_task(rig.reloader.ask("tester", dry_run=False))
                await rig.until(lambda: rig.held_kw("C") < 20.0, within_s=5.0)
                grid.write_text("droop: {droop_pct: fast}\n")
                second = tasks.create_task(rig.reloader.ask("tester", dry_run=False))
                rig.reloader.hang_up()
                assert not first.done()
            assert first.result().errors == ()
            assert "droop.droop_pct" in str(second.result().errors)
            await rig.until(lambda: len(rig.events("configuration")) == 3, within_s=5.0)
            reloaded, refused, again = rig.events("configuration")
            assert rig.digests(reloaded) == {**rig.digests(reloaded), **ruling}
            assert rig.digests(refused)["grid.yaml"] == sha256(grid) != ruling["grid.yaml"]
            assert [row.text.split()[0] for row in (reloaded, refused, again)] == [
                *("reloaded", "refused", "refused")
            ]
            rig.names = ("A", "B", "D")
            assert [unit.id for unit in rig.house.settings.units] == list(rig.names)
            await rig.run(2.0)
            assert rig.sum_kw() == pytest.approx(100.0, abs=0.5)
            rig.heard("READY", 3)
            assert len(rig.systemd.lines("RELOADING")) == 3

    run_virtual(main())


def test_asked_before_the_site_is_controlled_systemd_is_told_nothing(tmp_path: Path) -> None:
    """READY=1 would end the start for it, and so would the end of a reload."""

    async def main() -> None:
        async with FileRig(tmp_path) as rig:
            rig.begun = False
            verdict = await rig.reloader.ask("tester", dry_run=False)
            assert "still starting" in str(verdict.errors)
            rig.edit("grid.yaml", "droop_pct: 5.0", "droop_pct: fast")
            verdict = await rig.reloader.ask("tester", dry_run=False)
            assert "droop.droop_pct" in str(verdict.errors)
            rig.edit("grid.yaml", "droop_pct: fast", "droop_pct: 4.0")
            rig.begun = True
            assert (await rig.reloader.ask("tester", dry_run=False)).errors == ()
            rig.heard("READY", 1)
            assert len(rig.systemd.lines("READY")) == 1
            assert len(rig.systemd.lines("RELOADING")) == 1

    run_virtual(main())


def test_a_directory_that_cannot_be_looked_into_is_a_refusal_and_no_end(tmp_path: Path) -> None:
    """As one that an operator made root's alone."""

    async def main() -> None:
        async with FileRig(tmp_path) as rig:
            rig.plan(100.0)
            await rig.run(3.0)
            barred = rig.asking(tmp_path / ("x" * 300))  # a name that no file system takes
            rig.employ("barred", barred.run)
            verdict = await barred.ask("tester", dry_run=False)
            assert "cannot be read" in str(verdict.errors)
            await rig.run(1.0)
            assert rig.reason is None
            assert rig.sum_kw() == pytest.approx(100.0, abs=0.5)
            assert (await rig.reloader.ask("tester", dry_run=False)).errors == ()

    run_virtual(main())


def test_many_changes_in_quick_succession_while_orders_run(tmp_path: Path) -> None:
    """Each is taken over or refused whole; units keep their leases, and no step exceeds a ramp."""

    async def main() -> None:
        async with FileRig(tmp_path) as rig:
            rig.plan(100.0)
            await rig.run(4.0)
            since_s = rig.now_s
            was, asked = rig.directory / "field.yaml", list[asyncio.Task[Verdict]]()
            text = was.read_text()
            async with asyncio.TaskGroup() as tasks:
                for number in range(CHANGES):
                    away = "BCD"[number % 3]
                    broken = number % 4 == 3
                    now = text.replace(f"  - {{id: {away},", f"  # - {{id: {away},")
                    was.write_text(now + ("units: again\n" if broken else ""))
                    asked.append(tasks.create_task(rig.reloader.ask("tester", dry_run=False)))
                    rig.plan(60.0 + 8.0 * number)
                    await rig.run(0.35)
                was.write_text(text)
                rig.reloader.hang_up()
                last = await rig.reloader.ask("tester", dry_run=False)
            assert last.errors == ()
            assert rig.house.settings == settings_of(rig.directory)
            verdicts = [each.result() for each in asked]
            assert any(each.errors for each in verdicts)
            assert any(each.changes and not each.errors for each in verdicts)
            await rig.until(lambda: abs(rig.sum_kw() - 132.0) < 0.5, within_s=10.0)
            assert len(rig.events("reload")) == CHANGES + 2
            for name in "ABCD":
                told = rig.told(name, since_s)
                assert max(abs(each.power_kw) for each in told) <= RATED_KW
                steepest = rig.steepest_kw_per_s(name, since_s)
                assert steepest <= RAMP_KW_PER_S + 3 * RESOLUTION_KW, name
            leased = [since_s, *(each.at_s for each in rig.told("A", since_s)), rig.now_s]
            assert max(late - early for early, late in pairwise(leased)) <= LEASE_S

    run_virtual(main())


def test_what_it_is_asked_twice_at_once_it_does_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with FileRig(tmp_path) as rig:
            rig.plan(100.0)
            await rig.run(4.0)
            rig.edit("field.yaml", "  - {id: D,", "  # - {id: D,")
            async with asyncio.TaskGroup() as tasks:
                both = [
                    tasks.create_task(rig.reloader.ask(by, dry_run=False)) for by in ("one", "two")
                ]
            first, second = (each.result() for each in both)
            assert [len(each.changes) for each in (first, second)] == [1, 0]
            assert first.errors == second.errors == ()
            rig.names = ("A", "B", "C")
            since_s = rig.now_s
            await rig.run(3.0)
            assert rig.sum_kw() == pytest.approx(100.0, abs=0.5)
            assert not rig.told("D", since_s)

    run_virtual(main())


def test_a_broken_schedule_is_refused_and_one_that_is_not_there_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with FileRig(tmp_path) as rig:
            schedule = rig.directory / "schedule.csv"
            (rig.directory / "market.yaml").write_text("schedule: schedule.csv\n")
            schedule.write_text("date,block,power_kw\n2026-01-01,97,60\n")
            verdict = await rig.reloader.ask("tester", dry_run=False)
            (only,) = verdict.errors
            assert only.startswith("schedule.csv:2: block: '97'")
            assert rig.house.settings.market.schedule is None
            schedule.unlink()
            assert (await rig.reloader.ask("tester", dry_run=False)).errors == ()
            assert rig.house.settings.market.schedule == "schedule.csv"

    run_virtual(main())
