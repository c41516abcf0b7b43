"""The recorder: what it writes comes back bit for bit, stays within its bound, survives damage, and
a disk that refuses costs the recording and nothing else."""

import math
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.site_rig import SiteRig, site_settings
from tests.virtual_time import VirtualClock, run_virtual, virtual
from vppd.core.alarms import Code
from vppd.core.model import (
    Clamp,
    Cleared,
    DeviceNotice,
    LinkChange,
    Outcome,
    Phasor,
    Plan,
    Point,
    Priority,
    Quality,
    ReadBack,
    ReadBackResult,
    Reading,
    Request,
    Snapshot,
    Synchro,
    UnitId,
    WriteResult,
)
from vppd.core.settings_recorder import RecorderSettings
from vppd.duty import Memory
from vppd.recording import words
from vppd.spine.columns import DamagedError, Reader, Writer
from vppd.spine.outcome import Outcome as TickOutcome
from vppd.spine.outcome import UnitOutcome
from vppd.spine.plain import CREDENTIAL, UnreadableError
from vppd.spine.recorder import MB, Kept, Recorder
from vppd.spine.segments import CutOffError, SegmentFile, chunks, segments, trim
from vppd.spine.tape import MILLI_S, Act, Ended, Look, TapeReader, TapeWriter, Tick

QUEUED_BYTES = 100_000
WALL = datetime(2026, 1, 1, tzinfo=UTC)
UNITS = [UnitId(name) for name in ("B1", "B2", "é\n", "")]
ANY = st.floats(width=64)
NUMBERS = st.one_of(ANY, st.floats(width=32), st.integers(-999, 999).map(lambda n: n / 10.0))
TIMES = st.floats(min_value=0.001, max_value=1e9)
units, texts = st.sampled_from(UNITS), st.text(max_size=5)
maybe_kw = st.none() | NUMBERS
walls = st.timedeltas(timedelta(0), timedelta(days=900)).map(lambda gone: WALL + gone)


# ---- numbers ----------------------------------------------------------------------------------

CALLS = st.one_of(
    st.tuples(st.just("head"), st.integers(0, 255)),
    st.tuples(st.just("whole"), st.integers(0, 2**70)),
    st.tuples(st.just("signed"), st.integers(-(2**70), 2**70)),
    st.tuples(st.just("instant"), ANY),
    st.tuples(st.just("real"), NUMBERS),
    st.tuples(st.just("text"), st.text(max_size=8)),
)


@given(st.lists(st.lists(CALLS, max_size=30), max_size=4))
def test_every_number_comes_back_bit_for_bit(parts: list[list[tuple[str, Any]]]) -> None:
    writer, reader = Writer(), Reader()
    for calls in parts:
        for name, value in calls:
            getattr(writer, name)(value)
        reader.feed(writer.take())
        for name, value in calls:
            assert repr(getattr(reader, name)()) == repr(value)
        assert not reader.more


@given(st.binary(max_size=60))
def test_bytes_that_nobody_wrote_are_refused_and_nothing_else_happens(raw: bytes) -> None:
    tape = TapeReader(words())
    with suppress(DamagedError, UnreadableError):
        list(tape.events(raw))


# ---- events -----------------------------------------------------------------------------------

readings = st.builds(
    Reading, units, st.sampled_from(Point), NUMBERS, TIMES, TIMES, st.sampled_from(Quality)
)
synchros = st.builds(
    Synchro,
    units,
    NUMBERS,
    TIMES,
    TIMES,
    st.sampled_from(Quality),
    texts,
    maybe_kw,
    NUMBERS,
    st.none() | walls,
    maybe_kw,
    st.integers(0, 2**16),
    st.lists(st.builds(Phasor, texts, NUMBERS, NUMBERS, texts), max_size=3).map(tuple),
)
FINITE = st.floats(-1e6, 1e6)
plans = st.builds(
    Plan,
    units,
    FINITE,
    TIMES | st.just(math.inf),
    texts,
    st.sampled_from(Priority),
    TIMES,
    FINITE,
    st.none() | texts,
    st.booleans(),
    st.booleans(),
    texts,
)
unit_outcomes = st.builds(
    UnitOutcome,
    *[st.integers(-(10**12), 10**12)] * 4,
    st.sampled_from(("", "ramp", "soc_low ramp")),
    st.integers(0, 255),
)
reports = st.one_of(
    st.builds(ReadBackResult, units, st.sampled_from(ReadBack), *[NUMBERS] * 3, texts),
    st.builds(LinkChange, units, st.booleans(), TIMES, texts),
    st.builds(DeviceNotice, units, st.sampled_from(Code), st.booleans(), TIMES, texts),
)


@st.composite
def recordings(draw: st.DrawFn) -> list[Any]:
    """Some events as they follow one another: the bus never forgets a key, but an older snapshot
    may be looked at again."""
    events: list[Any] = []
    board: dict[Any, Reading] = {}
    heard: dict[UnitId, Synchro] = {}
    seen: list[Snapshot] = []
    now_s = 1000.0
    for _ in range(draw(st.integers(0, 8))):
        now_s += draw(st.sampled_from((0.04, 0.1, 0.1000001, 7.0)))
        for reading in draw(st.lists(readings, max_size=6)):
            board[reading.unit, reading.point] = reading
        for synchro in draw(st.lists(synchros, max_size=2)):
            heard[synchro.source] = synchro
        now = Snapshot(now_s, draw(walls), dict(board), dict(heard))
        seen.append(now)
        events.append(Tick(now, draw(st.lists(plans, max_size=2).map(tuple))))
        for _ in range(draw(st.integers(0, 4))):
            cleared_at_s = draw(st.just(now_s) | TIMES)
            late_ms = draw(st.integers(0, 400))
            outcome = draw(st.sampled_from(Outcome))
            held = draw(maybe_kw), draw(maybe_kw)
            text = draw(texts.filter(bool)) if late_ms < 51 else draw(texts)
            at_s = now_s + late_ms * MILLI_S
            unit = draw(units)
            events.append(WriteResult(unit, outcome, *held, at_s, text, cleared_at_s))
            events.append(WriteResult(unit, Outcome.HELD, *held, now_s, "", now_s))
        crc, made = draw(st.integers(0, 2**32 - 1)), draw(st.lists(unit_outcomes, max_size=3))
        events.append(Ended(TickOutcome(crc, tuple(made))))
        events += draw(st.lists(reports, max_size=3))
        if draw(st.booleans()):
            events.append(Look(draw(st.sampled_from(seen))))
        if draw(st.booleans()):
            on = draw(st.none() | st.sampled_from(seen))
            events.append(Act(draw(TIMES), WALL, draw(texts), ("B1", Code.RIVAL), on))
    return events


def written(tape: TapeWriter, event: Any) -> None:
    match event:
        case Tick():
            tape.tick(event.now, event.plans)
        case Ended():
            tape.ended(event.outcome)
        case Look():
            tape.look(event.now)
        case Act():
            tape.act(event)
        case _:
            tape.report(event)


@given(recordings(), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_every_event_comes_back_bit_for_bit(events: list[Any], together: int) -> None:
    writer, reader = TapeWriter(words()), TapeReader(words())
    back: list[Any] = []
    for begin in range(0, len(events), together):
        for event in events[begin : begin + together]:
            written(writer, event)
        back += reader.events(writer.take())
    assert [repr(each) for each in back] == [repr(each) for each in events]


def test_words_make_known_classes_only_and_no_credential_becomes_one() -> None:
    class Word(str):
        __slots__ = ()

    plan = Plan(UNITS[0], -0.0, math.inf, "x", Priority.ORDER, 1.5)
    assert repr(words().value(words().text(plan))) == repr(plan)
    assert words().text(Word("hunter2")) == f'"{CREDENTIAL}"'
    with pytest.raises(TypeError):
        words().text(Path())
    for text in ('["c","pathlib.Path",{}]', '["e","core.alarms.Code","none"]', "[", '["x"]', "[]"):
        with pytest.raises(UnreadableError):
            words().value(text)


# ---- files ------------------------------------------------------------------------------------


def file_of(folder: Path, parts: Sequence[bytes], at: datetime = WALL) -> Path:
    file = SegmentFile(folder, at)
    for part in parts:
        file.write(part)
    file.close()
    return file.path


def test_what_was_flushed_before_a_cut_is_read_and_changed_bytes_are_told(tmp_path: Path) -> None:
    parts = [bytes([n]) * 5000 + zlib.compress(bytes([n])) for n in range(5)]
    path = file_of(tmp_path, parts)
    whole = path.read_bytes()
    assert list(chunks(path)) == parts

    def read(raw: bytes) -> tuple[int, str]:
        path.write_bytes(raw)
        count = 0
        try:
            for each in chunks(path):
                assert each == parts[count]
                count += 1
        except CutOffError:
            return count, "cut"
        except DamagedError:
            return count, "damaged"
        return count, "whole"

    kinds = {read(whole[:end]) for end in range(len(whole))}
    assert {count for count, _ in kinds} == {0, 1, 2, 3, 4}
    assert {kind for _, kind in kinds} == {"cut", "whole"}  # whole: cut between two chunks
    # a file system that lost power may give zeros where data never came, to the end of a block
    zeros = {read(whole[:end] + bytes(5000)) for end in range(len(whole) + 1)}
    assert zeros == {(count, "cut") for count in range(len(parts) + 1)}
    assert all(
        read(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])[1] != "whole"
        for at in range(len(whole))
    )


def test_what_was_written_is_on_the_disk_before_the_next_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut leaves nothing of what only the kernel has: a file of 20 s came back empty."""
    file = SegmentFile(tmp_path, WALL)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda number: synced.append(os.fstat(number).st_size))
    for each in range(3):
        file.write(bytes([each]) * 100)
        assert synced[-1] == file.size_bytes
    file.close()
    assert len(synced) == 3


def test_the_oldest_files_go_first_and_the_open_one_stays(tmp_path: Path) -> None:
    noise = [zlib.compress(str(n).encode()) * 40 for n in range(4)]
    paths = [file_of(tmp_path, [each], WALL + timedelta(hours=n)) for n, each in enumerate(noise)]
    (tmp_path / "notes.txt").write_text("mine")
    sizes = [path.stat().st_size for path in paths]
    assert [each.path for each in segments(tmp_path)] == paths
    assert trim(tmp_path, sum(sizes), None) == sum(sizes)
    trim(tmp_path, sum(sizes[2:]), None)
    assert [each.path for each in segments(tmp_path)] == paths[2:]
    trim(tmp_path, 0, paths[3])
    assert [each.path for each in segments(tmp_path)] == paths[3:]
    assert (tmp_path / "notes.txt").exists()


# ---- the recorder -----------------------------------------------------------------------------


class Told:
    """The alarms that a recorder told."""

    def __init__(self) -> None:
        self.standing: dict[Code, str] = {}

    def __call__(self, code: Code, active: bool, text: str) -> None:
        self.standing.pop(code, None)
        if active:
            self.standing[code] = text


def recorder_in(
    folder: Path, clock: VirtualClock, queued_max_bytes: int = QUEUED_BYTES, **more: Any
) -> tuple[Recorder, Told]:
    told, wanted = Told(), RecorderSettings(**more)
    recorder = Recorder(wanted, folder, clock, words(), "0", told, queued_max_bytes)
    recorder.kept = lambda: Kept(None, None, {})
    return recorder, told


@virtual
async def test_what_cannot_be_recorded_costs_the_recording_and_never_the_tick(
    tmp_path: Path,
) -> None:
    clock = VirtualClock()
    recorder, told = recorder_in(tmp_path, clock)
    nothing = Snapshot(clock.now_s(), WALL, {})
    recorder.begun(nothing, (), None, Memory())
    recorder.report(object())  # type: ignore[arg-type]
    recorder.ended((), {})
    recorder.write(clock.now_s())
    assert "cannot be recorded" in told.standing[Code.RECORDER_FAILED]
    recorder.kept = lambda: 1 / 0  # type: ignore[assignment]
    await clock.sleep_until(clock.now_s() + 3600.0)
    recorder.begun(Snapshot(clock.now_s(), WALL, {}), (), None, Memory())
    assert "ZeroDivisionError" in told.standing[Code.RECORDER_FAILED]


def noisy_ticks(count: int) -> Iterator[Snapshot]:
    """Snapshots of which everything changed: nothing compresses less."""
    seed = 1
    for tick in range(count):
        board = {}
        for point in list(Point)[:50]:
            seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
            value = seed / 2**64
            board[UNITS[0], point] = Reading(UNITS[0], point, value, 1.0 + seed / 2**60, 1.0)
        yield Snapshot(1000.0 + tick, WALL + timedelta(seconds=tick), board)


def played(recorder: Recorder, now: Snapshot) -> None:
    recorder.begun(now, (), None, Memory())
    cleared = Cleared(UNITS[0], 1.0, 0.0, 2.0, 0.0, (Clamp(Code.RAMP, 2.0, 1.0),), now.now_s, 0.0)
    recorder.ended([Request(UNITS[0], 2.0, 0.0)], {UNITS[0]: cleared})
    recorder.write(now.now_s)


def test_the_folder_never_grows_beyond_its_bound(tmp_path: Path) -> None:
    async def main() -> None:
        recorder, told = recorder_in(tmp_path, VirtualClock(), max_mb=1, file_s=100.0)
        largest = 0
        for tick, now in enumerate(noisy_ticks(4000)):
            played(recorder, now)
            if tick % 50 == 49:
                await recorder.written()
                files = segments(tmp_path / "recorder")
                largest = max(largest, sum(each.path.stat().st_size for each in files))
        await recorder.close()
        assert 0.8 * MB < largest <= MB
        numbers = [each.number for each in segments(tmp_path / "recorder")]
        assert numbers[0] > 1
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert not told.standing

    run_virtual(main())


@virtual
async def test_a_disk_that_refuses_is_an_alarm_and_what_follows_begins_afresh(
    tmp_path: Path,
) -> None:
    clock = VirtualClock()
    recorder, told = recorder_in(tmp_path, clock)
    (tmp_path / "recorder").write_text("in the way")
    ticks = noisy_ticks(500)
    for _ in range(10):
        played(recorder, next(ticks))
        await recorder.written()
    assert Code.RECORDER_FAILED in told.standing
    assert recorder.status().files_given_up == 1
    (tmp_path / "recorder").unlink()
    await clock.sleep_until(clock.now_s() + 31.0)
    for now in ticks:
        played(recorder, replace(now, now_s=clock.now_s() + now.now_s - 1000.0))
        await recorder.written()
    assert not told.standing
    await recorder.close()
    (file,) = segments(tmp_path / "recorder")
    source = chunks(file.path)
    assert b"spine.tape.Begin" in next(source)
    tape = TapeReader(words())
    assert sum(isinstance(each, Ended) for chunk in source for each in tape.events(chunk)) > 400


@virtual
async def test_a_disk_that_does_not_follow_costs_the_file_and_no_memory(tmp_path: Path) -> None:
    recorder, told = recorder_in(tmp_path, VirtualClock(), flush_s=0.5)
    given_up = 0
    for now in noisy_ticks(1000):  # nobody writes meanwhile
        played(recorder, now)
        given_up = recorder.status().files_given_up
        assert recorder.status().queued_bytes <= QUEUED_BYTES
        if given_up:
            break
    assert given_up == 1
    assert "follow" in told.standing[Code.RECORDER_FAILED]
    await recorder.close()


@virtual
async def test_a_site_whose_recorder_cannot_write_is_controlled_all_the_same(
    tmp_path: Path,
) -> None:
    (tmp_path / "recorder").write_text("in the way")
    rig = SiteRig(site_settings())
    rig.state_dir = tmp_path
    async with rig:
        rig.plan(40.0)
        await rig.run(8.0)
        assert rig.sum_kw() == pytest.approx(40.0, abs=0.4)
        assert rig.alarmed(Code.RECORDER_FAILED)
        await rig.stop()
