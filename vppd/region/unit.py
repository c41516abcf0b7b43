"""A site as the gate holds it: what was cleared becomes what the site is to be ordered."""

import math

from vppd.core.alarms import Code
from vppd.core.model import Cleared, DeviceNotice, LinkChange, Outcome, UnitId, WriteResult
from vppd.core.ports import Clock, Report

PROVE_EVERY_S = 2.0


class SiteActuator:
    """core.ports.Actuator of one site. It sends nothing itself: rounds ask what is wanted."""

    def __init__(self, unit: UnitId, clock: Clock, report: Report) -> None:
        self.unit = unit
        self._clock, self._report = clock, report
        self._newest: Cleared | None = None
        self._off = self._given = False
        self._proved_s = -math.inf

    @property
    def releases(self) -> bool:
        """A site that is ordered nothing is its own."""
        return True

    def offer(self, cleared: Cleared) -> None:
        """Hand over the newest setpoint. That it waits for its round is an outcome, so that the
        watchdog sees control; what the site says to it comes later."""
        self._newest = cleared
        if cleared.at_s - self._proved_s >= PROVE_EVERY_S:
            self._proved_s = cleared.at_s
            self._report(WriteResult(self.unit, Outcome.HELD, None, None, cleared.at_s))

    def enable(self, *, on: bool) -> None:
        """On: it does as it is ordered; off: it is ordered 0, whoever plans or not."""
        self._off, self._given = not on, False

    def release(self) -> None:
        """Order nothing any more."""
        self._given = True
        notice = DeviceNotice(self.unit, Code.RELEASED, True, self._clock.now_s(), "its own")
        self._report(notice)

    def reset_alarms(self) -> None:
        """A site resets its own."""

    async def finish(self) -> bool:
        """Orders end by themselves; the site then does as its own plans say."""
        return True

    def wanted(self, planned_s: float | None) -> Cleared | None:
        """What the site is to be ordered now; None: nothing, it is left to itself. `planned_s`:
        since when there is a plan that it has a share in; what was cleared before was not of it. A
        setpoint is a lease: when the tick stops, orders end."""
        newest = self._newest
        if newest is None or self._given or self._clock.now_s() > newest.valid_until_s:
            return None
        planned = planned_s is not None and newest.at_s >= planned_s
        return newest if planned or self._off else None

    def answered(self, power_kw: float, cleared_at_s: float, now_s: float) -> None:
        """The site took an order."""
        written = Outcome.WRITTEN
        self._report(WriteResult(self.unit, written, power_kw, 0.0, now_s, "", cleared_at_s))

    def unanswered(self, power_kw: float, cleared_at_s: float, now_s: float, text: str) -> None:
        """The site may have taken an order, or not: nobody knows."""
        lost = Outcome.LOST
        self._report(WriteResult(self.unit, lost, power_kw, 0.0, now_s, text, cleared_at_s))

    def heard(self, now_s: float, text: str, *, up: bool) -> None:
        """The site began, or ceased, to tell of itself."""
        self._report(LinkChange(self.unit, up, now_s, text))

    def trouble(self, text: str, now_s: float) -> None:
        """Tell, or end with an empty text, that the site refuses orders."""
        self._report(DeviceNotice(self.unit, Code.WRITE_FAILED, bool(text), now_s, text))
