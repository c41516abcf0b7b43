"""The market for people: short lines, times as the exchange's clock shows them."""

from typing import Any

from vppd.cli import market_lines
from vppd.cli.journal_words import journal_lines

VIEW: dict[str, Any] = {
    "stopped": "",
    "dry_run": False,
    "exchange": "simulated",
    "strategy": "adaptive",
    "products": ["dam", "rtm"],
    "synchronised": True,
    "ready": True,
    "own_books": {},
    "now": {"block": "2026-11-22:40", "position_mw": 0.0, "next_position_mw": 0.5},
    "next_gate": "dam 2026-11-23",
    "next_gate_closes_at": "2026-11-22T05:30:00+00:00",
}


def test_a_gate_closes_at_indian_time() -> None:
    assert "dam 2026-11-23 closes 11:00 IST" in market_lines.line(VIEW)
    tomorrow = VIEW | {"next_gate_closes_at": "2026-11-22T19:00:00+00:00"}
    assert "closes 23 Nov 00:30 IST" in market_lines.line(tomorrow)


def test_other_load_is_shown_where_it_is_foreseen() -> None:
    assert not [each for each in market_lines.market(VIEW) if "load" in each]
    load = {"now_kw": [80.0, 99.6, 120.0], "why": "load: combined (all models), mean error 6 kW"}
    assert (
        "  other load +100 kW now (+80 to +120), combined (all models), mean error 6 kW"
        in market_lines.market(VIEW | {"load": load})
    )


def test_a_hash_is_told_short() -> None:
    (line,) = journal_lines({"journal": {"anchor": f"228:{'a1b2' * 16}"}})
    assert line == "audit 228:a1b2a1b2a1b2… (whole: vppctl --json status)"
    assert len(line) < 70


def test_bids_for_several_blocks_are_marked() -> None:
    own = {"block": "b", "product": "dam", "session": "0", "state": "sent", "side": "sell"}
    pairs = [
        own | {"kind": "single", "power_mw": 0.5, "price_rs_per_mwh": 3000.0},
        own | {"kind": "block 1", "power_mw": 0.2, "price_rs_per_mwh": 4000.0},
    ]
    assert "0.5@3000 0.2@4000 (block 1)" in "\n".join(market_lines.bids({"bids": pairs}))
