"""The market's tables of the journal, as SQL. Pure; `schema` puts them among the others.

* `market_bid`, `market_result`, `market_price`, `market_block`, `settlement_line` only grow. Their
  `id` counts up and is never used again, so that `market_result:12` means one row for ever.
* `block_at` is when the block begins (microseconds since 1970-01-01 UTC); `day` and `block` are the
  same in IST, as the market counts: 1 to 96.
* The views have what rules now, with the same columns: `market_ledger` the newest account of each
  block, `settlement` the lines of the newest settlement of each block, `price` the newest price of
  each block, product, area and kind.
"""

_IST_S = 19_800
_LOCAL_S = f"(block_at / 1000000 + {_IST_S})"
_BLOCK = f"""at INTEGER NOT NULL, block_at INTEGER NOT NULL,
    day TEXT AS (date({_LOCAL_S}, 'unixepoch')) VIRTUAL,
    block INTEGER AS ({_LOCAL_S} % 86400 / 900 + 1) VIRTUAL"""

_COLUMNS = {
    "market_bid": "exchange TEXT, product TEXT, session TEXT, side TEXT, kind TEXT, "
    "price_rs_per_mwh REAL, power_mw REAL, book TEXT, state TEXT, text TEXT",
    "market_result": "exchange TEXT, product TEXT, session TEXT, cleared_mw REAL, "
    "price_rs_per_mwh REAL, state TEXT, book TEXT, text TEXT",
    "market_price": "product TEXT, area TEXT, kind TEXT, price_rs_per_mwh REAL, source TEXT",
    "market_block": "bid_sell_mwh REAL, bid_buy_mwh REAL, dam_mwh REAL, rtm_mwh REAL, "
    "scheduled_mwh REAL, droop_mwh REAL, order_mwh REAL, sras_mwh REAL, metered_mwh REAL, "
    "deviation_mwh REAL, causes_json TEXT, frequency_hz REAL, soc_plan_pct REAL, soc_pct REAL, "
    "discharged_mwh REAL, usable_mwh REAL, wear_rs REAL, rows_json TEXT, "
    "metered_by TEXT",
    "settlement_line": "kind TEXT, energy_mwh REAL, rate_p_per_kwh REAL, amount_paise INTEGER, "
    "rule TEXT, source TEXT, verified INTEGER, text TEXT, rows_json TEXT",
}
_NEWEST = {
    "market_ledger": ("market_block", "id", ("block_at",)),
    "settlement": ("settlement_line", "at", ("block_at",)),
    "price": ("market_price", "id", ("block_at", "product", "area", "kind")),
}


def market_step(at_utc: str) -> tuple[str, ...]:
    """The statements that make these tables; `at_utc` is the column that shows `at` as text."""
    return (
        *(
            f"CREATE TABLE {name} (id INTEGER PRIMARY KEY AUTOINCREMENT, {_BLOCK}, {own}, {at_utc})"
            for name, own in _COLUMNS.items()
        ),
        *(
            f"CREATE INDEX {name}_{column} ON {name} ({column})"
            for name in _COLUMNS
            for column in ("at", "block_at")
        ),
        *(_view(name, *parts) for name, parts in _NEWEST.items()),
    )


def _view(name: str, table: str, column: str, key: tuple[str, ...]) -> str:
    """Each key's newest rows, looked up by the index of `block_at`."""
    same = " AND ".join(f"n.{each} = o.{each}" for each in key)
    return (
        f"CREATE VIEW {name} AS SELECT * FROM {table} AS o "  # noqa: S608 - our own names
        f"WHERE o.{column} = (SELECT max(n.{column}) FROM {table} AS n WHERE {same})"
    )
