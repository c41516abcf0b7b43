"""`vppd export`, `vppd backup` and `vppd audit verify`: their words; the work is beside them."""

import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import click

from vppd.cli.report.options import directory, file, state_option
from vppd.cli.words import told

ODD_SHOWN = 20
_moment = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.command("export", short_help="Write journal tables as CSV or Parquet.")
@click.option("--table", "tables", multiple=True, help="only this one; may be given again")
@click.option("--from", "begin", type=_moment, help="UTC, YYYY-MM-DD or with THH:MM[:SS]")
@click.option("--to", "end", type=_moment, help="UTC; rows of before then")
@click.option("--csv", "csv_dir", type=directory, help="into this directory")
@click.option("--parquet", "parquet_dir", type=directory, help="into this directory; needs pyarrow")
@state_option
def export_command(
    tables: tuple[str, ...],
    begin: datetime | None,
    end: datetime | None,
    csv_dir: Path | None,
    parquet_dir: Path | None,
    state: Path,
) -> None:
    """Write every table of the journal, or those named, to files TABLE.csv or TABLE.parquet.

    The daemon may run. Times are UTC; a table that is empty gets a file too.
    """
    from vppd.cli import export as sheets  # noqa: PLC0415 - only this loads them

    if (csv_dir is None) == (parquet_dir is None):
        raise click.UsageError("either --csv DIR or --parquet DIR")
    if unknown := [name for name in tables if name not in sheets.SOURCES]:
        raise click.UsageError(f"--table {unknown[0]}: one of {', '.join(sorted(sheets.SOURCES))}")
    sheet, suffix = (
        (sheets.CsvSheet, "csv") if csv_dir is not None else (sheets.ParquetSheet, "parquet")
    )
    into = csv_dir or parquet_dir or Path()

    def progress(name: str, day: datetime, count: int) -> None:
        _tell(f"{name}: {count} rows, at {day:%Y-%m-%d}")

    try:
        counts = sheets.export(
            state,
            sheet,
            suffix,
            tables or tuple(sheets.SOURCES),
            begin and begin.replace(tzinfo=UTC),
            end and end.replace(tzinfo=UTC),
            into,
            progress,
        )
    except OSError as error:
        raise click.ClickException(told(error)) from error
    _tell("")
    for name, count in counts.items():
        click.echo(f"{into / name}.{suffix}: {count} rows")


@click.command("backup", short_help="Copy the journal while the daemon runs.")
@click.argument("target", type=file)
@state_option
def backup_command(target: Path, state: Path) -> None:
    """Copy the journal to TARGET while the daemon runs or not: checked, and whole or not at all."""
    from vppd.cli.last_rows import open_read_only, unmoved_since_now  # noqa: PLC0415
    from vppd.spine.backup import backup  # noqa: PLC0415

    source = state / "journal.db"
    if target.exists() and source.exists() and target.samefile(source):
        raise click.UsageError(f"{target} is the journal itself")

    def progress(done: int, pages: int) -> None:
        _tell(f"{done * 100 // max(pages, 1)} % of {pages * 4096 / 1e6:.0f} MB")

    unmoved = unmoved_since_now(source)
    try:
        with closing(open_read_only(source)) as journal:
            size = backup(journal, target, progress, unmoved)
    except (OSError, sqlite3.Error) as error:
        raise click.ClickException(told(error)) from error
    _tell("")
    click.echo(f"{target}: {size / 1e6:.1f} MB, checked")


@click.group("audit")
def audit_group() -> None:
    """The chain of hashes over commands, trips, orders, bids, settlements and configurations."""


@audit_group.command("verify")
@click.option("--anchor", help="SEQ:HASH that status or a log showed: it must still be there")
@click.option("--anchors", type=click.File(), help="a file with such words, - for standard input")
@click.option("--after", help="SEQ:HASH that held before: only what came after it is looked at")
@state_option
def verify_command(
    anchor: str | None, anchors: TextIO | None, after: str | None, state: Path
) -> None:
    """Check that no chained row was changed, deleted, inserted or moved; exit 1 names the first.

    The last line is the newest anchor. Only an anchor kept elsewhere proves that the end is not
    missing: journalctl -u vppd VPPD_EVENT=audit_anchor | vppd audit verify --anchors -
    """
    from vppd.cli.last_rows import open_read_only, unmoved_since_now  # noqa: PLC0415
    from vppd.spine.chain import ChainBroken  # noqa: PLC0415
    from vppd.spine.chain_walk import ORIGIN, Anchor, anchors_in, walk  # noqa: PLC0415

    def named(word: str, text: str) -> Anchor:
        found = anchors_in(text)
        if len(found) != 1:
            raise click.UsageError(f"{word} {text}: SEQ:HASH, as `vppd audit verify` ends with")
        return found[0]

    known = {named("--anchor", anchor)} if anchor else set()
    known |= set(anchors_in("".join(anchors))) if anchors is not None else set()
    begin = named("--after", after) if after else ORIGIN
    unmoved = unmoved_since_now(state / "journal.db")
    try:
        with closing(open_read_only(state / "journal.db")) as journal:
            _has_chain(journal)
            for walked in walk(journal, begin, known):
                _tell(f"entry {walked.head.seq}")
    except ChainBroken as broken:
        _tell("")
        if not unmoved():  # no breach can be told from pages that changed under the reader
            raise click.ClickException("vppd was started meanwhile: verify once more") from broken
        click.echo(f"BROKEN: {broken}", err=True)
        sys.exit(1)
    except sqlite3.Error as error:
        raise click.ClickException(f"{state / 'journal.db'}: {error}") from error
    except OSError as error:
        raise click.ClickException(told(error)) from error
    _tell("")
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(walked.entries.items()))
    click.echo(
        f"{sum(walked.entries.values())} entries hold: {counts or 'none'}; "
        f"{walked.forgotten} of rows that went for their age or for room"
    )
    for odd in walked.odd[:ODD_SHOWN]:
        click.echo(
            f"NOTE: {odd} went though older ones are still there: the clock was wrong when it was"
            " written, or another hand than vppd's deleted it (table `forgotten` says when)"
        )
    if len(walked.odd) > ODD_SHOWN:
        click.echo(f"NOTE: and {len(walked.odd) - ODD_SHOWN} more")
    click.echo(f"{len(known)} anchors looked for" if known else "no anchor was looked for")
    click.echo(str(walked.head))


def _has_chain(journal: sqlite3.Connection) -> None:
    """Raises OSError for a file of before there was one."""
    from vppd.spine.chain import FIRST_SCHEMA  # noqa: PLC0415

    (version,) = journal.execute("PRAGMA user_version").fetchone()
    if version < FIRST_SCHEMA:
        raise OSError(f"schema {version} has no chain: start this vppd once, it migrates it")


def _tell(text: str) -> None:
    """One line of progress that the next replaces; nothing where nobody looks."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{text}", nl=False, err=True)
