"""The campaign's table: fault, what is promised and when, what was seen, rows lost, bids that the
exchange acknowledged and those of them lost or doubled, verdict."""

from collections.abc import Mapping, Sequence

from tests.faults.campaign import Injected
from tests.faults.promises import PROMISES, Promise

HEAD = (
    "fault",
    "is",
    "promised",
    "seen",
    "back in",
    "was back",
    "times",
    "rows lost",
    "bids",
    "lost",
    "verdict",
)


def _promised(promise: Promise) -> str:
    state = promise.state + (f", {promise.alarm}" if promise.alarm else "")
    return f"{state} in {promise.within_s:g} s" if promise.within_s else state


def _row(promise: Promise, done: Sequence[Injected]) -> tuple[str, ...]:
    kept = [each for each in done if not each.wrong]
    broken = len(done) - len(kept)
    seen = f"{max(each.seen_s for each in kept):.1f} s" if kept else "-"
    back = f"{max(each.back_s for each in kept):.1f} s" if kept else "-"
    return (
        promise.kind,
        promise.fault,
        _promised(promise),
        seen if promise.within_s else "throughout" if kept else "-",
        f"{promise.back_s:g} s",
        back,
        str(len(done)),
        str(sum(each.lost for each in done)),
        str(sum(each.bids for each in done)),
        str(sum(each.bids_lost for each in done)),
        f"{broken} BROKEN" if broken else "kept",
    )


def lines(done: Sequence[Injected], left_out: Mapping[str, str]) -> list[str]:
    """The table, with worst times."""
    rows: list[tuple[str, ...]] = [HEAD]
    for promise in PROMISES:
        mine = [each for each in done if each.kind == promise.kind]
        if mine:
            rows.append(_row(promise, mine))
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEAD))]
    told = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [*told, *(f"{kind}: not tried here, {why}" for kind, why in left_out.items())]


def summary(
    done: Sequence[Injected], more: Sequence[str], acknowledged: int, bids: int, told: int
) -> str:
    """One line. `bids` that the exchange acknowledged: some may arrive after the last fault."""
    kinds, broken = {each.kind for each in done}, sum(bool(each.wrong) for each in done)
    lost = sum(each.lost for each in done) + sum(text.startswith("lost") for text in more)
    bids_lost = sum(each.bids_lost for each in done) + sum("bid " in text for text in more)
    return (
        f"{len(kinds)} kinds, {len(done)} faults, {broken + len(more)} promises broken; "
        f"{acknowledged} acknowledged rows, {lost} lost; "
        f"{bids} bids acknowledged by the exchange, {bids_lost} lost or doubled; "
        f"{told} setpoints at the devices"
    )
