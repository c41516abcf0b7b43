"""What a primary response is judged by: dated tables, each number with its source.

A number is `verified` when it was read in a text that quotes the regulation; every report marks
those that were not. The windows are ours where no text fixes them, and say so. Pure.
"""

from dataclasses import dataclass, fields
from datetime import date


@dataclass(frozen=True, slots=True)
class RuleNumber:
    """One number of a rule book. `unit` is a word for people."""

    value: float
    unit: str
    source: str
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Grade:
    """A word for a frequency response performance (FRP) of at least so much."""

    least_ratio: float
    word: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRules:
    """One edition. How each number is used stands in `vppd.grid.compliance`."""

    name: str
    effective_from: date
    band_low: RuleNumber
    band_high: RuleNumber
    start_max: RuleNumber
    full_max: RuleNumber
    sustain: RuleNumber
    droop_tolerance: RuleNumber
    start_share: RuleNumber
    pre_from: RuleNumber
    pre_to: RuleNumber
    settled_from: RuleNumber
    settled_to: RuleNumber
    settled_margin: RuleNumber
    settling_band: RuleNumber
    steady: RuleNumber
    steady_band: RuleNumber
    break_max: RuleNumber
    change_min: RuleNumber
    grades: tuple[Grade, ...]  # best first
    grades_source: RuleNumber

    def numbers(self) -> dict[str, RuleNumber]:
        """Every number by its name."""
        named = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: value for name, value in named if isinstance(value, RuleNumber)}


_OURS = "vppd: no text found fixes it"
_RESERVE = "IEGC 2023, Reg. 30, table of primary reserves; not read in the gazette"
_ASSESSMENT = "IEGC 2023, Annexure 2, and procedures of Grid-India; not read in the gazette"

_IEGC_2023 = ResponseRules(
    name="IEGC 2023",
    effective_from=date(2023, 10, 1),
    band_low=RuleNumber(49.900, "Hz", "IEGC 2023, allowable band, as trade press quotes it", True),
    band_high=RuleNumber(50.050, "Hz", "IEGC 2023, allowable band, as trade press quotes it", True),
    start_max=RuleNumber(5.0, "s", "practice: the code says at once; read in no regulation"),
    full_max=RuleNumber(45.0, "s", _RESERVE),
    sustain=RuleNumber(300.0, "s", _RESERVE),
    droop_tolerance=RuleNumber(5.0, "%", "contract practice; read in no regulation"),
    start_share=RuleNumber(5.0, "%", _OURS),
    pre_from=RuleNumber(16.0, "s", _OURS),
    pre_to=RuleNumber(2.0, "s", _OURS),
    settled_from=RuleNumber(20.0, "s", _OURS),
    settled_to=RuleNumber(52.0, "s", _OURS),
    settled_margin=RuleNumber(2.0, "s", _OURS),
    settling_band=RuleNumber(0.02, "Hz", _OURS),
    steady=RuleNumber(3.0, "s", _OURS),
    steady_band=RuleNumber(2.0, "%", _OURS),
    break_max=RuleNumber(5.0, "s", _OURS),
    change_min=RuleNumber(0.01, "Hz", _OURS),
    grades=(
        Grade(1.0, "excellent"),
        Grade(0.85, "good"),
        Grade(0.75, "average"),
        Grade(0.5, "below average"),
        Grade(0.0, "poor"),
    ),
    grades_source=RuleNumber(1.0, "FRP from which excellent", _ASSESSMENT),
)

TABLES: tuple[ResponseRules, ...] = (_IEGC_2023,)
"""In the order of their dates."""


def rules_at(day: date) -> ResponseRules:
    """The edition in force on a day (of the grid's own calendar); before the first, the first."""
    in_force = [table for table in TABLES if table.effective_from <= day]
    return in_force[-1] if in_force else TABLES[0]
