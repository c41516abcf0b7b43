"""What is on the bus as columns: a snapshot is what changed since the one before.

The bus never moves a key: a reading stands at the same place in every snapshot, so what changed is
found by comparing place by place, and is written with what it shares with its neighbours left out.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, compress
from operator import is_not
from typing import Any

from vppd.core.model import Point, Quality, Reading, Snapshot, UnitId
from vppd.spine.columns import DamagedError, Reader, Writer
from vppd.spine.plain import Plain, dumped, parsed

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)
# What a reading has in common: its value with the one before it at its place, its time with the
# one written before it, its age and quality, and its name, with the one before it at its place.
VALUE, TIME, BELIEF, NAME = 1, 2, 4, 8
FAR = 15  # a gap that does not fit beside what is shared
_INSTANT, _REAL, _WALL = ["#", "i"], ["#", "r"], ["#", "w"]
_TIMES = frozenset({"at_s", "issued_s", "valid_until_s", "started_s", "cleared_at_s"})


class BoardWriter:
    """Writes snapshots and single messages into a column writer."""

    def __init__(self, words: Plain, out: Writer) -> None:
        self._words, self._out = words, out
        self._templates: dict[tuple[Any, ...], str] = {}
        self._utc_us = 0
        self._at_s = math.nan

    def snapshot(self, now: Snapshot, before: Snapshot | None) -> None:
        """Its times, and what changed since `before`."""
        out = self._out
        out.instant(now.now_s)
        self._wall(now.utc)
        old = list(before.readings.values()) if before is not None else []
        new = list(now.readings.values())
        out.whole(len(new))
        self._readings(new, old)
        sources = list(now.synchros.values())
        heard = list(before.synchros.values()) if before is not None else []
        out.whole(len(sources))
        changed = list(_changed(sources, heard))
        out.whole(len(changed))
        for place in changed:
            out.whole(place)
            self.record(sources[place])

    def record(self, message: Any) -> None:
        """Anything of known classes; its floats apart from its words, which are said only once."""
        words: list[Any] = []
        floats: list[tuple[str, Any]] = []
        self._gather(message, "", words, floats)
        key = tuple(words)
        text = self._templates.get(key)
        if text is None:
            text = self._templates[key] = dumped(_marked(self._words.words(message), ""))
        self._out.text(text)
        for sort, value in floats:
            if sort == "i":
                self._out.instant(value)
            elif sort == "r":
                self._out.real(value)
            else:
                self._wall(value)

    def _gather(
        self, value: Any, name: str, words: list[Any], floats: list[tuple[str, Any]]
    ) -> None:
        """The floats in the order of `_marked`, and all else by its class, for 1 is not True."""
        kind = type(value)
        words.append(kind)
        if kind is float:
            floats.append(("i" if name in _TIMES else "r", value))
        elif kind is datetime:
            floats.append(("w", value))
        elif kind is tuple:
            words.append(len(value))
            for each in value:
                self._gather(each, name, words, floats)
        elif (fields := self._words.fields(kind)) is not None:
            for each in fields:
                self._gather(getattr(value, each), each, words, floats)
        else:
            words.append(value)

    def _wall(self, utc: datetime) -> None:
        at_us = (utc - EPOCH) // MICRO
        self._out.signed(at_us - self._utc_us)
        self._utc_us = at_us

    def _readings(self, new: Sequence[Reading], old: Sequence[Reading]) -> None:
        changed = list(_changed(new, old))
        self._out.whole(len(changed))
        last = -1
        for place in changed:
            reading = new[place]
            before = old[place] if place < len(old) else None
            self._reading(reading, before, place - last - 1)
            last = place

    def _reading(self, reading: Reading, before: Reading | None, gap: int) -> None:
        out, at_s, value = self._out, reading.at_s, reading.value
        shared = TIME if at_s == self._at_s else 0
        if before is not None:
            if value == before.value and (
                value or math.copysign(1.0, value) == math.copysign(1.0, before.value)
            ):
                shared |= VALUE
            if reading.max_age_s == before.max_age_s and reading.quality is before.quality:
                shared |= BELIEF
            if reading.point is before.point and reading.unit == before.unit:
                shared |= NAME
        out.head(shared | min(gap, FAR) << 4)
        if gap >= FAR:
            out.whole(gap - FAR)
        if not shared & NAME:
            out.text(f"{reading.unit}\n{reading.point}")
        if not shared & TIME:
            out.instant(at_s)
            self._at_s = at_s
        if not shared & BELIEF:
            out.text(reading.quality)
            out.real(reading.max_age_s)
        if not shared & VALUE:
            out.real(value)


class BoardReader:
    """Reads what a `BoardWriter` wrote."""

    def __init__(self, words: Plain, source: Reader) -> None:
        self._words, self._in = words, source
        self._utc_us = 0
        self._at_s = math.nan
        self._templates: dict[str, Any] = {}

    def snapshot(self, before: Snapshot | None) -> Snapshot:
        """The next snapshot. Raises DamagedError and UnreadableError."""
        source = self._in
        now_s, utc = source.instant(), self._wall()
        readings = list(before.readings.values()) if before is not None else []
        self._resize(readings, source.whole())
        last = -1
        for _ in range(source.whole()):
            head = source.head()
            gap = head >> 4
            last += 1 + gap + (source.whole() if gap == FAR else 0)
            if last > len(readings):
                raise DamagedError("a reading without a place")
            old = readings[last] if last < len(readings) else None
            readings[last : last + 1] = [self._reading(head, old)]
        synchros = list(before.synchros.values()) if before is not None else []
        self._resize(synchros, source.whole())
        for _ in range(source.whole()):
            place = source.whole()
            if place > len(synchros):
                raise DamagedError("a source without a place")
            synchros[place : place + 1] = [self.record()]
        return Snapshot(
            now_s,
            utc,
            {(each.unit, each.point): each for each in readings},
            {each.source: each for each in synchros},
        )

    def record(self) -> Any:
        """The next message. Raises DamagedError and UnreadableError."""
        text = self._in.text()
        template = self._templates.get(text)
        if template is None:
            template = self._templates[text] = parsed(text)
        return self._words.made(self._joined(template))

    def _joined(self, words: Any) -> Any:
        if isinstance(words, dict):
            return {name: self._joined(each) for name, each in words.items()}
        if not isinstance(words, list):
            return words
        if words[:1] != ["#"]:
            return [self._joined(each) for each in words]
        if words == _INSTANT:
            return self._in.instant()
        if words == _REAL:
            return self._in.real()
        return ["@", self._wall().isoformat()]

    def _resize(self, kept: list[Any], count: int) -> None:
        del kept[count:]

    def _wall(self) -> datetime:
        self._utc_us += self._in.signed()
        try:
            return EPOCH + timedelta(microseconds=self._utc_us)
        except OverflowError as error:
            raise DamagedError("a time out of range") from error

    def _reading(self, shared: int, before: Reading | None) -> Reading:
        source = self._in
        if shared & (NAME | BELIEF | VALUE) and before is None:
            raise DamagedError("a reading that follows none")
        if not shared & NAME:
            unit, _, word = source.text().rpartition("\n")
            id_, point = UnitId(unit), Point(word)
        else:
            assert before is not None  # noqa: S101  judged above
            id_, point = before.unit, before.point
        if not shared & TIME:
            self._at_s = source.instant()
        if not shared & BELIEF:
            quality, max_age_s = Quality(source.text()), source.real()
        else:
            assert before is not None  # noqa: S101  judged above
            quality, max_age_s = before.quality, before.max_age_s
        if not shared & VALUE:
            value = source.real()
        else:
            assert before is not None  # noqa: S101  judged above
            value = before.value
        return Reading(id_, point, value, self._at_s, max_age_s, quality)


def _changed(new: Sequence[Any], old: Sequence[Any]) -> Iterator[int]:
    """The places where another object stands than before; `zip` ends with the shorter."""
    both = compress(range(min(len(new), len(old))), map(is_not, new, old))
    return chain(both, range(len(old), len(new)))


def _marked(words: Any, name: str) -> Any:
    """The words with a mark in place of every float and time."""
    if isinstance(words, float):
        return _INSTANT if name in _TIMES else _REAL
    if isinstance(words, Mapping):
        return {each: _marked(value, each) for each, value in words.items()}
    if not isinstance(words, list):
        return words
    return _WALL if words[0] == "@" else [_marked(each, name) for each in words]
