"""The words of `vppd report day`."""

import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from vppd.cli.report.options import give, output_option, state_option, zone_option
from vppd.cli.words import told


@click.command("day")
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="YYYY-MM-DD; default: today")
@click.option("--format", "form", type=click.Choice(["html", "md"]), default="html")
@state_option
@zone_option
@output_option
def day_command(
    day: datetime | None, form: str, state: Path, timezone: str, output: Path | None
) -> None:
    """One day on one page: frequency, power, charge, clamps, events, market, links."""
    from vppd.cli.report.day import day_report  # noqa: PLC0415 - only reports need it
    from vppd.spine.clock import SystemClock  # noqa: PLC0415

    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise click.UsageError(f"--timezone {timezone}: no such zone") from error
    chosen = day.date() if day is not None else SystemClock().utc().astimezone(zone).date()
    try:
        give(day_report(state, chosen, zone, form, _progress), output)
    except (OSError, LookupError) as error:
        raise click.ClickException(told(error)) from error
    finally:
        _progress("")


def _progress(what: str) -> None:
    """One line that is written over, on a terminal alone."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{'reading ' + what + ' …' if what else ''}", nl=False, err=True)
