"""Other load and solar behind the connection: foreseen from the journal, and left room for."""

import asyncio
import dataclasses
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import journal_site
from vppd.core.alarms import Code
from vppd.core.model import Limit, Point
from vppd.core.records_years import QuarterRow
from vppd.core.settings_forecast import ForecastSettings, LoadSettings, SolarSettings
from vppd.core.settings_market import BatterySettings
from vppd.market.blocks import Block, blocks_of
from vppd.market.dealing.load_watch import STALE, LoadWatch
from vppd.market.dealing.making import NotMade
from vppd.market.dealing.worker_call import Worker
from vppd.market.prices import PriceHistory
from vppd.market.site_load import Load, left_of, room_of
from vppd.market.solving.answers import answer
from vppd.market.solving.forecast.ladder import Rung
from vppd.market.solving.forecast.load import LoadForecaster, gross_of, net_of
from vppd.market.solving.worker_words import Json, by_block, price_rows

DAY = date(2026, 3, 2)
NOW = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
NOON = Block(DAY, 52)
CONNECTION = Limit(-500.0, 400.0, Code.CONNECTION)
OWN = LoadSettings(constant_kw=30.0)
HOLE = math.nan


def load_kw(block: Block) -> float:
    """A canteen at noon, less on Sundays; every day a little different."""
    noon = 160.0 if 48 <= block.number < 60 else 0.0
    if block.day.isoweekday() == 7:
        noon *= 0.25
    return 80.0 + noon + (block.day.toordinal() * 7 + block.number * 3) % 11


def solar_kw(block: Block) -> float:
    """A bell over the day, of a height that the weather of the day decides."""
    height = 200.0 * (0.4 + 0.6 * (block.day.toordinal() % 5) / 4)
    return (
        max(height * math.sin((block.number - 25) / 48 * math.pi), 0.0)
        if 25 <= block.number <= 73
        else 0.0
    )


def of_days(days: int, kw: Any, last: date = DAY - timedelta(days=1)) -> PriceHistory:
    each = [last - timedelta(days=back) for back in range(days)]
    return PriceHistory({day: tuple(kw(block) for block in blocks_of(day)) for day in each})


NET = of_days(60, lambda block: load_kw(block) - solar_kw(block))
SOLAR = of_days(60, solar_kw)
LOAD = of_days(60, load_kw)
PLAIN = ForecastSettings(fresh_days=4)


def request(**more: Any) -> Json:
    series: Mapping[str, PriceHistory] = more.pop("series", {"load": LOAD})
    return {
        "kind": "load",
        "day": str(DAY),
        "days": 2,
        "best": "combined",
        "quantile_pct": 95.0,
        "solar_peak_kw": 200.0,
        "forecast": dataclasses.asdict(PLAIN),
        "prices": {name: price_rows(each) for name, each in series.items()},
        **more,
    }


# --- the forecast ---


def test_load_is_foreseen_with_a_band_and_beats_the_naive() -> None:
    found = LoadForecaster(PLAIN, LOAD, 0.95).foreseen(DAY)
    assert found.rung is Rung.COMBINED
    for block, low, mean, high in zip(
        blocks_of(DAY), found.low_kw, found.mean_kw, found.high_kw, strict=True
    ):
        assert low <= mean <= high
        if not 46 <= block.number < 62:  # smoothing rounds the corners of the noon
            assert mean == pytest.approx(load_kw(block), abs=12.0)
    said = answer(request())
    assert said["accuracy"]["days"] == 14
    assert said["accuracy"]["error_kw"] < 15.0
    assert said["accuracy"]["naive_ratio"] is not None
    assert len(said["blocks"]) == 192


def test_the_band_holds_most_of_what_comes() -> None:
    inside = count = 0
    for back in range(1, 11):
        day = DAY - timedelta(days=back)
        found = LoadForecaster(PLAIN, LOAD.before(day), 0.95).foreseen(day)
        for low, high, true in zip(found.low_kw, found.high_kw, LOAD.days[day], strict=True):
            inside += low <= true <= high
            count += 1
    assert inside / count > 0.75


@pytest.mark.parametrize(
    ("days", "rung", "why"),
    [
        (60, Rung.COMBINED, "all models"),
        (10, Rung.PROFILE, "10 whole days are known"),
        (1, Rung.YESTERDAY, "profile: 1 whole"),
        (0, Rung.NONE, "no whole day"),
    ],
)
def test_the_ladder_of_a_load(days: int, rung: Rung, why: str) -> None:
    known = PriceHistory(dict(list(LOAD.days.items())[len(LOAD.days) - days :]))
    found = LoadForecaster(PLAIN, known, 0.95).foreseen(DAY)
    assert found.rung is rung
    assert why in found.why
    if rung is Rung.YESTERDAY:
        assert set(found.low_kw) == {min(found.mean_kw)}
        assert set(found.high_kw) == {max(found.mean_kw)}
    if rung is Rung.NONE:
        assert found.mean_kw == ()


def test_solar_apart_takes_the_worse_ends_together() -> None:
    share = 0.95
    solar = LoadForecaster(PLAIN, SOLAR, share, (0.0, 200.0)).foreseen(DAY)
    load = LoadForecaster(PLAIN, gross_of(NET, SOLAR), share).foreseen(DAY)
    net = net_of(load, solar)
    assert min(solar.low_kw) >= 0.0
    assert max(solar.high_kw) <= 200.0
    for n in range(96):
        assert net.low_kw[n] == pytest.approx(load.low_kw[n] - solar.high_kw[n])
        assert net.high_kw[n] == pytest.approx(load.high_kw[n] - solar.low_kw[n])
    assert net.mean_kw[48] == pytest.approx(NET.days[DAY - timedelta(days=5)][48], abs=80.0)
    said = answer(request(series={"load": NET, "solar": SOLAR}))
    assert said["error"] == ""
    assert said["solar_accuracy"]["days"] == 14
    assert by_block(said["blocks"])[NOON][0] == pytest.approx(net.low_kw[51], abs=0.01)


def test_gross_load_is_unknown_where_solar_is() -> None:
    holed = PriceHistory({DAY: (HOLE, *[1.0] * 95)})
    net = PriceHistory({DAY: (5.0,) * 96, DAY - timedelta(days=1): (5.0,) * 96})
    gross = gross_of(net, holed)
    assert set(gross.days) == {DAY}
    assert math.isnan(gross.days[DAY][0])
    assert gross.days[DAY][1] == 6.0


numbers = st.one_of(
    st.floats(-2e6, 2e6), st.just(math.nan), st.sampled_from([0.0, -0.0, 1e-9, 1e6])
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.lists(numbers, min_size=96, max_size=96))))
def test_whatever_the_rows_say_a_band_is_a_band(rows: list[tuple[int, list[float]]]) -> None:
    history = PriceHistory({DAY - timedelta(days=back): tuple(row) for back, row in rows})
    said = answer(request(series={"load": history}))
    if said["error"]:
        assert "day" in said["error"]
        return
    for low, mean, high in by_block(said["blocks"]).values():
        assert math.isfinite(low)
        assert math.isfinite(high)
        assert low <= mean + 1e-6 <= high + 2e-6


# --- what it leaves of the connection ---


def test_little_load_leaves_little_to_sell_and_much_load_little_to_buy() -> None:
    battery = BatterySettings(auxiliary_kw=10.0, reserve_up_kw=50.0, reserve_down_kw=20.0)
    room = room_of(Load({NOON: (-100.0, 0.0, 300.0)}), CONNECTION, battery)
    # 400 of export, 100 of it taken by solar, 10 auxiliary are in the meter's load, 50 reserve
    assert list(room[NOON]) == pytest.approx([-0.19, 0.24])
    crowded = room_of(Load({NOON: (-900.0, 0.0, 900.0)}), CONNECTION, battery)
    assert crowded[NOON] == (0.0, 0.0)


def test_a_constant_shifts_the_connection_and_always_leaves_nothing_at_least() -> None:
    assert left_of(CONNECTION, Load()) is CONNECTION
    shifted = left_of(CONNECTION, Load(constant_kw=100.0))
    assert (shifted.low_kw, shifted.high_kw) == (-400.0, 500.0)
    assert left_of(CONNECTION, Load(constant_kw=900.0)).low_kw == 0.0
    assert left_of(CONNECTION, Load(constant_kw=-900.0)).high_kw == 0.0


# --- who keeps it ---


class Noon:
    """A clock that stands at NOW until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def now_s(self) -> float:
        return (self.now - NOW).total_seconds()

    def utc(self) -> datetime:
        return self.now

    async def sleep_until(self, at_s: float) -> None:
        del at_s
        await asyncio.sleep(3600.0)


def quarters(history: PriceHistory, unit: str, point: Point, known_s: int = 900) -> list[Any]:
    return [
        QuarterRow(block.start, unit, point.value, kw, kw, kw, kw, known_s)
        for day, row in history.days.items()
        for block, kw in zip(blocks_of(day), row, strict=True)
    ]


async def kept(journal: Any, rows: Sequence[Any]) -> None:
    for row in rows:
        journal.append(row)
    async with asyncio.timeout(30.0):
        while (await journal.select("SELECT count(*) FROM quarter_row"))[0][0] < len(rows):
            await asyncio.sleep(0.01)


def watch(journal: Any, clock: Any, *program: str, solar: bool = False) -> LoadWatch:
    worker = Worker(program) if program else Worker()
    own = SolarSettings(unit="SUN", peak_kw=200.0) if solar else None
    return LoadWatch(ForecastSettings(load=OWN, solar=own), worker, journal, clock)


def test_it_is_made_from_the_journals_quarters_and_outlives_a_restart(tmp_path: Path) -> None:
    rows = [
        *quarters(NET, "site", Point.LOAD_KW),
        *quarters(SOLAR, "SUN", Point.POWER_KW),
        *quarters(PriceHistory({DAY: (9e5,) * 96}), "site", Point.LOAD_KW),  # not over yet
    ]
    clock: Any = Noon()

    async def main() -> None:
        async with journal_site.running(tmp_path / "journal.db") as site:
            await kept(site.journal, rows)
            made = watch(site.journal, clock, solar=True)
            assert made.load().constant_kw == 30.0
            assert "none is made yet" in made.load().why
            await made.renew()
            direct = answer(request(series={"load": NET, "solar": SOLAR}, days=4))
            expected = by_block(direct["blocks"])
            assert set(made.load().blocks) == set(expected)
            for block, band in made.load().blocks.items():
                assert list(band) == pytest.approx(expected[block], abs=0.01)
            assert made.load().why.startswith("load: combined (all models), mean error")
            assert "not made again" not in made.load().why
            view = made.view()
            assert view["rung"] == "combined"
            assert view["accuracy"]["days"] == view["solar_accuracy"]["days"] == 14
            async with asyncio.timeout(20.0):
                sql = "SELECT 1 FROM kept WHERE name = 'load forecast'"
                while not await site.journal.select(sql):
                    await asyncio.sleep(0.01)
            # another life, whose worker is broken: what the one before made counts, for a day
            again = watch(site.journal, clock, "/nowhere", solar=True)
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(again.run())
                async with asyncio.timeout(20.0):
                    while "did not start" not in again.load().why:
                        await asyncio.sleep(0.01)
                task.cancel()
            assert again.load().blocks == made.load().blocks
            assert ", not made again: the worker did not start" in again.load().why
            clock.now = NOW + STALE
            assert again.load().blocks == {}
            assert again.load().constant_kw == 30.0
            assert "did not start" in again.load().why

    asyncio.run(main())


def test_quarters_that_were_hardly_known_do_not_count(tmp_path: Path) -> None:
    async def main() -> None:
        async with journal_site.running(tmp_path / "journal.db") as site:
            few = PriceHistory(dict(list(LOAD.days.items())[-2:]))
            await kept(site.journal, quarters(few, "site", Point.LOAD_KW, known_s=100))
            made = watch(site.journal, Noon())
            with pytest.raises(NotMade, match="no whole day"):
                await made.renew()
            assert made.load().constant_kw == 30.0

    asyncio.run(main())


def test_an_answer_that_cannot_be_read_is_no_forecast() -> None:
    program = ("/bin/sh", "-c", """cat > /dev/null; echo '{"error": "", "blocks": {"x": 1}}'""")
    made = watch(journal_site_memory(), Noon(), *program)
    with pytest.raises(NotMade, match="cannot be read"):
        asyncio.run(made.renew())


def journal_site_memory() -> Any:
    class Empty:
        async def select(self, sql: str, parameters: Sequence[object] = ()) -> list[Any]:
            del sql, parameters
            return []

        def append(self, row: Any) -> None:
            raise AssertionError(row)

    return Empty()
