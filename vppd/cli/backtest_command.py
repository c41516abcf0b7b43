"""The words of `vppd backtest`; what it does is in `backtest`, which loads numpy and HiGHS."""

import json
from datetime import datetime
from pathlib import Path
from typing import Literal

import click

BATTERY = "power_mw=1,energy_mwh=2,efficiency_pct=85,cycles_per_day=1.5,wear_rs_per_mwh=1000"
_day = click.DateTime(["%Y-%m-%d"])
_at_least_0 = click.FloatRange(0)


@click.command("backtest", short_help="The market layer over past prices.")
@click.argument("prices", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--from", "first", type=_day, help="first day walked, IST")
@click.option("--to", "last", type=_day, help="last day walked, IST")
@click.option("--battery", default=BATTERY, help="key=value,…; what is left out stays")
@click.option("--fee", "fee_rs_per_mwh", default=20.0, type=_at_least_0, help="Rs/MWh on each side")
@click.option(
    "--step", "step_mw", default=0.001, type=click.FloatRange(0, min_open=True), help="of bids, MW"
)
@click.option(
    "--strategy", type=click.Choice(["combined", "profile", "yesterday"]), default="combined"
)
@click.option("--bids", type=click.Choice(["curves", "plan"]), default="curves")
@click.option("--json", "as_json", is_flag=True, help="one JSON object on standard output")
def backtest_command(
    prices: Path,
    first: datetime | None,
    last: datetime | None,
    battery: str,
    fee_rs_per_mwh: float,
    step_mw: float,
    strategy: str,
    bids: Literal["curves", "plan"],
    as_json: bool,
) -> None:
    """Forecast, plan, bid and clear every day of PRICES behind a warm-up of 8 weeks.

    PRICES has at least the columns datetime (start of the block, IST) and price (Rs/MWh). Each day
    knows only the prices of the days before it. Revenue is after wear and fees. The default step
    of quantity is far finer than an exchange's (0.1 MW), so that the result is the strategy's.
    """
    from vppd.cli import backtest as work  # noqa: PLC0415 - it loads numpy and HiGHS
    from vppd.market.storage import Terms  # noqa: PLC0415

    terms = Terms(fee_rs_per_mwh=fee_rs_per_mwh, step_mw=step_mw, min_mw=step_mw)
    days = (first and first.date(), last and last.date())
    result, seconds_per_day = work.backtest(prices, days, battery, terms, strategy, bids)
    if as_json:
        click.echo(json.dumps(work.figures(result, seconds_per_day)))
    else:
        click.echo("\n".join(work.lines(result, seconds_per_day)))
