"""The account of every block, written at its end: what was bid, sold, scheduled, given and metered,
why they differ, and what it is worth. What is found out later is written again; the newest rules.

Ticks are summed up as they come (`tally`); the rest is read from the journal, so that every figure
names its rows and a restart loses nothing but what nobody saw.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from vppd.core.alarms import Code
from vppd.core.decision import Decision
from vppd.core.model import Snapshot
from vppd.core.ports import Clock, Journal
from vppd.core.records_market import MarketBlockRow
from vppd.core.settings_market import MarketSettings
from vppd.market.blocks import BLOCK, BLOCK_H, Block, block_at
from vppd.market.settling.account_rows import AccountRows, causes_of, rows_of
from vppd.market.settling.ledger import (
    Account,
    BlockLedger,
    Cause,
    Rules,
    account_of,
    block_row,
    line_rows,
    settle,
)
from vppd.market.settling.money import Basis, Kind, MoneyLine, energy
from vppd.market.settling.reference import rated_by, sourced
from vppd.market.settling.settlement import profile_named
from vppd.market.settling.tally import KWS_PER_MWH, Tally, parts_kw
from vppd.market.settling.trade_rules import FEES, LOSSES, FeeRule, LossRule
from vppd.market.settling.trades import Trade
from vppd.market.site_storage import Stock

SETTLE_S = 5.0  # rows of the block's last second are on disk by then
LOOK_S = 60.0
LATE_DAYS = 7  # a result that is newer than an account is looked for so far back
MEASURE_S = 1.0
GAP_MAX_S = 5.0  # the site writes a row a second
PERCENT = 100.0
ZERO = Decimal(0)

Tell = Callable[[Code, bool, str], None]


@dataclass(frozen=True, slots=True)
class Eyes:
    """Where accounts look at the site.

    `scheduled_kw` is what is sold of a block, `delta_kw` what regulation orders add, `short_of` why
    units gave less than was asked. `connection_kw` is what the site's meter says, `units_kw` the
    sum of what the units measure; None when nobody knows. `metered`: there is a meter.
    """

    scheduled_kw: Callable[[Block], float]
    delta_kw: Callable[[], float]
    short_of: Callable[[Decision], Cause]
    connection_kw: Callable[[Snapshot], float | None]
    units_kw: Callable[[Snapshot], float | None]
    stock: Callable[[], Stock]
    metered: bool


class Accounts:
    """`note` takes every decision, `run` writes."""

    def __init__(
        self,
        settings: MarketSettings,
        journal: Journal,
        clock: Clock,
        eyes: Eyes,
        tell: Tell = lambda *_: None,
        *,
        step_max_s: float = 1.0,
    ) -> None:
        """No decision counts for more than `step_max_s`: a process that slept saw nothing."""
        self._settings, self._journal, self._clock, self._eyes = settings, journal, clock, eyes
        self._tell, self._step_max_s = tell, step_max_s
        self._rows = AccountRows(journal)
        self._rules = rules_of(settings)
        self._tally: Tally | None = None
        self._begins = self._ends = datetime.min.replace(tzinfo=UTC)
        self._noted_s = self._measured_s = clock.now_s()
        self._held: tuple[Decision, dict[Cause, float], float, float] | None = None
        self._sample: tuple[float | None, float | None] | None = None
        self._begin_soc_pct: float | None = None
        self._closed: deque[tuple[Tally, MarketBlockRow]] = deque()
        self._turn, self._began = asyncio.Event(), asyncio.Event()
        self._since: datetime | None = None  # first decision
        self._unaccounted: dict[Block, str] = {}

    @property
    def now(self) -> Tally | None:
        """The block that is going on, as far as it was seen."""
        return self._tally

    def note(self, decision: Decision, now: Snapshot) -> None:
        """One decision of the tick: it holds until the next."""
        turns = not self._begins <= decision.utc < self._ends
        if self._tally is not None and self._held is not None:
            step_s = min(max(decision.now_s - self._noted_s, 0.0), self._step_max_s)
            self._tally.add(*self._held, step_s)
        self._noted_s = decision.now_s
        if turns or decision.now_s - self._measured_s >= MEASURE_S:
            self._measure(decision.now_s, now)
        tally = self._turned(decision) if turns or self._tally is None else self._tally
        owed_kw, delta_kw = self._eyes.scheduled_kw(tally.block), self._eyes.delta_kw()
        parts = parts_kw(decision, owed_kw, delta_kw, lambda: self._eyes.short_of(decision))
        self._held = decision, parts, owed_kw, delta_kw

    async def run(self) -> None:
        """Until cancelled: take up the block that goes on, then write each at its end."""
        await self._recover()
        while True:
            try:
                faults = await self._catch_up()
            except OSError as error:
                self._tell(Code.MARKET_ACCOUNT, True, f"accounts: {error}")
                await self._clock.sleep_until(self._clock.now_s() + LOOK_S)
                continue
            self._tell(Code.MARKET_ACCOUNT, bool(faults), "; ".join(faults))
            await self._wait()

    async def _catch_up(self) -> list[str]:
        """Every block that is over, then those that have something new; what could not be
        accounted. A block that cannot be read stays. Raises OSError."""
        while self._closed:
            await self._clock.sleep_until(self._clock.now_s() + SETTLE_S)
            tally, battery = self._closed[0]
            await self._tried(tally.block, self._close(tally, battery), _seen(tally, battery))
            self._closed.popleft()
        for block in await self._late():
            await self._tried(block, self._restate(block), None)
        since = self._clock.utc() - timedelta(days=LATE_DAYS)
        self._unaccounted = {k: v for k, v in self._unaccounted.items() if k.start > since}
        return [f"{block}: {why}" for block, why in sorted(self._unaccounted.items())]

    async def _tried(
        self, block: Block, writing: Awaitable[None], seen: MarketBlockRow | None
    ) -> None:
        """One account, or the mark that there can be none and why: a later result is tried again,
        and the alarm stands until one could be accounted. Raises OSError."""
        try:
            await writing
            self._unaccounted.pop(block, None)
        except (LookupError, ValueError, ArithmeticError) as error:
            why = f"not accounted: {str(error) or type(error).__name__}"
            self._unaccounted[block] = why
            await self._mark(block, why, seen or await self._rows.kept(block))

    async def _mark(self, block: Block, why: str, seen: MarketBlockRow | None) -> None:
        """A block without money, with what was measured of it."""
        at, empty = self._clock.utc(), Account(block, ZERO)
        line = replace(_nothing(empty), text=why)
        for each in line_rows(BlockLedger(empty, (line,)), at):
            self._journal.append(each)
        row = seen if seen is not None else block_row(empty, at)
        await self._journal.commit(replace(row, at=at, deviation_mwh=None))

    async def _late(self) -> list[Block]:
        """Blocks that are over and have a newer result than their account, or have none."""
        utc = self._clock.utc()
        running = block_at(utc).start
        waiting = {tally.block for tally, _ in self._closed}
        late = await self._rows.late(utc - timedelta(days=LATE_DAYS), running)
        return [block for block in late if block not in waiting]

    async def _wait(self) -> None:
        """Until a block ends, at the latest for a look."""
        self._turn.clear()
        if self._closed:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._turn.wait()

    # ---- summing up ---------------------------------------------------------------------------

    def _turned(self, decision: Decision) -> Tally:
        """A block begins; the one before is written soon."""
        if self._tally is not None:
            self._closed.append((self._tally, self._battery(self._tally)))
            self._turn.set()
        else:
            self._since = decision.utc
            self._began.set()
        made = Tally(block_at(decision.utc))
        # wall time that goes back a little is still of this block
        self._tally, self._begins, self._ends = made, made.block.start - BLOCK, made.block.end
        self._begin_soc_pct = self._eyes.stock().soc_pct
        return made

    def _measure(self, now_s: float, now: Snapshot) -> None:
        """What was measured last held until now."""
        eyes = self._eyes
        if self._tally is not None and self._sample is not None:
            s = min(now_s - self._measured_s, self._step_max_s + MEASURE_S)
            self._tally.measure(*self._sample, s)
        if self._begin_soc_pct is None:  # after a start it takes a moment to be read
            self._begin_soc_pct = eyes.stock().soc_pct
        units_kw = eyes.units_kw(now)
        self._sample = eyes.connection_kw(now) if eyes.metered else units_kw, units_kw
        self._measured_s = now_s

    def _battery(self, tally: Tally) -> MarketBlockRow:
        """What the battery did, as the row that the account's figures are put into."""
        stock = self._eyes.stock()
        storage, soc_pct = stock.storage, stock.soc_pct
        held_mwh = 0.5 * (stock.low_mwh + stock.high_mwh)
        planned_pct = None
        if self._begin_soc_pct is not None and soc_pct:
            energy_mwh = held_mwh * PERCENT / soc_pct
            sold_mw = tally.scheduled_kws / KWS_PER_MWH / BLOCK_H
            moved_pct = storage.stored_mwh(sold_mw) / energy_mwh * PERCENT
            planned_pct = self._begin_soc_pct + moved_pct
        discharged_mwh = tally.discharged_kws / KWS_PER_MWH
        return block_row(
            Account(tally.block, ZERO),
            self._clock.utc(),
            frequency_hz=tally.frequency_hz,
            soc_plan_pct=planned_pct,
            soc_pct=soc_pct,
            discharged_mwh=discharged_mwh,
            usable_mwh=storage.usable_mwh,
            wear_rs=discharged_mwh * self._settings.battery.wear_rs_per_mwh,
            metered_by=_metered_by(tally, metered=self._eyes.metered),
        )

    async def _recover(self) -> None:
        """What the journal has of the running block from before this start."""
        await self._began.wait()
        tally, since = self._tally, self._since
        if tally is None or since is None:
            return
        owed_kw = self._eyes.scheduled_kw(tally.block)
        for each in await self._rows.seconds(tally.block.start, since, GAP_MAX_S):
            hz = each.frequency_hz
            tally.recover(each.cleared_kw, each.droop_kw, hz, owed_kw, each.held_s)

    # ---- writing ------------------------------------------------------------------------------

    async def _close(self, tally: Tally, battery: MarketBlockRow) -> None:
        block = tally.block
        trades = await self._rows.trades(block)
        account = account_of(block, trades, losses=self._rules.losses)
        scheduled_mwh = energy(tally.scheduled_kws / KWS_PER_MWH)
        metered = tally.metered_mwh
        explained: dict[Cause, Decimal] = {
            cause: energy(tally.mwh(cause))
            for cause in Cause
            if cause not in (Cause.DROOP, Cause.ORDER, Cause.UNEXPLAINED)
        }
        if metered is not None and self._eyes.metered:
            beside_kws = tally.metered_kws - tally.given_kws
            explained[Cause.SITE_LOAD] = energy(beside_kws / KWS_PER_MWH)
        if tally.seen_s:
            explained[Cause.RESULT] = _beyond_rounding(scheduled_mwh - account.scheduled_mwh)
        account = replace(
            account,
            droop_mwh=energy(tally.mwh(Cause.DROOP)),
            order_mwh=energy(tally.mwh(Cause.ORDER)),
            sras_mwh=energy(tally.delta_kws / KWS_PER_MWH),
            metered_mwh=None if metered is None else energy(metered),
            explained=explained,
        )
        await self._write(account, trades, battery)

    async def _restate(self, block: Block) -> None:
        """The same block with what its auctions brought by now; what was measured stays."""
        trades = await self._rows.trades(block)
        account = account_of(block, trades, losses=self._rules.losses)
        kept = await self._rows.kept(block)
        if kept is None:  # nobody was there while it was delivered
            empty = block_row(Account(block, ZERO), self._clock.utc())
            await self._write(account, trades, empty)
            return
        explained = {Cause(name): mwh for name, mwh in causes_of(kept).items()}
        moved_mwh = energy(kept.scheduled_mwh) - account.scheduled_mwh
        explained[Cause.RESULT] = explained.get(Cause.RESULT, ZERO) + moved_mwh
        for apart in (Cause.DROOP, Cause.ORDER):
            explained.pop(apart, None)
        account = replace(
            account,
            droop_mwh=energy(kept.droop_mwh),
            order_mwh=energy(kept.order_mwh),
            sras_mwh=energy(kept.sras_mwh),
            metered_mwh=None if kept.metered_mwh is None else energy(kept.metered_mwh),
            explained=explained,
        )
        await self._write(account, trades, kept)

    async def _write(
        self, account: Account, trades: Sequence[Trade], battery: MarketBlockRow
    ) -> None:
        """The account and its money, all at one time."""
        offered = await self._rows.offered(account.block)
        account = replace(
            account,
            bid_sell_mwh=offered.sell_mwh,
            bid_buy_mwh=offered.buy_mwh,
            rows=rows_of(offered.rows, account.rows),
        )
        at = self._clock.utc()
        row = block_row(
            account,
            at,
            frequency_hz=battery.frequency_hz,
            soc_plan_pct=battery.soc_plan_pct,
            soc_pct=battery.soc_pct,
            discharged_mwh=battery.discharged_mwh,
            usable_mwh=battery.usable_mwh,
            wear_rs=battery.wear_rs,
            metered_by=battery.metered_by,
        )
        mean = await self._rows.day_mean(account.block.day, self._settings.exchange.area)
        given = self._settings.reference_rate_p_per_kwh
        rated = rated_by(given, mean, battery.frequency_hz)
        ledger = settle(account, (each for each in trades if each.cleared_mwh), rated, self._rules)
        if rated is not None:
            ledger = replace(ledger, lines=sourced(ledger.lines, given))
        if not ledger.lines:
            ledger = replace(ledger, lines=(_nothing(account),))
        for line in line_rows(ledger, at):
            self._journal.append(line)
        await self._journal.commit(row)


def rules_of(settings: MarketSettings) -> Rules:
    """What this site settles by: the known tables, and what is configured where there is none.
    Raises UnknownProfile."""
    terms, kind = settings.dam_terms, settings.exchange.kind
    first = date.fromisoformat(terms.effective_from)
    fees: tuple[FeeRule, ...] = FEES
    if kind not in {each.exchange for each in FEES}:
        basis = Basis(f"fee {kind}", first, f"configuration: {terms.source}", terms.verified)
        fees = (*FEES, FeeRule(kind, basis, Decimal(repr(terms.fee_rs_per_mwh))))
    losses: tuple[LossRule, ...] = LOSSES
    if terms.loss_pct > 0.0:
        basis = Basis("losses", first, f"configuration: {terms.source}", terms.verified)
        share = Decimal(repr(terms.loss_pct))
        losses = (*LOSSES, LossRule(basis, share, share))
    return Rules(profile_named(settings.settlement_rule), fees, losses)


def _nothing(account: Account) -> MoneyLine:
    """A block without any money: it takes the place of what was settled before."""
    return MoneyLine(
        account.block, Kind.DSM, ZERO, ZERO, 0, "none", "no trade, or nothing measured", False
    )


def _seen(tally: Tally, battery: MarketBlockRow) -> MarketBlockRow:
    """What was measured of a block and what was sold of it at the time, where it is a number."""
    scheduled_mwh, metered_mwh = tally.scheduled_kws / KWS_PER_MWH, tally.metered_mwh
    return replace(
        battery,
        scheduled_mwh=scheduled_mwh if math.isfinite(scheduled_mwh) else 0.0,
        metered_mwh=metered_mwh if metered_mwh and math.isfinite(metered_mwh) else None,
    )


def _beyond_rounding(mwh: Decimal) -> Decimal:
    """Sums of ticks miss the whole of a block by a few: only what is more was a result."""
    return mwh if abs(mwh) > Decimal("0.001") else ZERO


def _metered_by(tally: Tally, *, metered: bool) -> str:
    if tally.metered_mwh is None:
        return ""
    if tally.recovered_s > 0.0:
        return "setpoints"
    return "meter" if metered else "units"
