"""When each auction takes bids and when its result is due, from one clock. Pure.

Day-ahead: on the day before delivery, at times of the day in IST. Real time: 48 sessions of two
blocks, at minutes before delivery. The times are configuration, dated and with their source.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from vppd.core.settings_market import GateSettings
from vppd.market.blocks import IST, block_at
from vppd.market.exchange import Auction, Product

SESSIONS_A_DAY = 48


@dataclass(frozen=True, slots=True)
class Gate:
    """One auction's times, UTC: bids are taken from `opens_at` until before `closes_at`; a result
    that is not there at `late_at` is late."""

    auction: Auction
    opens_at: datetime
    closes_at: datetime
    late_at: datetime

    def open_at(self, utc: datetime) -> bool:
        """Whether bids are taken now."""
        return self.opens_at <= utc < self.closes_at


def gate_of(auction: Auction, settings: GateSettings) -> Gate:
    """The times of an auction. ValueError when it lies before these gates were in force."""
    if auction.day < date.fromisoformat(settings.effective_from):
        raise ValueError(f"{auction}: its gates are only known from {settings.effective_from} on")
    if auction.product == "dam":
        eve = auction.day - timedelta(days=1)
        return Gate(
            auction,
            _ist(eve, settings.dam_open),
            _ist(eve, settings.dam_close),
            _ist(eve, settings.dam_result),
        )
    start = auction.blocks[0].start
    return Gate(
        auction,
        start - timedelta(minutes=settings.rtm_open_min),
        start - timedelta(minutes=settings.rtm_close_min),
        start - timedelta(minutes=settings.rtm_result_min),
    )


def auctions_of(day: date, products: Sequence[Product]) -> Iterator[Auction]:
    """Every auction that delivers on this day, in the order in which their gates close."""
    if "dam" in products:
        yield Auction(day, 0, "dam")
    if "rtm" in products:
        for session in range(1, SESSIONS_A_DAY + 1):
            yield Auction(day, session, "rtm")


def gates_between(
    since: datetime, until: datetime, products: Sequence[Product], settings: GateSettings
) -> list[Gate]:
    """Every gate that closes after `since` and opens before `until`, by the time it closes."""
    first, last = block_at(since).day, block_at(until).day
    found = []
    for offset in range((last - first).days + 3):  # a gate closes up to a day before delivery
        for auction in auctions_of(first + timedelta(days=offset), products):
            gate = gate_of(auction, settings)
            if gate.closes_at > since and gate.opens_at < until:
                found.append(gate)
    return sorted(found, key=lambda gate: (gate.closes_at, gate.auction))


def _ist(day: date, hhmm: str) -> datetime:
    hour, minute = (int(part) for part in hhmm.split(":"))
    return datetime.combine(day, time(hour, minute), IST).astimezone(UTC)
