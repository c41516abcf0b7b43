"""The words of the exchange's member interface, as the simulated exchange speaks it. Pure.

Only the outline is known of any real one: paths with comma-joined words, delivery dates as seconds
at 00:00 UTC, MW times 10 and whole rupees in, hundredths of both out.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from vppd.sim.exchange_hall import (
    DAY_BLOCKS,
    DAY_SESSIONS,
    Curve,
    Placed,
    Sitting,
    Turned,
    Whole,
)

PATHS: Mapping[str, str] = {
    "submit": "{product}/api/v2/bid/submit",
    "bids": "{product}/api/v2/singlebidbook/{user},{participant},{epoch},{portfolio}",
    "publish": "{product}/api/v2/publishinfo/{user},{participant},{epoch}",
    "results": "{product}/api/v2/portfolioschedulereport/"
    "{user},{participant},{epoch},{area},{portfolio}",
    "prices": "{product}/api/v2/pqresults/{user},{participant},{epoch}",
    "assets": "{product}/api/v2/master/assets/{user},{participant}",
}
QUANTITY_IN_LOTS = 10  # a tenth of a MW is so many lots of 0.01 MW
PRICE_IN_PAISE = 100
DAY_S = 86_400
PERIOD_MIN = 15


def pattern_of(path: str) -> re.Pattern[str]:
    """A path with {words} as a pattern with groups; a word has no comma and no slash."""
    return re.compile("/" + re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/,]+)", re.escape(path)) + "/?")


def day_of(epoch: object) -> date:
    """The delivery date. Raises Turned for anything but midnight UTC."""
    try:
        seconds = int(str(epoch))
    except ValueError:
        raise Turned("Invalid DeliveryDate") from None
    if seconds % DAY_S or seconds < 0:
        raise Turned("Invalid DeliveryDate")
    return datetime.fromtimestamp(seconds, UTC).date()


def epoch_of(day: date) -> int:
    """Seconds of midnight UTC of this date."""
    return int(datetime.combine(day, time(), UTC).timestamp())


def period(number: int) -> tuple[str, str]:
    """From and to of a block, HH:MM; the day ends at 24:00."""
    since, until = (number - 1) * PERIOD_MIN, number * PERIOD_MIN
    return f"{since // 60:02d}:{since % 60:02d}", f"{until // 60:02d}:{until % 60:02d}"


PERIODS = {period(number): number for number in range(1, DAY_BLOCKS + 1)}


def bid_in(product: str, body: Any) -> tuple[str, str, Sitting, list[Curve], list[Whole]]:
    """Ticket, portfolio, auction, curves and block bids of a submission. Raises Turned."""
    try:
        day = day_of(body["DeliveryDate"])
        number = int(body["SessionId"])
        if number not in (range(1) if product == "dam" else range(1, DAY_SESSIONS + 1)):
            raise Turned("Invalid SessionId")
        portfolio = str(body["PortfolioId"])
        if portfolio[:2] != body["BidArea"]:
            raise Turned("Invalid PortfolioId")
        curves = [_curve_in(each) for each in body["Orders"]]
        wholes = [_whole_in(each) for each in body.get("BlockOrders", ())]
        sitting = Sitting(product, day, number)
        return str(body["ClientOrderId"]), portfolio, sitting, curves, wholes
    except (KeyError, TypeError, ValueError, StopIteration):
        raise Turned("Invalid request") from None


def _curve_in(row: Mapping[str, Any]) -> Curve:
    number = PERIODS[row["FromPeriodId"], row["ToPeriodId"]]
    if row["Side"] not in ("S", "B"):
        raise Turned("Invalid Side")
    pairs = tuple(
        (_whole(each["Price"]) * PRICE_IN_PAISE, _whole(each["Quantity"]) * QUANTITY_IN_LOTS)
        for each in row["Steps"]
    )
    return Curve(number, row["Side"] == "S", pairs)


def _whole_in(row: Mapping[str, Any]) -> Whole:
    if row["Side"] not in ("S", "B"):
        raise Turned("Invalid Side")
    return Whole(
        next(n for (since, _), n in PERIODS.items() if since == row["FromPeriodId"]),
        next(n for (_, until), n in PERIODS.items() if until == row["ToPeriodId"]),
        row["Side"] == "S",
        _whole(row["Price"]) * PRICE_IN_PAISE,
        _whole(row["Quantity"]) * QUANTITY_IN_LOTS,
    )


def _whole(number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool):
        raise Turned("Price and quantity are whole numbers")
    return number


def bid_out(placed: Placed) -> dict[str, Any]:
    """A bid as the book shows it, in hundredths."""
    return {
        "OrderId": placed.order,
        "ClientOrderId": placed.ticket,
        "PortfolioId": placed.portfolio,
        "DeliveryDate": epoch_of(placed.sitting.day),
        "SessionId": placed.sitting.number,
        "Status": "Rejected" if placed.rejected else "Accepted",
        "Reason": placed.rejected,
        "Orders": [
            {
                **_period_out(curve.block),
                "Side": "S" if curve.sells else "B",
                "Steps": [{"Price": limit, "Quantity": lots} for limit, lots in curve.pairs],
            }
            for curve in placed.curves
        ],
        "BlockOrders": [
            {
                "FromPeriodId": period(whole.first)[0],
                "ToPeriodId": period(whole.last)[1],
                "Side": "S" if whole.sells else "B",
                "Price": whole.limit_paise,
                "Quantity": whole.lots,
            }
            for whole in placed.wholes
        ],
    }


def schedule_out(
    sitting: Sitting, block: int, portfolio: str, lots: int, price_paise: int
) -> dict[str, Any]:
    """A row of the schedule report: the area's own volumes beside ours, which stands inside."""
    return {
        "DeliveryDate": epoch_of(sitting.day),
        "SessionId": sitting.number,
        **_period_out(block),
        "BidArea": portfolio[:2],
        "AreaPrice": price_paise,
        "AreaBuyQty": 123_456,  # of the whole area: not what anybody got
        "AreaSellQty": 123_456,
        "ScheduleDetails": [
            {"PortfolioId": portfolio, "Side": "S" if lots >= 0 else "B", "Quantity": abs(lots)}
        ],
    }


def price_out(sitting: Sitting, block: int, area: str, price_paise: int) -> dict[str, Any]:
    """A row of the price report."""
    return {
        "DeliveryDate": epoch_of(sitting.day),
        "SessionId": sitting.number,
        **_period_out(block),
        "BidArea": area,
        "Price": price_paise,
    }


def _period_out(block: int) -> dict[str, str]:
    since, until = period(block)
    return {"FromPeriodId": since, "ToPeriodId": until}
