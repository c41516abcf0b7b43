"""What keeps the journal good for years, beside writing it: roll-ups, chain, seals, the wear."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from vppd.core.ports import Clock
from vppd.core.settings_journal import DiskSettings
from vppd.spine.audit_watch import AuditWatch
from vppd.spine.disk_writes import DiskWrites
from vppd.spine.journal import SqliteJournal
from vppd.spine.retention import CHECKPOINT_PAGES, PAGE_BYTES
from vppd.spine.rollup import Rollup
from vppd.spine.seal import Sealer
from vppd.spine.supervise import Supervisor

_DISK = DiskSettings()


class Upkeep:
    """Make it once the journal is open; `on_broken` is told when the chain does not hold, and an
    empty text when it does."""

    def __init__(
        self,
        journal: SqliteJournal,
        path: Path,
        clock: Clock,
        on_broken: Callable[[str], None],
        disk: DiskSettings = _DISK,
    ) -> None:
        self._journal = journal
        self._rollup = Rollup(journal, clock)
        self._audit = AuditWatch(path, clock, lambda: journal.status().anchor, on_broken)
        self._sealer = Sealer(journal, path, clock)
        self._writes = DiskWrites(clock, disk.budget_mb_per_day)
        self._writes.status()

    def employ(self, supervisor: Supervisor) -> None:
        """Give each part its task: all may fail and begin again."""
        supervisor.restarting("roll-ups", self._rollup.run)
        supervisor.restarting("audit", self._audit.run)
        supervisor.restarting("seals", self._sealer.run)

    def status(self) -> dict[str, object]:
        """The journal with what is known of its disk, for diagnostics."""
        return {
            **asdict(self._journal.status()),
            "disk": asdict(self._writes.status()),
            "checkpoint_mb": CHECKPOINT_PAGES * PAGE_BYTES / 1e6,  # of the write-ahead log
        }
