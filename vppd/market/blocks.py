"""The 96 blocks of 15 minutes of an Indian market day, in IST (UTC+5:30, no summer time). Pure.

Block 1 begins at midnight IST; block 96 ends at the next midnight.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from functools import lru_cache

IST = timezone(timedelta(hours=5, minutes=30), "IST")
BLOCK = timedelta(minutes=15)
BLOCK_H = 0.25
BLOCKS_A_DAY = 96


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """One block: an IST day and a number from 1 to 96. Raises ValueError outside of these."""

    day: date
    number: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= BLOCKS_A_DAY:
            raise ValueError(f"block {self.number}; a day has blocks 1 to {BLOCKS_A_DAY}")

    @property
    def start(self) -> datetime:
        """When the block begins, UTC."""
        return (datetime.combine(self.day, time(), IST) + (self.number - 1) * BLOCK).astimezone(UTC)

    @property
    def end(self) -> datetime:
        """When the block ends, UTC."""
        return self.start + BLOCK

    def after(self, blocks: int) -> "Block":
        """The block so many later (earlier when negative), over midnight too."""
        days, index = divmod(self.number - 1 + blocks, BLOCKS_A_DAY)
        return Block(self.day + timedelta(days=days), index + 1)

    def __str__(self) -> str:
        return f"{self.day} block {self.number}"


def block_at(utc: datetime) -> Block:
    """The block an aware instant lies in. ValueError when naive."""
    if utc.tzinfo is None:
        raise ValueError(f"{utc} has no time zone")
    local = utc.astimezone(IST)
    return Block(local.date(), (local.hour * 60 + local.minute) // 15 + 1)


@lru_cache(maxsize=8)  # those at hand
def blocks_of(day: date) -> tuple[Block, ...]:
    """All 96 blocks of an IST day."""
    return tuple(Block(day, number) for number in range(1, BLOCKS_A_DAY + 1))
