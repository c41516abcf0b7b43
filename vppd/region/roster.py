"""What is heard of sites: which messages are believed, and what they mean. Pure.

Samples count up in an epoch. What is retained, of another site, not readable, not newer than the
last or from the future is refused and counted; what is believed but older than `stale_s` (a site
that catches up after a cut sends its past first) moves the sequence on and is not the present.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from vppd.core.alarms import Level
from vppd.core.model import Point

TEXT_MAX, CODE_MAX, EPOCH_MAX = 256, 64, 128
SOC_BEYOND_PCT = 1.0  # rounding of a gauge
# A site may be more than the share of it that is rated here; beyond this it is a wrong word.
TIMES_RATED = 10.0
AHEAD_S = 5.0  # a site's clock may be so much ahead of ours
EPOCHS_MAX = 8
SAMPLE_MAX_BYTES = 65_536
# From the record of a sample to what is known of a unit. A capability that is null is none.
MEASURED: Mapping[str, Point] = {
    "power_kw": Point.POWER_KW,
    "reactive_kvar": Point.REACTIVE_KVAR,
    "setpoint_kw": Point.SETPOINT_KW,
    "soc_pct": Point.SOC_PCT,
    "available_discharge_kw": Point.DISCHARGE_MAX_KW,
    "available_charge_kw": Point.CHARGE_MAX_KW,
    "available_discharge_kwh": Point.AVAILABLE_DISCHARGE_KWH,
    "available_charge_kwh": Point.AVAILABLE_CHARGE_KWH,
    "rated_kw": Point.RATED_POWER_KW,
    "energy_kwh": Point.ENERGY_CAPACITY_KWH,
}


class Reason(StrEnum):
    """Why a message about a site is not believed."""

    RETAINED = "retained"
    OVERSIZED = "oversized"
    MALFORMED = "malformed"
    FOREIGN = "foreign"  # another site wrote on this one's topic
    REPLAYED = "replayed"  # or out of sequence
    AHEAD = "ahead"  # of our clock
    STRANGER = "stranger"  # no unit of ours
    TWICE = "twice"  # two speak under its name, or its journal went back to an older one
    TOO_MANY = "too_many"  # from this site, in so short a time
    LATE = "late_answer"  # to an order that another has followed


class RefusedMessage(Exception):  # noqa: N818  an answer, not an error of ours
    """A message that is not believed."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason, self.text = reason, text


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a site. `values` hold the numbers of its record that are known."""

    epoch: str
    seq: int
    at: datetime
    values: Mapping[str, float] = field(default_factory=dict)

    def age_s(self, now: datetime) -> float:
        """How old it is; the two clocks may be a little apart."""
        return max((now - self.at) / timedelta(seconds=1), 0.0)


@dataclass(frozen=True, slots=True)
class Heard:
    """How far the samples of one site were heard: the newest, and the epochs before it."""

    epoch: str = ""
    seq: int = -1
    at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    past: tuple[str, ...] = ()


def read_sample(site: str, payload: bytes, *, retained: bool) -> Sample | None:
    """A sample of this site; None: it tells of a gap, which is nothing now. Raises
    RefusedMessage."""
    view = _object(payload)
    if retained:
        raise RefusedMessage(Reason.RETAINED, "a sample must not be retained")
    if view.get("site") != site or view.get("node") != site:
        raise RefusedMessage(Reason.FOREIGN, f"of {view.get('site')!s:.64} on the topic of {site}")
    if "gap" in view:
        return None
    record, seq, epoch = view.get("record"), view.get("seq"), view.get("epoch")
    known = isinstance(epoch, str) and len(epoch) <= EPOCH_MAX
    if not isinstance(record, dict) or not known or not _is_count(seq):
        raise RefusedMessage(Reason.MALFORMED, "it has no epoch, seq or record")
    values = {
        name: number for name in MEASURED if (number := _number(record.get(name))) is not None
    }
    return Sample(str(epoch), int(str(seq)), _moment(view.get("at")), values)


def believed(heard: Heard, sample: Sample, now: datetime) -> Heard:
    """The site with one more sample. Raises RefusedMessage."""
    if sample.at > now + timedelta(seconds=AHEAD_S):
        ahead_s = (sample.at - now) / timedelta(seconds=1)
        raise RefusedMessage(Reason.AHEAD, f"its clock is {ahead_s:.0f} s ahead of ours")
    if sample.epoch == heard.epoch:
        if sample.seq <= heard.seq:
            text = f"seq {sample.seq} is not greater than {heard.seq}"
            raise _again(heard, sample, text)
        return Heard(heard.epoch, sample.seq, max(sample.at, heard.at), heard.past)
    # a new journal at the site begins a new epoch; what is of an old one comes again
    if sample.epoch in heard.past or sample.at <= heard.at:
        raise _again(heard, sample, "of an epoch that is over")
    past = (*heard.past, heard.epoch)[-EPOCHS_MAX:] if heard.epoch else heard.past
    return Heard(sample.epoch, sample.seq, sample.at, past)


def _again(heard: Heard, sample: Sample, text: str) -> RefusedMessage:
    """What comes again is no newer than what was heard; what is newer is said by another."""
    if sample.at <= heard.at:
        return RefusedMessage(Reason.REPLAYED, text)
    two = "two speak under this name, or its journal is an older one"
    return RefusedMessage(Reason.TWICE, f"{text}: {two}")


def plausible(
    values: Mapping[str, float], rated_kw: float, energy_kwh: float
) -> tuple[dict[str, float], str]:
    """What of a sample can be, for a unit of that size; and what cannot, in words. What cannot be
    is not known: a sum with it would be of nothing, and 1e308 twice is more than a sum can hold."""
    most_kw, most_kwh = TIMES_RATED * rated_kw, TIMES_RATED * energy_kwh
    kept: dict[str, float] = {}
    odd: list[str] = []
    for name, value in values.items():
        if name == "soc_pct":
            low, high = -SOC_BEYOND_PCT, 100.0 + SOC_BEYOND_PCT
        elif name.endswith("_kwh"):
            low, high = 0.0, most_kwh
        elif name in ("power_kw", "reactive_kvar", "setpoint_kw"):
            low, high = -most_kw, most_kw
        else:
            low, high = 0.0, most_kw
        if low <= value <= high:
            kept[name] = value
        else:
            odd.append(f"{name} {value:g}")
    return kept, ", ".join(odd)


def capped(
    values: Mapping[str, float], out_kw: float = math.inf, in_kw: float = math.inf
) -> dict[Point, float]:
    """What is known of the unit: never more than the site's own rating, nor than it takes orders
    for."""
    rated_kw = max(values.get("rated_kw", math.inf), 0.0)
    known = {point: values[name] for name, point in MEASURED.items() if name in values}
    for point, most_kw in ((Point.DISCHARGE_MAX_KW, out_kw), (Point.CHARGE_MAX_KW, in_kw)):
        known[point] = max(min(known.get(point, 0.0), rated_kw, most_kw), 0.0)
    return known


def read_online(site: str, payload: bytes) -> bool:
    """What the retained status of a site says. Raises RefusedMessage."""
    view = _object(payload)
    state = view.get("state")  # anything at all, so nothing that needs a hash
    if view.get("site") != site or state not in ("online", "offline"):
        raise RefusedMessage(Reason.MALFORMED, "it is no status of this site")
    return state == "online"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a site said to an order. `low_kw` to `high_kw` is what it would take, where it says."""

    site: str
    id: str
    accepted: bool
    reason: str = ""
    text: str = ""
    low_kw: float | None = None
    high_kw: float | None = None


def read_answer(payload: bytes) -> Answer:
    """The reply to an order. Raises RefusedMessage."""
    view = _object(payload)
    site, id_, verdict = view.get("site"), view.get("id"), view.get("verdict")
    if not isinstance(site, str) or not isinstance(id_, str) or not isinstance(verdict, str):
        raise RefusedMessage(Reason.MALFORMED, "it is no answer to an order")
    reason, text = (plain(view.get(name) or "") for name in ("reason", "text"))
    low_kw, high_kw = _number(view.get("low_kw")), _number(view.get("high_kw"))
    return Answer(site, id_, verdict == "accepted", reason, text, low_kw, high_kw)


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of a site, for the journal."""

    at: datetime
    epoch: str
    seq: int
    code: str
    unit: str
    level: int
    text: str


def read_event(site: str, payload: bytes) -> Happened | None:
    """An event of this site; None: it tells of a gap. Raises RefusedMessage."""
    view = _object(payload)
    if view.get("site") != site:
        raise RefusedMessage(Reason.FOREIGN, f"of {view.get('site')!s:.64} on the topic of {site}")
    if "gap" in view:
        return None
    seq, level = view.get("seq"), view.get("level")
    words: Sequence[object] = [view.get(name) for name in ("epoch", "code", "unit", "text")]
    if (
        not _is_count(seq)
        or not _is_count(level)
        or not all(isinstance(each, str) for each in words)
    ):
        raise RefusedMessage(Reason.MALFORMED, "it is no event")
    epoch, code, unit, text = map(plain, words)
    at, worst = _moment(view.get("at")), max(Level)
    return Happened(
        at, epoch, int(str(seq)), code[:CODE_MAX], unit, min(int(str(level)), worst), text
    )


def plain(said: object) -> str:
    """What a stranger wrote as a person may read it: in one line, of bounded length, with nothing
    that moves a terminal or that a database does not take."""
    text = str(said)[:TEXT_MAX]
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def _object(payload: bytes) -> dict[str, object]:
    if len(payload) > SAMPLE_MAX_BYTES:
        raise RefusedMessage(Reason.OVERSIZED, f"{len(payload)} bytes")
    try:
        view = json.loads(payload)
    except (ValueError, RecursionError):
        raise RefusedMessage(Reason.MALFORMED, "it is not JSON") from None
    if not isinstance(view, dict):
        raise RefusedMessage(Reason.MALFORMED, "it is no object")
    return view


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value))
        return moment.astimezone(UTC) if moment.tzinfo is not None else _no_moment()
    except (ValueError, OverflowError):
        return _no_moment()


def _no_moment() -> datetime:
    raise RefusedMessage(Reason.MALFORMED, "it does not say when")
