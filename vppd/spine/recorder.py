"""The recorder: keeps the inputs of every tick, so that every decision can be computed again.

On the loop it only takes references, and turns them into columns once the tick was told; a worker
compresses and writes. Its queue is bounded: when the disk does not follow, the file is given up, an
alarm says so, and a new file begins with all there is to know. Control never waits for it.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from vppd.core.alarms import Code
from vppd.core.model import Cleared, DeviceReport, Plan, Request, Snapshot, UnitId
from vppd.core.ports import Clock
from vppd.core.settings_recorder import RecorderSettings
from vppd.spine.outcome import outcome_of
from vppd.spine.plain import Plain
from vppd.spine.segments import SegmentFile, trim
from vppd.spine.tape import Act, Begin, Exchanged, TapeWriter

FOLDER = "recorder"
MB = 2**20
QUEUED_MAX_BYTES = 8 * MB
WAITING_MAX = 200_000  # events between two ticks: a thousand times as many as there are
RETRY_S = 30.0
CLOSE_S = 1.0
FILES_AT_LEAST = 8  # of the folder's bound: a larger file ends, so that little goes at once

OnTrouble = Callable[[Code, bool, str], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """What stands at the head of a file besides what the tick hands over."""

    settings: Any
    gate: Any
    releases: Mapping[UnitId, bool]


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """How the recorder is, for diagnostics."""

    file: str
    written_mb: float
    folder_mb: float
    queued_bytes: int
    files_given_up: int
    failed: str | None


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Columns for the file, or what a new one begins with, to be put in words by the worker."""

    data: bytes
    begin: Begin | None = None
    utc: datetime | None = None


class Unrecorded:
    """Where nothing is recorded."""

    def look(self, now: Snapshot) -> None:
        """Nothing."""

    def act(self, act: Act) -> None:
        """Nothing."""

    def report(self, report: DeviceReport) -> None:
        """Nothing."""

    def begun(self, now: Snapshot, plans: tuple[Plan, ...], duty: Any, memory: Any) -> None:
        """Nothing."""

    def ended(self, requests: Iterable[Request], cleared: Mapping[UnitId, Cleared]) -> None:
        """Nothing."""


UNRECORDED = Unrecorded()


class Recorder(Unrecorded):
    """Told by the gate and the tick as things happen. `run()` in a task, at last `close()`."""

    def __init__(
        self,
        settings: RecorderSettings,
        state_dir: Path,
        clock: Clock,
        words: Plain,
        version: str,
        on_trouble: OnTrouble,
        queued_max_bytes: int = QUEUED_MAX_BYTES,
    ) -> None:
        self._settings, self._folder, self._clock = settings, state_dir / FOLDER, clock
        self._words, self._version, self._on_trouble = words, version, on_trouble
        self._queued_max_bytes = queued_max_bytes
        self._most_bytes = int(settings.max_mb * MB)
        self._file_most_bytes = self._most_bytes // FILES_AT_LEAST
        self.kept: Callable[[], Kept] | None = None  # asked at the head of each file
        self._tape: TapeWriter | None = None  # None: no file is open, nothing is kept
        self._waiting: list[Callable[[TapeWriter], None]] = []
        self._ticking = False
        self._duty: Any = None
        self._known: Any = None  # the settings that the file has
        self._file_due_s = self._flush_due_s = 0.0
        self._chunks: deque[_Chunk] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()  # one writes at a time: `run`, or at last `close`
        self._file: SegmentFile | None = None
        self._written_bytes = self._folder_bytes = self._given_up = 0
        self._failed: str | None = None

    # ---- what is told, on the loop ------------------------------------------------------------

    def look(self, now: Snapshot) -> None:
        """Somebody has the rules judge a snapshot; the tick does so by itself."""
        if not self._ticking:
            self._keep(lambda tape: tape.look(now))

    def act(self, act: Act) -> None:
        """Somebody does something with the gate."""
        self._keep(lambda tape: tape.act(act))

    def report(self, report: DeviceReport) -> None:
        """A writer tells the gate."""
        self._keep(lambda tape: tape.report(report))

    def begun(self, now: Snapshot, plans: tuple[Plan, ...], duty: Any, memory: Any) -> None:
        """A tick begins."""
        with self._alone():
            if now.now_s >= self._file_due_s and self.kept is not None:
                self._begin(now, self.kept(), duty, memory)
            elif duty is not self._duty and self._tape is not None and self.kept is not None:
                self._exchange(duty, self.kept().settings)
        self._duty = duty
        self._ticking = True
        self._keep(lambda tape: tape.tick(now, plans))

    def ended(self, requests: Iterable[Request], cleared: Mapping[UnitId, Cleared]) -> None:
        """The tick decided."""
        self._ticking = False
        self._keep(lambda tape: tape.ended(outcome_of(requests, cleared)))

    def adopt(self, settings: RecorderSettings) -> None:
        """Other bounds from the next file on."""
        self._settings = settings
        self._most_bytes = int(settings.max_mb * MB)
        self._file_most_bytes = self._most_bytes // FILES_AT_LEAST

    def renew(self) -> None:
        """The site changed: the next tick begins a new file, which knows all there is to know."""
        if self._tape is not None:
            self._file_due_s = 0.0

    def write(self, now_s: float) -> None:
        """Turn what was told into columns; called when the tick has nothing else to do."""
        tape = self._tape
        if tape is None:
            return
        waiting, self._waiting = self._waiting, []
        with self._alone():
            for each in waiting:
                each(tape)
            if now_s >= self._flush_due_s:
                self._flush_due_s = now_s + self._settings.flush_s
                self._hand_over(tape)

    def status(self) -> RecorderStatus:
        """How it is now."""
        return RecorderStatus(
            self._file.path.name if self._file is not None else "",
            self._written_bytes / MB,
            self._folder_bytes / MB,
            self._queued_bytes,
            self._given_up,
            self._failed,
        )

    # ---- its life -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Write until cancelled. A disk that refuses is an alarm, and tried again later."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.written()

    async def written(self) -> None:
        """Return when all that was handed over is on disk, or given up."""
        async with self._turn:
            while self._chunks:
                await self._take(self._chunks.popleft())

    async def _take(self, chunk: _Chunk) -> None:
        self._queued_bytes -= len(chunk.data)
        try:
            await asyncio.to_thread(self._write, chunk)
        except OSError as error:
            await asyncio.to_thread(self._leave)
            self._give_up(f"{self._folder}: {error.strerror or error}")
        else:
            self._tell(None)
            if self._file is not None and self._file.size_bytes > self._file_most_bytes:
                self._file_due_s = 0.0

    async def close(self) -> None:
        """Write what is queued and close the file."""
        self.write(self._clock.now_s())
        if self._tape is not None:
            self._hand_over(self._tape)
        self._tape = None
        self._wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.written()
                async with self._turn:
                    await asyncio.to_thread(self._leave)

    # ---- inside -------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """What is wrong here costs the recording and is told; it never costs the tick."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, control goes on
            self._give_up(f"cannot be recorded: {error!r}")

    def _keep(self, how: Callable[[TapeWriter], None]) -> None:
        if self._tape is None:
            return
        self._waiting.append(how)
        if len(self._waiting) > WAITING_MAX:
            self._give_up("no tick ends")

    def _begin(self, now: Snapshot, kept: Kept, duty: Any, memory: Any) -> None:
        """A new file, which knows all there is to know."""
        self.write(now.now_s)
        if self._tape is not None:
            self._hand_over(self._tape)
        self._file_due_s = now.now_s + self._settings.file_s
        self._flush_due_s = now.now_s + self._settings.flush_s
        self._tape, self._known = TapeWriter(self._words), kept.settings
        begin = Begin(
            self._version, "", kept.settings, duty, memory, kept.gate, dict(kept.releases)
        )
        self._chunks.append(_Chunk(b"", begin, now.utc))
        self._wake.set()

    def _exchange(self, duty: Any, settings: Any) -> None:
        hash_, changed = "", None
        if settings is not self._known:
            self._known = changed = settings
            hash_ = self._hash(settings)
        change = Exchanged(duty, hash_, changed)
        self._keep(lambda tape: tape.exchanged(change))

    def _hash(self, settings: Any) -> str:
        return hashlib.sha256(self._words.text(settings).encode()).hexdigest()[:16]

    def _hand_over(self, tape: TapeWriter) -> None:
        data = tape.take()
        if self._queued_bytes + len(data) > self._queued_max_bytes:
            self._give_up("the disk does not follow")
            return
        self._chunks.append(_Chunk(data))
        self._queued_bytes += len(data)
        self._wake.set()

    def _give_up(self, text: str) -> None:
        """Nothing more of this file; the next tick after a while begins another."""
        self._given_up += 1
        self._chunks.clear()
        self._queued_bytes = 0
        self._tape, self._waiting = None, []
        self._file_due_s = self._clock.now_s() + RETRY_S
        self._tell(text)

    def _tell(self, text: str | None) -> None:
        if text != self._failed:
            self._failed = text
            self._on_trouble(Code.RECORDER_FAILED, text is not None, text or "")

    def _write(self, chunk: _Chunk) -> None:
        """In a worker. What follows no beginning is of a file that was given up."""
        data = chunk.data
        if chunk.begin is not None:
            begin = replace(chunk.begin, settings_hash=self._hash(chunk.begin.settings))
            data = self._words.text(begin).encode()
            self._leave()
            trim(self._folder, self._most_bytes - self._file_most_bytes, None)
            self._file = SegmentFile(self._folder, chunk.utc or self._clock.utc())
        if self._file is not None:
            self._file.write(data)
            self._written_bytes += len(data)
            self._folder_bytes = trim(self._folder, self._most_bytes, self._file.path)

    def _leave(self) -> None:
        """In a worker."""
        if self._file is not None:
            self._file.close()
            self._file = None
