"""The region in the house: the sites in the place of devices, the link among the tasks, a page."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vppd.core.model import Plan
from vppd.core.ports import Board, Clock, Journal, Report
from vppd.core.settings import Settings
from vppd.field.build import Field
from vppd.region.fleet import Fleet
from vppd.region.link import RegionLink
from vppd.spine.alarms import AlarmBoard

REGION = "region"  # the name of its part and of its task
BEAT_S = 0.4  # sites are ordered in seconds; the gate's dead man waits half a second


@dataclass(slots=True)
class Region:
    """The sites of an aggregator and the link to them."""

    fleet: Fleet
    link: RegionLink
    limited: bool = False  # at a connection of its own

    def field(self) -> Field:
        """What the gate holds in the place of devices."""
        return Field(actuators=dict(self.fleet.actuators()))

    def view(self) -> dict[str, object]:
        """For /v1/region: the link, and every site in one line."""
        status = self.link.status()
        shared = len(self.link.council.acts_on) > 1
        return {**status, "limits_alone": self.limited and shared, "lines": self.fleet.view()}


def region_of(
    settings: Settings,
    board: Board,
    clock: Clock,
    journal: Journal,
    alarms: AlarmBoard,
    report: Report,
    plans: Callable[[], Iterable[Plan]],
    trusted: Callable[[], bool],
) -> Region | None:
    """The region of an aggregator; None: its units are no sites. `plans`: those that
    live now. Raises ValueError without mqtt, or for a port that cannot be."""
    if settings.role != "aggregator":
        return None
    if settings.mqtt is None:
        raise ValueError("an aggregator needs mqtt")
    me, own = settings.site.id, settings.aggregator
    fleet = Fleet(settings.units, own, me, board, clock, journal, report)
    link = RegionLink(fleet, own, settings.mqtt, me, clock, alarms, plans, trusted)
    bounds = settings.connection
    limited = (bounds.export_max_kw, bounds.import_max_kw, bounds.apparent_max_kva)
    return Region(fleet, link, any(each is not None for each in limited))
