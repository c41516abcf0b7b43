"""The report of one frequency event: its figures, verdicts, plots and rows. Pure."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from zoneinfo import ZoneInfo

from vppd.cli.line_plot import Line, plot
from vppd.cli.report.document import Document, Heading, Picture, Rows, Sentence
from vppd.cli.report.journal import Event
from vppd.cli.report.sql import NUMBERS, parameters
from vppd.core.records import EvidenceRow
from vppd.core.response_rules import ResponseRules, RuleNumber, rules_at
from vppd.field.step_response import Sample
from vppd.grid.compliance import HOLD_MAX_S, Figures, figures
from vppd.grid.events import Trigger
from vppd.grid.verdicts import Verdict, grade, verdicts
from vppd.spine.seal import Sealed

PLOT_POINTS = 1500
SIDES = {1: "discharge (low frequency)", -1: "charge (high frequency)", 0: "nothing"}
WORDS = {True: "pass", False: "FAIL", None: "not told"}


@dataclass(frozen=True, slots=True)
class Judged:
    """An event with everything that is said of it."""

    event: Event
    rows: Sequence[EvidenceRow]
    rules: ResponseRules
    figures: Figures
    verdicts: Sequence[Verdict]
    sealed: Sealed | None = None


def judged(
    event: Event, rows: Sequence[EvidenceRow], zone: ZoneInfo, sealed: Sealed | None = None
) -> Judged:
    """Figures and verdicts by the rules in force on the grid's day it began."""
    rules = rules_at(event.begin.astimezone(zone).date())
    seen = figures(rows, event.begin, event.end, rules, event.rule.obligation_kw_per_hz)
    return Judged(event, rows, rules, seen, verdicts(seen, rules), sealed)


def number(value: float | None, digits: int, unit: str = "") -> str:
    """For people; a dash where there is none."""
    if value is None:
        return "-"
    shown = round(value, digits) + 0.0  # nobody wants to read -0.0
    return f"{shown:.{digits}f} {unit}".rstrip()


def local(at: datetime, zone: ZoneInfo) -> str:
    """Wall time of the site to a tenth of a second, with its zone."""
    here = at.astimezone(zone)
    return f"{here:%Y-%m-%d %H:%M:%S}.{here.microsecond // 100_000} {here:%Z}"


def event_document(told: Judged, zone: ZoneInfo) -> Document:
    """The report."""
    return Document(f"Frequency event {told.event.id}", [*_parts(told, zone)])


def _parts(told: Judged, zone: ZoneInfo) -> Iterator[Heading | Sentence | Rows | Picture]:
    event, seen = told.event, told.figures
    if event.ending is None:
        yield Sentence("This event has no end in the journal: it goes on, or vppd stopped.", True)
    yield _seal(told, zone)
    yield from _lacking(told)
    if seen.unmeasured_pct > 0.0:
        text = f"{seen.unmeasured_pct:.1f} % of its rows lack a unit's measurement"
        yield Sentence(f"{text}; what was not measured counts as not delivered.", True)
    yield from unverified(told.rules.numbers())
    yield Rows(
        ("what", "value"),
        [
            ("begun", local(event.begin, zone)),
            ("ended", f"{local(event.end, zone)} ({event.ending or 'not known'})"),
            ("found by", _rule(event)),
            ("judged by", f"{told.rules.name}, from {told.rules.effective_from}"),
            ("owed", SIDES[seen.side]),
        ],
        "ll",
    )
    yield Heading("Verdicts")
    yield from _verdicts(told)
    yield from _pictures(told)
    yield Heading("Figures")
    yield Rows(("figure", "value"), [*_figures(seen, told.rules)], "lr")
    yield Sentence(
        "Powers are positive towards the grid. Owed is the unadapted droop curve (and the block of "
        "fast frequency response, where that is on); whatever adapts the answer (state of charge, "
        "temperature, load, ramps) counts as shortfall. Response is measured power less base "
        "point. vppd report --sql prints the query of every figure."
    )
    yield from rule_book(told.rules)
    yield Heading("Parameters of the published query")
    given = parameters(event, told.rules)
    named = [(name, str(value)) for name, value in given.items() if name not in NUMBERS]
    yield Rows(("parameter", "value"), named, "lr")


def _seal(told: Judged, zone: ZoneInfo) -> Sentence:
    """Whether its rows are those that were written then."""
    sealed = told.sealed
    if sealed is None:
        return Sentence("It has no seal: that its rows are as they were written is not proved.")
    at = local(sealed.at, zone)
    if sealed.holds:
        text = f"Sealed at {at}: its {sealed.seal.rows} rows are the same now. `vppd audit verify`"
        return Sentence(f"{text} proves the seal.")
    text = f"NOT AS SEALED at {at}: it had {sealed.seal.rows} rows then and has {sealed.rows_now}"
    if not sealed.rows_now:
        return Sentence(f"{text} now: they went for their age, or were deleted.", True)
    return Sentence(f"{text} that differ: rows were changed, deleted or added since.", True)


def rule_book(rules: ResponseRules) -> Iterator[Heading | Rows]:
    """Every number of a dated table, with its source and whether somebody read it there."""
    marks = ", ".join(f"{each.word} from {each.least_ratio:g}" for each in rules.grades)
    numbers = [
        (name, f"{each.value:g} {each.unit}", each.source, "yes" if each.verified else "NO")
        for name, each in rules.numbers().items()
        if each is not rules.grades_source
    ]
    source = rules.grades_source
    graded = ("grades", marks, source.source, "yes" if source.verified else "NO")
    yield Heading(f"Numbers it was judged by: {rules.name}, from {rules.effective_from}")
    yield Rows(("number", "value", "source", "verified"), [*numbers, graded], "lrll")


def unverified(numbers: dict[str, RuleNumber]) -> Iterator[Sentence]:
    """The mark that every report carries while a number is not verified."""
    names = [name for name, each in numbers.items() if not each.verified]
    if names:
        text = f"UNVERIFIED: {len(names)} of the {len(numbers)} numbers of the rule table were not"
        yield Sentence(f"{text} read in the regulation: {', '.join(names)}.", True)


def _verdicts(told: Judged) -> Iterator[Sentence | Rows]:
    if not told.verdicts:
        yield Sentence("Nothing was owed in this event.")
        return
    yield Rows(
        ("requirement", "value", "limit", "verdict", "source", "verified"),
        [
            (
                each.what,
                number(each.value, 1, each.rule.unit),
                number(each.limit_value, 1, each.rule.unit),
                f"{WORDS[each.passed]}{': ' if each.why else ''}{each.why}",
                each.rule.source,
                "yes" if each.rule.verified else "NO",
            )
            for each in told.verdicts
        ],
        "lrrlll",
    )


def _lacking(told: Judged) -> Iterator[Sentence]:
    """What an auditor must not overlook: rows that lack, and power that was there before."""
    seen = told.figures
    if seen.rows == 0:
        yield Sentence("The journal has no 100 ms rows of this event.", True)
    elif seen.uncovered_s >= HOLD_MAX_S:
        text = f"{seen.uncovered_s:.1f} s of this event have no 100 ms rows"
        yield Sentence(f"{text}; they count in no figure.", True)
    if seen.rows and seen.pre_hz is None:
        yield Sentence("There are no 100 ms rows from before it: no point A, no FRC.", True)
    beside_kw, within = seen.pre_beside_kw, told.rules.droop_tolerance.value / 100
    if beside_kw is not None and abs(beside_kw) > within * seen.owed_max_kw and seen.side:
        text = f"Before it the site was {beside_kw:+.1f} kW beside its base point and what it owed"
        yield Sentence(f"{text}; a response counted from the base point holds that too.", True)


def _rule(event: Event) -> str:
    rule = event.rule
    steep = f"{rule.rocof_hz_per_s:g} Hz/s" if rule.rocof_hz_per_s is not None else "no ROCOF"
    if event.trigger is Trigger.NAMED:
        return "named by an operator"
    return (
        f"{event.trigger}; rule: outside {rule.low_hz:g} to {rule.high_hz:g} Hz for "
        f"{rule.duration_s:g} s, or {steep} for {rule.rocof_duration_s:g} s"
    )


def _figures(seen: Figures, rules: ResponseRules) -> Iterator[tuple[str, str]]:
    mark = grade(seen.frp_ratio, rules)
    yield from (
        ("duration", number(seen.duration_s, 1, "s")),
        ("frequency before (A)", number(seen.pre_hz, 4, "Hz")),
        ("power before", number(seen.pre_power_kw, 1, "kW")),
        ("of it beside base point and owed", number(seen.pre_beside_kw, 1, "kW")),
        ("nadir", f"{number(seen.nadir_hz, 4, 'Hz')} at {number(seen.nadir_s, 1, 's')}"),
        ("zenith", f"{number(seen.zenith_hz, 4, 'Hz')} at {number(seen.zenith_s, 1, 's')}"),
        ("settled (B)", number(seen.settled_hz, 4, "Hz")),
        ("settling time", number(seen.settling_s, 1, "s")),
        ("greatest power owed", number(seen.owed_max_kw, 1, "kW")),
        ("greatest power delivered", number(seen.delivered_max_kw, 1, "kW")),
        ("response starts after", number(seen.start_s, 2, "s")),
        ("full after", number(seen.full_s, 2, "s")),
        ("sustained", number(seen.sustained_s, 1, "s")),
        ("energy owed", number(seen.owed_kwh, 3, "kWh")),
        ("energy delivered", number(seen.delivered_kwh, 3, "kWh")),
        ("shortfall", number(seen.shortfall_kwh, 3, "kWh")),
        ("of it not asked of the units (adaptations)", number(seen.adaptation_kwh, 3, "kWh")),
        ("beyond what was owed", number(seen.excess_kwh, 3, "kWh")),
        ("droop error at settled points", number(seen.droop_error_pct, 2, "%")),
        ("worst of them", number(seen.droop_worst_pct, 2, "%")),
        ("settled points", str(seen.settled_points)),
        ("FRC", number(seen.frc_kw_per_hz, 1, "kW/Hz")),
        ("FRO", number(seen.fro_kw_per_hz, 1, "kW/Hz")),
        ("FRP", f"{number(seen.frp_ratio, 3)}{f' ({mark})' if mark else ''}"),
        ("beta", number(seen.beta_ratio, 3)),
    )


# ---- plots and rows -------------------------------------------------------------------------


def _pictures(told: Judged) -> Iterator[Picture]:
    if not told.rows:
        return
    rules, begin = told.rules, told.event.begin
    times_s = [(row.at - begin).total_seconds() for row in told.rows]
    from_s, to_s = times_s[0], max(times_s[-1], times_s[0] + 1.0)

    def samples(value: Callable[[EvidenceRow], float | None]) -> list[Sample]:
        seen = ((at_s, value(row)) for at_s, row in zip(times_s, told.rows, strict=True))
        return thinned([Sample(at_s, one) for at_s, one in seen if one is not None])

    edges = ([Sample(from_s, each.value)] for each in (rules.band_low, rules.band_high))
    low, high = edges
    yield Picture(
        "frequency",
        plot(
            "Frequency; 0 is the beginning of the event",
            [Line("frequency", samples(lambda row: row.frequency_hz))],
            ("allowable band", low, high),
            from_s=from_s,
            to_s=to_s,
            unit="Hz",
            signed=False,
        ),
    )
    within = rules.droop_tolerance.value / 100.0
    yield Picture(
        "power",
        plot(
            "Response beside the base point",
            [
                Line("owed", samples(_owed_kw)),
                Line("asked", samples(lambda row: row.droop_kw), dashed=True),
                Line("delivered", samples(_response)),
            ],
            (
                f"tolerance {rules.droop_tolerance.value:g} %",
                samples(lambda row: _owed_kw(row) - within * abs(_owed_kw(row))),
                samples(lambda row: _owed_kw(row) + within * abs(_owed_kw(row))),
            ),
            from_s=from_s,
            to_s=to_s,
            unit="kW",
        ),
    )


def _owed_kw(row: EvidenceRow) -> float:
    return row.droop_curve_kw + row.ffr_kw


def _response(row: EvidenceRow) -> float | None:  # kW
    return row.measured_kw - row.base_kw if row.measured_kw is not None else None


def thinned(samples: Sequence[Sample], most: int = PLOT_POINTS) -> list[Sample]:
    """No more points than a plot can show; the extremes of each stretch stay."""
    stretch = 2 * -(-len(samples) // most)
    if len(samples) <= most:
        return [*samples]
    kept: list[Sample] = []
    for first in range(0, len(samples), stretch):
        part = samples[first : first + stretch]
        ends = {id(part[0]): part[0]} if first == 0 else {}
        ends |= {id(each): each for each in (min(part, key=_value), max(part, key=_value))}
        kept += sorted(ends.values(), key=lambda each: each.at_s)
    return kept


def _value(sample: Sample) -> float:  # of the plot's unit
    return sample.value


def event_csv(told: Judged) -> str:
    """The 100 ms rows, with the time since the beginning and the response."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [each.name for each in fields(EvidenceRow) if each.name != "at"]
    writer.writerow(("utc", "t_s", *names, "response_kw"))
    for row in told.rows:
        said = asdict(row)
        at_s = (row.at - told.event.begin).total_seconds()
        response = _response(row)
        writer.writerow(
            (
                row.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                f"{at_s:.3f}",
                *("" if said[name] is None else said[name] for name in names),
                "" if response is None else round(response, 4),
            )
        )
    return text.getvalue()
