"""The published queries: every figure of an event from the journal's rows alone, as SQL.

Each takes named parameters; `parameters` gives those of one event. Anyone with the file and SQLite
3.38 can run them: `sqlite3 'file:journal.db?mode=ro'`, `.parameter set :begin_at ...`.
"""

from collections.abc import Mapping

from vppd.cli.report.journal import EVENTS_SQL, FREQUENCY_SQL, ROWS_SQL, Event
from vppd.core.response_rules import ResponseRules
from vppd.spine.schema import micros

FIGURES_SQL = """\
WITH m AS (  -- microseconds since the beginning; what nobody measured was not delivered
    SELECT at - :begin_at AS t, frequency_hz AS f, base_kw AS b,
        droop_curve_kw + ffr_kw AS o, droop_kw AS a, coalesce(measured_kw - base_kw, 0.0) AS r,
        measured_kw IS NULL OR unmeasured > 0 AS lacking
    FROM evidence WHERE at >= :from_at AND at <= :end_at),
k AS (SELECT :end_at - :begin_at AS until, (:end_at - :begin_at) / 1e6 AS end_s,
    1e-9 AS exact),  -- finer than any row, coarser than what a float is off by
e AS (SELECT m.*, (o > 0) - (o < 0) AS g,
        min(coalesce(lead(t) OVER (ORDER BY t), until) - t, 1000000) / 1e6 AS held
    FROM m, k WHERE t >= 0),
before_event AS (SELECT avg(f) AS f, avg(r) AS r, avg(o) AS o, avg(b + r) AS p, avg(r - o) AS x
    FROM m WHERE t BETWEEN round(-:pre_from * 1e6) AND round(-:pre_to * 1e6)),
settled AS (SELECT avg(f) AS f, avg(r) AS r, avg(o) AS o, max(t) AS last
    FROM e, k WHERE t BETWEEN round(:settled_from * 1e6)
        AND min(round(:settled_to * 1e6), k.until - round(:settled_margin * 1e6))),
peak AS (SELECT t, g AS s, abs(o) AS o FROM e ORDER BY abs(o) DESC, t LIMIT 1),
enough AS (SELECT t, s, :start_share / 100.0 * o - exact AS kw,
        1 - :droop_tolerance / 100.0 AS within, exact
    FROM peak, k),
zero AS (  -- t0: the run that holds the peak begins after the last row that owed less
    SELECT min(m.t) AS t FROM m, enough AS n WHERE s <> 0 AND m.t <= n.t AND m.t > coalesce(
        (SELECT max(x.t) FROM m AS x WHERE x.t < n.t AND n.s * x.o < n.kw), -1e15)),
start AS (SELECT min(m.t) AS t FROM m, enough, zero WHERE m.t >= zero.t AND s * r >= kw),
whole AS (SELECT min(m.t) AS t FROM m, enough, zero
    WHERE m.t >= zero.t AND s * o >= kw AND s * r >= within * s * o - exact),
lacks AS (SELECT e.t, s * o >= kw AND s * r < within * s * o - exact AS short
    FROM e, enough, whole WHERE e.t >= whole.t),
runs AS (SELECT t, short, sum(NOT short) OVER (ORDER BY t) AS run FROM lacks),
broken AS (SELECT min(begun) AS t FROM (SELECT min(t) AS begun FROM runs WHERE short
    GROUP BY run HAVING max(t) - min(t) > round(:break_max * 1e6))),
moved AS (SELECT t, o, r,
        min(o) OVER w AS least, max(o) OVER w AS most
    FROM e WINDOW w AS (ORDER BY t
        RANGE BETWEEN CAST(:steady * 1e6 AS INTEGER) PRECEDING AND CURRENT ROW)),
steady AS (SELECT o, r FROM moved, k WHERE o <> 0 AND t >= round(:steady * 1e6)
    AND max(most - o, o - least) <= :steady_band / 100.0 * abs(o) + exact),
sums AS (SELECT count(*) AS n, total(held) AS covered, sum(abs(o) * held) / 3600 AS owed,
        sum(max(abs(o) - g * r, 0) * held) / 3600 AS short,
        sum(max(g * r - abs(o), 0) * held) / 3600 AS over,
        sum(max(abs(o) - g * a, 0) * held) / 3600 AS unasked,
        100.0 * avg(lacking) AS lacking
    FROM e),
slopes AS (SELECT -(settled.r - before_event.r) / (settled.f - before_event.f) AS frc,
        -(settled.o - before_event.o) / (settled.f - before_event.f) AS fro
    FROM before_event, settled, k
    WHERE abs(settled.f - before_event.f) >= :change_min - exact),
given AS (SELECT frc, coalesce(:obligation_kw_per_hz, fro) AS fro
    FROM k LEFT JOIN slopes)
SELECT k.end_s AS duration_s, sums.n AS "rows", k.end_s - sums.covered AS uncovered_s,
    sums.lacking AS unmeasured_pct, before_event.f AS pre_hz, before_event.p AS pre_power_kw,
    before_event.x AS pre_beside_kw,
    (SELECT min(f) FROM e) AS nadir_hz,
    (SELECT t / 1e6 FROM e WHERE f IS NOT NULL ORDER BY f, t LIMIT 1) AS nadir_s,
    (SELECT max(f) FROM e) AS zenith_hz,
    (SELECT t / 1e6 FROM e WHERE f IS NOT NULL ORDER BY f DESC, t LIMIT 1) AS zenith_s,
    settled.f AS settled_hz,
    (SELECT min(e.t) / 1e6 FROM e WHERE e.t <= settled.last AND e.f IS NOT NULL AND e.t > coalesce(
        (SELECT max(x.t) FROM e AS x WHERE x.t <= settled.last
            AND abs(x.f - settled.f) > :settling_band + k.exact), -1)) AS settling_s,
    peak.s AS side, peak.o AS owed_max_kw, (SELECT max(peak.s * r) FROM e) AS delivered_max_kw,
    (start.t - zero.t) / 1e6 AS start_s, (whole.t - zero.t) / 1e6 AS full_s,
    CASE WHEN peak.s = 0 THEN NULL WHEN whole.t IS NULL THEN 0.0
        ELSE (coalesce(max(broken.t, whole.t, 0), k.until) - max(whole.t, 0)) / 1e6
        END AS sustained_s,
    CASE WHEN peak.s <> 0 THEN
        min(:sustain, (k.until - coalesce(max(whole.t, 0), 0)) / 1e6) END AS sustain_due_s,
    sums.owed AS owed_kwh, sums.owed - sums.short + sums.over AS delivered_kwh,
    sums.short AS shortfall_kwh, sums.over AS excess_kwh, sums.unasked AS adaptation_kwh,
    (SELECT count(*) FROM steady) AS settled_points,
    (SELECT 100 * sum(abs(r - o)) / sum(abs(o)) FROM steady) AS droop_error_pct,
    (SELECT 100 * max(abs(r - o) / abs(o)) FROM steady) AS droop_worst_pct,
    given.frc AS frc_kw_per_hz, given.fro AS fro_kw_per_hz,
    CASE WHEN given.fro <> 0 THEN given.frc / given.fro END AS frp_ratio,
    CASE WHEN settled.o <> 0 THEN
        min(max(settled.r / settled.o, 0.0), 1.0) END AS beta_ratio
FROM k, before_event, settled, zero, start, whole, broken, sums, given LEFT JOIN peak"""

BAND_SQL = f"""\
WITH told AS ({FREQUENCY_SQL}),
one AS (SELECT at, frequency_hz AS f,  -- of two rows of one instant the finer
        max(at, :from_at) AS since,
        min(coalesce(lead(at) OVER (ORDER BY at, fine), :to_at), at + 2000000) AS until
    FROM told),
known AS (SELECT at, f, since, until, until - since AS held,
        (f > :band_high) - (f < :band_low) AS side
    FROM one WHERE until > since),
marked AS (SELECT *, coalesce(side <> lag(side) OVER w OR f IS NULL
        OR since <> lag(until) OVER w, 1) AS anew
    FROM known WINDOW w AS (ORDER BY since)),
runs AS (SELECT *, sum(anew) OVER (ORDER BY since) AS run FROM marked),
outside AS (SELECT min(since) AS begun, sum(held) AS lasted FROM runs
    WHERE side <> 0 GROUP BY run ORDER BY lasted DESC, begun LIMIT 1),
sums AS (SELECT total(held) AS seen, total(held * (side = 0)) AS inside,
        total(held * (side < 0)) AS below, total(held * (side > 0)) AS above,
        min(f) AS least, max(f) AS most, sum(f * held) / sum(held) AS mean
    FROM known WHERE f IS NOT NULL)
SELECT inside / 1e6 AS inside_s, below / 1e6 AS below_s, above / 1e6 AS above_s,
    coalesce(lasted, 0) / 1e6 AS longest_s, begun AS longest_from_us,
    least AS min_hz, most AS max_hz, mean AS mean_hz,
    100.0 * seen / (:to_at - :from_at) AS available_pct
FROM sums LEFT JOIN outside"""  # noqa: S608  (our own query)

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
    *("band_low", "band_high"),
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
            f"\n-- the frequency of a day; :from_at to :to_at\n{FREQUENCY_SQL};",
            f"\n-- its time in, below and above the band\n{BAND_SQL};",
        )
    )
