"""A file of metered blocks in, the same rows settled out, as CSV text. Pure.

Columns: `date,block,freq_hz,actual_mwh,schedule_mwh,ref_rate_p_kwh`, and where a rule or an account
has them `sras_mwh` and `available_mwh`; others are carried along as they are.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from vppd.market.blocks import BLOCKS_A_DAY, Block
from vppd.market.settling.money import MoneyLine, rupees, total
from vppd.market.settling.settlement import Metered, NoEdition, Profile

NEEDED = ("date", "block", "freq_hz", "actual_mwh", "schedule_mwh", "ref_rate_p_kwh")
OPTIONAL = ("sras_mwh", "available_mwh")
ANSWERS = ("payable_rs", "receivable_rs", "verified")
FEWEST_MWH = Decimal(-100_000)  # of one block: what lies beyond is a slip of the pen
MOST_MWH = Decimal(100_000)
MOST_P_PER_KWH = Decimal(100_000)

_NUMBER = re.compile(r"[-+]?(?:\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})(?:[eE][-+]?\d{1,2})?", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_BLOCK = re.compile(r"\d{1,2}", re.ASCII)


class RowsError(ValueError):
    """A file that cannot be settled: `errors` has every fault as `file:line: column: what`."""

    def __init__(self, errors: Sequence[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(errors))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file: its cells as they were written, and what they mean."""

    cells: Mapping[str, str]
    metered: Metered


@dataclass(frozen=True, slots=True)
class Sheet:
    """A whole file. `columns` are those of the answer's head, the answers apart."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def parse(text: str, name: str, profile: Profile) -> Sheet:
    """Read all rows for a profile; `name` is the file's, for messages. Raises RowsError with every
    fault of every line."""
    lines = _lines(text, name)
    line, head = next(lines, (1, []))
    columns = tuple(cell.strip() for cell in head)
    if wrong := [*_head_faults(columns, profile)]:
        raise RowsError([f"{name}:{line}: {each}" for each in wrong])
    errors: list[str] = []
    rows: list[Row] = []
    first: dict[Block, int] = {}
    for line, found in lines:
        row, faults = _row(columns, found, profile)
        errors += (f"{name}:{line}: {fault}" for fault in faults)
        if row is None:
            continue
        before = first.setdefault(row.metered.block, line)
        if before != line:
            errors.append(f"{name}:{line}: block: {row.metered.block} is already in line {before}")
        rows.append(row)
    if errors:
        raise RowsError(errors)
    return Sheet(tuple(each for each in columns if each not in ANSWERS), tuple(rows))


def settled(sheet: Sheet, profile: Profile) -> str:
    """The rows with what is to be paid and received, and whether all of it is verified. What the
    file itself had under these three names is left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*sheet.columns, *ANSWERS))
    for row in sheet.rows:
        answers = _answers(profile.lines(row.metered))
        writer.writerow((*(row.cells[column] for column in sheet.columns), *answers))
    return text.getvalue()


def _answers(lines: Iterable[MoneyLine]) -> tuple[str, str, str]:
    found = total(lines)
    payable, receivable = max(-found.amount_paise, 0), max(found.amount_paise, 0)
    return rupees(payable), rupees(receivable), "true" if found.verified else "false"


def _lines(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Every line that says something. Raises RowsError for what is no CSV."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) and not cells[0].lstrip().startswith("#"):
                yield reader.line_num, cells
    except csv.Error as error:
        raise RowsError([f"{name}:{reader.line_num}: not CSV: {error}"]) from error


def _head_faults(columns: tuple[str, ...], profile: Profile) -> Iterator[str]:
    needed = (*NEEDED, *(("available_mwh",) if profile.needs_available else ()))
    for column in needed:
        if column not in columns:
            yield f"{column}: no such column; {','.join(needed)} are needed"
    for column in sorted({each for each in columns if columns.count(each) > 1}):
        yield f"{column or '(empty)'}: two columns of this name"


def _row(
    columns: tuple[str, ...], found: list[str], profile: Profile
) -> tuple[Row | None, list[str]]:
    if len(found) != len(columns):
        return None, [f"{len(found)} cells; the header has {len(columns)}"]
    cells = dict(zip(columns, (cell.strip() for cell in found), strict=True))
    faults: list[str] = []
    block = _block(cells, faults)
    numbers = {
        column: _number(column, cells[column], faults)
        for column in (*NEEDED[2:], *OPTIONAL)
        if column in cells
    }
    rate = numbers["ref_rate_p_kwh"]
    if rate is not None and not 0 <= rate <= MOST_P_PER_KWH:
        faults.append(f"ref_rate_p_kwh: {rate} is not from 0 to {MOST_P_PER_KWH:f}")
    for column in ("actual_mwh", "schedule_mwh", *OPTIONAL):
        mwh = numbers.get(column)
        if mwh is not None and not FEWEST_MWH <= mwh <= MOST_MWH:
            faults.append(f"{column}: {mwh} is not from {FEWEST_MWH:f} to {MOST_MWH:f} in a block")
    if block is not None:
        faults += _frequency_faults(block.day, numbers["freq_hz"], profile)
    if block is None or faults:
        return None, faults
    known = {column: value for column, value in numbers.items() if value is not None}
    metered = Metered(
        block=block,
        frequency_hz=known["freq_hz"],
        actual_mwh=known["actual_mwh"],
        schedule_mwh=known["schedule_mwh"],
        reference_rate_p_per_kwh=known["ref_rate_p_kwh"],
        sras_mwh=known.get("sras_mwh", Decimal(0)),
        available_mwh=known.get("available_mwh"),
    )
    return Row(dict(zip(columns, found, strict=True)), metered), []


def _block(cells: Mapping[str, str], faults: list[str]) -> Block | None:
    day: date | None = None
    if _DAY.fullmatch(cells["date"]):
        try:
            day = date.fromisoformat(cells["date"])
        except ValueError:
            day = None
    if day is None:
        faults.append(f"date: {cells['date']!r} is not a day YYYY-MM-DD")
    number = int(cells["block"]) if _BLOCK.fullmatch(cells["block"]) else 0
    if not 1 <= number <= BLOCKS_A_DAY:
        faults.append(f"block: {cells['block']!r} is not a whole number from 1 to {BLOCKS_A_DAY}")
        return None
    return Block(day, number) if day is not None else None


def _number(column: str, cell: str, faults: list[str]) -> Decimal | None:
    if _NUMBER.fullmatch(cell) is None:
        faults.append(f"{column}: {cell!r} is not a number like -40 or 12.5")
        return None
    return Decimal(cell)


def _frequency_faults(day: date, frequency_hz: Decimal | None, profile: Profile) -> Iterator[str]:
    try:
        low_hz, high_hz = profile.frequency_bounds_hz(day)
    except NoEdition as error:
        yield f"date: {error}"
        return
    if frequency_hz is not None and not low_hz <= frequency_hz <= high_hz:
        yield f"freq_hz: {frequency_hz} is no frequency of this grid ({low_hz} to {high_hz})"
