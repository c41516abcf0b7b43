"""The tables that keep years readable, as SQL: roll-ups and the chain of hashes. Pure.

* `minute` and `quarter` (views) have one row a minute or quarter of an hour, unit and point: `low`,
  `mean`, `high` and `last` of the value, and for how many seconds of it the value was known
  (`known_s`). `at` is when the span begins. The mean is weighted by time: a value holds until the
  next one came. Points are those of `reading`; of `setpoint` asked_kw, got_kw, base_kw,
  frequency_kw, measured_kw and read_back_kw as `setpoint.got_kw` and so on; of `site` (unit `site`)
  as `site.frequency_hz` and so on.
* `chain` and `forgotten` are told in `vppd.spine.chain`.
"""

from vppd.spine.chain import chain_step

SCALE = 10_000
ROLLED = ("minute", "quarter")
"""The views of roll-ups, fine to coarse; each is stored in `<name>_row`."""


def years_step(at_utc: str, utc_text: str) -> tuple[str, ...]:
    """The statements that make these tables; `utc_text` is the expression that shows `at`."""
    return (
        *(
            f"""CREATE TABLE {name}_row (
            at INTEGER, unit INTEGER, point INTEGER,
            low INTEGER, mean INTEGER, high INTEGER, last INTEGER, known_s INTEGER,
            PRIMARY KEY (at, unit, point)) WITHOUT ROWID"""
            for name in ROLLED
        ),
        *(_view(name, utc_text) for name in ROLLED),
        *chain_step(at_utc),
    )


def _view(name: str, utc_text: str) -> str:
    values = ", ".join(f"{each} / {SCALE}.0 AS {each}" for each in ("low", "mean", "high", "last"))
    return f"""CREATE VIEW {name} AS
        SELECT at, u.text AS unit, p.text AS point, {values}, known_s, {utc_text} AS at_utc
        FROM {name}_row AS r LEFT JOIN word AS u ON u.id = r.unit
            LEFT JOIN word AS p ON p.id = r.point"""  # noqa: S608 - our own names
