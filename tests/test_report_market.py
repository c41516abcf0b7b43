"""`vppd report market`, `cerc` and `audit`: from journal rows, with their marks and their ids."""

import contextlib
import csv
import io
import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from tests.evidence_site import journal_on_disk
from tests.market_site import DAY, SOLD, WRITTEN, account, market_day
from vppd.cli.report.audit import verified
from vppd.cli.report.market import day_report, quarter_of
from vppd.cli.report.market_rows import named
from vppd.cli.vppd import main
from vppd.core.records import EventRow
from vppd.core.records_market import MarketPriceRow, SettlementLineRow
from vppd.market.blocks import Block
from vppd.market.settling.ledger import block_row
from vppd.spine.chain import START, ChainBroken
from vppd.spine.schema import STEPS, TABLES, bind
from vppd.spine.store import connect, prepare

# 8 blocks of 0.25 MWh sold at 9000, as many bought at 2000, 20 Rs/MWh fee each way, deviation:
# 80 blocks 0.2 kWh over at 3.2055, 8 of them 0.8 kWh short instead
TRADED_PAISE = 8 * 225_000 - 8 * 50_000
FEE_PAISE = -16 * 500
DSM_PAISE = 88 * 64 - 8 * 256
SUM_PAISE = TRADED_PAISE + FEE_PAISE + DSM_PAISE
TABLES_OF_AUDIT = ("market_bid", "market_result", "market_block", "settlement_line", "command")
RUPEES = f"{SUM_PAISE // 100}.{SUM_PAISE % 100:02d}"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return market_day(tmp_path_factory.mktemp("market"))


def report(state: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["report", *words, "--state", str(state)])


def test_a_day_in_rupees(state: Path) -> None:
    shown = report(state, "market", "--day", f"{DAY}").output
    assert shown.startswith(f"# Market on {DAY}\n\n**UNVERIFIED: ")
    for line in (
        f"| total | {RUPEES} |",
        "| dam | 14000.00 | 16 | 0.00 | yes |",
        "| fee | -80.00 | 16 | 80.00 | NO |",
        f"| revenue | {RUPEES} |",
        "| wear of the battery | -2000.00 |",
        "| doing nothing | 0.00 |",
        "| limits | -0.008000 |",
        "| droop | 0.019200 |",
        "| full cycles a day | 1.000 |",
        "| mean distance of SoC from its plan, % | 1.00 |",
        "| dam | 96 | 2000.00 |",
        "| dam | 96 sent | 96 of 96 | market_bid 1-96 | market_result 1-96 |",
    ):
        assert line in shown
    assert re.search(r"\| dam \| 96 .*\| 100\.00 \| 100\.00 \| \d+\.\d\d \| 0\.\d+ \|", shown)
    assert re.search(
        r"\| 73 \|.*\| 0\.2492 \| -0\.000800 \| 50\.0 \| 49\.0 \| 2242\.44 \| NO \|", shown
    )
    assert "IEX public data feed" in shown
    assert "not computed" in shown


def test_perfect_foresight_is_what_the_planner_says(state: Path) -> None:
    asked: list[Sequence[tuple[datetime, float]]] = []

    def optimum(prices: Sequence[tuple[datetime, float]]) -> float:
        asked.append(prices)
        return 2 * (SUM_PAISE / 100 - 2000)

    shown = day_report(state, DAY, "md", optimum=optimum)
    assert [len(prices) for prices in asked] == [96]
    assert asked[0][0] == (Block(DAY, 1).start, 4000.25)
    assert "| share of perfect foresight, % | 50.00 |" in shown
    assert "not computed" in day_report(state, DAY - timedelta(days=5), "md", optimum=optimum)
    assert len(asked) == 1  # without every price there is no optimum


def test_a_named_battery_is_planned_with_the_prices_known(state: Path) -> None:
    battery = "power_mw=1,energy_mwh=2,efficiency_pct=100,wear_rs_per_mwh=1000,cycles_per_day=1"
    shown = report(state, "market", "--day", f"{DAY}", "--battery", battery).output
    best_rs = 2 * (9000 - 2000) - 4 * 20 - 2 * 1000  # 2 MWh bought at the least, sold at the most
    assert f"| perfect foresight, day-ahead prices | {best_rs}.00 |" in shown
    assert report(state, "market", "--day", f"{DAY}", "--battery", "x=1").exit_code == 2


@pytest.mark.parametrize(
    "words", [("market", "--month", "2026-11"), ("cerc", "--quarter", "2026-Q4")]
)
def test_a_month_and_a_quarter_sum_the_same(state: Path, words: tuple[str, ...]) -> None:
    shown = report(state, *words).output
    assert "**UNVERIFIED: " in shown
    assert f"| total | {RUPEES} |" in shown
    last = shown.rstrip().rsplit("\n", 1)[1]
    assert last.startswith("| 2026-11-20 |" if words[0] == "market" else "| 2026-11 |")
    assert f"| {RUPEES} | NO | market_block 1-96; settlement_line 1-" in last


def test_one_html_file_with_plots_inside(state: Path, tmp_path: Path) -> None:
    target = tmp_path / "day.html"
    shown = report(state, "market", "--day", f"{DAY}", "--format", "html", "--output", str(target))
    assert (shown.exit_code, shown.output) == (0, "")
    text = target.read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<img|src=|href=", text)
    pictures = [ET.fromstring(each) for each in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]  # noqa: S314
    lines = [len([*each.iter("{http://www.w3.org/2000/svg}polyline")]) for each in pictures]
    assert lines == [2, 4, 2, 1]
    assert "hours since 2026-11-20 00:00 IST" in text
    assert 'class="loud"' in text


def test_every_figure_of_the_csv_is_a_journal_row(state: Path) -> None:
    text = report(state, "market", "--month", "2026-11", "--format", "csv").output
    rows = [*csv.DictReader(io.StringIO(text))]
    assert len(rows) == 96
    assert round(sum(float(row["total_rs"]) for row in rows) * 100) == SUM_PAISE
    with contextlib.closing(sqlite3.connect(state / "journal.db")) as journal:
        for row in rows:
            named_lines = row["settlement_line_ids"].split()
            found = [
                journal.execute("SELECT amount_paise FROM settlement_line WHERE id = ?", (id_,))
                for id_ in named_lines
            ]
            paise = sum(amount for each in found for (amount,) in each)
            assert paise == round(float(row["total_rs"]) * 100)
            (metered,) = journal.execute(
                "SELECT metered_mwh FROM market_block WHERE id = ? AND day = ? AND block = ?",
                (row["market_block_id"], row["day"], row["block"]),
            ).fetchone()
            assert metered == float(row["metered_mwh"])
    sold = rows[SOLD[0] - 1]
    assert (sold["limits_mwh"], sold["dam_rs"], sold["verified"]) == ("-0.001", "2250.00", "false")


def test_only_the_newest_settlement_of_a_block_rules(tmp_path: Path) -> None:
    market_day(tmp_path)
    later = WRITTEN + timedelta(days=7)
    at = Block(DAY, SOLD[0]).start
    with contextlib.closing(connect(tmp_path / "journal.db", "rw")) as journal:
        for newer in (
            SettlementLineRow(later, at, "dam", 0.25, 900.0, 225_001, "r", "s", verified=True),
            block_row(account(Block(DAY, SOLD[0])), later, soc_pct=77.0),
            MarketPriceRow(later, at, "dam", "W2", "cleared", 9000.5, "iex"),
        ):
            journal.execute(TABLES[type(newer)].insert, bind(newer))
    found = report(tmp_path, "market", "--day", f"{DAY}", "--format", "csv").output
    row = [*csv.DictReader(io.StringIO(found))][SOLD[0] - 1]
    assert (row["total_rs"], row["fee_rs"], row["verified"]) == ("2250.01", "", "true")
    assert (row["soc_pct"], row["dam_rs_per_mwh"]) == ("77", "9000.5")


def test_an_empty_time_says_so(state: Path) -> None:
    shown = report(state, "market", "--day", "2025-01-01").output
    assert "**Nothing is settled in this time" in shown
    csv_rows = report(state, "market", "--day", "2025-01-01", "--format", "csv").output
    assert len(csv_rows.splitlines()) == 1


def test_the_exchange_s_own_price_is_the_true_one(tmp_path: Path) -> None:
    first, before = Block(DAY, 1), Block(DAY, 1).after(-96)

    def price(block: Block, kind: str, rs_per_mwh: float) -> MarketPriceRow:
        return MarketPriceRow(WRITTEN, block.start, "dam", "W2", kind, rs_per_mwh, "x")

    prices = [
        *(price(before.after(-96), "cleared", 1.0), price(before, "forecast", 5000.0)),
        *(price(before, "cleared", 3000.0), price(first, "cleared", 4000.0)),
        *(price(first, "imported", 9999.0), price(first, "forecast", 4100.0)),
    ]
    journal_on_disk(tmp_path / "journal.db", prices)
    shown = report(tmp_path, "market", "--day", f"{DAY}").output
    true = "| dam | 1 | 4000.00 | 4000.00 | 4000.00 |"
    assert f"{true} 100.00 | 100.00 | 1000.00 | 0.100 | market_price 4 |" in shown


def test_prices_of_several_areas_want_a_name(tmp_path: Path) -> None:
    at = Block(DAY, 1).start
    prices = [
        MarketPriceRow(WRITTEN, at, "dam", area, "cleared", 1.0, "x") for area in ("A1", "W2")
    ]
    journal_on_disk(tmp_path / "journal.db", prices)
    shown = report(tmp_path, "market", "--day", f"{DAY}")
    assert (shown.exit_code, "A1, W2" in shown.output) == (1, True)
    assert report(tmp_path, "market", "--day", f"{DAY}", "--area", "W2").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("market",), 2),
        (("market", "--day", f"{DAY}", "--month", "2026-11"), 2),
        (("cerc", "--quarter", "2026-11"), 2),
        (("audit",), 2),
    ],
)
def test_wrong_words(state: Path, words: tuple[str, ...], code: int) -> None:
    assert report(state, *words).exit_code == code


def test_an_older_journal_is_told_to_be_migrated(tmp_path: Path) -> None:
    journal_on_disk(tmp_path / "journal.db", [], STEPS[:3])
    shown = report(tmp_path, "market", "--day", f"{DAY}")
    assert (shown.exit_code, "schema 3" in shown.output) == (1, True)
    prepare(tmp_path / "journal.db", WRITTEN, lambda: 0.0, 60.0, may_move_aside=True)
    assert report(tmp_path, "market", "--day", f"{DAY}").exit_code == 0
    assert report(tmp_path / "none", "market", "--day", f"{DAY}").exit_code == 1


def test_rows_written_before_the_market_are_kept(tmp_path: Path) -> None:
    event = EventRow(WRITTEN, "link_lost", "B1", 2, "x")
    journal_on_disk(tmp_path / "journal.db", [event], STEPS[:3])
    opened = prepare(tmp_path / "journal.db", WRITTEN, lambda: 0.0, 60.0, may_move_aside=True)
    assert "schema 3 became" in (opened.migrated or "")
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as journal:
        assert journal.execute("SELECT text FROM event").fetchall() == [("x",)]


def test_a_quarter_begins_with_its_first_month() -> None:
    assert f"{quarter_of('2026-Q4')}" == "2026-10-01"
    for text in ("2026-Q5", "26-Q1", "2026Q1", "x-Q1", "2026-Q", "2026-Q12"):
        with pytest.raises(ValueError, match="no quarter"):
            quarter_of(text)


def test_rows_are_named_as_runs() -> None:
    assert named("t", [3, 1, 2, 7, 7]) == "t 1-3, 7"
    assert named("t", []) == "-"
    assert named("t", range(0, 40, 2)) == "t 20 rows of 0-38"


# --- the audit file -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audit(state: Path) -> str:
    shown = report(state, "audit", "--from", f"{DAY}", "--to", f"{DAY}")
    assert shown.exit_code == 0
    return shown.stdout


def test_the_audit_file_has_everything_in_a_chain(audit: str) -> None:
    rows = [json.loads(line) for line in audit.splitlines()]
    counts = {table: sum(row["table"] == table for row in rows) for table in TABLES_OF_AUDIT}
    lines = counts.pop("settlement_line")
    assert counts == {"market_bid": 96, "market_result": 96, "market_block": 96, "command": 1}
    assert lines == 96 + 2 * 16
    assert [row["seq"] for row in rows] == [*range(1, len(rows) + 1)]
    assert verified(audit) == (len(rows), rows[-1]["hash"])
    assert verified("") == (0, START)


@pytest.mark.parametrize(
    "harm",
    [
        lambda lines: [*lines[:5], lines[5].replace('"b1"', '"b2"'), *lines[6:]],
        lambda lines: [*lines[:5], *lines[6:]],
        lambda lines: [*lines[:5], lines[6], lines[5], *lines[7:]],
        lambda lines: lines[1:],
        lambda lines: [*lines[:5], "{}", *lines[5:]],
        lambda lines: [*lines[:5], "[1]", *lines[5:]],
    ],
)
def test_whoever_changes_a_line_breaks_the_chain(
    audit: str, harm: Callable[[list[str]], list[str]]
) -> None:
    harmed = harm(audit.splitlines())
    with pytest.raises(ChainBroken, match=r"line [16]:"):
        verified("\n".join(harmed))


def test_the_command_checks_a_file(state: Path, audit: str, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text(audit, encoding="utf-8")
    shown = report(state, "audit", "--verify", str(path))
    last = json.loads(audit.splitlines()[-1])["hash"]
    assert shown.output.endswith(f"lines hold; last hash {last}\n")
    path.write_text(audit.replace('"final"', '"retracted"', 1), encoding="utf-8")
    assert report(state, "audit", "--verify", str(path)).exit_code == 1
