"""Which registers are read together, and what a refusal teaches."""

from collections.abc import Iterable
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.core.profile import Table
from vppd.field.blocks import REQUEST_COST, Block, Holes, learn, plan

INPUT, HOLDING = Table.INPUT, Table.HOLDING


def at(address: int, count: int = 1, table: Table = INPUT) -> Block:
    return Block(table, address, count)


BESS_FAST = [at(0x1000 + n) for n in range(8)] + [at(0x1010 + n) for n in range(3)]


def addresses(blocks: Iterable[Block]) -> list[tuple[Table, int]]:
    return [(block.table, n) for block in blocks for n in range(block.address, block.end)]


def test_a_small_hole_is_read_over_and_a_table_is_not() -> None:
    wanted = [*BESS_FAST, *(at(0x2000 + n, 1, HOLDING) for n in range(4))]
    assert plan(wanted, 125, 16) == (at(0x2000, 4, HOLDING), at(0x1000, 19))


def test_max_gap_and_max_block_part() -> None:
    assert plan(BESS_FAST, 125, 7) == (at(0x1000, 8), at(0x1010, 3))
    counts = [block.count for block in plan([at(n) for n in range(10)], 4, 16)]
    assert len(counts) == 3
    assert sum(counts) == 10


def test_a_gap_dearer_than_a_request_is_not_read() -> None:
    assert plan([at(0), at(REQUEST_COST + 2)], 125, 124) == (at(0), at(REQUEST_COST + 2))
    assert plan([at(0), at(REQUEST_COST)], 125, 124) == (at(0, REQUEST_COST + 1),)


def test_a_point_longer_than_a_block_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="longer than the largest block"):
        plan([at(0, 4)], 3, 16)


def test_points_that_share_a_register_are_read_once() -> None:
    assert plan([at(5), at(5), at(5, 2)], 125, 16) == (at(5, 2),)


def test_a_hole_is_learned_from_one_refusal() -> None:
    holes = learn(at(0x1000, 19), BESS_FAST, Holes())
    assert holes.gaps == {(INPUT, address) for address in range(0x1008, 0x1010)}
    assert plan(BESS_FAST, 125, 16, holes) == (at(0x1000, 8), at(0x1010, 3))


def test_a_point_that_is_not_there_is_found_by_halving() -> None:
    missing = at(0x1003)
    holes, refusals = Holes(), 0
    while refused := [b for b in plan(BESS_FAST, 125, 16, holes) if b.holds(missing)]:
        holes = learn(refused[0], BESS_FAST, holes)
        refusals += 1
        assert refusals < 10
    assert holes.dead == {missing}
    assert refusals <= 5
    got = addresses(plan(BESS_FAST, 125, 16, holes))
    assert set(got) == {(INPUT, each.address) for each in BESS_FAST if each != missing}


def test_a_missing_point_is_tried_again_in_a_block_of_its_own() -> None:
    holes = learn(at(0x1003), [at(0x1003)], Holes())
    assert plan([at(0x1003)], 125, 16, holes) == ()
    again = plan(BESS_FAST, 125, 16, holes.revived())
    assert at(0x1003) in again


points = st.builds(
    Block,
    st.sampled_from([INPUT, HOLDING]),
    st.integers(0, 120),
    st.sampled_from([1, 1, 1, 2, 4]),
)
registers = st.tuples(st.sampled_from([INPUT, HOLDING]), st.integers(0, 120))
holes_learned = st.builds(
    Holes,
    st.frozensets(registers, max_size=8),
    st.frozensets(registers, max_size=8),
    st.frozensets(points, max_size=3),
)


@given(st.lists(points, max_size=25), st.integers(4, 125), st.integers(0, 60), holes_learned)
def test_blocks_hold_every_point_and_respect_every_barrier(
    wanted: list[Block], max_block: int, max_gap: int, holes: Holes
) -> None:
    blocks = plan(wanted, max_block, max_gap, holes)
    alive = set(wanted) - holes.dead
    for point in alive:
        assert any(block.holds(point) for block in blocks), point
    needed = set(addresses(alive))
    for block in blocks:
        assert 0 < block.count <= max_block
        inside = [point for point in alive if block.holds(point)]
        assert inside
        assert (block.table, block.address) in needed
        assert (block.table, block.end - 1) in needed
        idle = 0
        for register in addresses([block]):
            idle = 0 if register in needed else idle + 1
            assert idle <= max_gap
            assert register in needed or register not in holes.gaps
        for table, cut in holes.cuts:
            if table is block.table and block.address < cut < block.end:
                assert any(point.address < cut < point.end for point in inside)


@given(st.sets(st.integers(0, 60), min_size=1, max_size=7), st.integers(2, 30), st.integers(0, 30))
def test_no_cheaper_choice_of_blocks_exists(starts: set[int], max_block: int, max_gap: int) -> None:
    ordered = sorted(starts)

    def cost(cuts: tuple[int, ...]) -> float:
        total = 0.0
        edges = [0, *cuts, len(ordered)]
        for first, last in pairwise(edges):
            part = ordered[first:last]
            span = part[-1] - part[0] + 1
            gaps = [b - a - 1 for a, b in pairwise(part)]
            if span > max_block or any(gap > max_gap for gap in gaps):
                return float("inf")
            total += REQUEST_COST + span
        return total

    cheapest = min(
        cost(cuts)
        for size in range(len(ordered))
        for cuts in combinations(range(1, len(ordered)), size)
    )
    blocks = plan([at(start) for start in ordered], max_block, max_gap)
    assert sum(REQUEST_COST + block.count for block in blocks) == cheapest


@given(st.sets(st.integers(0, 60), min_size=1, max_size=20), st.sets(st.integers(0, 60)))
def test_whatever_a_device_lacks_the_rest_is_found(wanted: set[int], lacks: set[int]) -> None:
    """A device that refuses every block with a lacking register in it: learning ends, and what it
    has is read whole while what it lacks is known."""
    points = [at(address) for address in wanted]
    holes = Holes()
    for _ in range(200):
        refused = [
            block
            for block in plan(points, 125, 16, holes)
            if lacks & set(range(block.address, block.end))
        ]
        if not refused:
            break
        holes = learn(refused[0], points, holes)
    else:
        pytest.fail("learning did not end")
    read = {address for _, address in addresses(plan(points, 125, 16, holes))}
    assert wanted - lacks <= read
    assert {block.address for block in holes.dead} == wanted & lacks
