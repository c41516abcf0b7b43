"""Aggregators as the processes they are, over a real broker with TLS: a region of two that share
the sites, and one above them. Nobody is lost, nobody is commanded by two."""

import asyncio
import json
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.api_site import until
from tests.light_sites import LightSite, living, settings_of
from tests.mqtt_rig import Broker, linked, needs_mosquitto, settings_for
from tests.process_site import Daemon, Json
from vppd.cli.wire import DaemonAbsent
from vppd.grid.orders import OrderKind

pytestmark = needs_mosquitto

SITES, OWN_KW, WITHIN_S = 8, 1.0, 60.0
VALID_S = 3.0


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path / "broker")
    await broker.start()
    try:
        yield broker
    finally:
        await broker.kill()


def trusted(broker: Broker) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=broker.file("ca.pem"))
    tls.load_cert_chain(broker.file("fleet.pem"), broker.file("fleet.key"))
    return tls


def written(broker: Broker, directory: Path, name: str, units: Sequence[str], group: str) -> Path:
    """The configuration of one aggregator."""
    config = directory / name / "etc"
    config.mkdir(parents=True)
    mqtt: Json = {
        "url": f"mqtts://127.0.0.1:{broker.port}",
        "tls": {
            "ca": broker.file("ca.pem"),
            "certificate": broker.file("fleet.pem"),
            "key": broker.file("fleet.key"),
        },
        "detail": "site",
        "telemetry_every_s": 0.5,
        "reconnect_max_s": 0.5,
    }
    own = {
        "group": group,
        "period_s": 0.5,
        "order_valid_s": VALID_S,
        "stale_s": 2.0,
        "settle_s": 0.5,
        "member_stale_s": 10.0,
        "delivered_every_s": 3.0,
    }
    vppd = {
        "site": {"id": name},
        "mode": "hardware",
        "role": "aggregator",
        "mqtt": mqtt,
        "aggregator": own,
        "clock": {"sync": "assume"},
        "recorder": {"enabled": False},
    }
    places = [
        {"id": unit, "building": "WEST", "rated_power_kw": 100 * SITES, "energy_kwh": 200 * SITES}
        for unit in units
    ]
    for file, told in (
        ("vppd.yaml", vppd),
        ("field.yaml", {"units": places}),
        ("grid.yaml", {"droop": {"enabled": False}}),
    ):
        (config / file).write_text(json.dumps(told), encoding="ascii")
    return config


@asynccontextmanager
async def daemons(configs: Sequence[Path]) -> AsyncIterator[list[Daemon]]:
    """All begun at once."""
    made = [Daemon(each.parent, None) for each in configs]
    try:
        yield made
    finally:
        for each in made:
            await asyncio.to_thread(each.end)


async def shows(daemon: Daemon, holds: Callable[[Json], object], route: str = "/v1/region") -> Json:
    """What a daemon says, as soon as that holds."""
    view: Json = {}
    try:
        async with asyncio.timeout(WITHIN_S):
            while True:
                assert daemon.alive(), daemon.words[-3000:]
                try:
                    view = await asyncio.to_thread(daemon.get, route)
                    if holds(view):
                        return view
                except (DaemonAbsent, KeyError):
                    pass
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{json.dumps(view, indent=1)}\n{daemon.words[-2000:]}") from None


def line(view: Json, id_: str) -> Json:
    (found,) = [each for each in view["lines"] if each["id"] == id_]
    return dict(found)


def total_kw(sites: Sequence[LightSite]) -> float:
    return sum(site.power_kw for site in sites)


def about(value_kw: float) -> Any:
    return pytest.approx(value_kw, abs=0.02 * abs(value_kw) + 1.0)


async def test_two_aggregators_share_a_region_and_one_above_orders_them_all(
    broker: Broker, tmp_path: Path
) -> None:
    told = settings_of(f"mqtts://127.0.0.1:{broker.port}", telemetry_every_s=0.3)
    names = [f"site-{number}" for number in range(SITES)]
    sites = [LightSite(name, told, own_kw=OWN_KW) for name in names]
    configs = [written(broker, tmp_path, name, names, "west") for name in ("north", "south")]
    configs.append(written(broker, tmp_path, "top", ["north", "south"], "top"))
    async with living(sites, trusted(broker)), daemons(configs) as (north, south, top):
        both = (north, south)
        views = [await shows(each, lambda view: len(view["members"]) == 2) for each in both]
        await shows(north, lambda _: sum(each.get("/v1/region")["ours"] for each in both) == SITES)
        for each in both:
            await shows(each, lambda view: all(x["age_s"] for x in view["lines"] if x["ours"]))
        assert [view["group"] for view in views] == ["west", "west"]
        # nothing is ordered while nobody asks: the sites do what they do
        await shows(top, lambda view: all(each["power_kw"] for each in view["lines"]))
        assert not any(site.obeyed or site.refused for site in sites)
        # one order above goes through two aggregators to all sites
        await asyncio.to_thread(top.post, "/v1/orders", kind="absolute", power_kw=160.0)
        # both take part: while one is late above, the other carries the whole order for a while
        await until(
            lambda: (
                total_kw(sites) == about(160.0)
                and sorted({tuple(site.members) for site in sites}) == [("north",), ("south",)]
            ),
            WITHIN_S,
        )
        # the sums climb: each is of its own sites, so nothing is counted twice
        await shows(
            top, lambda view: sum(x["power_kw"] or 0.0 for x in view["lines"]) == about(160.0)
        )
        # one is killed: the other takes its sites over, and the order above is whole again
        north.send(signal.SIGKILL)
        await shows(south, lambda view: view["ours"] == SITES)
        await shows(top, lambda view: line(view, "north")["online"] is False)
        await until(
            lambda: (
                all(site.members[-1:] == ["south"] for site in sites)
                and total_kw(sites) == about(160.0)
            ),
            WITHIN_S,
        )
        for site in sites:  # each changed hands at most once, and nobody came back
            assert site.members in (["south"], ["north", "south"])
            seqs = [seq for _, seq, _ in site.obeyed]
            assert seqs == sorted(seqs)
        # all are dead: every order ends by itself, and every site is its own again
        for each in (south, top):
            each.send(signal.SIGKILL)
        await until(lambda: total_kw(sites) == about(OWN_KW * SITES), WITHIN_S)


async def test_what_a_site_says_wrongly_or_not_at_all(broker: Broker, tmp_path: Path) -> None:
    told = settings_of(f"mqtts://127.0.0.1:{broker.port}", telemetry_every_s=0.3)
    names = [f"site-{number}" for number in range(4)]
    sites = [LightSite(name, told, own_kw=OWN_KW) for name in names]
    sites[0].rated_kw, sites[0].takes_kw = 100.0, 20.0  # says 100, takes 20
    sites[0].__post_init__()
    config = written(broker, tmp_path, "alone", [*names, "lab"], "alone")
    settings = settings_for(broker, broker.port, telemetry_every_s=0.2, detail="site")
    async with (
        linked(tmp_path, settings) as real,
        living(sites, trusted(broker)),
        daemons([config]) as (daemon,),
        asyncio.TaskGroup() as tasks,
    ):
        sampling = tasks.create_task(real.sampler.run())
        await shows(daemon, lambda view: all(each["age_s"] for each in view["lines"]))
        # a real site takes its share by the same messages, and a refused share goes to others
        await asyncio.to_thread(daemon.post, "/v1/orders", kind="absolute", power_kw=400.0)

        def given_kw() -> float:
            lab_kw = real.desk.book.power_kw(OrderKind.ABSOLUTE)
            return total_kw(sites) + (lab_kw or 0.0)

        await until(lambda: given_kw() == about(400.0) and sites[0].refused, WITHIN_S)
        assert real.desk.book.standing[OrderKind.ABSOLUTE].order.source == "mqtt"
        assert sites[0].power_kw == about(400.0 * 20.0 / 720.0)  # its share of what all take
        assert any("out_of_range" in each for each in sites[0].refused)
        refused = await asyncio.to_thread(daemon.get, "/v1/region")
        assert "outside -100.0 to +20.0 kW" in line(refused, "site-0")["refused"]
        # a silent one is counted out of the sum and of the dispatch; its order ends by itself
        sites[1].silent = True
        await shows(daemon, lambda view: line(view, "site-1")["age_s"] > 2.0)
        await until(lambda: sites[1].power_kw == OWN_KW, WITHIN_S)
        await until(lambda: given_kw() == about(400.0 + OWN_KW), WITHIN_S)
        campus = await asyncio.to_thread(daemon.get, "/v1/campus/telemetry")
        assert "site-1" in campus["hierarchy"]["unknown"]
        assert campus["hierarchy"]["nodes"] == 4
        assert campus["hierarchy"]["power_kw"] == about(total_kw(sites) - OWN_KW)
        # words that are not believed are counted, and change nothing
        topic = "vpp/telemetry/site-2"
        old = sites[2].sample().payload
        await sites[2].say(topic, old)
        for _ in range(2):
            await sites[2].say(topic, old)
        await sites[2].say(topic, sites[2].sample().payload, retain=True)
        await sites[2].say(topic, b"{" * 100)
        await sites[2].say(topic, sites[3].sample().payload)
        await sites[2].say("vpp/registration/nobody", b"{}")
        expected = {"replayed": 2, "retained": 1, "malformed": 1, "foreign": 1, "stranger": 1}
        seen = await shows(daemon, lambda view: expected.keys() <= view["refused_messages"].keys())
        assert {key: seen["refused_messages"][key] for key in expected} == expected, seen[
            "strangers"
        ]
        assert "nobody" in seen["strangers"]
        # what each site was ordered and delivered is written down
        events = await shows(
            daemon,
            lambda view: (
                {row["unit"] for row in view["events"] if row["code"] == "delivered"}
                >= {"lab", "site-2", "site-3"}
            ),
            "/v1/events/recent?last=50",
        )
        rows = [row for row in events["events"] if row["code"] == "delivered"]
        (row,) = [row for row in rows if row["unit"] == "site-3"][-1:]
        assert "ordered +" in row["text"]
        sampling.cancel()
