"""When the site sends a book: the campaign opens the gates of its own settings, one after another.

Real time has a session every half an hour, and a gate that opens some minutes before it. Each time
that a book is wanted, the gates of the configuration are moved so far ahead of delivery that just
one more session opens, and the daemon is told to reload. A day ahead is the most that is allowed:
some 47 books in a campaign, and two an hour after that.
"""

from datetime import UTC, datetime, timedelta

from tests.faults.ground import FIRST_OPEN_MIN
from vppd.market.blocks import block_at
from vppd.market.exchange import Auction

SESSION = timedelta(minutes=30.0)
SOON = timedelta(seconds=5.0)  # so long before a gate opens a book may still be given
MOST_MIN = 1440.0


class Gates:
    """Which session is the next to open."""

    def __init__(self) -> None:
        self.open_min = FIRST_OPEN_MIN
        now = datetime.now(UTC)
        self._begins = now.replace(minute=0, second=0, microsecond=0)

    def shut(self) -> Auction | None:
        """The first session whose gate is still shut; None when it is more than a day ahead."""
        now = datetime.now(UTC)
        while self._begins - timedelta(minutes=self.open_min) <= now + SOON:
            self._begins += SESSION
        if self._ahead_min() > MOST_MIN:
            return None
        block = block_at(self._begins)
        return Auction(block.day, (block.number + 1) // 2, "rtm")

    def open(self) -> None:
        """Its gate has just opened."""
        self.open_min = min(max(self.open_min, self._ahead_min()), MOST_MIN)

    def _ahead_min(self) -> float:
        return (self._begins - datetime.now(UTC)).total_seconds() / 60.0
