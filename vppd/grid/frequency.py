"""Which frequency to believe, and how droop goes from one source to the next. Pure.

The sources are PMUs in the configured order of trust, then the site meter's and the units' own
measurement. Each is followed (`source_quality`), all are compared (`agreement`), and the most
trusted that stands is chosen. A source that was left is gone back to only after it was good for
`return_s`.

A change of source, or a disagreement that begins or ends, never makes a bump: for `switch_s` after
it, and longer the further the input moved, droop moves by no more than `switch_step_pct` of P_max
in a tick (`eased` narrows its ramp). That ends early when the source itself then moves by
`switch_release_hz`: the grid moves.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from vppd.core.model import METER, Phasor, Point, Quality, Snapshot, Synchro, UnitId
from vppd.core.settings import BandSettings, DroopSettings
from vppd.core.settings_sources import SourceSettings
from vppd.grid.agreement import Voice, against, cautious, majority
from vppd.grid.droop_curve import ramp_of
from vppd.grid.source_quality import Track, followed

TICK_MAX_S = 0.2  # the most time a ramp counts in one tick
TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class Frequency:
    """One believed frequency, the input of droop. `at_s` is when it was true on the site clock."""

    frequency_hz: float
    at_s: float
    source: UnitId
    quality_text: str
    rocof_hz_per_s: float | None = None
    phasors: tuple[Phasor, ...] = ()
    eased: bool = False  # the source changed a moment ago
    why: str = ""  # why no more trusted source was taken; empty for the first
    disagrees: str = ""  # with whom, and by how much
    waits: tuple[UnitId, ...] = ()  # sources whose jump is not confirmed yet


@dataclass(frozen=True, slots=True)
class Heard:
    """What one tick hands to the next about the sources. `driver` is where the value came from:
    the chosen source, or the one that asked for less power."""

    tracks: Mapping[UnitId, Track] = field(default_factory=dict)
    source: UnitId | None = None
    left: frozenset[UnitId] = frozenset()  # chosen once, then left
    driver: UnitId | None = None
    other: UnitId | None = None  # who disagrees with the chosen one
    frequency_hz: float | None = None  # the last input, kept while there is none
    eased_until_s: float = -math.inf
    eased_hz: float = 0.0  # the input when the easing began
    apart_s: float | None = None  # since when the chosen one is contradicted
    device_apart_s: float | None = None  # since when the devices contradict the first PMU


def believable(synchro: Synchro, now_s: float) -> bool:
    """Whether one source's last word may be acted on now."""
    return synchro.quality is Quality.GOOD and 0.0 <= synchro.age_s(now_s) <= synchro.max_age_s


def plausible(frequency_hz: float, bands: BandSettings) -> bool:
    """Whether it is a frequency of this grid."""
    return bands.plausible_low_hz <= frequency_hz <= bands.plausible_high_hz


@dataclass(frozen=True, slots=True)
class Trust:
    """Who is asked, in order of trust, and by which rules."""

    pmus: tuple[UnitId, ...]
    units: tuple[UnitId, ...]
    bands: BandSettings
    droop: DroopSettings
    sources: SourceSettings

    @property
    def devices(self) -> tuple[UnitId, ...]:
        """The sources after the PMUs."""
        return (METER, *self.units)


def choose(
    now: Snapshot, pmus: Sequence[UnitId], units: Sequence[UnitId], bands: BandSettings
) -> Frequency | None:
    """The frequency of the most trusted source that has one, or None; without a memory."""
    trust = Trust(tuple(pmus), tuple(units), bands, DroopSettings(), SourceSettings())
    return select(now, trust, Heard())[0]


def select(now: Snapshot, trust: Trust, heard: Heard) -> tuple[Frequency | None, Heard]:
    """The believed frequency of this tick, or None when no source has one."""
    tracks = _tracks(now, trust, heard.tracks)
    voices = {
        id_: Voice(id_, track.frequency_hz, track.at_s)
        for id_, track in tracks.items()
        if _stands(now, id_, track)
    }
    device = next((voices[id_] for id_ in trust.devices if id_ in voices), None)
    speakers = [voices[id_] for id_ in trust.pmus if id_ in voices]
    heard, counts = _admitted(now, trust, heard, tracks, speakers, device)
    if device is not None and counts:
        speakers.append(device)
    kept = {each.source for each in majority(speakers, trust.sources)}
    outvoted = {each.source for each in speakers} - kept
    able = [id_ for id_ in (*trust.pmus, *trust.devices) if id_ in voices and id_ not in outvoted]
    if device is not None and device.source in outvoted:
        able = [id_ for id_ in able if id_ in trust.pmus]
    if not able:
        left = heard.left | ({heard.source} if heard.source is not None else frozenset())
        return None, replace(heard, tracks=tracks, source=None, left=left, driver=None, other=None)
    chosen = _preferred(able, tracks, trust, heard, now.now_s)
    left = heard.left - {chosen}
    if heard.source not in (None, chosen):
        left |= {heard.source}
    stands = [each for each in speakers if each.source in kept]
    other = against(voices[chosen], stands, trust.sources, before=heard.apart_s is not None)
    drives = voices[chosen]
    if other is not None:
        drives = cautious(drives, other, trust.droop.nominal_hz)
    apart_s = None
    if other is not None or outvoted:
        apart_s = heard.apart_s if heard.apart_s is not None else now.now_s
    heard = replace(
        _easing(heard, drives, other, trust, now.now_s),
        tracks=tracks,
        source=chosen,
        left=left,
        frequency_hz=drives.frequency_hz,
        apart_s=apart_s,
    )
    contradicted = [other] if other is not None else [voices[id_] for id_ in outvoted]
    lasting = apart_s is not None and now.now_s - apart_s >= trust.sources.disagree_s
    frequency = replace(
        _frequency(now, voices[chosen]),
        frequency_hz=drives.frequency_hz,
        at_s=drives.at_s,
        eased=now.now_s < heard.eased_until_s,
        why=_why(now, trust, chosen, tracks, outvoted),
        disagrees=_difference(voices[chosen], contradicted) if lasting else "",
        waits=tuple(id_ for id_, track in tracks.items() if track.waits),
    )
    return frequency, heard


def eased(
    droop: DroopSettings, frequency: Frequency | None, max_kw: float, step_pct: float
) -> DroopSettings:
    """The settings of droop for this tick: after a change of source it moves by no more than that
    share of P_max in a tick, however late the tick comes."""
    if frequency is None or not frequency.eased:
        return droop
    bound_kw_per_s = step_pct / 100.0 * max_kw / TICK_MAX_S
    return replace(droop, ramp_kw_per_s=min(ramp_of(droop, max_kw), bound_kw_per_s))


def withdrawn_kw(max_kw: float, step_pct: float, dt_s: float) -> float:
    """By how much droop goes to 0 in this tick when the bus is dead: the same share of P_max in a
    tick of a PMU's period or longer, in proportion in a shorter one."""
    return step_pct / 100.0 * max_kw * min(dt_s / TICK_S, 1.0)


def _tracks(now: Snapshot, trust: Trust, before: Mapping[UnitId, Track]) -> dict[UnitId, Track]:
    """Every believable source followed by one more frame."""
    said: dict[UnitId, Voice] = {}
    for id_ in trust.pmus:
        synchro = now.synchros.get(id_)
        if synchro is not None and believable(synchro, now.now_s):
            said[id_] = Voice(id_, synchro.frequency_hz, synchro.at_s - synchro.delay_s)
    point = Point.FREQUENCY_HZ
    for id_ in trust.devices:
        reading = now.readings.get((id_, point))
        if reading is not None and now.fresh(id_, point) is not None:
            said[id_] = Voice(id_, reading.value, reading.at_s)
    if any(_is_dead(now, id_) for id_ in trust.pmus) and not any(id_ in said for id_ in trust.pmus):
        return {}  # the devices hang on the same bus
    said = {id_: each for id_, each in said.items() if plausible(each.frequency_hz, trust.bands)}
    return {
        id_: followed(
            before.get(id_),
            each.frequency_hz,
            each.at_s,
            trust.sources,
            (other.frequency_hz for other in said.values() if other.source != id_),
        )
        for id_, each in said.items()
    }


def _is_dead(now: Snapshot, id_: UnitId) -> bool:
    synchro = now.synchros.get(id_)
    return (
        synchro is not None
        and synchro.quality is Quality.DEAD_BUS
        and 0.0 <= synchro.age_s(now.now_s) <= synchro.max_age_s
    )


def _stands(now: Snapshot, id_: UnitId, track: Track) -> bool:
    """Whether the accepted value is young enough while a jump waits."""
    synchro = now.synchros.get(id_)
    if not track.waits or synchro is None:
        return True
    return now.now_s - track.at_s <= synchro.max_age_s


def _admitted(
    now: Snapshot,
    trust: Trust,
    heard: Heard,
    tracks: Mapping[UnitId, Track],
    pmus: Sequence[Voice],
    device: Voice | None,
) -> tuple[Heard, bool]:
    """Whether the devices count beside the PMUs: they are slow, so what they say against the first
    of them counts once it has lasted, or at once after a jump that nobody seconded."""
    if device is None or not pmus or not trust.sources.devices_count:
        return replace(heard, device_apart_s=None), device is not None and not pmus
    before = heard.device_apart_s is not None
    if against(pmus[0], [device], trust.sources, before=before) is None:
        return replace(heard, device_apart_s=None), True
    since_s = heard.device_apart_s if heard.device_apart_s is not None else now.now_s
    alone_s = now.now_s - tracks[pmus[0].source].alone_s
    lasted = now.now_s - since_s >= trust.sources.disagree_s
    jumped = alone_s <= trust.sources.disagree_s
    return replace(heard, device_apart_s=since_s), lasted or jumped


def _preferred(
    able: Sequence[UnitId],
    tracks: Mapping[UnitId, Track],
    trust: Trust,
    heard: Heard,
    now_s: float,
) -> UnitId:
    """The most trusted one; one that was left only after it was good for long enough, unless there
    is nothing else."""
    for id_ in able:
        rested = now_s - tracks[id_].good_s >= trust.sources.return_s
        if id_ == heard.source or id_ not in heard.left or rested:
            return id_
    return able[0]


def _easing(heard: Heard, drives: Voice, other: Voice | None, trust: Trust, now_s: float) -> Heard:
    """Begin an easing when the driver changes, or who disagrees; end it when the driver itself
    moves."""
    against_id = other.source if other is not None else None
    changed = (drives.source, against_id) != (heard.driver, heard.other)
    heard = replace(heard, driver=drives.source, other=against_id)
    if heard.frequency_hz is None:  # the first of all: nothing to change from
        return heard
    if changed:
        gap_hz = abs(drives.frequency_hz - heard.frequency_hz)
        full_hz = trust.droop.droop_pct / 100.0 * trust.droop.nominal_hz
        rate_hz_per_s = trust.sources.switch_step_pct / 100.0 * full_hz / TICK_MAX_S
        until_s = now_s + trust.sources.switch_s + gap_hz / rate_hz_per_s
        return replace(heard, eased_until_s=until_s, eased_hz=drives.frequency_hz)
    if abs(drives.frequency_hz - heard.eased_hz) > trust.sources.switch_release_hz:
        return replace(heard, eased_until_s=-math.inf)
    return heard


def _frequency(now: Snapshot, voice: Voice) -> Frequency:
    synchro = now.synchros.get(voice.source)
    if synchro is None:
        return Frequency(voice.frequency_hz, voice.at_s, voice.source, "device measurement")
    return Frequency(
        voice.frequency_hz,
        voice.at_s,
        voice.source,
        synchro.quality_text or "good",
        synchro.rocof_hz_per_s,
        synchro.phasors,
    )


def _why(
    now: Snapshot,
    trust: Trust,
    chosen: UnitId,
    tracks: Mapping[UnitId, Track],
    outvoted: set[UnitId],
) -> str:
    """Why each more trusted PMU was passed over; without changing numbers."""
    passed = trust.pmus[: trust.pmus.index(chosen)] if chosen in trust.pmus else trust.pmus
    return "; ".join(f"{id_}: {_fault(now, id_, tracks, outvoted)}" for id_ in passed)


def _fault(
    now: Snapshot, id_: UnitId, tracks: Mapping[UnitId, Track], outvoted: set[UnitId]
) -> str:
    synchro = now.synchros.get(id_)
    if synchro is None:
        return "not heard"
    if id_ in outvoted:
        return "outvoted by the others"
    if synchro.quality is not Quality.GOOD:
        return synchro.quality_text or str(synchro.quality)
    if not believable(synchro, now.now_s):
        return f"no frame younger than {synchro.max_age_s:g} s"
    if id_ not in tracks:
        return "not of this grid"
    return "jumps" if tracks[id_].waits else "good again, but not for long enough"


def _difference(chosen: Voice, others: Sequence[Voice]) -> str:
    said = ", ".join(f"{each.source} {each.frequency_hz:.3f} Hz" for each in others)
    return f"{chosen.source} {chosen.frequency_hz:.3f} Hz, {said}"
