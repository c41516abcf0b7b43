"""The published queries: every figure of an event from the journal's rows alone, as SQL.

Each takes named parameters; `parameters` gives those of one event. Anyone with the file and SQLite
3.38 can run them: `sqlite3 'file:journal.db?mode=ro'`, `.parameter set :begin_at ...`.
"""

from collections.abc import Mapping

from vppd.cli.report_journal import EVENTS_SQL, FREQUENCY_SQL, ROWS_SQL, Event
from vppd.core.response_rules import ResponseRules
from vppd.spine.schema import micros

FIGURES_SQL = """\
WITH m AS (  -- seconds since the beginning; what nobody measured was not delivered
    SELECT (at - :begin_at) / 1e6 AS t, frequency_hz AS f, base_kw AS b,
        droop_curve_kw + ffr_kw AS o, droop_kw AS a, coalesce(measured_kw - base_kw, 0.0) AS r,
        measured_kw IS NULL OR unmeasured > 0 AS lacking
    FROM evidence WHERE at >= :from_at AND at <= :end_at),
k AS (SELECT (:end_at - :begin_at) / 1e6 AS end_s),
e AS (SELECT m.*, (o > 0) - (o < 0) AS g,
        min(coalesce(lead(t) OVER (ORDER BY t), end_s) - t, 1.0) AS held
    FROM m, k WHERE t >= 0),
before_event AS (SELECT avg(f) AS f, avg(r) AS r, avg(o) AS o, avg(b + r) AS p
    FROM m WHERE t BETWEEN -:pre_from AND -:pre_to),
settled AS (SELECT avg(f) AS f, avg(r) AS r, avg(o) AS o, max(t) AS until
    FROM e, k WHERE t BETWEEN :settled_from AND min(:settled_to, end_s - :settled_margin)),
peak AS (SELECT t, g AS s, abs(o) AS o FROM e ORDER BY abs(o) DESC, t LIMIT 1),
enough AS (SELECT t, s, :start_share / 100.0 * o AS kw, 1 - :droop_tolerance / 100.0 AS within
    FROM peak),
zero AS (  -- t0: the run that holds the peak begins after the last row that owed less
    SELECT min(m.t) AS t FROM m, enough AS n WHERE s <> 0 AND m.t <= n.t AND m.t > coalesce(
        (SELECT max(x.t) FROM m AS x WHERE x.t < n.t AND n.s * x.o < n.kw), -1e9)),
start AS (SELECT min(m.t) AS t FROM m, enough, zero WHERE m.t >= zero.t AND s * r >= kw),
whole AS (SELECT min(m.t) AS t FROM m, enough, zero
    WHERE m.t >= zero.t AND s * o >= kw AND s * r >= within * s * o),
lacks AS (SELECT e.t, s * o >= kw AND s * r < within * s * o AS short FROM e, enough, whole
    WHERE e.t >= whole.t),
runs AS (SELECT t, short, sum(NOT short) OVER (ORDER BY t) AS run FROM lacks),
broken AS (SELECT min(begun) AS t FROM (SELECT min(t) AS begun FROM runs WHERE short
    GROUP BY run HAVING max(t) - min(t) > :break_max)),
moved AS (SELECT t, o, r,
        min(o) OVER w AS least, max(o) OVER w AS most
    FROM e WINDOW w AS (ORDER BY CAST(round(t * 1e6) AS INTEGER)
        RANGE BETWEEN CAST(:steady * 1e6 AS INTEGER) PRECEDING AND CURRENT ROW)),
steady AS (SELECT * FROM moved WHERE o <> 0 AND t >= :steady
    AND max(most - o, o - least) <= :steady_band / 100.0 * abs(o)),
sums AS (SELECT count(*) AS n, sum(abs(o) * held) / 3600 AS owed,
        sum(max(abs(o) - g * r, 0) * held) / 3600 AS short,
        sum(max(g * r - abs(o), 0) * held) / 3600 AS over,
        sum(max(abs(o) - g * a, 0) * held) / 3600 AS unasked,
        100.0 * avg(lacking) AS lacking
    FROM e)
SELECT k.end_s AS duration_s, sums.n AS "rows", sums.lacking AS unmeasured_pct,
    before_event.f AS pre_hz, before_event.p AS pre_power_kw,
    (SELECT min(f) FROM e) AS nadir_hz,
    (SELECT t FROM e WHERE f IS NOT NULL ORDER BY f, t LIMIT 1) AS nadir_s,
    (SELECT max(f) FROM e) AS zenith_hz,
    (SELECT t FROM e WHERE f IS NOT NULL ORDER BY f DESC, t LIMIT 1) AS zenith_s,
    settled.f AS settled_hz,
    (SELECT min(e.t) FROM e WHERE e.t <= settled.until AND e.f IS NOT NULL AND e.t > coalesce(
        (SELECT max(x.t) FROM e AS x WHERE x.t <= settled.until
            AND abs(x.f - settled.f) > :settling_band), -1)) AS settling_s,
    peak.s AS side, peak.o AS owed_max_kw, (SELECT max(peak.s * r) FROM e) AS delivered_max_kw,
    start.t - zero.t AS start_s, whole.t - zero.t AS full_s,
    CASE WHEN peak.s = 0 THEN NULL WHEN whole.t IS NULL THEN 0.0
        ELSE coalesce(max(broken.t, whole.t, 0), k.end_s) - max(whole.t, 0) END AS sustained_s,
    CASE WHEN peak.s <> 0 THEN
        min(:sustain, k.end_s - coalesce(max(whole.t, 0), 0)) END AS sustain_due_s,
    sums.owed AS owed_kwh, sums.owed - sums.short + sums.over AS delivered_kwh,
    sums.short AS shortfall_kwh, sums.over AS excess_kwh, sums.unasked AS adaptation_kwh,
    (SELECT count(*) FROM steady) AS settled_points,
    (SELECT 100 * sum(abs(r - o)) / sum(abs(o)) FROM steady) AS droop_error_pct,
    (SELECT 100 * max(abs(r - o) / abs(o)) FROM steady) AS droop_worst_pct,
    CASE WHEN abs(settled.f - before_event.f) >= :change_min THEN
        -(settled.r - before_event.r) / (settled.f - before_event.f) END AS frc_kw_per_hz,
    CASE WHEN :obligation_kw_per_hz IS NOT NULL THEN :obligation_kw_per_hz
        WHEN abs(settled.f - before_event.f) >= :change_min THEN
        -(settled.o - before_event.o) / (settled.f - before_event.f) END AS fro_kw_per_hz,
    CASE WHEN settled.o <> 0 THEN
        min(max(settled.r / settled.o, 0.0), 1.0) END AS beta_ratio
FROM k, before_event, settled, zero, start, whole, broken, sums LEFT JOIN peak"""

NUMBERS = (
    *("pre_from", "pre_to", "settled_from", "settled_to", "settled_margin", "settling_band"),
    *(
        "start_share",
        "droop_tolerance",
        "sustain",
        "break_max",
        "steady",
        "steady_band",
        "change_min",
    ),
)


def parameters(event: Event, rules: ResponseRules) -> dict[str, float | int | None]:
    """What the queries take, of one event."""
    begin_at, numbers = micros(event.begin), rules.numbers()
    return {
        "from_at": begin_at - round(event.rule.before_s * 1e6),
        "begin_at": begin_at,
        "end_at": micros(event.end),
        "obligation_kw_per_hz": event.rule.obligation_kw_per_hz,
        **{name: numbers[name].value for name in NUMBERS},
    }


def published(rules: ResponseRules, values: Mapping[str, float | int | None] | None = None) -> str:
    """Every query as text, with the numbers of the rule table, or of one event."""
    numbers = rules.numbers()
    given = values or {name: numbers[name].value for name in NUMBERS}
    return "\n".join(
        (
            "-- Frequency events of a journal of vppd. Times: microseconds since 1970 UTC.",
            *(f"-- :{name} = {'NULL' if each is None else each}" for name, each in given.items()),
            f"\n-- the events\n{EVENTS_SQL};",
            f"\n-- the 100 ms rows of one; :from_at to :to_at\n{ROWS_SQL};",
            f"\n-- its figures; :from_at 60 s before it, :begin_at, :end_at\n{FIGURES_SQL};",
            f"\n-- the frequency of a day, for its time in the band\n{FREQUENCY_SQL};",
        )
    )
