"""The parts of the market layer that run in one house."""

from dataclasses import dataclass

from vppd.market.dealing.desk import Desk
from vppd.market.dealing.own_books import OwnBooks
from vppd.market.exchange import Exchange
from vppd.market.settling.accounts import Accounts
from vppd.market.settling.sold import SoldPlans
from vppd.spine.supervise import Supervisor


@dataclass(frozen=True, slots=True)
class Trading:
    """Who bids, who turns what is sold into plans, who keeps the accounts."""

    desk: Desk
    sold: SoldPlans
    accounts: Accounts
    exchange: Exchange
    own: OwnBooks

    def employ(self, supervisor: Supervisor) -> None:
        """All of it is I/O or follows from it: it restarts with back-off, and plans fade out."""
        supervisor.restarting("market", self.desk.run)
        supervisor.restarting("sold", self.sold.run)
        supervisor.restarting("accounts", self.accounts.run)
