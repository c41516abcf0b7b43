"""A recorded site again: the same gate and the same sums, fed with what was recorded.

Devices are not there; what they answered is in the recording. Nothing is told to anybody.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from vppd.core.alarms import Code
from vppd.core.asset import Asset, asset_of
from vppd.core.model import Cleared, UnitId
from vppd.core.settings import Settings
from vppd.duty import Duty, owe
from vppd.field.audit import Audit
from vppd.field.feeders import feeders_of
from vppd.field.gate import Gate
from vppd.field.latches import Latches
from vppd.field.rule import Verdict
from vppd.spine.outcome import Outcome, outcome_of
from vppd.spine.tape import Act, Begin, Ended, Event, Exchanged, Look, Tick


class TapeClock:
    """The time of the event that is played."""

    def __init__(self) -> None:
        self.at_s = 0.0
        self.wall = datetime(1970, 1, 1, tzinfo=UTC)

    def now_s(self) -> float:
        return self.at_s

    def utc(self) -> datetime:
        return self.wall

    async def sleep_until(self, deadline_s: float) -> None:
        """Nobody sleeps in a recording."""


class AbsentDevice:
    """Takes what the gate says; what came of it is in the recording."""

    def __init__(self, unit: UnitId, *, releases: bool) -> None:
        self.unit = unit
        self.releases = releases

    def offer(self, cleared: Cleared) -> None:
        """Nothing."""

    def enable(self, *, on: bool) -> None:
        """Nothing."""

    def release(self) -> None:
        """Nothing."""

    def reset_alarms(self) -> None:
        """Nothing."""

    async def finish(self) -> bool:
        """Nothing."""
        return True


class DeafAudit(Audit):
    """What was violated then is in the journal."""

    def __init__(self) -> None:
        """It needs nobody to tell."""

    def alarm(self, code: Code, unit: UnitId, active: bool, text: str) -> None:
        """Nothing."""

    def resume(self, code: Code, unit: UnitId, text: str, since: datetime) -> None:
        """Nothing."""

    def violations(self, unit: UnitId, verdicts: Sequence[Verdict]) -> None:
        """Nothing."""


class Rerun:
    """One site from the beginning of a recorded file on."""

    def __init__(self, begin: Begin, settings: Settings, duty: Duty) -> None:
        """`settings` and `duty` are the recorded ones, or others, to see what they would do."""
        self.duty, self._memory, self._clock = duty, begin.memory, TapeClock()
        assets = assets_of(settings)
        inputs = {UnitId(f"input:{each.id}"): each.scope for each in settings.interlock_inputs}
        devices = {
            id_: AbsentDevice(id_, releases=releases) for id_, releases in begin.releases.items()
        }
        self._gate = Gate(
            assets,
            devices,
            inputs,
            feeders_of(settings, assets),
            Latches((), lambda _: None, self._clock.utc()),
            DeafAudit(),
            self._clock,
        )
        self._gate.remember(begin.gate)

    @property
    def now_s(self) -> float:
        """When the last tick was, monotonic."""
        now_s: float = self._memory.now_s
        return now_s

    def take(self, event: Event) -> Outcome | None:
        """Do what was done; the outcome of a tick. Raises whatever the sums raise."""
        match event:
            case Tick():
                return self._tick(event)
            case Look():
                self._gate.room(event.now)
            case Act():
                self._act(event)
            case Ended() | Exchanged():
                pass  # the caller's: one compares, the other may be another duty than was
            case _:
                self._gate.report(event)
        return None

    def _tick(self, tick: Tick) -> Outcome:
        now, gate = tick.now, self._gate
        self._clock.at_s, self._clock.wall = now.now_s, now.utc
        rooms = gate.room(now)
        reaches_kw, tree = gate.reaches(now), gate.tree(now)
        owed, self._memory = owe(now, tick.plans, rooms, self.duty, self._memory, reaches_kw, tree)
        cleared = {each.unit: each for each in gate.submit(now, owed.requests)}
        return outcome_of(owed.requests, cleared)

    def _act(self, act: Act) -> None:
        gate, words, now = self._gate, act.words, act.now
        self._clock.at_s, self._clock.wall = act.at_s, act.utc
        match act.name:
            case "trip":
                scope, code, text, by = words
                gate.trip(scope, code, text, by)
            case "reset":
                gate.reset(*words)
            case "disable":
                gate.disable(*words)
            case "release":
                gate.release(*words)
            case "enable":
                gate.enable(*words)
            case "close_in":
                gate.close_in(words)
            case "watch" if now is not None:
                gate.watch(lambda: now)
            case "stop" if now is not None:
                gate.stop(now)
            case _:
                raise ValueError(f"{act.name!r}: an act that this version does not know")


def assets_of(settings: Settings) -> tuple[Asset, ...]:
    """The units of a site as rules and shares see them."""
    made = tuple(
        asset_of(each, settings.profile_of(each), settings.bms_of(each)) for each in settings.units
    )
    if settings.role != "aggregator":
        return made
    most_s = settings.aggregator.in_force_s
    return tuple(replace(each, revert_s=max(each.revert_s, most_s)) for each in made)
