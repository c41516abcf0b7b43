"""Money: deviation, trades and services settled by dated tables, to the paisa, with their marks."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from vppd.cli.vppd import main
from vppd.grid import following
from vppd.market.blocks import BLOCK, Block
from vppd.market.settling.ancillary import (
    ReactiveBlock,
    TertiaryBlock,
    settle_reactive,
    settle_sras,
    settle_tras,
)
from vppd.market.settling.ancillary_rules import PRODUCTS, REACTIVE_PAYMENT, SRAS_PERFORMANCE
from vppd.market.settling.money import Basis, Kind, MoneyLine, rupees, total
from vppd.market.settling.performance import Followed, barred, days_pct, net_mwh, performance_pct
from vppd.market.settling.settle_rows import RowsError, parse, settled
from vppd.market.settling.settlement import (
    CHARGING,
    PROFILES,
    SRAS_APART,
    ZERO_SCHEDULE,
    Metered,
    NoEdition,
    SliceProfile,
    UnknownProfile,
    mixed_reference_rate,
    normal_rate,
    profile_named,
    reference_rate,
)
from vppd.market.settling.settlement_rules import DEVIATION_EDITIONS
from vppd.market.settling.trade_rules import LossRule, fee_rule
from vppd.market.settling.trades import Trade, at_connection, settle_trade

D = Decimal
DAY = date(2025, 8, 18)
GENERAL = PROFILES["dsm-2024"]
HEAD = "date,block,freq_hz,actual_mwh,schedule_mwh,ref_rate_p_kwh"

# WRPC weekly DSM account, a general seller, 18-21 Aug 2025: frequency, actual, schedule, rate, and
# what the account says is payable and receivable, Rs.
ACCOUNT = (
    ("2025-08-18", 1, "49.88", "146.836362", "149.9", "166.65", "7658.23", "0.00"),
    ("2025-08-18", 3, "49.96", "147.41818", "149.9", "159.08", "4230.33", "0.00"),
    ("2025-08-18", 10, "49.97", "146.61818", "149.9", "151.33", "4966.35", "0.00"),
    ("2025-08-18", 14, "49.90", "147.709089", "149.9", "139.73", "4592.02", "0.00"),
    ("2025-08-18", 31, "50.04", "149.01818", "150.025", "132.05", "1229.77", "0.00"),
    ("2025-08-18", 39, "50.05", "136.072726", "139.45", "118.84", "3411.55", "0.00"),
    ("2025-08-18", 54, "50.07", "102.327272", "102.425", "118.73", "98.60", "0.00"),
    ("2025-08-18", 90, "49.98", "149.963635", "149.925", "215.99", "0.00", "83.37"),
    ("2025-08-20", 71, "49.92", "140.727271", "138.9", "145.92", "0.00", "2953.03"),
    ("2025-08-20", 78, "49.64", "142.981817", "148.9", "158.09", "14034.12", "0.00"),
    ("2025-08-21", 44, "49.83", "124.21818", "118.225", "116.69", "0.00", "8042.48"),
)


def metered(
    frequency_hz: str | Decimal,
    deviation_mwh: str | Decimal,
    schedule_mwh: str = "100",
    rate: str | Decimal = "200",
    sras_mwh: str = "0",
) -> Metered:
    schedule = D(schedule_mwh)
    actual = schedule + D(sras_mwh) + D(deviation_mwh)
    return Metered(Block(DAY, 1), D(frequency_hz), actual, schedule, D(rate), D(sras_mwh))


def rs(lines: Sequence[MoneyLine]) -> Decimal:
    return D(rupees(total(lines).amount_paise))


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ACCOUNT, ids=lambda row: f"{row[0]}-{row[1]}")
def test_a_published_account_is_met_to_the_paisa(row: tuple[str, ...]) -> None:
    day, block, frequency, actual, schedule, rate, payable, receivable = row
    at = Block(date.fromisoformat(day), int(block))
    of = Metered(at, D(frequency), D(actual), D(schedule), D(rate))
    lines = GENERAL.lines(of)
    assert rs(lines) == D(receivable) - D(payable)
    assert total(lines).verified
    assert "WRPC weekly DSM account" in lines[0].source


@pytest.mark.parametrize(
    ("frequency", "under", "over"),
    [
        ("49.50", ("1.5", True), ("1.15", True)),
        ("49.90", ("1.5", True), ("1.15", True)),
        ("49.904", ("1.5", True), ("1.15", True)),
        ("49.905", ("1.429", True), ("1.129", False)),
        ("49.91", ("1.429", True), ("1.129", False)),
        ("49.92", ("1.3575", True), ("1.1075", True)),
        ("49.96", ("1.0715", True), ("1.0215", True)),
        ("49.97", ("1", True), ("1", False)),
        ("49.98", ("1", True), ("1", True)),
        ("50.01", ("1", True), ("1", True)),
        ("50.03", ("1", True), ("1", False)),
        ("50.04", ("0.925", True), ("0.925", False)),
        ("50.05", ("0.85", True), ("0.85", False)),
        ("50.08", ("0.85", True), ("0", False)),
        ("50.09", ("0.85", False), ("0", False)),
        ("50.10", ("0.85", False), ("-0.1", True)),
        ("50.60", ("0.85", False), ("-0.1", True)),
    ],
)
def test_within_the_limit(frequency: str, under: tuple[str, bool], over: tuple[str, bool]) -> None:
    for deviation, (multiplier, verified) in (("-1", under), ("1", over)):
        (line,) = GENERAL.lines(metered(frequency, deviation))
        assert line.rate_p_per_kwh == 200 * D(multiplier)
        assert line.amount_paise == int(D(deviation) * 200_000 * D(multiplier))
        assert line.verified == verified


@pytest.mark.parametrize(
    ("frequency", "deviation", "beyond_rs"),
    [
        ("50.09", "12", "0"),
        ("50.10", "12", "-400"),
        ("50.00", "-12", "-4000"),
        ("49.99", "-12", "-6000"),
        ("49.90", "-12", "-6000"),
        ("49.89", "-12", "-8000"),
    ],
)
def test_only_the_excess_is_settled_beyond_the_limit(
    frequency: str, deviation: str, beyond_rs: str
) -> None:
    within, beyond = GENERAL.lines(metered(frequency, deviation))
    assert abs(within.energy_mwh) == 10
    assert abs(beyond.energy_mwh) == 2
    assert rs([beyond]) == D(beyond_rs)
    assert not beyond.verified
    assert not total([within, beyond]).verified


def test_the_limit_is_never_more_than_100_mw() -> None:
    within, beyond = GENERAL.lines(metered("50.00", "-30", schedule_mwh="1000"))
    assert [within.energy_mwh, beyond.energy_mwh] == [D(-25), D(-5)]


@pytest.mark.parametrize(
    ("of", "mark"),
    [
        (metered("50.00", "-3", schedule_mwh="0"), ZERO_SCHEDULE),
        (metered("50.00", "0", schedule_mwh="0"), ZERO_SCHEDULE),
        (metered("50.00", "-3", schedule_mwh="-100"), CHARGING),
        (metered("50.00", "-3", sras_mwh="5"), SRAS_APART),
    ],
)
def test_what_no_account_has_decided_is_flagged(of: Metered, mark: str) -> None:
    (line,) = GENERAL.lines(of)
    assert mark in line.text
    assert not line.verified


def test_sras_energy_is_no_deviation() -> None:
    apart = GENERAL.lines(metered("50.00", "-3", sras_mwh="5"))
    alone = GENERAL.lines(metered("50.00", "-3"))
    assert total(apart).amount_paise == total(alone).amount_paise


def test_a_rate_in_doubt_makes_the_line_doubtful() -> None:
    of = metered("50.00", "-3")
    assert GENERAL.lines(of)[0].verified
    assert not GENERAL.lines(replace(of, rate_verified=False))[0].verified


FREQUENCIES = st.integers(4940, 5060).map(lambda hundredths: D(hundredths) / 100)
TENTHS_KWH = st.integers(0, 400_000).map(lambda each: D(each) / 10_000)
RATES = st.integers(0, 150_000).map(lambda each: D(each) / 100)


@given(FREQUENCIES, TENTHS_KWH, RATES, st.integers(-3000, 3000))
def test_the_lines_of_a_block_are_its_deviation(
    frequency: Decimal, mwh: Decimal, rate: Decimal, schedule: int
) -> None:
    for sign in (1, -1):
        of = metered(frequency, sign * mwh, str(schedule), rate)
        lines = GENERAL.lines(of)
        assert sum(line.energy_mwh for line in lines) == of.deviation_mwh
        assert sum(line.amount_paise for line in lines) == total(lines).amount_paise
        exact = sum((line.energy_mwh * 1000 * line.rate_p_per_kwh for line in lines), D(0))
        assert abs(exact - total(lines).amount_paise) <= D("0.5") * len(lines)


@given(st.integers(4998, 5001), TENTHS_KWH, RATES)
def test_in_the_flat_zone_too_much_earns_what_too_little_costs(
    hundredths: int, mwh: Decimal, rate: Decimal
) -> None:
    mwh = min(mwh, D(10))
    over = GENERAL.lines(metered(D(hundredths) / 100, mwh, rate=rate))
    under = GENERAL.lines(metered(D(hundredths) / 100, -mwh, rate=rate))
    assert total(over).amount_paise == -total(under).amount_paise


@given(FREQUENCIES, TENTHS_KWH, TENTHS_KWH, RATES)
def test_more_deviation_is_never_better_but_for_what_is_received(
    frequency: Decimal, one: Decimal, other: Decimal, rate: Decimal
) -> None:
    less, more = sorted((one, other))
    paid = [
        -total(GENERAL.lines(metered(frequency, -mwh, rate=rate))).amount_paise
        for mwh in (less, more)
    ]
    assert 0 <= paid[0] <= paid[1]
    got = [
        total(GENERAL.lines(metered(frequency, mwh, rate=rate))).amount_paise
        for mwh in (less, more)
    ]
    assert got[0] <= got[1] if frequency < D("50.10") else got[1] <= got[0] <= 0


@given(FREQUENCIES, FREQUENCIES, TENTHS_KWH)
def test_too_little_never_costs_less_at_a_lower_frequency(
    one: Decimal, other: Decimal, mwh: Decimal
) -> None:
    low, high = sorted((one, other))
    paid = [-total(GENERAL.lines(metered(each, -mwh))).amount_paise for each in (low, high)]
    assert paid[0] >= paid[1]


@given(st.lists(st.booleans(), max_size=8), st.lists(st.booleans(), max_size=8))
def test_the_mark_of_one_line_is_never_lost(first: list[bool], second: list[bool]) -> None:
    (line,) = GENERAL.lines(metered("50.00", "0"))
    lines = [
        replace(line, verified=verified, amount_paise=7 * (-1) ** place)
        for place, verified in enumerate((*first, *second))
    ]
    whole = total(lines)
    assert whole == total(lines[: len(first)]) + total(lines[len(first) :])
    assert whole.verified == all((*first, *second))
    assert whole.unverified == [*first, *second].count(False)
    assert whole.unverified_paise == 7 * whole.unverified  # by magnitude: doubts never cancel out


# --- profiles -------------------------------------------------------------------------------------


def test_no_other_states_rule_stands_in() -> None:
    with pytest.raises(UnknownProfile, match=r"'kerc'.*dsm-2024, dsm-2024-solar, dsm-2024-wind"):
        profile_named("kerc")
    (edition,) = DEVIATION_EDITIONS["dsm-2024"]
    own = SliceProfile("kerc", (replace(edition, verified=False, source="KERC, an own table"),))
    found = profile_named("kerc", {**PROFILES, "kerc": own})
    (line,) = found.lines(metered("50.00", "-1"))
    assert (line.rule, line.verified) == ("kerc of 2024-09-16", False)


def test_nothing_is_settled_before_the_first_table() -> None:
    of = replace(metered("50.00", "-1"), block=Block(date(2024, 9, 15), 96))
    with pytest.raises(NoEdition, match="2024-09-16"):
        GENERAL.lines(of)


def test_wind_and_sun_by_slices_of_the_base_in_force() -> None:
    solar = PROFILES["dsm-2024-solar"]
    of = replace(metered("50.00", "-20", "80"), available_mwh=D(100))
    early = solar.lines(of)  # 10 and 15 % of the available capacity
    assert [line.energy_mwh for line in early] == [-10, -5, -5]
    assert [line.amount_paise for line in early] == [-2_000_000, -1_100_000, -2_000_000]
    late = solar.lines(replace(of, block=Block(date(2028, 4, 1), 1)))  # 5, 10 % of 75 and 25 parts
    assert [line.energy_mwh for line in late] == [D("-4.75"), D("-4.75"), D("-10.5")]
    assert not any(line.verified for line in (*early, *late))
    with pytest.raises(ValueError, match="available_mwh"):
        solar.lines(metered("50.00", "-20"))


def test_rates_are_defined_by_rules() -> None:
    assert normal_rate(D(300), D(400), D(0)).p_per_kwh == 400
    assert normal_rate(D(300), D(400), D(1000)).p_per_kwh == D(1700) / 3
    assert normal_rate(D(1), D(1), D(1)).rule.verified
    day = reference_rate([(D(10), D(300)), (D(30), D(500))])
    assert (day.p_per_kwh, day.rule.verified) == (D(450), False)
    assert mixed_reference_rate([(D(1), D(100)), (D(3), D(200))]).p_per_kwh == 175
    with pytest.raises(ValueError, match="no energy"):
        reference_rate([])


# --- trades ---------------------------------------------------------------------------------------


@given(st.integers(-5000, 5000), st.integers(0, 1_000_000), st.booleans())
def test_a_sale_and_the_same_purchase_differ_by_the_fees_alone(
    tenths_kwh: int, price: int, final: bool
) -> None:
    mwh, rs_per_mwh = D(tenths_kwh) / 10_000, D(price) / 100
    sale = Trade(Block(DAY, 5), Kind.DAM, "iex", mwh, rs_per_mwh, final, ("market_result:1",))
    sold, bought = settle_trade(sale), settle_trade(replace(sale, cleared_mwh=-mwh))
    assert sold.lines[0].amount_paise == -bought.lines[0].amount_paise
    assert sold.lines[1].amount_paise == bought.lines[1].amount_paise <= 0
    assert sold.lines[0].verified == final
    assert not sold.lines[1].verified  # the fee was last seen in 2022
    assert all(line.rows == ("market_result:1",) for line in sold.lines)


def test_a_trade_in_rupees() -> None:
    lines = settle_trade(Trade(Block(DAY, 5), Kind.RTM, "iex", D("0.25"), D("3210.55"))).lines
    assert [rupees(line.amount_paise) for line in lines] == ["802.64", "-5.00"]
    assert fee_rule("iex", date(2022, 10, 3)).basis.verified
    then = Trade(Block(date(2022, 10, 3), 5), Kind.DAM, "iex", D(1), D(3000))
    assert settle_trade(then).lines[1].verified
    assert not settle_trade(replace(then, final=False)).lines[1].verified
    with pytest.raises(LookupError, match=r"hpx.*iex, pxil"):
        fee_rule("hpx", DAY)
    with pytest.raises(LookupError, match="no table for 2021"):
        fee_rule("iex", date(2021, 1, 1))


def test_losses_are_the_sellers_and_the_buyers_own() -> None:
    loss = LossRule(Basis("losses", DAY, "a week's", verified=True), D(4), D(3))
    assert at_connection(D("9.6"), loss) == 10
    assert at_connection(D(-10), loss) == D("-9.7")
    with pytest.raises(ValueError, match="losses"):
        at_connection(D(1), replace(loss, injection_pct=D(100)))


# --- services -------------------------------------------------------------------------------------

AT = datetime(2025, 8, 17, 18, 30, tzinfo=UTC)  # midnight IST


def short(n: int, up: str, down: str, given_up: str, given_down: str) -> Followed:
    return Followed(AT + n * BLOCK / 3, D(up), D(down), D(given_up), D(given_down))


def test_reserve_is_judged_by_both_directions_and_never_above_the_order() -> None:
    followed = [
        short(0, "1", "0", "2", "0"),
        short(1, "0", "1", "0", "0.5"),
        short(3, "0", "0", "0", "0"),
    ]
    assert performance_pct(followed) == 75
    assert performance_pct(followed[2:]) is None
    assert net_mwh(followed) == {Block(DAY, 1): D("1.5"), Block(DAY, 2): 0}
    assert days_pct(followed) == {DAY: D(75)}


def test_reserve_is_paid_by_the_slab_of_its_day() -> None:
    lines = settle_sras([short(0, "1", "0", "0.96", "0"), short(1, "0", "1", "0", "0.96")], D(300))
    assert [(line.text, line.amount_paise) for line in lines] == [
        ("net energy", 0),
        ("incentive: day at 96.0 %", 96_000),
    ]
    assert not any(line.verified for line in lines)
    paid_back = settle_sras([short(0, "0", "1", "0", "0.75")], D(300))
    assert [line.amount_paise for line in paid_back] == [-225_000, 22_500]  # 75 % is not above 75


def test_who_fails_two_days_running_is_barred_for_a_week() -> None:
    days = {DAY + timedelta(days=n): D(pct) for n, pct in enumerate((10, 10, 99, 99))}
    rule = SRAS_PERFORMANCE[0]
    assert barred(days, rule) == {DAY + timedelta(days=n) for n in range(2, 9)}
    failed = dict.fromkeys([DAY + timedelta(days=n) for n in range(4)], D(10))
    assert barred(failed, rule) == barred(days, rule)  # a barred day bars nobody further
    failing = [short(96 * 3 * n, "1", "0", "0.1", "0") for n in (0, 1)]
    lines = settle_sras([*failing, short(96 * 3 * 2, "1", "0", "1", "0")], D(0))
    assert (lines[-1].text, lines[-1].amount_paise) == ("incentive: barred", 0)


def test_the_slabs_are_those_that_the_grid_side_shows() -> None:
    (edition,) = following.RULES
    shown = [(slab.above_pct, slab.incentive_rs_per_kwh) for slab in edition.slabs]
    ours = SRAS_PERFORMANCE[0]
    assert shown == [
        (float(each.above_pct), float(each.incentive_p_per_kwh / 100)) for each in ours.slabs
    ]
    assert edition.disqualified_below_pct == ours.barred_below_pct
    assert edition.block_s == ours.block_min * 60


def test_tertiary_reserve_is_paid_for_what_ran_and_what_stood_by() -> None:
    lines = settle_tras(TertiaryBlock(Block(DAY, 1), D(10), D(4), D(5000)))
    assert [line.amount_paise for line in lines] == [
        2_000_000,
        120_000,
    ]  # 10 % of price, at most 20 p
    down = settle_tras(TertiaryBlock(Block(DAY, 1), D(10), D(-4), D(5000)))
    assert [line.amount_paise for line in down] == [-2_000_000, 200_000]
    cheap = settle_tras(TertiaryBlock(Block(DAY, 1), D(10), D(4), D(1000)))
    assert cheap[1].amount_paise == 60_000


@given(st.integers(-10_000, 10_000), st.integers(90, 110))
def test_reactive_energy_is_paid_where_it_helps(kvarh: int, voltage: int) -> None:
    line = settle_reactive(ReactiveBlock(Block(DAY, 1), D(kvarh), D(voltage)))
    helps = kvarh if voltage < 97 else -kvarh if voltage > 103 else 0
    assert (line.amount_paise > 0) == (helps > 0)
    assert (line.amount_paise < 0) == (helps < 0)
    assert not line.verified


def test_the_reactive_rate_rises_on_its_day() -> None:
    rule = REACTIVE_PAYMENT[0]
    days = (date(2023, 10, 1), date(2024, 9, 30), date(2024, 10, 1), date(2026, 1, 1))
    assert [rule.rate_of(day) for day in days] == [D(5), D(5), D("5.25"), D("5.5")]


def test_every_product_names_its_sources() -> None:
    assert {product.name for product in PRODUCTS} == {"sras", "tras", "reactive"}
    assert all(basis.source for product in PRODUCTS for basis in product.bases())


# --- the command ----------------------------------------------------------------------------------


def run(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["settle", *words], input=text)


def csv_of(*rows: str, head: str = HEAD) -> str:
    return "\n".join((head, *rows, ""))


def test_rows_come_back_settled(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = [",".join((day, str(block), *rest[:4])) for day, block, *rest in ACCOUNT]
    path.write_text(csv_of(*rows), encoding="utf-8")
    shown = run("--rule", "dsm-2024", str(path))
    assert shown.exit_code == 0
    found = [*csv.DictReader(io.StringIO(shown.stdout))]
    assert [*found[0]] == [*HEAD.split(","), "payable_rs", "receivable_rs", "verified"]
    for got, row in zip(found, ACCOUNT, strict=True):
        assert (got["payable_rs"], got["receivable_rs"], got["verified"]) == (*row[-2:], "true")
        assert got["actual_mwh"] == row[3]


def test_columns_and_cells_of_others_are_carried_along() -> None:
    head = f"seller,{HEAD},payable_rs,sras_mwh"
    shown = run("-", text=csv_of('"A, B",2025-08-18, 1,50.0,97,100,200,77,0', head=head))
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        f"seller,{HEAD},sras_mwh,payable_rs,receivable_rs,verified",
        '"A, B",2025-08-18, 1,50.0,97,100,200,0,6000.00,0.00,true',
    ]


def test_unverified_branches_say_so() -> None:
    rows = ("2025-08-18,1,50.0,88,100,200", "2025-08-18,2,50.0,0.1,0,200")
    shown = run("-", text=csv_of(*rows))
    assert [line.rsplit(",", 1)[1] for line in shown.stdout.splitlines()[1:]] == ["false"] * 2


def test_every_fault_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = (
        "2025-08-18,1,50.0,88,100,200",
        "2025-02-30,97,fifty,88,,-3",
        "2024-09-15,1,50.0,88,100,200",
        "2025-08-18,1,50.0,88,100,200",
        "2025-08-18,2,5.0,nan,100,1e99",
        "2025-08-18,3",
    )
    path.write_text(csv_of(*rows), encoding="utf-8")
    shown = run(str(path))
    assert (shown.exit_code, shown.stdout) == (2, "")
    told = shown.stderr.splitlines()
    assert [line.split(": ")[:2] for line in told] == [
        *(["rows.csv:3", column] for column in ("date", "block", "freq_hz", "schedule_mwh")),
        ["rows.csv:3", "ref_rate_p_kwh"],
        ["rows.csv:4", "date"],
        ["rows.csv:5", "block"],
        *(["rows.csv:6", column] for column in ("actual_mwh", "ref_rate_p_kwh", "freq_hz")),
        ["rows.csv:7", "2 cells; the header has 6"],
    ]


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("date,block", "freq_hz: no such column"),
        (f"{HEAD},block", "block: two columns"),
        ("", "date: no such column"),
    ],
)
def test_a_wrong_head_is_refused(head: str, told: str) -> None:
    shown = run("-", text=csv_of(head=head))
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert told in shown.stderr


def test_wrong_words_and_wrong_files(tmp_path: Path) -> None:
    unknown = run("--rule", "kerc", "-", text=csv_of())
    assert unknown.exit_code == 2
    assert "dsm-2024-wind" in unknown.stderr
    assert run().exit_code == 2
    assert run(str(tmp_path / "none.csv")).exit_code == 1
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in run(str(tmp_path / "binary.csv")).stderr


def test_renewables_need_their_availability() -> None:
    shown = run("--rule", "dsm-2024-wind", "-", text=csv_of())
    assert "available_mwh: no such column" in shown.stderr
    row = "2025-08-18,1,50.0,88,100,200,100"
    shown = run("--rule", "dsm-2024-wind", "-", text=csv_of(row, head=f"{HEAD},available_mwh"))
    assert shown.stdout.splitlines()[1] == f"{row},24000.00,0.00,false"


def test_the_rules_are_listed_with_dates_sources_and_marks() -> None:
    shown = run("--rules").stdout.splitlines()
    by_name = {line.split("  ")[0]: line for line in shown}
    assert "  2024-09-16  " in by_name["dsm-2024, within 10 % or 100 MW, under to 50.08 Hz"]
    assert "  yes  " in by_name["dsm-2024, within 10 % or 100 MW, under to 50.08 Hz"]
    for doubtful in (
        "dsm-2024, within 10 % or 100 MW, over from 50.02 to 50.09 Hz",
        *("dsm-2024, beyond 10 % or 100 MW, over", "sras payment", "tras payment", "losses"),
        *("reactive payment", "reference rate"),
    ):
        assert "  NO  " in by_name[doubtful]


@given(st.text(alphabet='0123456789.,-+eE"\n\r #nainf\0;', max_size=300))
def test_no_file_breaks_the_reader(text: str) -> None:
    try:
        answer = settled(parse(csv_of(text), "x", GENERAL), GENERAL)
    except RowsError as error:
        answer = "\n".join(error.errors)
    assert answer.startswith(("x:", HEAD))
