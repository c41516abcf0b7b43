"""The seam between the desk and whoever makes its books: plain data in, plain data out.

The desk says what is wanted and how good a forecast to try; the maker answers with a wish. What
risk and feasibility leave of the wish is the desk's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from vppd.core.settings_market import TermsSettings
from vppd.market.blocks import Block
from vppd.market.book import Book
from vppd.market.exchange import Auction
from vppd.market.fitting import Setting
from vppd.market.storage import Terms

Rung = Literal["fresh", "mean", "yesterday", "hold", "none"]
FORECAST_RUNGS: tuple[Rung, ...] = ("fresh", "mean", "yesterday")
"""The declared ladder, best first: all models, the weighted mean of past days, yesterday's prices;
below them the desk alone: only close obligations (`hold`), and nothing (`none`)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One book to make.

    `setting.start` is the state at the first block of the auction; `setting.blocks` begin with the
    auction's blocks (only these are bid for), and behind them come all that are held already.
    `setting.held_mw` has the position so far, purchases that only close obligations included.
    `best` is the highest rung to try: `fresh`, `mean` or `yesterday`.
    """

    auction: Auction
    setting: Setting
    best: Rung = "fresh"


@dataclass(frozen=True, slots=True)
class Made:
    """A wish and how it came about. `rung` is the one it was really made from; `bound` are the
    limits that were binding, in words; a forecast is Rs/MWh. `explained` is plain JSON for a block:
    forecast and band, the plan's power and stored energy, what energy is worth, what bound."""

    book: Book
    rung: Rung
    why: str
    expected_rs: float = 0.0
    forecast_rs_per_mwh: Mapping[Block, float] = field(default_factory=dict)
    bound: tuple[str, ...] = ()
    explained: Mapping[Block, Mapping[str, Any]] = field(default_factory=dict)


class NotMade(Exception):  # noqa: N818 - a word of the field
    """No book could be made from this rung or from one below it that a forecast has: why."""


class Maker(Protocol):
    """Makes books; cancelled when the time given has run out."""

    async def book_for(self, wanted: Wanted, within_s: float) -> Made:
        """The best book for what is known. Raises NotMade; never blocks the loop."""


def terms_of(settings: TermsSettings) -> Terms:
    """The rules of an exchange from the settings of one product."""
    return Terms(
        settings.floor_rs_per_mwh,
        settings.cap_rs_per_mwh,
        settings.tick_rs_per_mwh,
        settings.min_mw,
        settings.step_mw,
        settings.max_pairs,
        settings.fee_rs_per_mwh,
        settings.loss_pct,
        settings.block_bids,
        (settings.block_bid_min_blocks, settings.block_bid_max_blocks),
    )
