"""The words of `vppctl market`, and what each asks of the daemon."""

import argparse
from urllib.parse import quote

from vppd.cli import market_lines, tables
from vppd.cli.wire import Json

WHAT = ("why", "bids", "stop", "resume")


def add(market: argparse.ArgumentParser) -> None:
    """The words behind `market`; none shows the state."""
    market.add_argument("what", nargs="?", choices=WHAT, metavar="why | bids | stop | resume")
    market.add_argument(
        "of",
        nargs="?",
        metavar="BLOCK | DAY | REASON",
        help="why: 42 of today or 2026-11-23:42, nothing: now; bids: 2026-11-23; stop: a reason",
    )


def call(words: argparse.Namespace) -> tuple[tuple[str, str, Json | None], tables.Show]:
    """The request and how its answer is shown."""
    of = words.of
    if words.what is None:
        return ("GET", "/v1/market", None), market_lines.market
    if words.what == "why":
        return ("GET", f"/v1/market/why/{quote(of or 'now', '')}", None), market_lines.why
    if words.what == "bids":
        day = f"?day={quote(of, '')}" if of else ""
        return ("GET", f"/v1/market/bids{day}", None), market_lines.bids
    body = {"command": words.what, **({"text": of} if of else {})}
    return ("POST", "/v1/market/control", body), lambda view: [market_lines.line(view)]
