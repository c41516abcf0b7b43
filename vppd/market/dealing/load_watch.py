"""Keeps what is foreseen of other load and solar, from the journal's quarters of an hour.

Made again by the worker so often; of a failure the last one is used while it is not too old, and
then the constant that is configured. Whichever it is, it says so, and a change goes into the
journal. The last one outlives a restart.
"""

import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from vppd.core.alarms import Code, Level
from vppd.core.model import SITE, Point
from vppd.core.ports import Clock, Journal
from vppd.core.records import EventRow, KeptRow
from vppd.core.settings_forecast import ForecastSettings, LoadSettings
from vppd.market.blocks import Block, block_at
from vppd.market.dealing.making import NotMade
from vppd.market.dealing.worker_call import Worker
from vppd.market.site_load import Load
from vppd.market.solving.worker_words import Json, by_block
from vppd.spine.schema import micros
from vppd.spine.schema_years import SCALE

KEPT = "load forecast"
DAYS = 4  # a plan made in the evening of a day looks at the two behind the next
WITHIN_S = 20.0
AGAIN_S = 300.0
STALE = timedelta(hours=24)
LEAST_KNOWN_S = 450  # of the quarter of an hour

# Each quarter is looked up by itself: years of other points are not walked through.
_QUARTERS = f"""WITH RECURSIVE span (at) AS (
        SELECT ?1 UNION ALL SELECT at + 900000000 FROM span WHERE at + 900000000 < ?2),
    known AS (SELECT span.at / 1000000 + 19800 AS local_s, r.mean / {SCALE}.0 AS kw
        FROM span JOIN quarter_row AS r ON r.at = span.at
        AND r.unit = (SELECT id FROM word WHERE text = ?3)
        AND r.point = (SELECT id FROM word WHERE text = ?4) WHERE r.known_s >= {LEAST_KNOWN_S})
    SELECT date(local_s, 'unixepoch') AS day, group_concat((local_s % 86400 / 900 + 1) || ':' || kw)
    FROM known GROUP BY day ORDER BY day"""  # noqa: S608 - our own numbers


@dataclass(frozen=True, slots=True)
class Made:
    """One forecast: when it was made, from which rung and why, its bands by block, and how good it
    lately was (`days`, `error_kw`, `naive_ratio`; of solar the same)."""

    at: datetime
    said: Json

    @property
    def words(self) -> str:
        """The rung, why, and the error."""
        seen = self.said["accuracy"]
        error, ratio = seen.get("error_kw"), seen.get("naive_ratio")
        text = f"{self.said['rung']} ({self.said['why']})"
        if not seen.get("days") or error is None:
            return f"{text}, its error is not known yet"
        beside = "" if ratio is None else f", {ratio:.2f} of the naive's"
        return f"{text}, mean error {error:.0f} kW over {seen['days']} days{beside}"


class LoadWatch:
    """`load` is what counts now; `run` keeps it."""

    def __init__(
        self, settings: ForecastSettings, worker: Worker, journal: Journal, clock: Clock
    ) -> None:
        """Raises ValueError where no load is to be foreseen."""
        if settings.load is None:
            raise ValueError("forecast.load is not configured")
        self._settings, self._own = settings, settings.load
        self._worker, self._journal, self._clock = worker, journal, clock
        self._made: Made | None = None
        self._failed = "none is made yet"
        self._load: Load | None = None
        self._told = ""

    def load(self) -> Load:
        """What counts now."""
        made = self._made
        if made is not None and self._clock.utc() - made.at < STALE:
            if self._load is None:
                self._load = Load(_bands(made.said), why=self._why(made))
            return self._load
        constant_kw, why = self._own.constant_kw, self._failed or "the last one is too old"
        return Load(constant_kw=constant_kw, why=f"load: {constant_kw:g} kW throughout: {why}")

    def view(self) -> dict[str, Any]:
        """The same for people, with what is foreseen of the block that goes on."""
        made, load = self._made, self.load()
        bands = load.blocks.get(block_at(self._clock.utc()))
        constant_kw = load.constant_kw
        return {
            "why": load.why,
            "rung": made.said["rung"] if made is not None and load.blocks else "constant",
            "made_at": made.at.isoformat() if made is not None else None,
            "now_kw": list(bands or (constant_kw, constant_kw, constant_kw)),
            "accuracy": made.said["accuracy"] if made is not None else {},
            "solar_accuracy": made.said.get("solar_accuracy", {}) if made is not None else {},
        }

    async def run(self) -> None:
        """Until cancelled: take up the last one, then make it again and again."""
        await self._restore()
        while True:
            wait_s = self._own.renew_min * 60.0
            try:
                await self.renew()
            except (NotMade, OSError) as error:
                self._failed, self._load = str(error), None
                wait_s = min(wait_s, AGAIN_S)
            self._tell()
            await self._clock.sleep_until(self._clock.now_s() + wait_s)

    async def renew(self) -> None:
        """Make it again. Raises NotMade; OSError when the journal cannot be read."""
        said = await self._worker.asked(await self._request(), WITHIN_S)
        self._failed = ""
        try:
            made = Made(self._clock.utc(), said)
            load = Load(_bands(said), why=self._why(made))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotMade(f"the worker's answer cannot be read: {error!r}") from error
        self._made, self._load = made, load
        self._journal.append(KeptRow(made.at, KEPT, json.dumps(said)))

    def _why(self, made: Made) -> str:
        late = f", not made again: {self._failed}" if self._failed else ""
        return f"load: {made.words}{late}"

    async def _request(self) -> Json:
        """What the worker needs to know. Raises OSError."""
        own, solar = self._own, self._settings.solar
        today = block_at(self._clock.utc()).day
        prices = {"load": await self._rows(own, own.unit, own.point, today)}
        if solar is not None:
            prices["solar"] = await self._rows(own, solar.unit, solar.point, today)
        forecast = dataclasses.replace(
            self._settings,
            fresh_days=own.fresh_days,
            oldest_days=own.oldest_days,
            load=None,
            solar=None,
        )
        return {
            "kind": "load",
            "day": str(today),
            "days": DAYS,
            "best": "combined",
            "quantile_pct": own.quantile_pct,
            "solar_peak_kw": solar.peak_kw if solar is not None else 0.0,
            "forecast": dataclasses.asdict(forecast),
            "prices": prices,
        }

    async def _rows(self, own: LoadSettings, unit: str, point: Point, today: date) -> list[Any]:
        first = Block(today - timedelta(days=own.history_days), 1)
        span = micros(first.start), micros(Block(today, 1).start)
        return await self._journal.select(_QUARTERS, (*span, unit, point.value))

    async def _restore(self) -> None:
        """The last one of the run before, where it can be read and is not too old."""
        try:
            sql = "SELECT value_json, at FROM kept WHERE name = ?"
            rows = await self._journal.select(sql, (KEPT,))
            for value_json, at in rows:
                made = Made(
                    datetime.fromtimestamp(int(str(at)) / 1e6, UTC), json.loads(str(value_json))
                )
                Load(_bands(made.said), why=made.words)  # it can be read
                self._made, self._failed = made, "the daemon has just started"
        except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            self._failed = f"the last one cannot be read: {type(error).__name__}: {error}"

    def _tell(self) -> None:
        """A change of the rung goes into the journal."""
        load, made = self.load(), self._made
        rung = made.said["rung"] if made is not None and load.blocks else "constant"
        if rung != self._told:
            level = Level.INFO if rung == "combined" else Level.WARNING
            row = (self._clock.utc(), Code.MARKET_FORECAST, SITE, level, load.why)
            self._journal.append(EventRow(*row))
            self._told = rung


def _bands(said: Json) -> dict[Block, tuple[float, float, float]]:
    """Raises KeyError, TypeError, ValueError, AttributeError."""
    found = {}
    for block, (low_kw, mean_kw, high_kw) in by_block(said["blocks"]).items():
        found[block] = float(low_kw), float(mean_kw), float(high_kw)
    return found
