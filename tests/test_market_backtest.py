"""The backtest: only what was known then, against perfect foresight, as the command says it."""

import json
import math
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.market_prices import FIRST, as_csv, invented
from vppd.cli.backtest import battery
from vppd.cli.vppd import main
from vppd.core.settings_forecast import ForecastSettings
from vppd.market.blocks import BLOCK_H
from vppd.market.prices import PriceHistory
from vppd.market.solving.backtest import Case, Day, days_to_walk, perfect_rs, result_of, walk
from vppd.market.solving.forecast.ladder import Rung
from vppd.market.storage import Storage, Terms

ONE_WAY = math.sqrt(0.85)
STORAGE = Storage(0.0, 2.0, 1.0, 1.0, ONE_WAY, ONE_WAY, 1.5, 1000.0)
FINE = Terms(step_mw=0.001, min_mw=0.001)
QUICK = ForecastSettings(scenarios=6)
HISTORY = invented(62)
DAYS = days_to_walk(HISTORY)
KEYS = {
    *("capture_pct", "capture_daily_pct", "revenue_rs", "cycles_per_day"),
    *("infeasible_blocks", "days", "seconds_per_day"),
}


def walked(history: PriceHistory = HISTORY, **changes: Any) -> tuple[Case, tuple[Day, ...]]:
    case = replace(Case(STORAGE, FINE, QUICK, bids="plan"), **changes)
    return case, tuple(walk(case, history, days_to_walk(history)))


def test_it_walks_whole_days_behind_the_warm_up() -> None:
    assert len(DAYS) == 62 - 56
    assert days_to_walk(HISTORY, DAYS[2], DAYS[4]) == DAYS[2:5]
    assert days_to_walk(HISTORY, FIRST) == DAYS
    holed = {**HISTORY.days, DAYS[3]: (math.nan, *HISTORY.days[DAYS[3]][1:])}
    assert DAYS[3] not in days_to_walk(PriceHistory(holed))
    assert days_to_walk(PriceHistory()) == ()


@pytest.mark.parametrize("bids", ["plan", "curves"])
def test_every_day_is_delivered_and_adds_up(bids: str) -> None:
    case, days = walked(bids=bids)
    stored = 0.0
    for day in days:
        assert day.infeasible_blocks == 0
        assert day.sold_mwh <= STORAGE.day_discharge_mwh + 1e-6
        stored += ONE_WAY * day.bought_mwh - day.sold_mwh / ONE_WAY
        assert stored == pytest.approx(day.stored_mwh, abs=1e-6)
    result = result_of(case, HISTORY, days)
    assert result.capture_pct is not None
    assert 60.0 < result.capture_pct <= 100.0
    assert result.worst is not None
    assert result.worst.gain_rs == min(day.gain_rs for day in days)
    assert result.accuracy.days == len(days)


def test_what_came_later_changes_nothing_before() -> None:
    _, days = walked()
    changed = {**HISTORY.days, DAYS[4]: tuple(reversed(HISTORY.days[DAYS[4]]))}
    _, others = walked(PriceHistory(changed))
    assert others[:4] == days[:4]
    assert others[4].forecast_rs_per_mwh == days[4].forecast_rs_per_mwh
    assert others[5].forecast_rs_per_mwh != days[5].forecast_rs_per_mwh


def test_days_that_are_all_alike_are_captured_whole() -> None:
    row = next(iter(invented(1, noise=0.0).days.values()))
    alike = PriceHistory(dict.fromkeys(HISTORY.days, row))
    plain = replace(QUICK, smooth_blocks=0)
    case, days = walked(alike, forecast=plain)
    result = result_of(case, alike, days)
    assert result.capture_pct == pytest.approx(100.0, abs=0.5)
    assert result.accuracy.error_rs_per_mwh == pytest.approx(0.0, abs=1e-6)


def test_more_wear_never_sells_more() -> None:
    sold = [
        sum(day.sold_mwh for day in walked(storage=replace(STORAGE, wear_rs_per_mwh=wear))[1])
        for wear in (0.0, 2000.0, 12_000.0)
    ]
    assert sold[0] >= sold[1] > sold[2] == 0.0


def test_perfect_foresight_is_the_most_there_is() -> None:
    case, _ = walked()
    prices = [np.array(HISTORY.days[day]) for day in DAYS]
    whole = perfect_rs(case, prices, DAYS, 0.0)
    singly = sum(
        perfect_rs(case, [row], (day,), 0.0) for row, day in zip(prices, DAYS, strict=True)
    )
    assert whole >= singly > 0.0
    for best in (Rung.COMBINED, Rung.PROFILE, Rung.YESTERDAY):
        assert sum(day.gain_rs for day in walked(best=best)[1]) <= whole + 1e-6
    assert perfect_rs(case, [], (), 0.0) == 0.0


def test_a_block_by_hand() -> None:
    """Full in block 1 at 1,000, empty in block 96 at 5,000, each with its fee; wear on what is
    sold."""
    prices = np.full(96, 3000.0)
    prices[:9], prices[87:] = 1000.0, 5000.0
    case = replace(Case(STORAGE, FINE), bids="plan")
    bought, sold = 2.0 / ONE_WAY, 2.0 * ONE_WAY
    earned = sold * (5000.0 - 20.0 - 1000.0) - bought * (1000.0 + 20.0)
    assert perfect_rs(case, [prices], (date(2024, 1, 1),), 0.0) == pytest.approx(earned)
    assert sold / BLOCK_H < 9


def test_the_same_walk_twice_is_the_same() -> None:
    case = Case(STORAGE, FINE, QUICK, bids="curves")
    assert tuple(walk(case, HISTORY, DAYS[:2])) == tuple(walk(case, HISTORY, DAYS[:2]))


def ran(path: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["backtest", str(path), *words])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prices") / "prices.csv"
    path.write_text(as_csv(invented(60)), encoding="utf-8")
    return path


def test_the_command_gives_one_json_object_with_these_keys(file: Path) -> None:
    answer = ran(file, "--json")
    assert answer.exit_code == 0, answer.output
    figures = json.loads(answer.stdout)
    assert set(figures) == KEYS
    assert figures["days"] == 4
    assert figures["infeasible_blocks"] == 0


def test_the_command_tells_a_person_what_came_of_it(file: Path) -> None:
    answer = ran(file, "--bids", "plan", "--from", "2023-03-01", "--to", "2023-03-01")
    assert answer.exit_code == 0, answer.output
    for word in ("1 days, 2023-03-01", "perfect foresight", "infeasible blocks  0", "worst day"):
        assert word in answer.stdout
    assert "combined on 1 days" in answer.stdout


def test_a_bigger_battery_earns_more(file: Path) -> None:
    small, big = (
        json.loads(ran(file, "--json", "--bids", "plan", "--battery", words).stdout)["revenue_rs"]
        for words in ("power_mw=1", "power_mw=2,energy_mwh=4")
    )
    assert big == pytest.approx(2 * small, rel=1e-3)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--battery", "power=1"], 2, "'power' is none of"),
        (["--battery", "power_mw=x"], 2, "not a number"),
        (["--battery", "power_mw=0"], 2, "power_mw: out of range"),
        (["--battery", "efficiency_pct=101"], 2, "efficiency_pct: out of range"),
        (["--to", "2023-01-31"], 1, "no whole day behind a warm-up"),
    ],
)
def test_wrong_words_are_told(file: Path, words: list[str], code: int, told: str) -> None:
    answer = ran(file, *words)
    assert answer.exit_code == code
    assert told in answer.output


def test_rows_that_cannot_be_used_are_told_and_the_day_rests(tmp_path: Path) -> None:
    rows = as_csv(invented(60)).splitlines()
    rows[57 * 96 + 5] = "2023-02-28 01:00:00,1,nan"
    path = tmp_path / "holed.csv"
    path.write_text("\n".join(rows), encoding="utf-8")
    answer = ran(path, "--json", "--bids", "plan")
    assert f"holed.csv:{57 * 96 + 6}: price: 'nan'" in answer.stderr
    assert json.loads(answer.stdout)["days"] == 3
    missing = ran(tmp_path / "none.csv")
    assert missing.exit_code == 1
    assert "no such file" in missing.output


def test_the_battery_of_the_definition_is_the_default() -> None:
    assert battery("") == STORAGE
