"""Recorded ticks computed again: each must give what it gave, or it is named.

Every recorded file begins with all there was to know, so each is played by itself and damage of one
costs no other. With another setting the site is played on from file to file, as it would have gone
on; what devices measured stays as recorded.
"""

import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vppd.config import changed
from vppd.core.model import Snapshot
from vppd.core.settings import Settings
from vppd.duty import Duty
from vppd.house import duty_of
from vppd.recording import version, words
from vppd.rerun import Rerun, assets_of
from vppd.spine.columns import DamagedError
from vppd.spine.outcome import Outcome, UnitOutcome
from vppd.spine.plain import UnreadableError
from vppd.spine.recorder import FOLDER
from vppd.spine.segments import SUFFIX, CutOffError, Segment, chunks, segments
from vppd.spine.tape import Begin, Ended, Event, Exchanged, TapeReader, Tick

SITE = "site"
NONE = UnitOutcome(0, 0, 0, 0, "", 0)
CENTS = 100.0
GAP_S = 1.0  # between two ticks: more is told
SET_S = 5.0  # wall time that differs so much from the time that passed was set
UNPACKED_MOST = 4  # times its size: what is recorded was compressed already
UNPACKED_FREE_BYTES = 2**20

Change = tuple[str, str]  # a dotted key and its value, as YAML spells them


class UnmadeError(ValueError):
    """A change of the settings that cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One unit in one tick that did not get what was recorded."""

    utc: datetime
    number: int  # of the tick, in what was played
    unit: str
    recorded_kw: float
    recomputed_kw: float
    why: str


@dataclass(slots=True)
class Played:
    """What a replay came to."""

    ticks: int = 0
    differing: int = 0  # ticks
    damaged: int = 0  # files that were changed or cannot be read
    files: int = 0


@dataclass(frozen=True, slots=True)
class Ears:
    """Who is told what."""

    difference: Callable[[Difference], None]
    note: Callable[[str], None]
    progress: Callable[[datetime, int], None]


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when, both None for without end."""

    begin: datetime | None = None
    end: datetime | None = None

    def holds(self, utc: datetime) -> bool:
        """Whether a tick counts."""
        return (self.begin is None or utc >= self.begin) and not self.over(utc)

    def over(self, utc: datetime) -> bool:
        """Whether nothing counts from here on."""
        return self.end is not None and utc >= self.end

    def chosen(self, found: Sequence[Segment]) -> Sequence[Segment]:
        """The files that may hold such ticks: the last that began before, and those after."""
        first = 0
        for place, each in enumerate(found):
            if self.begin is not None and each.begun <= self.begin:
                first = place
        return [each for each in found[first:] if not self.over(each.begun)]


@contextmanager
def recorded_in(place: Path) -> Iterator[Sequence[Segment]]:
    """The recorded files of a state directory or of a bundle. Raises OSError."""
    if place.is_dir():
        yield segments(place / FOLDER)
        return
    with TemporaryDirectory(prefix="vppd-replay-") as folder:
        try:
            _unpack(place, Path(folder))
        except (tarfile.TarError, EOFError, zlib.error, LookupError, ValueError) as error:
            raise OSError(f"{place}: not a bundle, or not whole: {error}") from error
        yield segments(Path(folder))


def _unpack(bundle: Path, folder: Path) -> None:
    """The recorded files of a bundle, which a stranger may have made: by their last names, plain
    files alone, and no more than such a bundle can hold. Raises OSError, what `tarfile` raises."""
    left = UNPACKED_MOST * bundle.stat().st_size + UNPACKED_FREE_BYTES
    with tarfile.open(bundle) as tar:
        for member in tar:
            name = Path(member.name)
            content = tar.extractfile(member) if member.isfile() else None
            if content is None or name.suffix != SUFFIX:
                continue
            left -= member.size
            if left < 0:
                raise OSError(f"{bundle}: it unpacks to many times its size: not a bundle of vppd")
            with (folder / name.name).open("wb") as file:
                shutil.copyfileobj(content, file)


def replay(found: Sequence[Segment], span: Span, change: Sequence[Change], ears: Ears) -> Played:
    """Play the files that hold the span. Raises UnmadeError."""
    played, before, gaps = Played(), _Site(change), _Gaps(ears.note)
    for segment in span.chosen(found):
        played.files += 1
        try:
            _play(segment, span, before, gaps, played, ears)
        except CutOffError as error:
            ears.note(f"{segment.path.name}: {error}; what was written before was replayed")
            before.forget()
        except UnmadeError:
            raise
        except (DamagedError, UnreadableError, OSError) as error:
            played.damaged += 1
            ears.note(f"{segment.path.name}: {error}; the rest of this file is lost")
            before.forget()
        except Exception as error:  # noqa: BLE001  a stranger's file may say whatever it likes
            played.damaged += 1
            ears.note(f"{segment.path.name}: not to be played: {error!r}; the rest of it is lost")
            before.forget()
    return played


class _Site:
    """The site that is played, from file to file."""

    def __init__(self, change: Sequence[Change]) -> None:
        self._change = change
        self._rerun: Rerun | None = None
        self._run_s = 0.0  # which run of the daemon it is of
        self._settings: Settings | None = None

    def forget(self) -> None:
        """What comes next does not follow."""
        self._rerun = None

    def begin(self, begin: Begin) -> Rerun:
        """The site at the head of a file. Another setting goes on where it was."""
        same = self._settings == begin.settings
        self._settings = begin.settings
        follows = self._run_s == begin.gate.started_s and same  # a reload begins a file of its own
        rerun = self._rerun
        whole = rerun is not None and rerun.now_s == begin.memory.now_s  # no tick is missing
        if rerun is None or not self._change or not (follows and whole):
            self._rerun = rerun = Rerun(
                begin, self._changed(begin.settings), self._duty(begin.duty)
            )
        self._run_s = begin.gate.started_s
        return rerun

    def exchange(self, rerun: Rerun, new: Exchanged) -> None:
        """The settings were changed while it ran, or droop was switched."""
        self._settings = new.settings or self._settings
        rerun.duty = self._duty(new.duty)

    def _changed(self, settings: Settings) -> Settings:
        try:
            for key, text in self._change:
                settings = changed(settings, key, text)
        except ValueError as error:
            raise UnmadeError(str(error)) from error
        return settings

    def _duty(self, recorded: Duty) -> Duty:
        """The recorded one; with another setting, made of the settings, and who switched droop."""
        if not self._change or self._settings is None:
            return recorded
        settings = self._changed(self._settings)
        duty = duty_of(settings, assets_of(settings))
        if recorded.switch is None:
            return duty
        droop = replace(duty.droop, enabled=recorded.switch.enabled)
        return replace(duty, droop=droop, switch=recorded.switch)


class _Gaps:
    """Tells from when to when no tick is recorded, whatever the wall clock did meanwhile."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._last: Snapshot | None = None

    def take(self, now: Snapshot) -> None:
        """A tick that counts."""
        last, self._last = self._last, now
        if last is not None and not 0.0 <= now.now_s - last.now_s <= GAP_S:
            self._note(
                f"{last.utc.isoformat()} to {now.utc.isoformat()}: no tick is recorded: vppd did"
                " not run, or its last seconds never reached the disk"
            )


class _Wall:
    """Whether the wall clock was set since the first tick of a file: then what comes after a span
    may come within it again."""

    def __init__(self) -> None:
        self._first: Snapshot | None = None
        self._set = False

    def was_set(self, now: Snapshot) -> bool:
        """Asked at each tick."""
        first = self._first = self._first or now
        passed_s = now.now_s - first.now_s
        self._set |= abs((now.utc - first.utc).total_seconds() - passed_s) > SET_S
        return self._set


def _play(
    segment: Segment, span: Span, site: _Site, gaps: _Gaps, played: Played, ears: Ears
) -> None:
    source = chunks(segment.path)
    if (head := next(source, None)) is None:
        raise CutOffError("the file was cut off before anything was written")
    begin = words().value(head.decode("utf-8", "replace"))
    if not isinstance(begin, Begin):
        raise UnreadableError("it does not begin as it should")
    if begin.version != version():
        ears.note(
            f"{segment.path.name}: recorded by vppd {begin.version}; this is {version()}, which may"
            " decide otherwise"
        )
    rerun, tape = site.begin(begin), TapeReader(words())
    units = [each.id for each in begin.settings.units]
    match, wall = _Match(span, units, played, ears), _Wall()
    for chunk in source:
        for event in tape.events(chunk):
            if isinstance(event, Tick) and not wall.was_set(event.now) and span.over(event.now.utc):
                return
            if isinstance(event, Tick) and span.holds(event.now.utc):
                gaps.take(event.now)
            if isinstance(event, Exchanged):
                site.exchange(rerun, event)
            match.take(event, _again(rerun, event))
        if match.at is not None:
            ears.progress(match.at, played.ticks)


def _again(rerun: Rerun, event: Event) -> Outcome | str | None:
    """The outcome of a tick; words where it could not be computed."""
    try:
        return rerun.take(event)
    except Exception as error:  # noqa: BLE001  a decision that fails differs, whatever it fails with
        return f"raised {error!r}"


class _Match:
    """Compares each tick with what was recorded of it."""

    def __init__(self, span: Span, units: Sequence[str], played: Played, ears: Ears) -> None:
        self.at: datetime | None = None
        self._span, self._units, self._played, self._ears = span, units, played, ears
        self._made: Any = None

    def take(self, event: Event, made: Outcome | str | None) -> None:
        """One event, and what came of it again."""
        if isinstance(event, Tick):
            self.at, self._made = event.now.utc, made
        elif isinstance(event, Ended) and self.at is not None and self._span.holds(self.at):
            self._played.ticks += 1
            if self._made != event.outcome:
                self._played.differing += 1
                for each in self._differences(self.at, event.outcome):
                    self._ears.difference(each)
        elif isinstance(made, str) and self.at is not None:
            self._ears.note(f"{self.at.isoformat()}: {type(event).__name__} {made}")

    def _differences(self, at: datetime, recorded: Outcome) -> Iterator[Difference]:
        made, number = self._made, self._played.ticks
        if not isinstance(made, Outcome):
            yield Difference(at, number, SITE, _sum_kw(recorded), 0.0, str(made))
            return
        told = False
        for place, unit in enumerate(self._units):
            was = recorded.units[place] if place < len(recorded.units) else NONE
            now = made.units[place] if place < len(made.units) else NONE
            if was != now:
                told = True
                yield Difference(at, number, unit, was.power_kw, now.power_kw, reason(was, now))
        if not told:
            text = "less than 0.01 kW"
            yield Difference(at, number, SITE, _sum_kw(recorded), _sum_kw(made), text)


def reason(was: UnitOutcome, now: UnitOutcome) -> str:
    """The first thing that differs, on the way from what was asked to what was given."""
    if was.base != now.base:
        return f"base asked {now.base / CENTS:+.2f} kW, recorded {was.base / CENTS:+.2f}"
    if was.frequency != now.frequency:
        new, old = now.frequency / CENTS, was.frequency / CENTS
        return f"frequency response asked {new:+.2f} kW, recorded {old:+.2f}"
    if was.why != now.why:
        return f"bound by {now.why or 'nothing'}, recorded {was.why or 'nothing'}"
    if was.power != now.power:
        return f"the same limits ({now.why or 'none'}) leave another power"
    if was.reactive != now.reactive:
        return f"{now.reactive / CENTS:+.2f} kvar, recorded {was.reactive / CENTS:+.2f}"
    return "less than 0.01 kW"


def _sum_kw(outcome: Outcome) -> float:
    return sum(each.power_kw for each in outcome.units)
