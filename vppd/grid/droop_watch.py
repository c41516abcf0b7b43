"""Alarms of the response: a promise that could not be kept, fast response at work, a dead bus, a
site that ceased."""

from vppd.core.alarms import Code, Level
from vppd.core.decision import Decision, Promise
from vppd.core.model import SITE
from vppd.spine.alarms import AlarmBoard

SHORT_KW = 0.5
SETTLE_S = 5.0  # short, or no longer short, for so long: ramps and rounding pass by


class ResponseWatch:
    """Told every decision."""

    def __init__(self, alarms: AlarmBoard) -> None:
        self._alarms = alarms
        self._changed_s: float | None = None  # since when the promise is other than its alarm
        self._short = False

    def note(self, decision: Decision) -> None:
        """One tick."""
        self._promise(decision.promise, decision.now_s)
        block_kw, riding = decision.ffr_kw, decision.riding
        text = f"fast response {block_kw:+.1f} kW" if block_kw != 0.0 else ""
        self._alarms.set(Code.FFR, SITE, block_kw != 0.0, text)
        outside = riding.ceased or riding.staying
        word = "ceased" if riding.ceased else "stays connected"
        level = Level.CRITICAL if riding.ceased else Level.WARNING
        text = f"{word}: {outside}" if outside else ""
        self._alarms.set(Code.RIDE_THROUGH, SITE, bool(outside), text, level)
        self._alarms.set(Code.VOLTAGE_LOST, SITE, riding.blind)
        self._alarms.set(Code.DEAD_BUS, SITE, riding.dead)

    def _promise(self, promise: Promise | None, now_s: float) -> None:
        """A shortfall is told before the event that would need it."""
        up_kw = promise.short_up_kw if promise is not None else 0.0
        down_kw = promise.short_down_kw if promise is not None else 0.0
        if (max(up_kw, down_kw) > SHORT_KW) == self._short:
            self._changed_s = None
            return
        self._changed_s = self._changed_s if self._changed_s is not None else now_s
        if now_s - self._changed_s < SETTLE_S:
            return
        self._short, self._changed_s = not self._short, None
        text = f"short of the promise by {up_kw:.1f} kW up, {down_kw:.1f} kW down"
        self._alarms.set(Code.HEADROOM_SHORT, SITE, self._short, text if self._short else "")
