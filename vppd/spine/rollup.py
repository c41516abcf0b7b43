"""Roll-ups: a row a minute and a quarter of an hour of every point, in steps of one minute.

The sums are SQL, so they run in the reading connection's thread and only results come to the loop.
A value holds until the next one came, at most as long as rows are apart while its source lives.
Nothing is remembered but the rows themselves: where to go on is the newest roll-up, which is made
again first, for it may have been cut short.
"""

from dataclasses import dataclass
from datetime import datetime

from vppd.core.ports import Clock, Journal
from vppd.core.records_years import MinuteRow, PointValue, QuarterRow
from vppd.spine.schema import from_micros, micros

SECOND = 1_000_000
MINUTE = 60 * SECOND
QUARTER = 15 * MINUTE
DAY = 96 * QUARTER
SETPOINT_POINTS = (
    *("base_kw", "frequency_kw", "asked_kw", "got_kw", "read_back_kw", "measured_kw"),
)
SITE_POINTS = ("base_kw", "droop_owed_kw", "droop_kw", "owed_kw", "cleared_kw")
_THIN_HOLD_S = 90  # a reading or a unit that does not change has a row each 60 s
_SITE_HOLD_S = 5  # the site has one each second
_SCALE = 10_000


def _samples() -> str:
    """Every value of the span and just before it, as (unit, point, at, value, hold)."""
    at = "at > ?1 - {hold} * 1000000 AND at < ?2"
    thin, fast = at.format(hold=_THIN_HOLD_S), at.format(hold=_SITE_HOLD_S)
    parts = [
        f"SELECT u.text, p.text, at, CASE WHEN quality = 0 THEN value END, {_THIN_HOLD_S} "  # noqa: S608
        "FROM reading_row AS r JOIN word AS u ON u.id = r.unit JOIN word AS p ON p.id = r.point "
        f"WHERE {thin}",
        *(
            f"SELECT u.text, 'setpoint.{point}', at, {point}, {_THIN_HOLD_S} "  # noqa: S608
            f"FROM setpoint_row AS r JOIN word AS u ON u.id = r.unit WHERE {thin}"
            for point in SETPOINT_POINTS
        ),
        *(
            f"SELECT 'site', 'site.{point}', at, {point}, {_SITE_HOLD_S} FROM site_row WHERE {fast}"  # noqa: S608
            for point in SITE_POINTS
        ),
        f"SELECT 'site', 'site.frequency_hz', at, frequency_hz * {_SCALE}, {_SITE_HOLD_S} "  # noqa: S608
        f"FROM site_row WHERE {fast}",
    ]
    return " UNION ALL ".join(parts)


MINUTE_SQL = f"""WITH sample (unit, point, at, value, hold) AS ({_samples()}),
    held AS (
        SELECT unit, point, value, max(at, ?1) AS since,
            min(lead(at, 1, ?2) OVER one, at + hold * 1000000, ?2) AS until,
            first_value(value) OVER (PARTITION BY unit, point ORDER BY value IS NULL, at DESC)
                AS last
        FROM sample WINDOW one AS (PARTITION BY unit, point ORDER BY at))
    SELECT unit, point, min(value) / {_SCALE}.0,
        sum(value * ((until - since) / 1e6)) / sum((until - since) / 1e6) / {_SCALE}.0,
        max(value) / {_SCALE}.0, last / {_SCALE}.0, sum(until - since)
    FROM held WHERE value IS NOT NULL AND until > since GROUP BY unit, point
    ORDER BY unit, point"""  # noqa: S608 - our own names
"""Of `?1` until `?2`: unit, point, low, mean, high, last, microseconds known."""

QUARTER_SQL = """WITH span AS (SELECT *, first_value(last) OVER (
        PARTITION BY unit, point ORDER BY at DESC) AS newest
    FROM minute WHERE at >= ?1 AND at < ?2 AND known_s > 0)
    SELECT unit, point, min(low), sum(mean * known_s) / sum(known_s), max(high), newest,
        sum(known_s)
    FROM span GROUP BY unit, point ORDER BY unit, point"""
"""The same of its minutes, with the seconds known."""

_NEXT_SQL = """SELECT min(at) FROM (
    SELECT min(at) AS at FROM reading_row WHERE at >= ?1 UNION ALL
    SELECT min(at) FROM setpoint_row WHERE at >= ?1 UNION ALL
    SELECT min(at) FROM site_row WHERE at >= ?1)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How gently: nothing is rolled up before `settle_s` after its end, as rows wait for the disk;
    a step at most each `step_s`, and a look for more work each `look_s`."""

    settle_s: float = 120.0
    step_s: float = 0.5
    look_s: float = 20.0


class Rollup:
    """The task that keeps roll-ups up to date; `run()` it."""

    def __init__(self, journal: Journal, clock: Clock, pace: Pace = Pace()) -> None:
        self._journal = journal
        self._clock = clock
        self._pace = pace
        self._minute: int | None = None  # the next to make
        self._quarter: int | None = None

    async def run(self) -> None:
        """For ever. While the journal cannot be read or written it waits: that has its own alarm,
        and nothing is lost but time."""
        while True:
            try:
                more = await self.step()
            except OSError:
                more, self._minute = False, None
            pause_s = self._pace.step_s if more else self._pace.look_s
            await self._clock.sleep_until(self._clock.now_s() + pause_s)

    async def step(self) -> bool:
        """Make the next minute, and the quarter that it ends. False: all is made. Raises OSError,
        also when the rows could not be written."""
        settled = micros(self._clock.utc()) - round(self._pace.settle_s * SECOND)
        if self._minute is None or self._minute > settled:  # or the clock was set back
            await self._go_on_from_newest(settled)
        begin = await self._next(self._minute or 0)
        if begin is not None and await self._was_behind(begin, settled):
            await self._go_on_from_newest(settled)
            begin = await self._next(self._minute or 0)
        if begin is None or begin + MINUTE > settled:
            if settled - (self._minute or 0) > QUARTER:  # nothing for long: end what is open
                await self._quarters_until(settled)
            return False
        await self._quarters_until(begin)
        await self._make_minute(begin)
        self._minute = begin + MINUTE
        return True

    async def _was_behind(self, begin: int, settled: int) -> bool:
        """Whether the clock was far behind and is right again: what follows has its roll-ups, and
        some of the rows that they were made of may be gone."""
        if begin - (self._minute or 0) <= DAY:
            return False
        return (await self._newest("minute_row", settled) or 0) > begin

    async def _go_on_from_newest(self, settled: int) -> None:
        """The newest of both is made again first."""
        self._minute = await self._newest("minute_row", settled) or 0
        self._quarter = await self._newest("quarter_row", settled) or 0

    async def _next(self, at: int) -> int | None:
        """The first minute from `at` on that has rows of a second."""
        ((found,),) = await self._journal.select(_NEXT_SQL, (at,))
        return int(str(found)) // MINUTE * MINUTE if found is not None else None

    async def _newest(self, table: str, until: int) -> int | None:
        sql = f"SELECT max(at) FROM {table} WHERE at <= ?"  # noqa: S608 - our own name
        ((found,),) = await self._journal.select(sql, (until,))
        return int(str(found)) if found is not None else None

    async def _make_minute(self, begin: int) -> None:
        found = await self._journal.select(MINUTE_SQL, (begin, begin + MINUTE))
        await self._write([MinuteRow(*_columns(begin, row, SECOND)) for row in found])

    async def _quarters_until(self, end: int) -> None:
        """Every quarter with minutes that ended by then."""
        while True:
            sql = "SELECT min(at) FROM minute_row WHERE at >= ? AND at < ?"
            ((found,),) = await self._journal.select(sql, (self._quarter or 0, end))
            begin = int(str(found)) // QUARTER * QUARTER if found is not None else end
            if begin + QUARTER > end:
                return
            rows = await self._journal.select(QUARTER_SQL, (begin, begin + QUARTER))
            await self._write([QuarterRow(*_columns(begin, row, 1)) for row in rows])
            self._quarter = begin + QUARTER

    async def _write(self, rows: list[MinuteRow] | list[QuarterRow]) -> None:
        """On disk with the last of them, as rows of a table are written in their order."""
        for row in rows[:-1]:
            self._journal.append(row)
        if rows and not await self._journal.commit(rows[-1]):
            raise OSError(f"roll-ups of {rows[0].at:%Y-%m-%dT%H:%MZ} wait for the disk")


def _columns(
    begin: int, row: tuple[object, ...], second: int
) -> tuple[datetime, str, str, PointValue, PointValue, PointValue, PointValue, int]:
    """The fields of a roll-up of a row of SQL, whose last is counted in `second`s."""
    unit, point, *figures, known = row
    low, mean, high, last = (float(str(each)) for each in figures)
    known_s = max(1, round(int(str(known)) / second))
    return from_micros(begin), str(unit), str(point), low, mean, high, last, known_s
