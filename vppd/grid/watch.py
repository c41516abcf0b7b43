"""What the frequency did lately: band alarms, a minute's statistics, five minutes of history."""

from vppd.core.alarms import Code
from vppd.core.model import SITE, Quality, Snapshot
from vppd.core.settings import BandSettings
from vppd.core.settings_sources import SourceSettings
from vppd.grid.bands import ALARMS, Band, History, Statistics, alarmed, band_of
from vppd.grid.frequency import Frequency
from vppd.grid.rocof import Rocof
from vppd.spine.alarms import AlarmBoard

LOST_S = 1.0  # a source that changes over, or a start, is not a loss


class FrequencyWatch:
    """Told once a tick what frequency was believed, if any."""

    def __init__(
        self, bands: BandSettings, alarms: AlarmBoard, sources: SourceSettings | None = None
    ) -> None:
        self.bands, self._alarms = bands, alarms
        self._rocof_window_s = (sources or SourceSettings()).rocof_window_s
        self._rocof = Rocof(self._rocof_window_s)
        self._why = ""  # a less trusted source is in use
        self._history = History()
        self._last: Frequency | None = None
        self._lost_s: float | None = None
        self.alarm = Band.NORMAL
        self.expected = True  # its absence is alarmed

    def adopt(self, bands: BandSettings, sources: SourceSettings) -> None:
        """Other edges and another judgement of sources from now on."""
        self.bands = bands
        if sources.rocof_window_s != self._rocof_window_s:
            self._rocof_window_s = sources.rocof_window_s
            self._rocof = Rocof(sources.rocof_window_s)

    @property
    def last(self) -> Frequency | None:
        """The frequency of the last tick, None when none was believed."""
        return self._last

    @property
    def rocof_hz_per_s(self) -> float | None:
        """The slope of the believed frequency, late by half a window; None until there is one."""
        return self._rocof.slope_hz_per_s if self._last is not None else None

    @property
    def rocof_delay_s(self) -> float:
        """By how much that slope is late."""
        return self._rocof.delay_s

    @property
    def band(self) -> Band | None:
        """The band of the last tick."""
        return band_of(self._last.frequency_hz, self.bands) if self._last is not None else None

    def note(self, frequency: Frequency | None, now_s: float) -> None:
        """One tick's frequency; None for longer than a moment is alarmed too."""
        before, self._last = self._last, frequency
        if frequency is None:
            self._lost_s = now_s if self._lost_s is None else self._lost_s
            lost = self.expected and now_s - self._lost_s >= LOST_S
            self._alarms.set(Code.FREQUENCY_LOST, SITE, lost)
            return
        self._lost_s = None
        self._alarms.set(Code.FREQUENCY_LOST, SITE, False)
        self._tell_source(frequency)
        if before is None or before.at_s != frequency.at_s:
            self._history.add(frequency.at_s, frequency.frequency_hz)
            self._rocof.add(frequency.at_s, frequency.frequency_hz, frequency.source)
        self.alarm = alarmed(frequency.frequency_hz, self.bands, self.alarm)
        for band, code in ALARMS.items():
            text = f"{frequency.frequency_hz:.3f} Hz"
            self._alarms.set(code, SITE, band is self.alarm, text)

    def _tell_source(self, frequency: Frequency) -> None:
        """Tell which source is in use and why not a more trusted one, and who disagrees."""
        if frequency.why != self._why:
            self._alarms.set(Code.FREQUENCY_SOURCE, SITE, False)
            self._why = frequency.why
        text = f"{frequency.source} in use; {frequency.why}"
        self._alarms.set(Code.FREQUENCY_SOURCE, SITE, bool(frequency.why), text)
        disagrees = frequency.disagrees
        self._alarms.set(Code.FREQUENCY_DISAGREES, SITE, bool(disagrees), disagrees)
        waiting = ", ".join(frequency.waits)
        self._alarms.set(Code.FREQUENCY_JUMP, SITE, bool(waiting), waiting)

    def sources(self, now: Snapshot) -> None:
        """Alarm each source whose frequency is not of this grid: 60 Hz, say, where 50 is sold."""
        for source, synchro in now.synchros.items():
            seen_hz = synchro.frequency_hz
            within = self.bands.plausible_low_hz <= seen_hz <= self.bands.plausible_high_hz
            foreign = synchro.quality is Quality.IMPLAUSIBLE and not within
            text = f"{seen_hz:.3f} Hz is no frequency of this grid" if foreign else ""
            self._alarms.set(Code.FREQUENCY_IMPLAUSIBLE, source, foreign, text)

    def statistics(self, now_s: float) -> Statistics | None:
        """Of the last minute."""
        return self._history.statistics(now_s)

    def history(self, from_s: float) -> list[tuple[float, float]]:
        """Samples (at_s, Hz) since then, oldest first."""
        return self._history.since(from_s)
