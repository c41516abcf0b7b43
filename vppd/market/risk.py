"""Limits outside the optimiser, with a veto over every book before it is sent. Pure.

`bounded` takes out of a book what these limits forbid, bid by bid; `vetoes` looks at the whole of
what is left, and one reason is enough for nothing to be sent. Neither trusts the optimiser.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vppd.core.settings_market import RiskSettings
from vppd.market.blocks import BLOCK_H, Block
from vppd.market.book import Bid, Book, Pair, Whole
from vppd.market.fitting import EDGE, Setting
from vppd.market.storage import Terms

PERCENT = 100


@dataclass(frozen=True, slots=True)
class Known:
    """What the site knows of itself when a book is made. Ages are in seconds; `soc_pct` is of the
    usable energy of all units, None when no unit shows it."""

    soc_pct: float | None
    soc_age_s: float
    synchronised: bool
    before_gate_s: float  # until the gate closes, less the margin nothing is sent in
    stopped: str = ""  # why an operator stopped trading, or nothing


def bounded(book: Book, risk: RiskSettings, known: Known, *, real_time: bool) -> Book:
    """The book without what the limits forbid: quantities cut, limits tightened, sides left out.

    A sale that is certain at every price is lifted to `sell_min_rs_per_mwh` and so is certain no
    more; whoever made the book must fit it again.
    """
    sells_allowed = buys_allowed = True
    if real_time and known.soc_pct is not None:
        sells_allowed = known.soc_pct >= risk.sell_soc_min_pct
        buys_allowed = known.soc_pct <= risk.buy_soc_max_pct
    bids = {}
    for block, bid in book:
        made = Bid(
            _sells(bid.sells, risk) if sells_allowed else (),
            _buys(bid.buys, risk) if buys_allowed else (),
        )
        if made.sells or made.buys:
            bids[block] = made
    allowed = {True: sells_allowed, False: buys_allowed}
    wholes = (_bounded(each, risk) for each in book.wholes if allowed[each.power_mw > 0.0])
    return Book(bids, tuple(each for each in wholes if each is not None))


def _bounded(whole: Whole, risk: RiskSettings) -> Whole | None:
    """The same of a bid for several blocks; None when it would be less than is worth a bid."""
    most_mw = math.inf if risk.block_max_mw is None else risk.block_max_mw
    power_mw = min(max(whole.power_mw, -most_mw), most_mw)
    if not power_mw or abs(power_mw) < risk.block_min_mw:
        return None
    price = whole.price_rs_per_mwh
    if power_mw > 0.0:
        return replace(
            whole, power_mw=power_mw, price_rs_per_mwh=max(price, risk.sell_min_rs_per_mwh)
        )
    return replace(whole, power_mw=power_mw, price_rs_per_mwh=min(price, risk.buy_max_rs_per_mwh))


def _sells(pairs: Sequence[Pair], risk: RiskSettings) -> tuple[Pair, ...]:
    lifted = [
        Pair(max(pair.price_rs_per_mwh, risk.sell_min_rs_per_mwh), pair.power_mw) for pair in pairs
    ]
    return _cut(lifted, risk)


def _buys(pairs: Sequence[Pair], risk: RiskSettings) -> tuple[Pair, ...]:
    lowered = [
        Pair(min(pair.price_rs_per_mwh, risk.buy_max_rs_per_mwh), pair.power_mw) for pair in pairs
    ]
    return _cut(lowered, risk)


def _cut(pairs: Sequence[Pair], risk: RiskSettings) -> tuple[Pair, ...]:
    """Curves stay curves: at one price the largest quantity, none above the block's limit."""
    made: list[Pair] = []
    for pair in pairs:
        power_mw = pair.power_mw
        if risk.block_max_mw is not None:
            power_mw = min(power_mw, risk.block_max_mw)
        if power_mw <= 0.0 or power_mw < risk.block_min_mw:
            continue
        if made and pair.price_rs_per_mwh == made[-1].price_rs_per_mwh:
            made.pop()
        if not made or power_mw > made[-1].power_mw:
            made.append(replace(pair, power_mw=power_mw))
    return tuple(made)


def lacking(risk: RiskSettings, known: Known) -> list[str]:
    """What nobody may bid without, and may come yet before the gate closes: a clock that is right,
    and a state of charge that is fresh."""
    found = []
    if not known.synchronised:
        found.append("the clock is not synchronised, so no gate can be kept")
    if known.soc_pct is None:
        found.append("no unit shows its state of charge")
    elif known.soc_age_s > risk.soc_age_max_s:
        found.append(
            f"the state of charge is {known.soc_age_s:.0f} s old; {risk.soc_age_max_s:g} s allowed"
        )
    return found


def vetoes(book: Book, setting: Setting, risk: RiskSettings, known: Known) -> list[str]:
    """Why this book may not be sent; empty when it may."""
    found = []
    if known.stopped:
        found.append(f"trading is stopped: {known.stopped}")
    found += lacking(risk, known)
    if known.before_gate_s <= 0.0:
        found.append("the gate is closed or too near")
    allowed = {(each.block, each.limit): each.value for each in setting.breaches(Book({}))}
    found += [
        f"infeasible: {each}"
        for each in setting.breaches(book)
        if each.value > allowed.get((each.block, each.limit), 0.0) + EDGE
    ]
    blocks = {*book.bids, *(block for whole in book.wholes for block in whole.blocks)}
    ranges = [_most_mw(book, block) for block in blocks]
    sold_mwh = [most_sold_mw * BLOCK_H for _, most_sold_mw in ranges]
    bought_mwh = [most_bought_mw * BLOCK_H for most_bought_mw, _ in ranges]
    if risk.day_max_mwh is not None and sum(sold_mwh) > risk.day_max_mwh:
        found.append(f"sells up to {sum(sold_mwh):.2f} MWh; {risk.day_max_mwh:g} MWh allowed a day")
    for name, amounts_mwh in (("sold", sold_mwh), ("bought", bought_mwh)):
        most_mwh = max(amounts_mwh, default=0.0)
        if most_mwh > risk.spread_max_pct / PERCENT * sum(amounts_mwh) and len(blocks) > 1:
            found.append(
                f"{most_mwh / sum(amounts_mwh):.0%} of what is {name} lies in one block; "
                f"{risk.spread_max_pct:g} % allowed"
            )
    cost_rs = worst_cash_rs(book, setting.terms)
    if risk.day_exposure_max_rs is not None and cost_rs > risk.day_exposure_max_rs:
        found.append(
            f"may cost {cost_rs:.0f} Rs before anything is earned; "
            f"{risk.day_exposure_max_rs:.0f} Rs allowed"
        )
    return found


def _most_mw(book: Book, block: Block) -> tuple[float, float]:
    """The most that may be bought and sold in a block, both at least 0."""
    bid, (least_mw, most_mw) = book.bids.get(block, Bid()), book.whole_range_mw(block)
    return bid.most_bought_mw - least_mw, bid.most_sold_mw + most_mw


def worst_cash_rs(book: Book, terms: Terms) -> float:
    """The most that a book can cost: all purchases, each at its own limit or at the cap where it
    is wanted at every price, with fees; sales at the floor bring nothing."""
    spent_rs = 0.0
    for _, bid in book:
        held_mw = 0.0
        for pair in bid.buys:
            step_mwh = (pair.power_mw - held_mw) * BLOCK_H
            spent_rs += step_mwh * (pair.price_rs_per_mwh + terms.fee_rs_per_mwh)
            held_mw = pair.power_mw
        spent_rs += bid.most_sold_mw * BLOCK_H * terms.fee_rs_per_mwh
    for whole in book.wholes:
        price = whole.price_rs_per_mwh if whole.power_mw < 0.0 else 0.0
        mwh = abs(whole.power_mw) * BLOCK_H * whole.count
        spent_rs += mwh * (price + terms.fee_rs_per_mwh)
    return spent_rs
