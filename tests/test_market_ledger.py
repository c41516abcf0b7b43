"""The account of a block: bid to meter to money, deviations by cause, marks, rows."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.market_site import DAY, RATED, RULES, SOLD, WRITTEN, account, trade
from vppd.market.blocks import Block
from vppd.market.settling.ancillary import ReactiveBlock, settle_reactive
from vppd.market.settling.ledger import Account, Cause, account_of, block_row, line_rows, settle
from vppd.market.settling.money import Kind, energy, total
from vppd.market.settling.performance import Followed
from vppd.market.settling.trade_rules import LOSSES

D = Decimal
EVENING = Block(DAY, SOLD[0])
SURE_LOSS = replace(LOSSES[0], basis=replace(LOSSES[0].basis, verified=True))
ENERGIES = st.integers(-10_000_000, 10_000_000).map(lambda watt_hours: D(watt_hours) / 1_000_000)


@given(
    st.tuples(*[ENERGIES] * 5),
    st.dictionaries(st.sampled_from(list(Cause)), ENERGIES),
)
def test_causes_add_up_to_the_deviation(
    energies: tuple[Decimal, ...], explained: dict[Cause, Decimal]
) -> None:
    scheduled, droop, order, sras, metered = energies
    seen = Account(
        *(EVENING, scheduled),
        droop_mwh=droop,
        order_mwh=order,
        sras_mwh=sras,
        metered_mwh=metered,
        explained=explained,
    )
    assert seen.deviation_mwh == metered - scheduled - sras
    assert sum(seen.causes().values(), D(0)) == seen.deviation_mwh
    if Cause.DROOP not in explained:
        assert seen.causes().get(Cause.DROOP, D(0)) == droop


def test_a_block_from_bid_to_meter_to_money() -> None:
    rows = ("market_result:7", "market_bid:9")
    done = account(EVENING, rows)
    assert (done.dam_mwh, done.scheduled_mwh, done.rtm_mwh) == (D("0.25"), D("0.25"), D(0))
    assert done.deviation_mwh == D("-0.0008")
    assert done.causes() == {Cause.DROOP: D("0.0002"), Cause.LIMITS: D("-0.001")}
    ledger = settle(done, [trade(EVENING, rows[:1])], RATED, RULES)
    kinds = ledger.totals()
    assert {kind: each.amount_paise for kind, each in kinds.items()} == {
        Kind.DAM: 225_000,
        Kind.FEE: -500,
        Kind.DSM: -256,  # 0.8 kWh at 3.2055 Rs
    }
    assert ledger.total.amount_paise == 225_000 - 500 - 256
    assert ledger.rows() == rows
    assert [kind for kind, each in kinds.items() if not each.verified] == [Kind.FEE, Kind.DSM]
    assert not ledger.total.verified


def test_losses_and_provisional_results_put_the_deviation_in_doubt() -> None:
    sure = account_of(EVENING, [trade(EVENING)], losses=[SURE_LOSS])
    assert sure.schedule_verified
    assert not account_of(EVENING, [trade(EVENING)]).schedule_verified
    doubtful = account_of(EVENING, [trade(EVENING, final=False)], losses=[SURE_LOSS])
    assert not doubtful.schedule_verified
    for each, verified in ((sure, True), (doubtful, False)):
        metered = replace(each, metered_mwh=D("0.245"))
        (line,) = settle(metered, [], RATED, RULES).lines
        assert line.verified == verified


def test_what_is_not_metered_is_not_settled() -> None:
    open_account = replace(account(EVENING), metered_mwh=None)
    assert open_account.deviation_mwh is None
    assert open_account.causes() == {}
    ledger = settle(open_account, [trade(EVENING)], RATED, RULES)
    assert set(ledger.totals()) == {Kind.DAM, Kind.FEE}
    assert set(settle(account(EVENING), [], None, RULES).totals()) == set()


def test_reserve_energy_is_no_deviation() -> None:
    called = Followed(EVENING.start, D("0.05"), D(0), D("0.04"), D(0), ("evidence:3",))
    owed = account_of(EVENING, [trade(EVENING)], [called])
    metered = replace(owed, metered_mwh=D("0.29"))
    assert (metered.sras_mwh, metered.deviation_mwh) == (D("0.04"), D(0))
    assert metered.causes() == {}
    assert "evidence:3" in metered.rows


def test_a_line_of_another_block_is_refused() -> None:
    other = settle_reactive(ReactiveBlock(Block(DAY, 1), D(1), D(100)))
    with pytest.raises(ValueError, match="block 1 in the account of"):
        settle(account(EVENING), [], RATED, RULES, [other])


def test_rows_for_the_journal_say_the_same() -> None:
    done = account(EVENING, ("market_result:7",))
    row = block_row(done, WRITTEN, soc_pct=50.0)
    assert (row.block_at, row.deviation_mwh) == (EVENING.start, -0.0008)
    assert json.loads(row.causes_json) == {"droop": 0.0002, "limits": -0.001}
    assert json.loads(row.rows_json) == ["market_result:7"]
    ledger = settle(done, [trade(EVENING)], RATED, RULES)
    rows = line_rows(ledger, WRITTEN)
    assert sum(each.amount_paise for each in rows) == total(ledger.lines).amount_paise
    assert [each.verified for each in rows] == [line.verified for line in ledger.lines]
    assert {each.at for each in rows} == {WRITTEN}


def test_energy_is_rounded_to_the_watt_hour() -> None:
    assert energy(0.1 + 0.2) == D("0.3")
    assert energy(-0.0000005) == D("-0.000001")
    with pytest.raises(ValueError, match="no energy"):
        energy(float("nan"))
