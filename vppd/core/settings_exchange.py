"""The words of a power exchange's member interface: its paths and the names in its answers.

All of it is what notes of others say; no exchange's own paper was read. Whoever has it corrects
the words here, not code. {words} in a path are filled in: product, user, participant, epoch (of the
delivery date, seconds at 00:00 UTC), area, portfolio.
"""

from dataclasses import dataclass

from vppd.core.profile import key


@dataclass(frozen=True, slots=True, kw_only=True)
class WireSettings:
    """Paths below the host, and names of fields and flags."""

    bids_path: str = key(
        "what the exchange holds of ours",
        "{product}/api/v2/singlebidbook/{user},{participant},{epoch},{portfolio}",
    )
    publish_path: str = key(
        "whether results are out", "{product}/api/v2/publishinfo/{user},{participant},{epoch}"
    )
    results_path: str = key(
        "what we got",
        "{product}/api/v2/portfolioschedulereport/{user},{participant},{epoch},{area},{portfolio}",
    )
    prices_path: str = key(
        "what everybody paid", "{product}/api/v2/pqresults/{user},{participant},{epoch}"
    )
    assets_path: str = key(
        "the scales it counts in, compared before the first bid; empty: not compared",
        "{product}/api/v2/master/assets/{user},{participant}",
    )
    ticket: str = key("our own id of a bid, given back", "ClientOrderId")
    user: str = key("login user", "UserId")
    participant: str = key("participant", "ParticipantId")
    portfolio: str = key("portfolio", "PortfolioId")
    area: str = key("bid area", "BidArea")
    date: str = key("delivery date", "DeliveryDate")
    session: str = key("real-time session, 0 for the day-ahead", "SessionId")
    orders: str = key("curves of a bid", "Orders")
    whole_orders: str = key(
        "bids for several blocks, all or none; from and to span them", "BlockOrders"
    )
    since: str = key("a block begins, HH:MM", "FromPeriodId")
    until: str = key("a block ends, HH:MM, the last at 24:00", "ToPeriodId")
    side: str = key("sell or buy", "Side")
    sell: str = key("the word for sell", "S")
    buy: str = key("the word for buy", "B")
    steps: str = key("pairs of a curve", "Steps")
    price: str = key("price of a pair, or of an area", "Price")
    quantity: str = key("quantity of a pair, or ours of a block", "Quantity")
    bids: str = key("list of the bids held", "BidBook")
    standing: str = key("what became of a bid held", "Status")
    rejected: str = key("the word for a bid that does not count", "Rejected")
    reason: str = key("why it does not", "Reason")
    publish: str = key("list of what is out", "PublishInfo")
    result_type: str = key("final or provisional, empty while not out", "ResultType")
    final: str = key("the word for final", "F")
    provisional: str = key("the word for provisional", "P")
    publish_state: str = key("published or withdrawn", "Status")
    withdrawn: str = key("the word for withdrawn", "D")
    report: str = key("list of what we got", "ScheduleReport")
    area_price: str = key("price in that list", "AreaPrice")
    details: str = key("our own quantities in that list", "ScheduleDetails")
    prices: str = key("list of prices", "PQResults")
    quantity_scale: str = key("MW are counted times this", "OrderQtyDecimal")
    price_scale: str = key("Rs/MWh are counted times this", "OrderPriceDecimal")
