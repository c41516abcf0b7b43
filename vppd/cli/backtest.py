"""`vppd backtest PRICES.csv`: the market layer over past prices, with only what was known then."""

import math
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vppd.cli.backtest_command import BATTERY
from vppd.cli.market_commands import COLUMNS
from vppd.cli.words import told
from vppd.market.prices import PriceHistory, PricesError, parse
from vppd.market.solving.backtest import Bids, Case, Day, Result, days_to_walk, result_of, walk
from vppd.market.solving.forecast.ladder import Rung
from vppd.market.storage import Storage, Terms
from vppd.spine.clock import SystemClock

FAULTS_SHOWN = 20


def battery(text: str) -> Storage:
    """A storage from `key=value,…`; keys left out are those of `BATTERY`. Raises ValueError.

    The round trip is split evenly; energy is what may be used of the battery.
    """
    values = dict(pair.split("=") for pair in BATTERY.split(","))
    numbers = {name: float(value) for name, value in values.items()}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = pair.partition("=")
        if name not in numbers:
            raise ValueError(f"{name!r} is none of {', '.join(numbers)}")
        try:
            numbers[name] = float(value)
        except ValueError:
            raise ValueError(f"{name}: {value!r} is not a number") from None
    wrong = [name for name, value in numbers.items() if not (math.isfinite(value) and value >= 0.0)]
    wrong += [name for name in ("power_mw", "energy_mwh", "efficiency_pct") if numbers[name] == 0.0]
    if wrong or numbers["efficiency_pct"] > 100.0:  # noqa: PLR2004
        raise ValueError(f"{(wrong or ['efficiency_pct'])[0]}: out of range")
    one_way = math.sqrt(numbers["efficiency_pct"] / 100)
    return Storage(
        low_mwh=0.0,
        high_mwh=numbers["energy_mwh"],
        charge_mw=numbers["power_mw"],
        discharge_mw=numbers["power_mw"],
        charge_efficiency=one_way,
        discharge_efficiency=one_way,
        cycles_per_day=numbers["cycles_per_day"],
        wear_rs_per_mwh=numbers["wear_rs_per_mwh"],
    )


def backtest(
    prices: Path,
    days: tuple[date | None, date | None],
    text: str,
    terms: Terms,
    strategy: str,
    bids: Bids,
) -> tuple[Result, float]:
    """The result, and how long a day took, s. Raises ClickException and UsageError."""
    history = _history(prices)
    try:
        case = Case(battery(text), terms, best=Rung(strategy), bids=bids)
    except ValueError as error:
        raise click.UsageError(f"--battery: {error}") from error
    walked_days = days_to_walk(history, *days)
    if not walked_days:
        raise click.ClickException(f"{prices}: no whole day behind a warm-up of 8 weeks")
    clock = SystemClock()
    begun_s = clock.now_s()
    walked = tuple(_shown(walk(case, history, walked_days), len(walked_days)))
    spent_s = clock.now_s() - begun_s
    return result_of(case, history, walked), spent_s / len(walked_days)


def figures(result: Result, seconds_per_day: float) -> dict[str, Any]:
    """The result as published: these keys and no others."""
    return {
        "capture_pct": _rounded(result.capture_pct, 3),
        "capture_daily_pct": _rounded(result.capture_daily_pct, 3),
        "revenue_rs": round(result.revenue_rs, 2),
        "cycles_per_day": round(result.cycles_per_day, 4),
        "infeasible_blocks": result.infeasible_blocks,
        "days": len(result.days),
        "seconds_per_day": round(seconds_per_day, 4),
    }


def lines(result: Result, seconds_per_day: float) -> Iterator[str]:
    """The result for a person."""
    first, last = result.days[0].day, result.days[-1].day
    yield f"{len(result.days)} days, {first} to {last}; a price-taker, always available"
    yield f"revenue            Rs {result.revenue_rs:,.0f} after wear and fees"
    yield (
        f"perfect foresight  Rs {result.perfect_rs:,.0f}: captured {_pct(result.capture_pct)};"
        f" day by day {_pct(result.capture_daily_pct)}"
    )
    yield f"cycles             {result.cycles_per_day:.2f} a day"
    yield f"infeasible blocks  {result.infeasible_blocks}"
    worst = result.worst
    if worst is not None:
        losing = sum(day.gain_rs < 0.0 for day in result.days)
        yield f"worst day          {worst.day} Rs {worst.gain_rs:,.0f}; {losing} days lost money"
    seen = result.accuracy
    if seen.error_rs_per_mwh is not None:
        yield (
            f"forecast           mean absolute error {seen.error_rs_per_mwh:,.0f} Rs/MWh,"
            f" {_number(seen.naive_ratio)} of the naive's; Kendall {_number(seen.kendall_ratio)}"
        )
    for rung, count, why in _rungs(result.days):
        yield f"forecast by        {rung} on {count} days: {why}"
    yield f"time               {seconds_per_day:.3f} s a day"


def _rungs(days: tuple[Day, ...]) -> Iterator[tuple[str, int, str]]:
    """Each rung used, on how many days, and the first reason given for it."""
    for rung in Rung:
        told = [day.why for day in days if day.rung is rung]
        if told:
            yield rung.value, len(told), told[0]


def _shown(days: Iterator[Day], count: int) -> Iterator[Day]:
    """The days as they come, with a bar on standard error when a person looks."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not sys.stderr.isatty()
    ) as progress:
        task = progress.add_task("walking", total=count)
        for day in days:
            progress.update(task, advance=1, description=f"{day.day} {day.gain_rs:+8,.0f} Rs")
            yield day


def _history(path: Path) -> PriceHistory:
    """Prices of a file; rows that cannot be used are told on standard error."""
    try:
        read = parse(path.read_text(encoding="utf-8"), path.name)
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{path}: not UTF-8 text; {COLUMNS}") from error
    except OSError as error:
        raise click.ClickException(f"{told(error)}; {COLUMNS}") from error
    except PricesError as error:
        raise click.ClickException(str(error)) from error
    for line, what in read.faults[:FAULTS_SHOWN]:
        click.echo(f"{path.name}:{line}: {what}", err=True)
    if len(read.faults) > FAULTS_SHOWN:
        click.echo(f"{path.name}: and {len(read.faults) - FAULTS_SHOWN} more", err=True)
    return read.history


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _pct(share_pct: float | None) -> str:
    return "?" if share_pct is None else f"{share_pct:.2f} %"


def _number(ratio: float | None) -> str:
    return "?" if ratio is None else f"{ratio:.3f}"
