"""What the report commands of `vppd` have in common: their options, and where a report goes."""

from pathlib import Path

import click

STATE_DIR = "/var/lib/vppd"

directory = click.Path(path_type=Path, file_okay=False)
file = click.Path(path_type=Path, dir_okay=False)

state_option = click.option(
    "--state", type=directory, default=STATE_DIR, help="where the journal is"
)
zone_option = click.option("--timezone", default="Asia/Kolkata", help="of days and times shown")
output_option = click.option("--output", type=file, help="write it there, not to standard output")
format_option = click.option(
    "--format", "form", type=click.Choice(["md", "html", "csv"]), default="md", help="csv: rows"
)


def give(text: str, output: Path | None) -> None:
    """A report to a file, or to standard output. Raises OSError."""
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
