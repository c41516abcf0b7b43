"""An aggregator without a broker: the real tick, gate and fleet on a clock that is turned by hand;
its sites are bytes."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests.config_site import loaded, settings_of
from tests.rig import HandClock, MemoryJournal
from vppd.app import build
from vppd.core.model import SITE, Plan, Priority, UnitId
from vppd.northbound.mqtt_messages import Outgoing
from vppd.region.house import BEAT_S, REGION, Region
from vppd.region.site import SiteState
from vppd.region.tenure import Council

ME = "west"
ALONE = Council(ME, {}, frozenset((ME,)), 7)
Answer = Callable[["Village", str, dict[str, Any]], Mapping[str, object] | None]


def obeys(village: "Village", site: str, order: dict[str, Any]) -> Mapping[str, object] | None:
    """What a site says that takes every order at once, and does it."""
    village.gives_kw[site] = order["power_kw"]
    return {"verdict": "accepted"}


@dataclass
class Village:
    """A region of some sites of 100 kW; each says every two seconds what `record` holds of it."""

    names: Sequence[str] = ("s1", "s2")
    grid: str = ""
    aggregator: str = "{}"
    answers: dict[str, Answer] = field(default_factory=dict)  # of each site; else it obeys
    records: dict[str, dict[str, Any]] = field(default_factory=dict)  # beside what all say
    behind_s: dict[str, float] = field(default_factory=dict)  # how late a site's clock is
    silent: set[str] = field(default_factory=set)
    gives_kw: dict[str, float] = field(default_factory=dict)
    orders: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    late_s: dict[str, float] = field(default_factory=dict)  # an answer takes so long
    council: Council = ALONE

    def __post_init__(self) -> None:
        units = [
            {"id": name, "building": "PUNE", "rated_power_kw": 100, "energy_kwh": 200}
            for name in self.names
        ]
        found = loaded(
            {
                "vppd.yaml": f"""\
site: {{id: {ME}}}
mode: hardware
role: aggregator
mqtt: {{url: "mqtts://broker", detail: site}}
clock: {{sync: assume}}
recorder: {{enabled: false}}
aggregator: {self.aggregator}
""",
                "field.yaml": json.dumps({"units": units}),
                "grid.yaml": f"droop: {{enabled: false}}\n{self.grid}",
            }
        )
        self.clock, self.journal = HandClock(), MemoryJournal()
        self.house = build(settings_of(found), self.clock, self.journal, ())
        region: Region | None = self.house.parts.thing(REGION)
        assert region is not None
        self.region, self.fleet = region, region.fleet
        self.house.gate.begin()
        self._seq = 0
        self._due: list[tuple[float, bytes]] = []

    def plan(self, power_kw: float, for_s: float = 1e6) -> None:
        """What the region is to give from now on."""
        now_s = self.clock.now_s()
        plan = Plan(SITE, power_kw, now_s + for_s, "test", Priority.ORDER, now_s)
        self.house.bus.publish(plan)

    def sample(self, site: str, **changes: Any) -> bytes:
        """The next sample of a site."""
        self._seq += 1
        at = self.clock.utc() - timedelta(seconds=self.behind_s.get(site, 0.0))
        record = {
            "power_kw": self.gives_kw.get(site, 0.0),
            "soc_pct": 50.0,
            "rated_kw": 100.0,
            "energy_kwh": 200.0,
            "available_discharge_kw": 100.0,
            "available_charge_kw": 100.0,
            "available_discharge_kwh": 80.0,
            "available_charge_kwh": 90.0,
        }
        view = {
            "site": site,
            "node": site,
            "epoch": "e",
            "seq": self._seq,
            "at": at.isoformat(),
            "record": record | self.records.get(site, {}),
        }
        return json.dumps(view | changes).encode()

    def run(self, for_s: float) -> None:
        """So many seconds of the region."""
        for _ in range(math.ceil(for_s / BEAT_S)):
            self.step()

    def step(self) -> None:
        """One beat: samples and answers come in, the tick decides, orders go out."""
        before_s = self.clock.now_s()
        self.clock.t_s = before_s + BEAT_S
        now_s = self.clock.now_s()
        if now_s // 2.0 != before_s // 2.0:
            for site in self.names:
                if site not in self.silent:
                    self.fleet.sample(site, self.sample(site), retained=False)
        arrived = [raw for at_s, raw in self._due if at_s <= now_s]
        self._due = [(at_s, raw) for at_s, raw in self._due if at_s > now_s]
        for raw in arrived:
            self.fleet.answer(raw)
        self.fleet.own(self.council)
        self.house.tick.once()
        for message in self.fleet.round(self.council, self.house.bus.plans()):
            self._take(message)

    def _take(self, message: Outgoing) -> None:
        site, order = message.topic.rpartition("/")[2], json.loads(message.payload)
        self.orders.append((self.clock.now_s(), site, order))
        said = self.answers.get(site, obeys)(self, site, order)
        if said is not None:
            raw = json.dumps({"site": site, "id": order["id"], "seq": order["seq"], **said})
            self._due.append((self.clock.now_s() + self.late_s.get(site, 0.0), raw.encode()))

    def state(self, site: str) -> SiteState:
        """What the aggregator knows of a site."""
        return self.fleet.sites[UnitId(site)]

    def line(self, site: str) -> dict[str, Any]:
        """A site as `/v1/region` shows it."""
        (found,) = [each for each in self.region.view()["lines"] if each["id"] == site]  # type: ignore[attr-defined]
        return dict(found)

    def cleared_kw(self, site: str) -> float:
        """What the gate let through for it."""
        return self.house.gate.decisions[UnitId(site)].cleared.power_kw
