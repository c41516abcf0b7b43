"""Writes decisions down: a unit's setpoint when something about it changed, the site once a second.

Thinned so that a day of a site stays small, and full enough that `why` can be answered from the
journal alone: every change of who binds or of state, and each second in which power moved. Around
a frequency event the site is written every 100 ms (`vppd.grid.evidence`).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from vppd.core.asset import Asset
from vppd.core.decision import Decision
from vppd.core.measured import power_kw
from vppd.core.model import Clamp, Point, Snapshot, UnitId
from vppd.core.ports import Journal
from vppd.core.records import EvidenceRow, SetpointRow, SiteRow
from vppd.core.settings_evidence import EvidenceSettings
from vppd.field.gate import Gate, UnitDecision
from vppd.grid.evidence import EvidenceKeeper

ROW_S = 1.0
ALIVE_S = 60.0
SELDOM_S = 900.0
MOVED = 0.005  # of the rating
EVIDENCE_DIGITS = 4  # of kW and Hz, as the journal stores them: what is judged is what is kept
_PLAIN = EvidenceSettings()


def clamps_json(clamps: Iterable[Clamp]) -> str:
    """Those clamps that count, as [[code, before_kw, after_kw, detail], ...]."""
    rows = [
        [each.why, _kw(each.before_kw), _kw(each.after_kw), each.detail]
        for each in clamps
        if each.counts
    ]
    return json.dumps(rows, separators=(",", ":")) if rows else "[]"


def _kw(power_kw: float) -> float:
    return round(power_kw, 3)


@dataclass(frozen=True, slots=True)
class _Written:
    """What the last row of a unit or of the site said."""

    at_s: float
    words: tuple[object, ...]
    got_kw: float
    measured_kw: float


class DecisionLog:
    """Told every decision; appends the rows worth keeping."""

    def __init__(
        self,
        journal: Journal,
        gate: Gate,
        assets: Sequence[Asset],
        evidence: EvidenceSettings = _PLAIN,
        *,
        seldom: bool = False,
    ) -> None:
        """`seldom`: a unit's power that moves is a row a minute; what binds it is told at once."""
        self._journal, self._gate = journal, gate
        self._row_s, self._alive_s = (ALIVE_S, SELDOM_S) if seldom else (ROW_S, ALIVE_S)
        self._evidence = EvidenceKeeper(evidence)
        self._assets = {asset.id: asset for asset in assets}
        self._units: dict[UnitId, _Written] = {}
        self._site: _Written | None = None

    def adopt(self, assets: Sequence[Asset], evidence: EvidenceSettings | None) -> None:
        """Other units from now on; `evidence` is another rule of what an event is: one that goes on
        ends here."""
        self._assets = {asset.id: asset for asset in assets}
        if evidence is not None:
            self.close()
            self._evidence = EvidenceKeeper(evidence)

    def note(self, decision: Decision, now: Snapshot) -> None:
        """One tick's decision, with the snapshot it was made on."""
        for unit, made in self._gate.decisions.items():
            self._unit(decision, now, unit, made)
        owes = decision.droop_owed_kw != 0.0
        words = (
            *(decision.base_source, decision.frequency_source, owes),
            _codes(decision.clamps),
        )
        self._site_row(decision, words)
        if self._evidence.due(decision.now_s):
            for row in self._evidence.take(self._evidence_row(decision, now)):
                self._journal.append(row)

    def name_event(self, name: str, begin: datetime, end: datetime, now: datetime) -> datetime:
        """Keep a window of time as an event, as an operator says; from when on it has every 100 ms
        row. Raises vppd.grid.evidence.NotNamed."""
        for row in self._evidence.name(name, begin, end, now):
            self._journal.append(row)
        return self._evidence.rows_from(begin, now)

    def close(self) -> None:
        """vppd stops: an event that goes on ends here."""
        for row in self._evidence.close():
            self._journal.append(row)

    def _evidence_row(self, decision: Decision, now: Snapshot) -> EvidenceRow:
        seen = [power_kw(now, asset) for asset in self._assets.values()]
        known = [each_kw for each_kw in seen if each_kw is not None]
        known_hz = decision.frequency_hz is not None
        return EvidenceRow(
            decision.utc,
            _kept(decision.frequency_hz),
            _kept(decision.rocof_hz_per_s if known_hz else None),
            round(decision.base_kw, EVIDENCE_DIGITS),
            round(decision.droop_curve_kw, EVIDENCE_DIGITS),
            round(decision.droop_owed_kw - decision.droop_curve_kw, EVIDENCE_DIGITS),
            round(decision.droop_kw, EVIDENCE_DIGITS),
            round(decision.cleared_kw, EVIDENCE_DIGITS),
            _kept(sum(known) if known else None),
            len(seen) - len(known),
        )

    def _unit(self, decision: Decision, now: Snapshot, unit: UnitId, made: UnitDecision) -> None:
        standing, cleared = self._gate.standing(unit), made.cleared
        asset = self._assets[unit]
        measured_kw = power_kw(now, asset)
        # a first or last droop share is written at once: it dates the response
        words = (made.state, cleared.bound_by, made.request.frequency_kw != 0.0)
        seen_kw = measured_kw if measured_kw is not None else 0.0
        small_kw = asset.rated_kw * MOVED
        written = self._units.get(unit)
        if written is not None and written.words == words:
            moved = (
                abs(cleared.power_kw - written.got_kw) > small_kw
                or abs(seen_kw - written.measured_kw) > small_kw
            )
            if decision.now_s - written.at_s < (self._row_s if moved else self._alive_s):
                return
        self._units[unit] = _Written(decision.now_s, words, cleared.power_kw, seen_kw)
        self._journal.append(
            SetpointRow(
                decision.utc,
                unit,
                made.state,
                made.request.base_kw,
                made.request.frequency_kw,
                cleared.asked_kw,
                cleared.power_kw,
                cleared.asked_kvar,
                cleared.reactive_kvar,
                clamps_json(cleared.clamps),
                standing.outcome or "",
                now.fresh(unit, Point.SETPOINT_KW),
                measured_kw,
            )
        )

    def _site_row(self, decision: Decision, words: tuple[object, ...]) -> None:
        site = self._site
        if site is not None and site.words == words and decision.now_s - site.at_s < ROW_S:
            return
        self._site = _Written(decision.now_s, words, decision.cleared_kw, 0.0)
        self._journal.append(
            SiteRow(
                decision.utc,
                decision.frequency_hz,
                decision.rocof_hz_per_s if decision.frequency_hz is not None else None,
                decision.frequency_source,
                decision.base_kw,
                decision.droop_owed_kw,
                decision.droop_kw,
                decision.owed_kw,
                decision.cleared_kw,
                clamps_json(decision.clamps),
            )
        )


def _codes(clamps: Iterable[Clamp]) -> tuple[str, ...]:
    return tuple(each.why for each in clamps)


def _kept(value: float | None) -> float | None:
    return round(value, EVIDENCE_DIGITS) if value is not None else None
