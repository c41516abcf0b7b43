"""The four sides of the exchange port, and which one the settings ask for."""

import ssl
from dataclasses import replace
from pathlib import Path

from vppd.core.ports import Clock
from vppd.core.settings_market import MarketSettings
from vppd.market.exchange import Exchange
from vppd.market.exchanges.iex import MemberExchange
from vppd.market.exchanges.pxil import PxilExchange
from vppd.market.exchanges.sheet import SheetExchange

__all__ = ["MemberExchange", "PxilExchange", "SheetExchange", "exchange_of"]


ANYBODY = "SIMULATED"


def exchange_of(
    settings: MarketSettings,
    clock: Clock,
    *,
    socket: Path | None = None,
    trust: ssl.SSLContext | None = None,
) -> Exchange:
    """The exchange that the settings name.

    `socket`: where vppd's own simulated exchange answers, used when no url is given. `trust`: whose
    certificates are believed, the system's when None. Raises ValueError for settings that cannot
    work; nothing is opened.
    """
    exchange = settings.exchange
    if exchange.kind == "sheet":
        return SheetExchange(settings, clock, Path(exchange.directory))
    if exchange.kind == "pxil":
        return PxilExchange(settings, clock, trust=trust)
    if exchange.kind == "iex":
        for name in ("user", "participant", "token"):
            if not getattr(exchange, name):
                raise ValueError(f"exchange.{name}: the exchange asks for it")
        return MemberExchange(settings, clock, exchange.words, trust=trust)
    # nobody needs to be a member of a simulated one, but its paths have no empty words
    known = replace(
        exchange, user=exchange.user or ANYBODY, participant=exchange.participant or ANYBODY
    )
    own = socket if exchange.url is None else None
    named = replace(settings, exchange=known)
    return MemberExchange(named, clock, exchange.words, socket=own, trust=trust)
