"""What maker and worker say to each other, as JSON: settings of a book there, a book back. Pure.

Neither NaN nor infinity crosses: a price that is not known is left out.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from vppd.market.blocks import BLOCKS_A_DAY, Block
from vppd.market.book import Bid, Book, Pair
from vppd.market.corridor import State
from vppd.market.fitting import Setting
from vppd.market.prices import UNKNOWN, PriceHistory
from vppd.market.storage import Storage, Terms

Json = dict[str, Any]
PriceRows = Sequence[tuple[str, str]]  # IST day, and `block:price` with commas between


def block_text(block: Block) -> str:
    """`2026-03-02/17`."""
    return f"{block.day}/{block.number}"


def block_of(text: str) -> Block:
    """The reverse. Raises ValueError."""
    day, _, number = text.partition("/")
    return Block(date.fromisoformat(day), int(number))


def setting_json(setting: Setting) -> Json:
    """A setting as plain data."""
    return {
        "storage": _storage_json(setting.storage),
        "terms": dataclasses.asdict(setting.terms),
        "start": {
            "low_mwh": setting.start.low_mwh,
            "high_mwh": setting.start.high_mwh,
            "discharged_mwh": {
                str(day): mwh for day, mwh in sorted(setting.start.discharged_mwh.items())
            },
        },
        "blocks": [block_text(block) for block in setting.blocks],
        "held_mw": {block_text(block): mw for block, mw in sorted(setting.held_mw.items())},
        "open_mw": {block_text(block): mw for block, mw in sorted(setting.open_mw.items())},
        "firm": setting.firm,
    }


def setting_of(data: Json) -> Setting:
    """The reverse. Raises KeyError, TypeError, ValueError."""
    start, terms = data["start"], data["terms"]
    shortest, longest = terms["whole_blocks"]
    return Setting(
        _storage_of(data["storage"]),
        Terms(**terms | {"whole_blocks": (shortest, longest)}),
        State(
            start["low_mwh"],
            start["high_mwh"],
            {date.fromisoformat(day): mwh for day, mwh in start["discharged_mwh"].items()},
        ),
        tuple(block_of(text) for text in data["blocks"]),
        {block_of(text): mw for text, mw in data["held_mw"].items()},
        data["firm"],
        {block_of(text): (low, high) for text, (low, high) in data["open_mw"].items()},
    )


def _storage_json(storage: Storage) -> Json:
    plain = {each.name: getattr(storage, each.name) for each in dataclasses.fields(storage)}
    room = {block_text(block): [*room_mw] for block, room_mw in sorted(storage.room_mw.items())}
    return plain | {"room_mw": room}


def _storage_of(data: Json) -> Storage:
    room = {block_of(text): (low, high) for text, (low, high) in data["room_mw"].items()}
    return Storage(**data | {"room_mw": room})


def book_json(book: Book) -> Json:
    """A book as plain data: pairs of price (Rs/MWh) and cumulated power (MW)."""
    return {
        block_text(block): {"sells": _pairs_json(bid.sells), "buys": _pairs_json(bid.buys)}
        for block, bid in book
    }


def book_from(data: Json) -> Book:
    """The reverse. Raises KeyError, TypeError, ValueError."""
    return Book(
        {
            block_of(text): Bid(_pairs(bid["sells"]), _pairs(bid["buys"]))
            for text, bid in data.items()
        }
    )


def prices_of(rows: PriceRows) -> PriceHistory:
    """A history from one row a day. Raises ValueError."""
    days: dict[date, tuple[float, ...]] = {}
    for day_text, text in rows:
        prices = [UNKNOWN] * BLOCKS_A_DAY
        for each in filter(None, text.split(",")):
            number, _, price = each.partition(":")
            if not 1 <= int(number) <= BLOCKS_A_DAY:
                raise ValueError(f"{day_text}: block {number}")
            prices[int(number) - 1] = float(price)
        days[date.fromisoformat(day_text)] = tuple(prices)
    return PriceHistory(days)


def price_rows(history: PriceHistory) -> list[tuple[str, str]]:
    """The reverse; unknown prices are left out."""
    return [
        (
            str(day),
            ",".join(f"{n}:{price!r}" for n, price in enumerate(prices, 1) if math.isfinite(price)),
        )
        for day, prices in history.days.items()
    ]


def by_block(data: Mapping[str, Any]) -> dict[Block, Any]:
    """A mapping whose keys are blocks as text. Raises ValueError."""
    return {block_of(text): value for text, value in data.items()}


def _pairs_json(pairs: Sequence[Pair]) -> list[list[float]]:
    return [[pair.price_rs_per_mwh, pair.power_mw] for pair in pairs]


def _pairs(data: Sequence[Sequence[Any]]) -> tuple[Pair, ...]:
    return tuple(Pair(float(price), float(power)) for price, power in data)
