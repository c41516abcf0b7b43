"""What is sold becomes base plans: each block's net power, ramped evenly over the block's edge.

Each plan expires soon after it is no longer renewed, so a market that dies fades out by itself. The
tick ramps the base point; a plan that changed at the edge would lack half a ramp's energy at the
beginning of every block, so the next block's plan begins half a ramp early.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

from vppd.core.model import SITE, Plan, Priority
from vppd.core.ports import Board, Clock
from vppd.market.blocks import BLOCK_H, Block, block_at
from vppd.market.settling.money import energy
from vppd.market.settling.tally import SOURCE
from vppd.market.settling.trade_rules import LossRule, loss_rule
from vppd.market.settling.trades import at_connection

RENEW_SHARE = 0.25  # of the horizon
LOOK_S = 1.0
LEAD_MAX_S = 300.0
KW_PER_MW = 1000.0


class Position(Protocol):
    """What the desk shows of its trades."""

    @property
    def ready(self) -> bool:
        """Whether the positions are known; before that no plan can be made of them."""

    def position_mw(self, block: Block) -> float:
        """Net power of a block over all auctions, positive sold, at the regional periphery."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """The plan in force: of which block, and its power."""

    block: Block
    power_kw: float


class SoldPlans:
    """`run` keeps the plan of the present block on the board."""

    def __init__(
        self,
        position: Position,
        board: Board,
        clock: Clock,
        synchronised: Callable[[], bool],
        *,
        ramp_kw_per_s: float,
        horizon_s: float,
        losses: tuple[LossRule, ...],
    ) -> None:
        """`ramp_kw_per_s` is how fast the whole site's base moves."""
        self._position, self._board, self._clock = position, board, clock
        self._synchronised, self._losses = synchronised, losses
        self._ramp_kw_per_s, self._horizon_s = ramp_kw_per_s, horizon_s
        self._ruling: Ruling | None = None
        self._renew_s = 0.0
        self._known: dict[Block, float] = {}

    @property
    def ruling(self) -> Ruling | None:
        """The plan in force; None: nothing is asked for the market."""
        return self._ruling

    def power_kw(self, block: Block) -> float:
        """What a block owes at the connection, kW; of the present and the next as of the last look.
        0 while it is not known."""
        if block in self._known:
            return self._known[block]
        if not self._position.ready:
            return 0.0
        traded_mwh = energy(self._position.position_mw(block) * BLOCK_H)
        if not traded_mwh:
            return 0.0
        owed_mwh = at_connection(traded_mwh, loss_rule(block.day, self._losses))
        return float(owed_mwh / Decimal(repr(BLOCK_H))) * KW_PER_MW

    async def run(self) -> None:
        """Look once a second and at the moment a ramp has to begin."""
        while True:
            self.step()
            await self._clock.sleep_until(self._clock.now_s() + self._pause_s())

    def step(self) -> None:
        """One look at the clock: publish what is owed now."""
        self._known = {}
        if not (self._synchronised() and self._position.ready):
            self._ruling = None
            return
        utc, now_s = self._clock.utc(), self._clock.now_s()
        present = block_at(utc)
        following = present.after(1)
        self._known = {block: self.power_kw(block) for block in (present, following)}
        early = utc + timedelta(seconds=self._lead_s(present)) >= present.end
        block = following if early else present
        ruling = Ruling(block, self._known[block])
        if ruling == self._ruling and now_s < self._renew_s:
            return
        self._ruling, self._renew_s = ruling, now_s + self._horizon_s * RENEW_SHARE
        left_s = (block.end - utc).total_seconds()
        self._board.publish(
            Plan(
                SITE,
                ruling.power_kw,
                now_s + min(self._horizon_s, left_s + LOOK_S),
                SOURCE,
                Priority.SCHEDULE,
                now_s,
                id=f"{block.day}/{block.number}",
            )
        )

    def _lead_s(self, present: Block) -> float:
        """Half of the ramp from the present block to the next."""
        step_kw = abs(self._known[present.after(1)] - self._known[present])
        return min(0.5 * step_kw / self._ramp_kw_per_s, LEAD_MAX_S)

    def _pause_s(self) -> float:
        """Until the next look, at the latest when a ramp begins."""
        utc = self._clock.utc()
        present = block_at(utc)
        if not self._known or present not in self._known or present.after(1) not in self._known:
            return LOOK_S
        to_ramp_s = (present.end - utc).total_seconds() - self._lead_s(present)
        return min(LOOK_S, to_ramp_s) if to_ramp_s > 0.0 else LOOK_S
