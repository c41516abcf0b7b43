"""Once a second the feed is told what changed: alarms, violations, the decision as it stands."""

from vppd.core.alarms import Code
from vppd.core.model import UnitId
from vppd.core.records import ViolationRow
from vppd.northbound import views
from vppd.northbound.alarm_views import alarm as alarm_view
from vppd.northbound.site import Site
from vppd.spine.alarms import Alarm

PERIOD_S = 1.0


class Pulse:
    """Remembers what was told."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._alarms = self._standing()
        self._violations = self._rows()

    async def run(self) -> None:
        """For ever; a beat that was missed is never made up for."""
        while True:
            await self._site.clock.sleep_until(self._site.clock.now_s() + PERIOD_S)
            self.beat()

    def beat(self) -> None:
        """Tell what changed since the last beat, then the decision."""
        site, feed = self._site, self._site.feed
        now, before = site.clock.utc(), self._alarms
        self._alarms = self._standing()
        for key in before.keys() - self._alarms.keys():
            feed.tell("alarm", {**alarm_view(site, before[key], now), "active": False})
        for key, alarm in self._alarms.items():
            if before.get(key) != alarm:
                feed.tell("alarm", {**alarm_view(site, alarm, now), "active": True})
        seen, self._violations = self._violations, self._rows()
        for row in self._violations - seen:
            feed.tell("violation", views.violation(row))
        decision = site.decision()
        if decision is not None:
            site.trail.note(decision, views.measured_kw(site, site.bus.snapshot()))
        if feed.readers:
            feed.tell(
                "decision",
                {
                    "at": now,
                    "state": views.state(site, decision),
                    "shut_by": site.gate.shut_by,
                    **views.decided(decision),
                    **views.units(site),
                },
            )

    def _standing(self) -> dict[tuple[Code, UnitId], Alarm]:
        return {(each.code, each.unit): each for each in self._site.alarms.standing()}

    def _rows(self) -> frozenset[ViolationRow]:
        return frozenset(self._site.audit.rows())
