"""The words of `vppd market`."""

from pathlib import Path

import click

from vppd.cli.report.options import file, state_option
from vppd.cli.words import told

COLUMNS = "PRICES is CSV with datetime (start of the block, IST) and price (Rs/MWh)"
SOCKET = "/run/vppd/vppd.sock"


@click.group("market", short_help="What the market layer learns from.")
def market_group() -> None:
    """What the market layer learns from."""


@market_group.command("import")
@click.argument("prices", type=file)
@click.option("--product", type=click.Choice(["dam", "rtm"]), default="dam", help="default dam")
@click.option("--area", default="S1", help="bid area, as in market.yaml's exchange (default S1)")
@click.option("--socket", type=file, default=SOCKET, help="where a daemon listens")
@state_option
def import_command(prices: Path, product: str, area: str, socket: Path, state: Path) -> None:
    """Put cleared prices of a CSV file into the journal.

    PRICES has at least the columns datetime (start of the block, IST) and price (Rs/MWh). Rows that
    cannot be used are named, the others are taken; exit 1 when none could be.
    """
    from vppd.cli import market_import as work  # noqa: PLC0415 - only this imports

    try:
        found = work.read(prices)
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{prices}: not UTF-8 text; {COLUMNS}") from error
    except OSError as error:
        raise click.ClickException(f"{told(error)}; {COLUMNS}") from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    try:
        known = list(work.prices_of(found.history))
        if doubt := work.doubt_of(found.history):
            click.echo(f"{prices}: warning: {doubt}", err=True)
        where = work.imported(known, product, area, prices.name, socket, state)
    except (OSError, ValueError, work.NotImported) as error:
        raise click.ClickException(told(error)) from error
    for line, text in found.faults:
        click.echo(f"{prices}:{line}: {text}", err=True)
    days = found.history.days
    click.echo(
        f"{len(known)} {product} prices of {area}, {min(days)} to {max(days)}, written by {where}"
    )
