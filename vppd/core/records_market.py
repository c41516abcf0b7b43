"""What the journal keeps of the market: bids, results, prices, each block's account, money.

`at` is when the row was written, `block_at` when its block begins, both aware UTC. Rows are never
changed: what is restated is written again, and the newest rules. Positive is sold.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class MarketBidRow:
    """One step of a bid and what became of it: `state` is planned, sent, accepted, refused, missed
    or unsure. `side` is sell or buy, `kind` single, self or block, `book` names the book."""

    at: datetime
    block_at: datetime
    exchange: str
    product: str
    session: str
    side: str
    kind: str
    price_rs_per_mwh: float
    power_mw: float
    book: str
    state: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class MarketResultRow:
    """What an auction cleared of ours in a block: `state` is final, provisional or retracted."""

    at: datetime
    block_at: datetime
    exchange: str
    product: str
    session: str
    cleared_mw: float
    price_rs_per_mwh: float
    state: str
    book: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class MarketPriceRow:
    """A price of a block: `kind` is cleared, imported or forecast; `source` says whose."""

    at: datetime
    block_at: datetime
    product: str
    area: str
    kind: str
    price_rs_per_mwh: float
    source: str


@dataclass(frozen=True, slots=True)
class MarketBlockRow:
    """The energy account of a block, at the connection; None where nothing is known.

    `causes_json` splits the deviation by cause, MWh. `wear_rs` is what the energy discharged cost
    in life by the settings then in force, `usable_mwh` what the battery held. `rows_json` names the
    rows it was made from. `metered_by` is meter (at the connection), units (the sum of what they
    measure) or setpoints (of a stretch before a restart nothing else is left).
    """

    at: datetime
    block_at: datetime
    bid_sell_mwh: float
    bid_buy_mwh: float
    dam_mwh: float
    rtm_mwh: float
    scheduled_mwh: float
    droop_mwh: float
    order_mwh: float
    sras_mwh: float
    metered_mwh: float | None
    deviation_mwh: float | None
    causes_json: str
    frequency_hz: float | None
    soc_plan_pct: float | None
    soc_pct: float | None
    discharged_mwh: float
    usable_mwh: float
    wear_rs: float
    rows_json: str = "[]"
    metered_by: str = ""


@dataclass(frozen=True, slots=True)
class SettlementLineRow:
    """One amount of a block: positive is received. A block is always settled whole: of all its
    lines those of the newest `at` rule. `rows_json` names the rows they were computed from."""

    at: datetime
    block_at: datetime
    kind: str
    energy_mwh: float
    rate_p_per_kwh: float
    amount_paise: int
    rule: str
    source: str
    verified: bool
    text: str = ""
    rows_json: str = "[]"


MarketRow = MarketBidRow | MarketResultRow | MarketPriceRow | MarketBlockRow | SettlementLineRow
