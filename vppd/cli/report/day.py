"""`vppd report day`: one day of the site on one page, from its journal alone: frequency, power owed
and given, state of charge, clamps, events, market, health of the links."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from vppd.cli.line_plot import Line, plot
from vppd.cli.report.day_rows import ROWS_MAX, DayRows, SiteSlot, day_rows
from vppd.cli.report.document import Document, Heading, Picture, Rows, Sentence, markdown
from vppd.cli.report.html import html
from vppd.cli.report.journal import journal_in
from vppd.cli.report.market_plots import pictures
from vppd.cli.report.market_rows import FIRST_SCHEMA, period
from vppd.cli.words import span
from vppd.core.alarms import Code
from vppd.core.model import SEEN_KW
from vppd.field.step_response import Sample
from vppd.market.blocks import Block, block_at, blocks_of
from vppd.spine.schema import from_micros, micros

LINKS = (
    *(Code.LINK_LOST, Code.CAN_LOST, Code.BUS_OFF, Code.METER_SILENT, Code.INTERLOCK_SILENT),
    *(Code.PMU_LOST, Code.FREQUENCY_LOST, Code.MQTT_LOST, Code.JOURNAL_FAILED),
)
HOURS = 24.0
LINES_MAX = 6  # a plot has so many colours
CLAMPS_MAX = 40
PAISE = 100.0
MISSING_SHARE = 0.001  # of a day without rows, worth no word
Part = Heading | Sentence | Rows | Picture


def day_report(
    state: Path, day: date, zone: ZoneInfo, form: str, tell: Callable[[str], None]
) -> str:
    """The day of the site's zone as html or md; `tell` is told what is being done. Raises OSError,
    LookupError when the journal has nothing of it."""
    begin, end = (datetime.combine(each, time(), zone) for each in (day, day + timedelta(days=1)))
    with journal_in(state) as journal:
        seen = day_rows(journal, micros(begin), micros(end), LINKS, tell)
        if not seen.site and not seen.happenings:
            raise LookupError(f"the journal has nothing of {day}")
        market = [*_market(journal, begin, end)]
    tell("the page")
    parts: list[Part] = [
        *_summary(seen, zone),
        *_frequency(seen, zone),
        *_power(seen, zone),
        *_charge(seen, zone),
        *_clamps(seen, zone),
        *market,
        *_links(seen),
        *_events(seen, zone),
    ]
    document = Document(f"The day {day}", parts)
    return html(document) if form == "html" else markdown(document)


# ---- parts ----------------------------------------------------------------------------------


def _summary(seen: DayRows, zone: ZoneInfo) -> Iterator[Part]:
    day = from_micros(seen.from_us).astimezone(zone)
    yield Sentence(
        f"{day:%A}, times in {zone.key}. Made of the journal's rows: "
        f"{sum(each.rows for each in seen.site)} of the site, in slots of "
        f"{seen.slot_us / 60e6:g} minutes. Positive is towards the grid."
    )
    known_s, day_s = sum(each.known_s for each in seen.site), (seen.to_us - seen.from_us) / 1e6
    if known_s < (1.0 - MISSING_SHARE) * day_s:
        text = f"{100.0 * known_s / day_s:.1f} % of the day has rows; the rest is not known."
        yield Sentence(text, loud=True)


def _frequency(seen: DayRows, zone: ZoneInfo) -> Iterator[Part]:
    yield Heading("Frequency")
    told = [(each.slot, *each.hz) for each in seen.site]
    known = [
        (slot, low, mean, high)
        for slot, low, mean, high in told
        if low is not None and mean is not None and high is not None
    ]
    if not known:
        yield Sentence("No frequency was known.", loud=True)
        return
    least, most = min(known, key=lambda each: each[1]), max(known, key=lambda each: each[3])
    mean_hz = sum(mean for _, _, mean, _ in known) / len(known)
    yield Sentence(
        f"Mean {mean_hz:.4f} Hz; least {least[1]:.4f} Hz about {_clock(seen, least[0], zone)}, "
        f"most {most[3]:.4f} Hz about {_clock(seen, most[0], zone)}."
    )
    lows = [Sample(_hour(seen, slot), low) for slot, low, _, _ in known]
    highs = [Sample(_hour(seen, slot), high) for slot, _, _, high in known]
    means = [Sample(_hour(seen, slot), mean) for slot, _, mean, _ in known]
    lines = [
        Line("least", lows),
        Line("most", highs),
        Line("mean", means),
    ]
    yield _picture("frequency", "Frequency", lines, "Hz", signed=False)


def _power(seen: DayRows, zone: ZoneInfo) -> Iterator[Part]:
    yield Heading("Power owed and delivered")
    owed, cleared = (
        _power_line(seen, lambda e: e.owed_kw),
        _power_line(seen, lambda e: e.cleared_kw),
    )
    measured = [Sample(_hour(seen, slot), kw) for slot, kw in sorted(seen.measured_kw.items())]
    hours = {each.slot: each.known_s / 3600 for each in seen.site}
    yield Rows(
        ("energy, kWh", "out", "in", "net"),
        [
            (name, *_energies((kw * hours[slot] for slot, kw in powers.items() if slot in hours)))
            for name, powers in (
                ("owed", {each.slot: each.owed_kw for each in seen.site}),
                ("setpoints", {each.slot: each.cleared_kw for each in seen.site}),
                ("measured", seen.measured_kw),
            )
        ],
        "lrrr",
    )
    yield Sentence("Out and in are of the means of the slots; net is of every row.")
    short = [
        (each.slot, each.owed_kw - seen.measured_kw[each.slot])
        for each in seen.site
        if each.slot in seen.measured_kw
    ]
    if short:
        slot, most_kw = max(short, key=lambda each: abs(each[1]))
        yield Sentence(
            f"Owed and measured were furthest apart about {_clock(seen, slot, zone)}: "
            f"{most_kw:+.1f} kW in the mean of its slot."
        )
    lines = [
        Line("owed", owed, dashed=True),
        Line("setpoints", cleared),
        Line("measured", measured),
    ]
    yield _picture("power", "Power owed, set and measured", lines, "kW")


def _power_line(seen: DayRows, of: Callable[[SiteSlot], float]) -> list[Sample]:
    return [Sample(_hour(seen, each.slot), of(each)) for each in seen.site]


def _energies(parts_kwh: Iterable[float]) -> tuple[str, str, str]:
    parts_kwh = list(parts_kwh)
    out_kwh = sum(each for each in parts_kwh if each > 0)
    return f"{out_kwh:.1f}", f"{out_kwh - sum(parts_kwh):.1f}", f"{sum(parts_kwh):+.1f}"


def _charge(seen: DayRows, zone: ZoneInfo) -> Iterator[Part]:
    yield Heading("State of charge")
    if not seen.soc_pct:
        yield Sentence("No state of charge was read.")
        return
    if len(seen.soc_pct) <= LINES_MAX:
        lines = [
            Line(unit, [Sample(_hour(seen, slot), value) for slot, value in values])
            for unit, values in seen.soc_pct.items()
        ]
    else:
        lines = _spread(seen)
    yield _picture("soc", "State of charge", lines, "%", signed=False)
    yield Rows(
        ("unit", "first %", "least %", "most %", "last %", "last at"),
        [
            (
                unit,
                *(f"{value:.1f}" for value in _edges([value for _, value in values])),
                _clock(seen, values[-1][0], zone),
            )
            for unit, values in seen.soc_pct.items()
        ],
        "lrrrrr",
    )


def _spread(seen: DayRows) -> list[Line]:
    """Many units as their least, mean and most."""
    slots: dict[int, list[float]] = {}
    for values in seen.soc_pct.values():
        for slot, value in values:
            slots.setdefault(slot, []).append(value)

    def line(name: str, of: Callable[[list[float]], float]) -> Line:
        return Line(name, [Sample(_hour(seen, slot), of(slots[slot])) for slot in sorted(slots)])

    return [
        line("least of all units", min),
        line("mean", lambda each: sum(each) / len(each)),
        line("most of all units", max),
    ]


def _edges(values: Sequence[float]) -> tuple[float, float, float, float]:
    return values[0], min(values), max(values), values[-1]


def _clamps(seen: DayRows, zone: ZoneInfo) -> Iterator[Part]:
    yield Heading("Clamps: who cut what was asked")
    if not seen.clamps:
        yield Sentence("Nothing was cut.")
        return
    longest = sorted(seen.clamps, key=lambda each: -each.lasted_s)
    yield Rows(
        ("reason", "of", "lasted", "first", "last", "most, kW"),
        [
            (
                each.code,
                each.unit,
                span(each.lasted_s),
                _time(each.first_us, zone),
                _time(each.last_us, zone),
                f"{each.most_kw:.1f}" if each.most_kw >= SEEN_KW else "held",
            )
            for each in longest[:CLAMPS_MAX]
        ],
        "llrrrr",
    )
    if len(seen.clamps) > CLAMPS_MAX:
        yield Sentence(f"And {len(seen.clamps) - CLAMPS_MAX} more that lasted less.")


def _market(journal: sqlite3.Connection, begin: datetime, end: datetime) -> Iterator[Part]:
    """What was sold in the blocks of the day, where there is a market."""
    (version,) = journal.execute("PRAGMA user_version").fetchone()
    if version < FIRST_SCHEMA:
        return
    first, last = block_at(begin), block_at(end)
    areas = journal.execute(
        "SELECT DISTINCT area FROM price WHERE block_at >= ? AND block_at < ?",
        (micros(first.start), micros(last.start)),
    ).fetchall()
    seen = period(journal, first, last, str(areas[0][0]) if areas else None)
    yield Heading("Market")
    if not seen.blocks and not seen.results and not seen.bids:
        yield Sentence("Nothing was traded.")
        return
    rows = [each.row for each in seen.blocks]
    metered = [row.metered_mwh for row in rows if row.metered_mwh is not None]
    deviation = [row.deviation_mwh for row in rows if row.deviation_mwh is not None]
    yield Rows(
        ("of its blocks", "value"),
        [
            ("blocks with an account", f"{len(rows)} of {_blocks(first, last)}"),
            ("day-ahead cleared", f"{sum(row.dam_mwh for row in rows):+.3f} MWh"),
            ("real-time cleared", f"{sum(row.rtm_mwh for row in rows):+.3f} MWh"),
            ("scheduled", f"{sum(row.scheduled_mwh for row in rows):+.3f} MWh"),
            ("metered", f"{sum(metered):+.3f} MWh"),
            ("deviation", f"{sum(deviation):+.3f} MWh"),
            ("settled", f"{sum(e.row.amount_paise for e in seen.lines) / PAISE:+.2f} Rs"),
        ],
        "lr",
    )
    if any(not each.row.verified for each in seen.lines):
        yield Sentence(
            "UNVERIFIED: some amounts rest on rates nobody has verified; see vppd report market.",
            loud=True,
        )
    yield from (part for part in pictures(seen) if isinstance(part, Picture))


def _blocks(first: Block, last: Block) -> int:
    return round((last.start - first.start) / timedelta(days=1) * len(blocks_of(first.day)))


def _links(seen: DayRows) -> Iterator[Part]:
    yield Heading("Health of links")
    if not seen.outages:
        yield Sentence("No link was lost.")
        return
    day_s = (seen.last_us - seen.from_us) / 1e6
    yield Rows(
        ("link", "what", "times", "in all", "longest", "there %", ""),
        [
            (
                each.unit,
                each.code,
                f"{each.times}",
                span(each.total_s),
                span(each.longest_s),
                f"{100 - 100 * each.total_s / day_s:.2f}",
                "lost at the end" if each.ongoing else "",
            )
            for each in seen.outages
        ],
        "llrrrrl",
    )


def _events(seen: DayRows, zone: ZoneInfo) -> Iterator[Part]:
    yield Heading("Events")
    if not seen.happenings:
        yield Sentence("None.")
        return
    if len(seen.happenings) >= ROWS_MAX:
        yield Sentence(f"The first {ROWS_MAX}; the journal has the rest.", loud=True)
    yield Rows(
        ("time", "what", "of", "text"),
        [(_time(each.at_us, zone), each.what, each.unit, each.text) for each in seen.happenings],
        "llll",
    )


# ---- on paper -------------------------------------------------------------------------------


def _picture(
    name: str, title: str, lines: Sequence[Line], unit: str, *, signed: bool = True
) -> Picture:
    shown = [line for line in lines if line.samples]
    text = plot(
        title, shown, from_s=0.0, to_s=HOURS, unit=unit, signed=signed, along="hour of the day"
    )
    return Picture(name, text)


def _hour(seen: DayRows, slot: int) -> float:  # the middle of a slot, hours from midnight
    return min(HOURS, (slot + 0.5) * seen.slot_us / 3.6e9)


def _clock(seen: DayRows, slot: int, zone: ZoneInfo) -> str:
    at = from_micros(seen.from_us + slot * seen.slot_us)
    return f"{at.astimezone(zone):%H:%M}"


def _time(at_us: int, zone: ZoneInfo) -> str:
    return f"{from_micros(at_us).astimezone(zone):%H:%M:%S}"
