"""Layer 4's settings: what is traded, where, at what cost, and how much may be risked.

Numbers of exchanges are configuration with their source; none was read in an exchange's own
specification, so `verified` stays false until somebody did.
"""

from dataclasses import dataclass
from typing import Literal

from vppd.core.profile import key
from vppd.core.settings_exchange import WireSettings
from vppd.core.settings_forecast import ForecastSettings

DAY = r"^\d{4}-\d{2}-\d{2}$"
HHMM = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatterySettings:
    """What trading believes of the site as one battery, beside ratings and SoC windows."""

    charge_efficiency_pct: float = key("from the connection into the cells", 92.2, gt=50, le=100)
    discharge_efficiency_pct: float = key("from the cells to the connection", 92.2, gt=50, le=100)
    cycles_per_day: float = key("discharged energy over usable energy, at most", 1.5, gt=0, le=10)
    wear_rs_per_mwh: float = key("of battery life, each MWh discharged", 1000.0, ge=0)
    auxiliary_kw: float = key("own consumption, always drawn", 0.0, ge=0)
    soc_min_pct: float = key("trading leaves so much, above the safety limits", 10.0, ge=0, le=100)
    soc_max_pct: float = key(
        "trading fills no further, below the safety limits", 95.0, ge=0, le=100
    )
    reserve_up_kw: float = key("never sold: for droop and orders, discharging", 0.0, ge=0)
    reserve_down_kw: float = key("never bought: for droop and orders, charging", 0.0, ge=0)
    reserve_s: float = key("the reserve can be sustained for so long", 900.0, ge=0, le=14_400)


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskSettings:
    """Limits outside the optimiser, with a veto over every book before it is sent."""

    block_max_mw: float | None = key("most in one block, either way (null: the rating)", None, gt=0)
    block_min_mw: float = key("less than so much is not worth a bid", 0.0, ge=0)
    day_max_mwh: float | None = key("most sold in a day (null: by cycles alone)", None, gt=0)
    sell_min_rs_per_mwh: float = key("never sold below", 0.0, ge=0)
    buy_max_rs_per_mwh: float = key("never bought above", 10_000.0, ge=0)
    sell_soc_min_pct: float = key(
        "nothing is sold in real time below this charge", 15.0, ge=0, le=100
    )
    buy_soc_max_pct: float = key("nothing is bought in real time above it", 90.0, ge=0, le=100)
    margin_rs_per_mwh: float = key("a trade earns at least so much over its cost", 0.0, ge=0)
    day_exposure_max_rs: float | None = key(
        "worst cash of a book may not cost more (null: any)", None, gt=0
    )
    spread_max_pct: float = key("most of a day's energy in one block", 100.0, gt=0, le=100)
    soc_age_max_s: float = key("no new bid on a charge older than this", 900.0, ge=1, le=86_400)


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsSettings:
    """What an exchange takes for one product."""

    floor_rs_per_mwh: float = key("lowest price", 0.0, ge=0)
    cap_rs_per_mwh: float = key("highest price", 10_000.0, gt=0)
    tick_rs_per_mwh: float = key("prices are multiples of it", 1.0, gt=0)
    min_mw: float = key("least quantity", 0.1, gt=0)
    step_mw: float = key("quantities are multiples of it", 0.1, gt=0)
    max_pairs: int = key("price-quantity pairs of one block", 49, ge=2, le=1000)
    fee_rs_per_mwh: float = key("each side", 20.0, ge=0)
    loss_pct: float = key("transmission losses borne at the regional periphery", 0.0, ge=0, lt=50)
    block_bids: int = key(
        "bids for several blocks, all or none, in one book (0: the product has none)", 20, ge=0
    )
    block_bid_min_blocks: int = key("fewest blocks of such a bid", 1, ge=1, le=96)
    block_bid_max_blocks: int = key("most blocks of such a bid", 96, ge=1, le=96)
    effective_from: str = key("these terms hold from this day on", "2023-04-04", pattern=DAY)
    source: str = key("where they were read", "secondary texts; the exchange's own not read")
    verified: bool = key("somebody compared them with the exchange's circulars", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """When an exchange takes bids. Day-ahead times are IST on the day before delivery."""

    dam_open: str = key("HH:MM", "10:00", pattern=HHMM)
    dam_close: str = key("HH:MM", "11:00", pattern=HHMM)
    dam_result: str = key("HH:MM; later is late", "13:00", pattern=HHMM)
    rtm_open_min: float = key("minutes before delivery", 75.0, gt=0, le=1440)
    rtm_close_min: float = key("minutes before delivery", 60.0, gt=0, le=1440)
    rtm_result_min: float = key("minutes before delivery; later is late", 30.0, gt=0, le=1440)
    safety_s: float = key("nothing is sent so shortly before a gate closes", 20.0, ge=0, le=600)
    effective_from: str = key("these gates hold from this day on", "2023-10-01", pattern=DAY)
    source: str = key("where they were read", "IEGC 2023 Reg. 49, secondary text")
    verified: bool = key("somebody compared them with the exchange's circulars", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeSettings:
    """How an exchange is reached. No public specification of bid submission exists: hosts, paths,
    names and scales are what a trader's papers say, and unverified."""

    kind: Literal["simulated", "iex", "pxil", "sheet"] = key(
        "sheet: files for a trader or a portal; simulated: vppd's own exchange", "simulated"
    )
    url: str | None = key("https://host:port (null in simulation: vppd's own)", None)
    user: str = key("login user id", "")
    participant: str = key("participant id", "")
    portfolio: str = key("portfolio id; its first two characters are the bid area", "S1-VPPD")
    area: str = key("bid area", "S1")
    token: str | None = key("bearer token: !credential NAME", None)
    directory: str = key(
        "sheet: bid sheets go out and results come in here", "/var/lib/vppd/market"
    )
    requests_per_s: float = key("never faster", 4.0, gt=0, le=100)
    timeout_s: float = key("of one request", 40.0, gt=0, le=120)
    quantity_out_factor: float = key("MW are multiplied by it when sent", 10.0, gt=0)
    quantity_in_factor: float = key("quantities are divided by it when read", 100.0, gt=0)
    price_out_factor: float = key("Rs/MWh are multiplied by it when sent", 1.0, gt=0)
    price_in_factor: float = key("prices are divided by it when read", 100.0, gt=0)
    submit_path: str = key(
        "where bids are posted; not publicly known", "{product}/api/v2/bid/submit"
    )
    verified: bool = key("a session on the exchange's test system went well", False)
    words: WireSettings = key("its paths and the names in its answers", WireSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSettings:
    """Layer 4. Without `enabled` a schedule file, where there is one, is the plan."""

    enabled: bool = key("vppd bids by itself; false: the schedule file is the plan", False)
    schedule: str | None = key(
        "CSV date,block,power_kw in IST, relative to the configuration (null: none)", None
    )
    horizon_s: float = key(
        "a block's plan expires when not renewed for so long", 60.0, ge=5, le=900
    )
    dry_run: bool = key("books are made and kept, but nothing is sent", True)
    products: tuple[Literal["dam", "rtm"], ...] = key("what is traded", ("dam", "rtm"))
    strategy: Literal["aggressive", "adaptive", "conservative"] = key(
        "conservative: feasible whatever part of a book is taken; adaptive: counts on what is bid "
        "at every price, with a hurdle learned from the forecast's error; aggressive: no hurdle",
        "adaptive",
    )
    rtm_hurdle_rs_per_mwh: float = key(
        "conservative: a real-time trade must promise at least so much more", 1000.0, ge=0
    )
    battery: BatterySettings = key("the site as one battery", BatterySettings)
    risk: RiskSettings = key("limits with a veto", RiskSettings)
    exchange: ExchangeSettings = key("where bids go", ExchangeSettings)
    gates: GateSettings = key("when bids are taken", GateSettings)
    dam_terms: TermsSettings = key("of the day-ahead market", TermsSettings)
    rtm_terms: TermsSettings = key("of the real-time market", TermsSettings)
    forecast: ForecastSettings = key("of prices", ForecastSettings)
    settlement_rule: str = key("deviation settlement: a table of vppd settle --rules", "dsm-2024")
    reference_rate_p_per_kwh: float | None = key(
        "that deviation is priced with, where it is known (null: the plain mean of the day's "
        "day-ahead prices stands in); unverified either way",
        None,
        ge=0,
    )
