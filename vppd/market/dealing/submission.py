"""One ticket, sent once in effect: planned -> sending -> accepted | refused | unsure | missed.

The whole ticket is on disk before anything leaves, and `sending` is on disk before the request. So
whoever finds `planned` knows that nothing left, and whoever finds `sending` or `unsure` asks the
exchange before all else. A request that was cut off may still be under way: that the exchange does
not have it counts only when it says so some time later. It is sent again only then, and only while
the gate is open. Nothing is sent from `safety_s` before the gate closes, while there is a reason
not to (`may_not_send`: the clock, an operator), or while the journal cannot be written.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from vppd.core.alarms import MEANINGS, Code
from vppd.core.model import SITE
from vppd.core.ports import Clock, Journal
from vppd.core.records import EventRow
from vppd.market.dealing.tickets import Kept, TicketState, bid_rows, kept_row
from vppd.market.exchange import Auction, Exchange, Refused, Status, Ticket, Unsure

Tell = Callable[[Code, bool, str], None]
BAD_STATES = frozenset({"refused", "missed", "unsure"})
PROVEN_STATES = frozenset({"accepted", "dry_run"})


@dataclass(frozen=True, slots=True)
class Pace:
    """How often an exchange is asked for a ticket, from `ask_s` to `ask_max_s` apart; how long a
    request that was cut off may still arrive; how soon what failed here is tried again."""

    ask_s: float = 5.0
    ask_max_s: float = 60.0
    settle_s: float = 10.0
    retry_s: float = 2.0


class Submission:
    """Takes tickets to their end, each by its own call of `carry`."""

    def __init__(
        self,
        exchange: Exchange,
        journal: Journal,
        clock: Clock,
        tell: Tell,
        *,
        safety_s: float,
        may_not_send: Callable[[], str],
        pace: Pace = Pace(),
    ) -> None:
        """`may_not_send()` is why nothing may be sent now, or nothing."""
        self._exchange, self._journal, self._clock, self._tell = exchange, journal, clock, tell
        self._safety = timedelta(seconds=safety_s)
        self._may_not_send, self._pace = may_not_send, pace
        self.kept: dict[Auction, Kept] = {}
        self._listed: dict[Auction, TicketState] = {}  # as its bids were last written
        self._unsure: set[Auction] = set()

    def before_cutoff_s(self, closes_at: datetime) -> float:
        """Seconds in which something may still be sent to a gate; negative when too late."""
        return (closes_at - self._safety - self._clock.utc()).total_seconds()

    def restore(self, kept: Kept) -> None:
        """Take a ticket as the journal has it, without writing it again."""
        self.kept[kept.auction] = kept
        self._listed[kept.auction] = kept.state
        if kept.state == "unsure":
            self._unsure.add(kept.auction)

    def forget(self, before: datetime) -> None:
        """Let go of what was delivered before."""
        for auction in [each for each in self.kept if each.blocks[-1].end <= before]:
            del self.kept[auction]
            self._listed.pop(auction, None)
            self._unsure.discard(auction)

    async def note(self, kept: Kept) -> bool:
        """Keep a ticket and tell what it came to. True when it is on disk."""
        self.kept[kept.auction] = kept
        now = self._clock.utc()
        if kept.state != "sending" and self._listed.get(kept.auction) != kept.state:
            self._listed[kept.auction] = kept.state
            for row in bid_rows(kept, self._exchange.name, now):
                self._journal.append(row)
        on_disk = await self._journal.commit(kept_row(kept, now))
        if not on_disk:
            text = f"{kept.auction}: the journal cannot be written; without it nothing is sent"
            self._tell(Code.MARKET_SUBMISSION, True, text)
        self._tell_of(kept)
        return on_disk

    async def carry(self, kept: Kept) -> Kept:
        """Take a ticket on from where it stands until it is at rest, or until its delivery is over
        and it is still not known (`unsure`)."""
        while kept.state == "planned" and not await self.note(kept):
            if self.before_cutoff_s(kept.ticket.closes_at) <= 0.0:
                return await self._end(kept, "missed", "the journal could not be written in time")
            await self._pause(self._pace.retry_s)
        given_up = False
        while not (kept.at_rest or given_up):
            if kept.state == "planned":
                kept = await self._send(kept)
            else:
                kept, given_up = await self._ask(kept)
        return kept

    # --- sending ----------------------------------------------------------------------------

    async def _send(self, kept: Kept) -> Kept:
        """One try, or the reason why not now."""
        ticket = kept.ticket
        if self.before_cutoff_s(ticket.closes_at) <= 0.0:
            why = kept.text or self._may_not_send() or "the gate closed before it could be sent"
            return await self._end(kept, "missed", why)
        if why := self._may_not_send():
            await self._pause(self._pace.retry_s)
            return replace(kept, text=why)
        if not await self.note(replace(kept, state="sending", text="")):
            self.kept[kept.auction] = kept
            await self._pause(self._pace.retry_s)
            return replace(kept, text="the journal cannot be written")
        # Writing took its time: nothing has left yet, and it may be too late by now.
        if self._may_not_send() or self.before_cutoff_s(ticket.closes_at) <= 0.0:
            self.kept[kept.auction] = kept
            return kept
        try:
            async with asyncio.timeout(self.before_cutoff_s(ticket.closes_at)):
                await self._exchange.submit(ticket)
        except Refused as refusal:
            return await self._end(kept, "refused", str(refusal))
        except Unsure as doubt:
            return await self._end(kept, "unsure", str(doubt) or "no answer")
        except TimeoutError:
            return await self._end(kept, "unsure", "no answer before the gate closed")
        return await self._end(kept, "accepted", "")

    # --- asking -----------------------------------------------------------------------------

    async def _ask(self, kept: Kept) -> tuple[Kept, bool]:
        """Ask until it is known, and whether that was given up."""
        ticket, pace = kept.ticket, self._pace
        settled_s = self._clock.now_s() + pace.settle_s
        wait_s = pace.ask_s
        while True:
            asked_at, asked_s = self._clock.utc(), self._clock.now_s()
            status = await self._status(ticket)
            if status is not None and status.standing != "unknown":
                kept = await self._end(kept, status.standing, status.text)
                if not status.as_sent:
                    self._tell_bad(
                        kept, f"{status.text}: does another hand bid for this portfolio?"
                    )
                return kept, False
            if status is not None and asked_s >= settled_s:
                if self.before_cutoff_s(ticket.closes_at) > 0.0:
                    if not self._may_not_send():
                        return replace(kept, state="planned", text=""), False
                elif asked_at >= ticket.closes_at:
                    why = f"the exchange does not have it: {status.text or 'no such ticket'}"
                    return await self._end(kept, "missed", why), False
            if asked_at >= ticket.auction.blocks[-1].end:
                why = "its delivery is over and the exchange never said what became of it"
                return await self._end(kept, "unsure", why), True
            left_s = settled_s - self._clock.now_s()
            await self._pause(min(wait_s, left_s) if left_s > 0.0 else wait_s)
            wait_s = min(2.0 * wait_s, pace.ask_max_s)

    async def _status(self, ticket: Ticket) -> Status | None:
        """What the exchange says of it; None when it says nothing."""
        with suppress(Unsure, TimeoutError):
            async with asyncio.timeout(self._pace.ask_max_s):
                return await self._exchange.status(ticket)
        return None

    # --- telling ----------------------------------------------------------------------------

    async def _end(self, kept: Kept, state: TicketState, text: str) -> Kept:
        """What it came to, kept; when the disk does not take it, the next start asks again."""
        kept = replace(kept, state=state, text=text)
        await self.note(kept)
        return kept

    def _tell_of(self, kept: Kept) -> None:
        if kept.state == "unsure":
            self._unsure.add(kept.auction)
        elif kept.at_rest:
            self._unsure.discard(kept.auction)
        if kept.state in BAD_STATES:
            self._tell_bad(kept, kept.text)
        elif kept.state in PROVEN_STATES and not self._unsure:
            self._tell(Code.MARKET_SUBMISSION, False, f"{kept.auction}: {kept.state}")

    def _tell_bad(self, kept: Kept, why: str) -> None:
        text = f"{kept.auction}: {kept.state}: {why}"
        level = MEANINGS[Code.MARKET_SUBMISSION].level
        now = self._clock.utc()
        self._journal.append(EventRow(now, Code.MARKET_SUBMISSION, SITE, level, text))
        self._tell(Code.MARKET_SUBMISSION, True, text)

    async def _pause(self, seconds_s: float) -> None:
        await self._clock.sleep_until(self._clock.now_s() + max(seconds_s, 0.01))
