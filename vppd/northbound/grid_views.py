"""What the socket shows of the grid: the frequency, its sources, and the answer to it."""

from dataclasses import asdict
from datetime import timedelta

from vppd.core.model import Snapshot, Synchro
from vppd.grid.bands import Band
from vppd.grid.frequency import believable
from vppd.northbound.site import Site
from vppd.northbound.views import View, clamp

HISTORY_MAX_S = 300.0
LOST = "lost"


def frequency(site: Site, history_s: float | None = None) -> View:
    """The believed frequency, None when none is, and every source's last word.

    `alarm` is the band that alarms (with hysteresis), "lost" without a frequency, None in the
    normal band. `history` is [[age_s, hz], ...], oldest first, when `history_s` asks for it.
    """
    now, last, decision = site.bus.snapshot(), site.watch.last, site.decision()
    age_s = now.now_s - last.at_s if last is not None else None
    alarm = site.watch.alarm if site.watch.alarm is not Band.NORMAL else None
    statistics = site.watch.statistics(now.now_s)
    rocof = last.rocof_hz_per_s if last is not None else None
    filtered = decision.rocof_hz_per_s if last is not None and decision is not None else None
    view: View = {
        "at": now.utc - timedelta(seconds=age_s) if age_s is not None else None,
        "frequency_hz": last.frequency_hz if last is not None else None,
        "rocof_hz_per_s": rocof if rocof is not None else filtered,
        "rocof_filtered_hz_per_s": filtered,
        "age_s": age_s,
        "source": last.source if last is not None else None,
        "quality": last.quality_text if last is not None else None,
        "band": site.watch.band,
        "alarm": alarm if last is not None else LOST,
        "phasors": [asdict(each) for each in last.phasors] if last is not None else [],
        "statistics": {
            "mean_hz": statistics.mean_hz if statistics is not None else None,
            "min_hz": statistics.min_hz if statistics is not None else None,
            "max_hz": statistics.max_hz if statistics is not None else None,
            "std_hz": statistics.std_hz if statistics is not None else None,
        },
        "sources": [_source(now, each) for each in now.synchros.values()],
        "droop": {"enabled": site.tick.duty.droop.enabled, "by": _switched_by(site)},
    }
    if history_s is not None:
        samples = site.watch.history(now.now_s - history_s)
        view["history"] = [[now.now_s - at_s, hz] for at_s, hz in samples]
    return view


def droop(site: Site) -> View:
    """How the site answers frequency, and what it does now."""
    decision, duty = site.decision(), site.tick.duty
    return {
        **asdict(duty.droop),
        "max_kw": duty.droop_max_kw,
        "enabled_by": _switched_by(site),
        "said": {
            "operator": duty.switch.operator if duty.switch else None,
            "order": duty.switch.order if duty.switch else None,
        },
        "curve_kw": decision.droop_curve_kw if decision else None,
        "ffr_kw": decision.ffr_kw if decision else None,
        "promise": asdict(decision.promise) if decision and decision.promise else None,
        "riding": asdict(decision.riding) if decision else None,
        "owed_kw": decision.droop_owed_kw if decision else None,
        "asked_kw": decision.droop_kw if decision else None,
        "frequency_hz": decision.frequency_hz if decision else None,
        "rocof_hz_per_s": decision.rocof_hz_per_s if decision else None,
        "clamps": [clamp(each) for each in decision.clamps] if decision else [],
    }


def _switched_by(site: Site) -> str:
    """Whose word rules whether droop answers."""
    switch = site.tick.duty.switch
    return switch.by if switch is not None else "configuration"


def _source(now: Snapshot, each: Synchro) -> View:
    """One PMU's last word, believed or not."""
    return {
        "id": each.source,
        "frequency_hz": each.frequency_hz,
        "rocof_hz_per_s": each.rocof_hz_per_s,
        "believed": believable(each, now.now_s),
        "quality": each.quality,
        "text": each.quality_text,
        "age_s": each.age_s(now.now_s),
        "utc": each.utc,
        "time_quality_s": each.time_quality_s,
        "stat_bits": each.stat_bits,
        "phasors": [asdict(phasor) for phasor in each.phasors],
    }
