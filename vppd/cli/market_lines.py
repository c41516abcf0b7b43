"""The market as lines for people: its state, the bids of a day, why a block. Prices are Rs/MWh,
power MW, positive is sold; blocks are 1 to 96 of the IST day."""

from datetime import datetime, timedelta, timezone
from itertools import groupby

from vppd.cli import tables
from vppd.cli.wire import Json
from vppd.cli.words import number, table

IST = timezone(timedelta(hours=5, minutes=30))


def status(view: Json) -> list[str]:
    """The site on one screen, with one line of its market."""
    lines = tables.status(view)
    market = view.get("market")
    return [*lines, line(market)] if market else lines


def line(view: Json) -> str:
    """Trading in one line."""
    now = view["now"]
    words = [
        f"market {_word(view)}",
        f"block {now['block']} {number(now['position_mw'], '+.2f')} MW",
        f"next {number(now['next_position_mw'], '+.2f')} MW",
    ]
    if view.get("next_gate"):
        closes = _ist(view["next_gate_closes_at"], today=str(now["block"]).partition(":")[0])
        words.append(f"{view['next_gate']} closes {closes}")
    if view.get("shortfalls"):
        words.append(f"{len(view['shortfalls'])} blocks short")
    return ", ".join(words)


def market(view: Json) -> list[str]:
    """How trading is."""
    lines = [
        line(view),
        f"  {view['exchange']}, {view['strategy']}, {' and '.join(view['products'])}",
    ]
    if load := view.get("load"):
        low_kw, mean_kw, high_kw = load["now_kw"]
        band = f"{mean_kw:+.0f} kW now ({low_kw:+.0f} to {high_kw:+.0f})"
        lines.append(f"  other load {band}, {load['why'].removeprefix('load: ')}")
    if not view["synchronised"]:
        lines.append("  the clock is not synchronised: nothing is sent")
    if not view["ready"]:
        lines.append("  what was traded is not read yet: no plan is made of it")
    lines += [f"  cannot be read: {each}" for each in view.get("malformed", [])]
    lines += [f"  short: {each}" for each in view.get("shortfalls", [])]
    lines += [f"  {auction}: {', '.join(each)}" for auction, each in view.get("faults", {}).items()]
    lines += [f"  {auction}: a book given by {by}" for auction, by in view["own_books"].items()]
    rows = [(each["auction"], each["state"], each["text"]) for each in view.get("tickets", [])]
    return [*lines, "", *table(("auction", "bid", ""), rows)] if rows else lines


def bids(view: Json) -> list[str]:
    """A day's bids, one line an auction and block."""
    rows = []
    for (block, product, session, state), pairs in groupby(
        view["bids"],
        key=lambda each: tuple(each[k] for k in ("block", "product", "session", "state")),
    ):
        each = list(pairs)
        rows.append(
            (block, f"{product} {session}", state, _curve(each, "sell"), _curve(each, "buy"))
        )
    return table(("block", "auction", "state", "sells", "buys"), rows) if rows else ["no bids"]


def why(view: Json) -> list[str]:
    """Everything that is known of a block."""
    lines = [
        f"block {view['block']} ({view['starts_at']}): {number(view['position_mw'], '+.2f')} MW"
    ]
    if view.get("short_mwh"):
        lines.append(f"  {view['short_mwh']:+.3f} MWh of it cannot be delivered")
    for each in view["auctions"]:
        lines += _auction(each)
    if not view["auctions"]:
        lines.append("  no auction of it was bid in")
    account = view.get("account")
    if account:
        lines += _account(account)
    lines += [
        f"  {each['kind']}: {each['amount_rs']:+.2f} Rs for {each['energy_mwh']:+.4f} MWh"
        + ("" if each["verified"] else " (unverified)")
        for each in view.get("money", [])
    ]
    return lines


def _ist(utc: str, today: str) -> str:
    """`10:00 IST`; of another day than today with its date before."""
    at = datetime.fromisoformat(utc).astimezone(IST)
    return f"{at:%H:%M} IST" if at.date().isoformat() == today else f"{at:%d %b %H:%M} IST"


def _word(view: Json) -> str:
    if view["stopped"]:
        return f"STOPPED ({view['stopped']})"
    return "dry run" if view["dry_run"] else "trades"


def _auction(each: Json) -> list[str]:
    head = f"  {each['auction']}: {each['state'] or 'no bid'}"
    head += f", {each['text']}" if each["text"] else ""
    lines = [head]
    if each["rung"]:
        seen = each["forecast_rs_per_mwh"]
        foreseen = f", {seen:.0f} Rs/MWh foreseen" if seen is not None else ""
        why_ = f" ({each['why']})" if each["why"] else ""
        lines.append(f"    forecast {each['rung']}{why_}{foreseen}")
    for side in ("sells", "buys"):
        if each[side]:
            pairs = ", ".join(f"{power:g} MW at {price:g}" for price, power in each[side])
            lines.append(f"    {side} {pairs}")
    lines += [f"    all or none: {whole}" for whole in each.get("wholes", [])]
    if each["bound"]:
        lines.append(f"    bound by {', '.join(each['bound'])}")
    lines += [f"    not sent: {veto}" for veto in each["vetoes"]]
    if each["cleared_mw"] is not None:
        final = "final" if each["final"] else "provisional"
        price = number(each["price_rs_per_mwh"], ".0f")
        lines.append(f"    cleared {each['cleared_mw']:+.2f} MW at {price}, {final}")
    lines += [f"    {fault}" for fault in each["faults"]]
    return lines


def _account(account: Json) -> list[str]:
    energies = ", ".join(
        f"{name} {number(account[f'{name}_mwh'], '+.4f')}"
        for name in ("scheduled", "droop", "order", "metered", "deviation")
    )
    causes = ", ".join(f"{cause} {mwh:+.4f}" for cause, mwh in account["causes"].items())
    by = f" (metered by {account['metered_by']})" if account["metered_by"] else ""
    return [
        f"  MWh: {energies}{by}",
        f"  deviation by {causes or 'nothing'}",
        f"  SoC {number(account['soc_pct'], '.1f')} %, planned "
        f"{number(account['soc_plan_pct'], '.1f')} %; {number(account['frequency_hz'], '.3f')} Hz",
    ]


def _curve(pairs: list[Json], side: str) -> str:
    own = [each for each in pairs if each["side"] == side]
    return " ".join(map(_pair, own)) or "-"


def _pair(each: Json) -> str:
    whole = "" if each.get("kind", "single") == "single" else f" ({each['kind']})"
    return f"{each['power_mw']:g}@{each['price_rs_per_mwh']:g}{whole}"
