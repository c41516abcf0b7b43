"""Which registers are read together. Pure.

One request costs as much as `REQUEST_COST` registers, so reading over a small gap is cheaper than a
second request. What a device refused is remembered in `Holes`, and blocks are planned around it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vppd.core.profile import PointSpec, Table
from vppd.field.decode import Decoder, decoder, register_count

REQUEST_COST = 16  # registers: request and reply frames, and the pauses of a serial line

Register = tuple[Table, int]


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """Neighbouring registers of one table: those of one point, or those of one request."""

    table: Table
    address: int
    count: int

    @property
    def end(self) -> int:
        """The address after the last."""
        return self.address + self.count

    def holds(self, other: "Block") -> bool:
        """Whether all of the other lies inside."""
        return self.table is other.table and self.address <= other.address and other.end <= self.end


@dataclass(frozen=True, slots=True)
class Source:
    """Where one point is read, in one request, and what those registers say."""

    block: Block
    decode: Decoder


def source(spec: PointSpec) -> Source:
    """A point's own registers, and with them the register of its exponent."""
    first, end = spec.address, spec.address + register_count(spec)
    if spec.scale_register is not None:
        first, end = min(first, spec.scale_register), max(end, spec.scale_register + 1)
    return Source(Block(spec.table, first, end - first), decoder(spec))


@dataclass(frozen=True, slots=True)
class Holes:
    """What a device taught us by refusing: registers nobody may read over, places where blocks
    must part, and points that it does not have."""

    gaps: frozenset[Register] = frozenset()
    cuts: frozenset[Register] = frozenset()
    dead: frozenset[Block] = frozenset()

    def revived(self) -> "Holes":
        """The same with the missing points to be tried again, each in a block of its own."""
        return replace(self, dead=frozenset())


def plan(
    wanted: Iterable[Block], max_block: int, max_gap: int, holes: Holes = Holes()
) -> tuple[Block, ...]:
    """The cheapest blocks that hold every wanted point whole, except the dead.

    No block is longer than `max_block` or spans a gap of more than `max_gap` registers, a learned
    hole or a learned cut. Raises ValueError for a point longer than `max_block`.
    """
    points = sorted(set(wanted) - holes.dead)
    best: list[tuple[int, tuple[Block, ...]]] = [(0, ())]
    for last in range(len(points)):
        best.append(
            min(
                (
                    (cost + REQUEST_COST + block.count, (*blocks, block))
                    for first, (cost, blocks) in enumerate(best)
                    if (block := _joined(points[first : last + 1], max_block, max_gap, holes))
                ),
                key=lambda choice: choice[0],
                default=(0, ()),
            )
        )
        if not best[-1][1]:
            raise ValueError(f"{points[last]} is longer than the largest block, {max_block}")
    return best[-1][1]


def learn(refused: Block, wanted: Iterable[Block], holes: Holes) -> Holes:
    """What the refusal of a block teaches: never read over its gaps; if it has none, part it in the
    middle; if it is one point, the device does not have it."""
    inside = sorted(point for point in set(wanted) - holes.dead if refused.holds(point))
    needed = {address for point in inside for address in range(point.address, point.end)}
    gaps = {
        (refused.table, address)
        for address in range(refused.address, refused.end)
        if address not in needed
    }
    if gaps:
        return replace(holes, gaps=holes.gaps | gaps)
    starts = sorted({point.address for point in inside})[1:]
    seams = [at for at in starts if not any(point.address < at < point.end for point in inside)]
    if seams:
        return replace(holes, cuts=holes.cuts | {(refused.table, seams[len(seams) // 2])})
    edges = {(refused.table, refused.address), (refused.table, refused.end)}
    return replace(holes, cuts=holes.cuts | edges, dead=holes.dead | set(inside))


def _joined(points: Sequence[Block], max_block: int, max_gap: int, holes: Holes) -> Block | None:
    """One block for neighbouring points in order of address, or None where there must be two."""
    table, start = points[0].table, points[0].address
    end = points[0].end
    for point in points[1:]:
        gap = range(end, point.address)
        if (
            point.table is not table
            or len(gap) > max_gap
            or any((table, address) in holes.gaps for address in gap)
            or any((table, cut) in holes.cuts for cut in range(end, point.address + 1))
        ):
            return None
        end = max(end, point.end)
    return Block(table, start, end - start) if end - start <= max_block else None
