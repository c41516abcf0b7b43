"""The parts of the market layer that run in one house."""

from collections.abc import Mapping
from dataclasses import dataclass

from vppd.market.dealing.desk import Desk
from vppd.market.dealing.load_watch import LoadWatch
from vppd.market.dealing.own_books import OwnBooks
from vppd.market.exchange import Exchange
from vppd.market.settling.accounts import Accounts
from vppd.market.settling.sold import SoldPlans
from vppd.spine.supervise import Factory


@dataclass(frozen=True, slots=True)
class Trading:
    """Who bids, who turns what is sold into plans, who keeps the accounts."""

    desk: Desk
    sold: SoldPlans
    accounts: Accounts
    exchange: Exchange
    own: OwnBooks
    load: LoadWatch | None = None

    @property
    def tasks(self) -> Mapping[str, Factory]:
        """All of it is I/O or follows from it: it restarts with back-off, and plans fade out."""
        tasks: dict[str, Factory] = {
            "market": self.desk.run,
            "sold": self.sold.run,
            "accounts": self.accounts.run,
        }
        return tasks | ({"load forecast": self.load.run} if self.load is not None else {})
