"""`vppd report`: what the journal proves to an auditor, whether the daemon runs or not."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from vppd.cli.report.document import Document, Heading, Rows, Sentence, markdown
from vppd.cli.report.event import (
    Judged,
    event_csv,
    event_document,
    judged,
    local,
    number,
    rule_book,
    unverified,
)
from vppd.cli.report.html import html
from vppd.cli.report.journal import (
    event_named,
    events_in,
    frequency_of,
    journal_in,
    rows_of,
)
from vppd.cli.report.rolled import only_rolled
from vppd.core.response_rules import ResponseRules, rules_at
from vppd.grid.band_time import BandClock, BandTime
from vppd.grid.verdicts import grade
from vppd.spine.schema import from_micros, micros
from vppd.spine.seal import seal_of

FORMATS = ("md", "html", "csv")
EVER = (datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Day:
    """One calendar day of the site."""

    day: date
    band: BandTime


def event_report(state: Path, name: str, zone: ZoneInfo, form: str) -> str:
    """The report of one event as md, html or csv. Raises OSError, LookupError."""
    with journal_in(state) as journal:
        event = event_named(journal, name)
        sealed = seal_of(journal, event.id, micros(event.begin))
        told = judged(event, rows_of(journal, event), zone, sealed)
    if form == "csv":
        return event_csv(told)
    return _rendered(event_document(told, zone), form)


def frequency_report(state: Path, month: date, zone: ZoneInfo, form: str) -> str:
    """A month of frequency as md, html or csv. Raises OSError."""
    with journal_in(state) as journal:
        days = [
            Day(day, _day(frequency_of(journal, begin, end), begin, end, rules_at(day)))
            for day, begin, end in days_of(month, zone)
        ]
        begin, end = days_bounds(month, zone)
        told = [
            judged(event, rows_of(journal, event), zone) for event in events_in(journal, begin, end)
        ]
        rolled = only_rolled(journal, begin, end, zone)
    if form == "csv":
        return _days_csv(days)
    title = f"Frequency in {month:%Y-%m}"
    return _rendered(Document(title, [*rolled, *_month(days, told, zone)]), form)


def events_report(state: Path, zone: ZoneInfo) -> list[str]:
    """Every event of the journal, one line each, oldest first. Raises OSError."""
    with journal_in(state) as journal:
        events = events_in(journal, *EVER)
    return [
        f"{event.id}  {local(event.begin, zone)}  {(event.end - event.begin).total_seconds():.1f} s"
        f"  {event.trigger}  {event.ending or 'no end'}"
        for event in events
    ]


def days_of(month: date, zone: ZoneInfo) -> Iterator[tuple[date, datetime, datetime]]:
    """Each day of the month with its bounds in the site's zone, as UTC."""
    day = month.replace(day=1)
    while day.month == month.month:
        following = day + timedelta(days=1)
        yield day, _midnight(day, zone), _midnight(following, zone)
        day = following


def days_bounds(month: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Beginning and end of the month."""
    days = [*days_of(month, zone)]
    return days[0][1], days[-1][2]


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _rendered(document: Document, form: str) -> str:
    return html(document) if form == "html" else markdown(document)


def _day(
    samples_hz: Iterator[tuple[int, float | None]],
    begin: datetime,
    end: datetime,
    rules: ResponseRules,
) -> BandTime:
    clock = BandClock(rules.band_low.value, rules.band_high.value, micros(begin), micros(end))
    for at_us, frequency_hz in samples_hz:
        clock.take(at_us, frequency_hz)
    return clock.day()


def _month(
    days: Sequence[Day], told: Sequence[Judged], zone: ZoneInfo
) -> Iterator[Heading | Sentence | Rows]:
    books = [*dict.fromkeys(rules_at(each.day) for each in days)]
    for rules in books:
        low, high = rules.band_low, rules.band_high
        yield from unverified(rules.numbers())
        yield Sentence(
            f"Band {low.value:.3f} to {high.value:.3f} Hz, edges inside ({rules.name}, from "
            f"{rules.effective_from}: {low.source}; "
            f"{'verified' if low.verified and high.verified else 'UNVERIFIED'})."
        )
    yield Sentence(
        f"Days of {zone.key}. From the site's rows: one a second, in events one in 100 ms; a row "
        "holds at most 2 s. vppd report --sql prints the query of every figure."
    )
    yield Rows(
        (
            *("day", "in s", "below s", "above s", "longest outside s", "from"),
            *("min Hz", "max Hz", "mean Hz", "available %"),
        ),
        [
            (
                f"{each.day}",
                *(number(each.band.inside_s, 1), number(each.band.below_s, 1)),
                *(number(each.band.above_s, 1), number(each.band.longest_s, 1)),
                _clock_time(each.band.longest_from_us, zone),
                *(number(each.band.min_hz, 4), number(each.band.max_hz, 4)),
                *(number(each.band.mean_hz, 4), number(each.band.available_pct, 2)),
            )
            for each in days
        ],
        "lrrrrrrrrr",
    )
    yield Heading("Events")
    yield from _events(told, zone)
    for rules in books:
        yield from rule_book(rules)


def _events(told: Sequence[Judged], zone: ZoneInfo) -> Iterator[Sentence | Rows]:
    if not told:
        yield Sentence("None.")
        return
    yield Rows(
        ("id", "begun", "lasted s", "nadir Hz", "zenith Hz", "FRP", "beta", "shortfall kWh"),
        [
            (
                each.event.id,
                local(each.event.begin, zone),
                number(each.figures.duration_s, 1),
                number(each.figures.nadir_hz, 4),
                number(each.figures.zenith_hz, 4),
                _graded(each),
                number(each.figures.beta_ratio, 3),
                number(each.figures.shortfall_kwh, 3),
            )
            for each in told
        ],
        "llrrrrrr",
    )
    betas = [each.figures.beta_ratio for each in told if each.figures.beta_ratio is not None]
    if betas:
        mean = sum(betas) / len(betas)
        yield Sentence(f"Mean beta of {len(betas)} events: {mean:.3f}.")


def _graded(told: Judged) -> str:
    ratio = told.figures.frp_ratio
    return f"{number(ratio, 3)} {grade(ratio, told.rules)}".rstrip()


def _clock_time(at_us: int | None, zone: ZoneInfo) -> str:
    return f"{from_micros(at_us).astimezone(zone):%H:%M:%S}" if at_us is not None else "-"


def _days_csv(days: Sequence[Day]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("day", *(each.name for each in fields(BandTime))))
    for each in days:
        values = asdict(each.band).values()
        writer.writerow((each.day, *("" if value is None else value for value in values)))
    return text.getvalue()
