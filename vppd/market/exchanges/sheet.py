"""Bid sheets for a trader or a portal's upload, and the results they bring back, as files.

`out/ID.json` has the shape a licensee's client interface takes, `out/ID.csv` says the same for a
person. Both are written whole or not at all; an id that was written is not written again. Results
are put into `in/` as CSV (COLUMNS below; `state` and `session` may be left out) or as JSON, a list
of such rows under "results". Powers are signed, positive sold. Of two files with the same auction
the later one counts. A file that cannot be read is told with its line and left where it is.
"""

import asyncio
import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from vppd.core.ports import Clock
from vppd.core.settings_market import MarketSettings, TermsSettings
from vppd.market.blocks import Block
from vppd.market.exchange import (
    Auction,
    NotUnderstood,
    Refused,
    Result,
    Status,
    Ticket,
    Unsure,
)
from vppd.market.exchanges.wire import period_of

COLUMNS = ("date", "block", "product", "session", "cleared_mw", "price_rs_per_mwh", "state")
NEEDED = ("date", "block", "product", "cleared_mw", "price_rs_per_mwh")
BID_COLUMNS = (
    *("ticket", "portfolio", "product", "session", "date", "block", "from", "to", "type"),
    *("price_rs_per_mwh", "cumulated_mw", "verified"),
)
RUPEES_A_KWH = 1000.0
MOST_BYTES = 8_000_000
SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
UNKNOWN = "written; what became of it only the results will tell"
Terms = Mapping[str, TermsSettings]  # by product
State = Literal["provisional", "final", "retracted"]


class SheetError(ValueError):
    """A results file that cannot be read: `file:line: what`."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a results file."""

    auction: Auction
    block: Block
    cleared_mw: float
    price_rs_per_mwh: float
    state: State


class SheetExchange:
    """See the module. Raises ValueError for a directory that is not told."""

    def __init__(self, market: MarketSettings, clock: Clock, directory: Path) -> None:
        self.name: str = "sheet"
        self.verified = False
        self._settings, self._clock = market.exchange, clock
        self._terms = {"dam": market.dam_terms, "rtm": market.rtm_terms}
        self._out, self._in = directory / "out", directory / "in"
        self.malformed: tuple[str, ...] = ()  # results files that could not be read last time

    async def submit(self, ticket: Ticket) -> None:
        """Write both sheets; when this ticket was written before, nothing."""
        if self._clock.utc() >= ticket.closes_at:
            raise Refused("not written: the gate is closed")
        if SAFE_ID.fullmatch(ticket.id) is None:
            raise Refused(f"not written: {ticket.id!r} is no name of a file")
        try:
            await asyncio.to_thread(self._write, ticket)
        except OSError as error:
            raise Unsure(f"{self._out}: {error}") from None

    async def status(self, ticket: Ticket) -> Status:
        """`accepted` when both sheets are there as they should be."""
        try:
            found = [
                await asyncio.to_thread(_read, path) == text
                for path, text in self._sheets(ticket).items()
            ]
        except FileNotFoundError:
            return Status("unknown")
        except (OSError, SheetError) as error:
            raise Unsure(str(error)) from None
        if not all(found):
            return Status("accepted", "another book was written", as_sent=False)
        return Status("accepted", UNKNOWN)

    async def results(self, auction: Auction) -> Result | None:
        """What a results file says of it. Unsure where none does and some cannot be read."""
        lines = [line for line in await self._lines() if line.auction == auction]
        if not lines:
            if self.malformed:
                raise NotUnderstood("; ".join(self.malformed))
            return None
        state = lines[-1].state
        if state == "retracted":
            return Result(auction, {}, {}, "retracted")
        return Result(
            auction,
            {line.block: line.cleared_mw for line in lines},
            {line.block: line.price_rs_per_mwh for line in lines},
            state,
        )

    async def prices(self, auction: Auction) -> Mapping[Block, float]:
        """Cleared prices that the results brought."""
        found = await self.results(auction)
        return {} if found is None else found.price_rs_per_mwh

    async def portfolio(self, day: date) -> Mapping[Block, float]:
        """All results of a day, MW, positive sold."""
        total_mw: dict[Block, float] = {}
        for line in await self._lines():
            if line.auction.day == day and line.state != "retracted":
                total_mw[line.block] = total_mw.get(line.block, 0.0) + line.cleared_mw
        if self.malformed and not total_mw:
            raise NotUnderstood("; ".join(self.malformed))
        return total_mw

    # out
    def _sheets(self, ticket: Ticket) -> dict[Path, str]:
        wholes = {self._out / f"{ticket.id}.block.json": self._json(ticket, wholes=True)}
        return {
            self._out / f"{ticket.id}.json": self._json(ticket),
            self._out / f"{ticket.id}.csv": self._csv(ticket),
            **(wholes if ticket.book.wholes else {}),
        }

    def _write(self, ticket: Ticket) -> None:
        self._out.mkdir(parents=True, exist_ok=True)
        self._in.mkdir(parents=True, exist_ok=True)
        for path, text in self._sheets(ticket).items():
            if not path.exists():
                _write_whole(path, text)
            elif path.read_text("utf-8") != text:
                raise Refused(f"{path.name} was written with another book")

    def _json(self, ticket: Ticket, *, wholes: bool = False) -> str:
        """A licensee's shape; prices in Rs/kWh, quantities in MW, cumulated over the prices. Bids
        for several blocks stand in a sheet of their own, as its `bidType` says."""
        auction = ticket.auction
        sheet = {
            "portfoliocode": self._settings.portfolio,
            "bidType": "Block" if wholes else "Single",
            "bidDate": auction.day.strftime("%d-%m-%Y"),
            "product": auction.product,
            "session": auction.session,
            "Carry_Forward_To_RTM": "N",
            "ticket": ticket.id,
            "closes_at": ticket.closes_at.isoformat(),
            "verified": self.verified,
            "bid": [
                {
                    "fromtime": period_of(first)[0],
                    "totime": period_of(last)[1],
                    "type": side,
                    "bidvalue": [
                        {"price": price / RUPEES_A_KWH, "value": power_mw}
                        for price, power_mw in pairs
                    ],
                }
                for first, last, side, pairs in (_wholes if wholes else _singles)(ticket)
            ],
        }
        return json.dumps(sheet, indent=1) + "\n"

    def _csv(self, ticket: Ticket) -> str:
        auction, file = ticket.auction, io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(BID_COLUMNS)
        rows = [*_singles(ticket), *_wholes(ticket, "block ")]
        for first, last, side, pairs in rows:
            head = (ticket.id, self._settings.portfolio, auction.product, auction.session)
            for price, power_mw in pairs:
                times = period_of(first)[0], period_of(last)[1]
                place = (first.day.isoformat(), first.number, *times)
                amounts = f"{price:.10g}", f"{power_mw:.10g}"
                writer.writerow((*head, *place, side, *amounts, str(self.verified).lower()))
        return file.getvalue()

    # in
    async def _lines(self) -> list[Line]:
        """Every good file's rows, of each auction only the latest file's."""
        try:
            good, self.malformed = await asyncio.to_thread(_read_all, self._in, self._terms)
        except OSError as error:
            raise Unsure(f"{self._in}: {error}") from None
        rules: dict[Auction, list[Line]] = {}
        for lines in good:
            for auction in {line.auction for line in lines}:
                rules[auction] = [line for line in lines if line.auction == auction]
        return [line for lines in rules.values() for line in lines]


Offer = tuple[Block, Block, str, list[tuple[float, float]]]


def _singles(ticket: Ticket) -> Iterator[Offer]:
    """First and last block (the same), side, pairs of price and power."""
    for block, bid in ticket.book:
        for side, pairs in (("S", bid.sells), ("B", bid.buys)):
            if pairs:
                values = [(pair.price_rs_per_mwh, pair.power_mw) for pair in pairs]
                yield block, block, side, values


def _wholes(ticket: Ticket, kind: str = "") -> Iterator[Offer]:
    """The same of bids for several blocks; `kind` stands before the side."""
    for whole in ticket.book.wholes:
        side = "S" if whole.power_mw > 0.0 else "B"
        values = [(whole.price_rs_per_mwh, abs(whole.power_mw))]
        yield whole.first, whole.blocks[-1], f"{kind}{side}", values


def _write_whole(path: Path, text: str) -> None:
    """The file is there with all of this text, power cut or not, or it is not there."""
    new = path.with_suffix(path.suffix + ".new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read(path: Path) -> str:
    if path.stat().st_size > MOST_BYTES:
        raise SheetError(f"{path.name}:1: more than {MOST_BYTES} bytes")
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SheetError(f"{path.name}:1: {error}") from None


def _read_all(directory: Path, terms: Terms) -> tuple[list[list[Line]], tuple[str, ...]]:
    """Rows of every good file, the oldest first, and what is wrong with the others."""
    good: list[list[Line]] = []
    wrong: list[str] = []
    if not directory.is_dir():
        return good, ()
    files = [path for path in directory.iterdir() if path.suffix in (".csv", ".json")]
    for path in sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name)):
        try:
            good.append(_allowed(parse(_read(path), path.name), path.name, terms))
        except SheetError as error:
            wrong.append(str(error))
    return good, tuple(wrong)


def parse(text: str, name: str) -> list[Line]:
    """A results file, whole or not at all. Raises SheetError with the line. Pure."""
    rows = _json_rows(text, name) if name.endswith(".json") else _csv_rows(text, name)
    lines: list[Line] = []
    seen: set[tuple[Auction, Block]] = set()
    states: dict[Auction, State] = {}
    for number, row in rows:
        try:
            line = _line(row)
        except (ValueError, TypeError, KeyError) as error:
            raise SheetError(f"{name}:{number}: {error}") from None
        if (line.auction, line.block) in seen:
            raise SheetError(f"{name}:{number}: {line.block} of {line.auction} given twice")
        if states.setdefault(line.auction, line.state) != line.state:
            raise SheetError(f"{name}:{number}: {line.auction} has two states")
        seen.add((line.auction, line.block))
        lines.append(line)
    return lines


def _allowed(lines: list[Line], name: str, terms: Terms) -> list[Line]:
    """The same, when every price is one that the product may have. Raises SheetError: any other is
    in a wrong unit."""
    for line in lines:
        floor = terms[line.auction.product].floor_rs_per_mwh
        cap = terms[line.auction.product].cap_rs_per_mwh
        if not floor <= line.price_rs_per_mwh <= cap:
            said = (
                f"{line.price_rs_per_mwh:g} Rs/MWh of {line.block} is outside {floor:g} to {cap:g}"
            )
            raise SheetError(f"{name}: {said}")
    return lines


def _csv_rows(text: str, name: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=None))
    try:
        missing = [each for each in NEEDED if each not in (reader.fieldnames or ())]
        if missing:
            raise SheetError(f"{name}:1: no column {', '.join(missing)}")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise SheetError(f"{name}:{reader.line_num}: {error}") from None


def _json_rows(text: str, name: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    try:
        said = json.loads(text)
    except json.JSONDecodeError as error:
        raise SheetError(f"{name}:{error.lineno}: {error.msg}") from None
    except RecursionError:
        raise SheetError(f"{name}:1: nested too deeply") from None
    rows = said.get("results") if isinstance(said, dict) else None
    if not isinstance(rows, list):
        raise SheetError(f'{name}:1: no list "results"')
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise SheetError(f"{name}:{number}: no row of names and values")
        yield number, row


def _line(row: Mapping[str, Any]) -> Line:
    day = date.fromisoformat(str(row["date"]))
    block = Block(day, int(row["block"]))
    product = str(row["product"]).strip().lower()
    state = str(row.get("state") or "final").strip().lower()
    if product not in ("dam", "rtm"):
        raise ValueError(f"product {product!r}; dam or rtm")
    if state not in ("provisional", "final", "retracted"):
        raise ValueError(f"state {state!r}; provisional, final or retracted")
    session = 0 if product == "dam" else (block.number + 1) // 2
    if row.get("session") not in (None, "") and int(row["session"]) != session:
        raise ValueError(f"session {row['session']}; {block} is of session {session}")
    auction = Auction(day, session, "dam" if product == "dam" else "rtm")
    return Line(
        auction,
        block,
        _number(row, "cleared_mw"),
        _number(row, "price_rs_per_mwh"),
        "retracted" if state == "retracted" else "final" if state == "final" else "provisional",
    )


def _number(row: Mapping[str, Any], name: str) -> float:
    value = float(row[name])
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    return value
