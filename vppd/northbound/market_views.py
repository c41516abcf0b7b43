"""What the socket shows of the market: state, prices, bids, portfolio, why a block, compliance.

What was is read from the journal, what is comes from the desk. Days are IST; positive is sold.
"""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from vppd.market.blocks import IST, Block, block_at, blocks_of
from vppd.market.settling.tally import KWS_PER_MWH
from vppd.market.trading import Trading
from vppd.northbound.ask import Answer, Ask
from vppd.northbound.problems import Problem
from vppd.northbound.site import Site
from vppd.northbound.views import View
from vppd.spine.schema import from_micros, micros

MONTH = timedelta(days=31)
PAISE = 100

_PRICES = (
    "SELECT block_at, product, area, kind, price_rs_per_mwh, source FROM price "
    "WHERE block_at >= ? AND block_at < ? ORDER BY block_at, product, kind"
)
_BIDS = (
    "SELECT b.block_at, b.exchange, b.product, b.session, b.side, b.kind, b.price_rs_per_mwh, "
    "b.power_mw, b.book, b.state, b.text FROM market_bid AS b WHERE b.block_at >= ? "
    "AND b.block_at < ? AND b.at = (SELECT max(n.at) FROM market_bid AS n "
    "WHERE n.block_at = b.block_at AND n.book = b.book) ORDER BY b.block_at, b.session, b.side"
)
_LEDGER = (
    "SELECT block_at, dam_mwh, rtm_mwh, scheduled_mwh, droop_mwh, order_mwh, metered_mwh, "
    "deviation_mwh, causes_json, frequency_hz, soc_plan_pct, soc_pct, metered_by "
    "FROM market_ledger WHERE block_at >= ? AND block_at < ? ORDER BY block_at"
)
_MONEY = (
    "SELECT block_at, kind, sum(energy_mwh), sum(amount_paise), min(verified) FROM settlement "
    "WHERE block_at >= ? AND block_at < ? GROUP BY block_at, kind ORDER BY block_at"
)
_EVENTS = "SELECT count(*) FROM event WHERE code = 'frequency_event_begun' AND at >= ? AND at < ?"


def state(site: Site) -> View:
    """How trading is, in a few lines; of a site without it what it follows instead."""
    trading = site.trading
    if trading is None:
        return {"enabled": False, "schedule": site.settings.market.schedule}
    market, block = site.settings.market, block_at(site.clock.utc())
    ruling = trading.sold.ruling
    return {
        "enabled": True,
        "exchange": market.exchange.kind,
        "strategy": market.strategy,
        "products": list(market.products),
        **trading.desk.status(),
        **({"load": trading.load.view()} if trading.load is not None else {}),
        "now": {
            "block": _name(block),
            "position_mw": trading.desk.position_mw(block),
            "next_position_mw": trading.desk.position_mw(block.after(1)),
            "planned_kw": ruling.power_kw if ruling is not None else None,
            **_so_far(trading),
        },
    }


async def whole_state(ask: Ask) -> Answer:
    """The state with the own books that wait. Raises Problem 404, 503."""
    trading = needed(ask.site)
    try:
        given = await trading.own.given()
    except OSError as error:
        raise unreadable(error) from None
    return Answer(
        {**state(ask.site), "own_books": {str(auction): by for auction, by in given.items()}}
    )


async def prices(ask: Ask) -> Answer:
    """Cleared, imported and foreseen prices of a day. Raises Problem 404, 422, 503."""
    needed(ask.site)
    names = ("block", "product", "area", "kind", "price_rs_per_mwh", "source")
    return Answer({"prices": [_row(names, row) for row in await _of_day(ask, _PRICES)]})


async def bids(ask: Ask) -> Answer:
    """Every pair that was bid for a day, as it stood last. Raises Problem 404, 422, 503."""
    needed(ask.site)
    names = (
        *("block", "exchange", "product", "session", "side", "kind", "price_rs_per_mwh"),
        *("power_mw", "book", "state", "text"),
    )
    return Answer({"bids": [_row(names, row) for row in await _of_day(ask, _BIDS)]})


async def portfolio(ask: Ask) -> Answer:
    """What is traded in each block of a day, and the account of those that are over. Raises
    Problem 404, 422, 503."""
    desk = needed(ask.site).desk
    day = day_of(ask)
    done = {row["block"]: row for row in await _ledger(ask.site, *_span(day))}
    shown = []
    for block in blocks_of(day):
        traded = {
            str(auction): trade.cleared_mw[block]
            for auction, trade in desk.trades.items()
            if block in trade.cleared_mw
        }
        view: View = {"block": _name(block), "position_mw": sum(traded.values()), "trades": traded}
        shown.append({**view, "account": done.get(_name(block))})
    return Answer({"day": day.isoformat(), "blocks": shown})


async def why(ask: Ask) -> Answer:
    """Why a block is traded as it is, its account and its money. Raises Problem 404, 422, 503."""
    desk = needed(ask.site).desk
    block = block_of(ask.path.get("block", ""), block_at(ask.site.clock.utc()))
    span = micros(block.start), micros(block.end)
    accounts = await _ledger(ask.site, *span)
    money = await _money(ask.site, *span)
    return Answer(
        {
            **desk.explain(block),
            "block": _name(block),
            "starts_at": block.start,
            "account": accounts[0] if accounts else None,
            "money": money,
        }
    )


async def compliance(ask: Ask) -> Answer:
    """What a month's statement rests on: energies, deviation by cause, money with its marks, and
    frequency events. `month` is YYYY-MM, default this one. Raises Problem 422, 503."""
    first = _month_of(ask)
    last = (first.replace(day=1) + MONTH).replace(day=1)
    span = micros(Block(first, 1).start), micros(Block(last, 1).start)
    accounts, money = await _ledger(ask.site, *span), await _money(ask.site, *span)
    events = await _select(ask.site, _EVENTS, span)
    sums = ("dam_mwh", "rtm_mwh", "scheduled_mwh", "droop_mwh", "order_mwh", "deviation_mwh")
    causes: dict[str, float] = {}
    for account in accounts:
        for cause, mwh in account["causes"].items():
            causes[cause] = causes.get(cause, 0.0) + mwh
    kinds: dict[str, dict[str, Any]] = {}
    for line in money:
        kind = kinds.setdefault(line["kind"], {"amount_rs": 0.0, "verified": True})
        kind["amount_rs"] += line["amount_rs"]
        kind["verified"] = kind["verified"] and line["verified"]
    return Answer(
        {
            "month": f"{first:%Y-%m}",
            "settlement_rule": ask.site.settings.market.settlement_rule,
            "blocks": len(accounts),
            "unmetered_blocks": sum(account["metered_mwh"] is None for account in accounts),
            **{name: sum(account[name] or 0.0 for account in accounts) for name in sums},
            "deviation_by_cause_mwh": causes,
            "money": kinds,
            "frequency_events": int(str(events[0][0])) if events else 0,
            "note": "the statement with its rows: vppd report cerc, vppd report event",
        }
    )


def needed(site: Site) -> Trading:
    """The market layer. Raises Problem 404 where there is none."""
    if site.trading is None:
        schedule = site.settings.market.schedule
        text = (
            f"the site follows the schedule {schedule}" if schedule else "no schedule is configured"
        )
        raise Problem(
            404,
            "not-available",
            f"market layer not configured (`enabled: true` in market.yaml); {text}",
        )
    return site.trading


def block_of(text: str, now: Block) -> Block:
    """`42` of today, `2026-11-23:42`, or `now`. Raises Problem 422."""
    if text == "now":
        return now
    day, _, number = text.rpartition(":")
    try:
        return Block(date.fromisoformat(day) if day else now.day, int(number))
    except ValueError:
        said = f"block must be 1 to 96 of today, or like 2026-11-23:42; is {text[:32]}"
        raise Problem(422, "unusable-value", said, field="block") from None


def day_of(ask: Ask) -> date:
    """`day` of the query, IST; today without it. Raises Problem 422."""
    text = ask.query.get("day")
    if text is None:
        return ask.site.clock.utc().astimezone(IST).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        said = f"day must be like 2026-11-23, is {text[:32]}"
        raise Problem(422, "unusable-value", said, field="day") from None


def unreadable(error: OSError) -> Problem:
    """The journal does not answer."""
    return Problem(503, "journal-unreadable", f"the journal cannot be read: {error}")


def _so_far(trading: Trading) -> View:
    """The block that goes on."""
    tally = trading.accounts.now
    if tally is None:
        return {}
    return {
        "scheduled_mwh": tally.scheduled_kws / KWS_PER_MWH,
        "cleared_mwh": tally.cleared_kws / KWS_PER_MWH,
        "metered_mwh": tally.metered_kws / KWS_PER_MWH,
    }


async def _ledger(site: Site, begin: int, end: int) -> list[dict[str, Any]]:
    names = (
        *("block", "dam_mwh", "rtm_mwh", "scheduled_mwh", "droop_mwh", "order_mwh"),
        *("metered_mwh", "deviation_mwh", "causes", "frequency_hz", "soc_plan_pct", "soc_pct"),
        "metered_by",
    )
    found = [_row(names, row) for row in await _select(site, _LEDGER, (begin, end))]
    return [{**each, "causes": json.loads(str(each["causes"]))} for each in found]


async def _money(site: Site, begin: int, end: int) -> list[dict[str, Any]]:
    names = ("block", "kind", "energy_mwh", "amount_rs", "verified")
    found = [_row(names, row) for row in await _select(site, _MONEY, (begin, end))]
    return [
        {
            **each,
            "amount_rs": int(str(each["amount_rs"])) / PAISE,
            "verified": bool(each["verified"]),
        }
        for each in found
    ]


async def _of_day(ask: Ask, sql: str) -> list[tuple[object, ...]]:
    return await _select(ask.site, sql, _span(day_of(ask)))


async def _select(site: Site, sql: str, parameters: Sequence[object]) -> list[tuple[object, ...]]:
    """Raises Problem 503."""
    try:
        return await site.journal.select(sql, parameters)
    except OSError as error:
        raise unreadable(error) from None


def _row(names: Sequence[str], values: Sequence[object]) -> dict[str, Any]:
    """One row by name; its first column is when the block begins."""
    row: dict[str, Any] = dict(zip(names, values, strict=True))
    row["block"] = _name(block_at(from_micros(row["block"])))
    return row


def _span(day: date) -> tuple[int, int]:
    blocks = blocks_of(day)
    return micros(blocks[0].start), micros(blocks[-1].end)


def _month_of(ask: Ask) -> date:
    text = ask.query.get("month")
    if text is None:
        return ask.site.clock.utc().astimezone(IST).date().replace(day=1)
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        said = f"month must be like 2026-11, is {text[:32]}"
        raise Problem(422, "unusable-value", said, field="month") from None


def _name(block: Block) -> str:
    return f"{block.day}:{block.number}"
