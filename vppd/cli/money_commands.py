"""`vppd settle` and `vppd report market, cerc, audit`: their words; what they do is beside them."""

import sys
from datetime import datetime
from pathlib import Path

import click

from vppd.cli.report.market_figures import Optimum
from vppd.cli.report.options import file, format_option, give, output_option, state_option
from vppd.cli.words import told

_area = click.option("--area", help="bid area of the prices, where there are several")
_battery = click.option(
    "--battery", help="compare with perfect foresight of it: power_mw=1,energy_mwh=2,…"
)


@click.command("market")
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="YYYY-MM-DD, block by block")
@click.option("--month", type=click.DateTime(["%Y-%m"]), help="YYYY-MM, day by day")
@_area
@_battery
@state_option
@format_option
@output_option
def market_command(
    day: datetime | None,
    month: datetime | None,
    area: str | None,
    battery: str | None,
    state: Path,
    form: str,
    output: Path | None,
) -> None:
    """Bids, energies, prices and money of a day or a month; csv gives its blocks."""
    from vppd.cli.report import market as reports  # noqa: PLC0415

    if (day is None) == (month is None):
        raise click.UsageError("either --day or --month")
    try:
        if day is not None:
            give(
                reports.day_report(state, day.date(), form, area=area, optimum=_optimum(battery)),
                output,
            )
        elif month is not None:
            give(
                reports.month_report(
                    state, month.date(), form, area=area, optimum=_optimum(battery)
                ),
                output,
            )
    except (OSError, LookupError) as error:
        raise click.ClickException(told(error)) from error


@click.command("cerc")
@click.option("--quarter", required=True, help="YYYY-Q1 (January to March) to YYYY-Q4")
@_area
@_battery
@state_option
@format_option
@output_option
def cerc_command(
    quarter: str,
    area: str | None,
    battery: str | None,
    state: Path,
    form: str,
    output: Path | None,
) -> None:
    """The market of a quarter, month by month, with every rule applied and what is unverified."""
    from vppd.cli.report import market as reports  # noqa: PLC0415

    try:
        first = reports.quarter_of(quarter)
    except ValueError as error:
        raise click.UsageError(f"--quarter {error}") from error
    try:
        give(
            reports.quarter_report(state, first, form, area=area, optimum=_optimum(battery)), output
        )
    except (OSError, LookupError) as error:
        raise click.ClickException(told(error)) from error


@click.command("audit")
@click.option("--from", "begin", type=click.DateTime(["%Y-%m-%d"]), help="first day, IST")
@click.option("--to", "end", type=click.DateTime(["%Y-%m-%d"]), help="last day, IST")
@click.option("--verify", type=file, help="check an audit file instead of writing one")
@state_option
@output_option
def audit_command(
    begin: datetime | None,
    end: datetime | None,
    verify: Path | None,
    state: Path,
    output: Path | None,
) -> None:
    """All bids, results, commands and settlements, line by line, each hashed with the one before.

    Keep the last hash elsewhere: with it --verify proves that nothing was changed since.
    """
    from vppd.cli.report import audit  # noqa: PLC0415

    try:
        if verify is not None:
            count, last = audit.verified(verify.read_text(encoding="utf-8"))
            click.echo(f"{verify}: {count} lines hold; last hash {last}")
        elif begin is None or end is None or end < begin:
            raise click.UsageError("--from and --to, in this order; or --verify")
        else:
            text = audit.audit_text(state, begin.date(), end.date())
            give(text, output)
            if not text:
                click.echo("no bid, result, command or settlement in these days", err=True)
    except (OSError, ValueError) as error:
        raise click.ClickException(told(error)) from error


@click.command("settle", short_help="Settle metered blocks by a deviation rule.")
@click.option("--rule", default="dsm-2024", help="which rule; --rules lists them")
@click.option("--rules", is_flag=True, help="list the rule tables with dates and sources")
@click.argument(
    "rows", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), required=False
)
def settle_command(rule: str, rules: bool, rows: Path | None) -> None:
    """Write ROWS with what each block pays and receives as CSV; `-` reads standard input.

    ROWS is CSV with date,block,freq_hz,actual_mwh,schedule_mwh,ref_rate_p_kwh, where there is any
    sras_mwh too. Rows that are wrong are all named and nothing is written: exit 2.
    """
    from vppd.cli.settle import rule_lines, settle_rows  # noqa: PLC0415 - only this settles

    if rules:
        click.echo("\n".join(rule_lines()))
        return
    if rows is None:
        raise click.UsageError("ROWS is missing; or --rules")
    try:
        sys.exit(settle_rows(rule, rows))
    except OSError as error:
        raise click.ClickException(told(error)) from error


def _optimum(battery: str | None) -> Optimum | None:
    """The planner for a battery, where one is named; wrong words end with 2."""
    if battery is None:
        return None
    from vppd.cli.foresight import foresight  # noqa: PLC0415 - only here is anything planned

    try:
        return foresight(battery)
    except ValueError as error:
        raise click.UsageError(f"--battery {battery}: {error}") from error
