"""Which changes of value are events, and the bounded buffer that keeps them until a master has
acknowledged them. Pure."""

import heapq
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from vppd.core.settings_scada import StationPointSettings
from vppd.grid.scada_codec import Shown

MONITORED = frozenset({"measured", "single", "double"})


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """One change, by the order in which changes happened."""

    number: int
    shown: Shown = field(compare=False)


def monitored(points: Iterable[StationPointSettings]) -> tuple[StationPointSettings, ...]:
    """The points that are shown, not commanded."""
    return tuple(point for point in points if point.kind in MONITORED)


def moved(point: StationPointSettings, values: tuple[float | None, float | None]) -> bool:
    """Whether a value, before and now, is news: it became known or unknown, a state flipped, a
    measurement left its dead band."""
    before, now = values
    if before is None or now is None:
        return before is not now
    if point.kind != "measured":
        return (before != 0.0) != (now != 0.0)
    return before != now and abs(now - before) >= point.moves_by


class Changes:
    """Remembers what was last told of each point. The first sight of a value is no event: an
    interrogation tells it."""

    def __init__(self, points: Iterable[StationPointSettings]) -> None:
        self._points = monitored(points)
        self._told: dict[int, float | None] = {}

    def since(self, values: Mapping[str, float | None], utc: datetime) -> list[Shown]:
        """What moved since the last call, with the time of now where a tag is wanted."""
        news: list[Shown] = []
        for point in self._points:
            value = values.get(point.value)
            if point.address not in self._told:
                self._told[point.address] = value
            elif moved(point, (self._told[point.address], value)):
                self._told[point.address] = value
                news.append(Shown(point, value, utc if point.time_tag else None))
        return news


class EventBuffer:
    """Events in their order: waiting, then in flight, gone when acknowledged. A full buffer gives
    up the oldest measurement, and a state only when nothing else waits."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._measured: list[Event] = []  # waiting, two heaps: the oldest of each is at hand
        self._states: list[Event] = []
        self._flying: set[int] = set()
        self._numbers = itertools.count()
        self.lost = 0

    def __len__(self) -> int:
        return len(self._measured) + len(self._states) + len(self._flying)

    def put(self, shown: Shown) -> bool:
        """Keep an event; False: another had to go for it."""
        room = True
        if len(self) >= self._size and (givable := self._measured or self._states):
            heapq.heappop(givable)
            self.lost += 1
            room = False
        self._keep(Event(next(self._numbers), shown))
        return room

    def take(self) -> Event | None:
        """The oldest that waits; it is in flight from now on."""
        heads = [heap for heap in (self._measured, self._states) if heap]
        if not heads:
            return None
        event = heapq.heappop(min(heads, key=lambda heap: heap[0]))
        self._flying.add(event.number)
        return event

    def confirm(self, event: Event) -> None:
        """A master has it."""
        self._flying.discard(event.number)

    def give_back(self, event: Event) -> None:
        """It was not acknowledged: it waits again, at its old place. Confirmed ones stay gone."""
        if event.number in self._flying:
            self._flying.discard(event.number)
            self._keep(event)

    def _keep(self, event: Event) -> None:
        measured = event.shown.point.kind == "measured"
        heapq.heappush(self._measured if measured else self._states, event)
