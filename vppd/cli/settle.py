"""`vppd settle`: metered blocks against a deviation settlement rule, and the list of all rules."""

import sys
from collections.abc import Iterator
from pathlib import Path

from vppd.cli.words import table
from vppd.market.settling.ancillary_rules import PRODUCTS
from vppd.market.settling.money import Basis
from vppd.market.settling.settle_rows import RowsError, parse, settled
from vppd.market.settling.settlement import PROFILES, UnknownProfile, profile_named
from vppd.market.settling.settlement_rules import RATES
from vppd.market.settling.trade_rules import TRADE_RULES

HEAD = ("rule", "effective from", "verified", "source")
WRONG_WORDS = 2


def settle_rows(rule: str, rows: Path) -> int:
    """Write the settled rows to standard output, or every fault to standard error; the exit code.

    Raises OSError.
    """
    try:
        profile = profile_named(rule)
        text = _text(rows)
        answer = settled(parse(text, rows.name if str(rows) != "-" else "stdin", profile), profile)
    except (RowsError, UnknownProfile) as error:
        faults = error.errors if isinstance(error, RowsError) else (str(error.args[0]),)
        print("\n".join(faults), file=sys.stderr)
        return WRONG_WORDS
    sys.stdout.write(answer)
    return 0


def rule_lines() -> list[str]:
    """Every dated table: name, first day, whether it is verified, where it is from."""
    found = [
        (each.rule, f"{each.effective_from}", "yes" if each.verified else "NO", each.source)
        for each in _bases()
    ]
    return table(HEAD, found, "llll")


def _bases() -> Iterator[Basis]:
    for profile in PROFILES.values():
        yield from profile.bases()
    for rate in RATES:
        yield Basis(rate.name, rate.effective_from, rate.source, rate.verified)
    for rule in TRADE_RULES:
        yield rule.basis
    for product in PRODUCTS:
        yield from product.bases()


def _text(rows: Path) -> str:
    """Raises OSError, also for what is no UTF-8 text."""
    try:
        data = sys.stdin.buffer.read() if str(rows) == "-" else rows.read_bytes()
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise OSError(f"{rows}: not UTF-8 text") from error
