"""The C37.118.2 client: one PMU or concentrator, over TCP or UDP, published frame by frame.

On connect it stops the data, asks the configuration (frame 3 first, frame 2 when that is refused,
garbled or not answered in a second, then in turn) and starts the data. A PMU that sends without
being asked is taken as it comes, once its configuration is known. When a PMU says that its
configuration changes, nothing is published until the new one is there. One that sends more than may
be read is left, and tried again like one that is lost.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from vppd.core.alarms import Code
from vppd.core.model import Quality, Synchro, UnitId
from vppd.core.ports import Board, Clock
from vppd.core.settings import BandSettings, PmuSettings
from vppd.core.settings_sources import SourceSettings
from vppd.grid.c37118 import (
    Command,
    CommandWord,
    Deframer,
    Frame,
    FrameError,
    FrameType,
    Stamp,
    read_frame,
    write_command,
)
from vppd.grid.c37118_config import Config, Fragments, read_config
from vppd.grid.c37118_data import DataLayout
from vppd.grid.pmu_link import READ_BYTES, Link, open_link
from vppd.grid.pmu_load import Load
from vppd.grid.pmu_status import ConfigSummary, PmuCounters, Timing
from vppd.grid.source_quality import FLOAT_STEP_HZ, INTEGER_STEP_HZ, LiveWatch
from vppd.grid.synchro import Sequence, clock_fault, judge

Events = Callable[[Code, bool, str], None]

FREQUENCY_DIGITS = 5  # a 32-bit float knows 50 Hz to 4e-6 Hz; what lies below is its own noise
IDLE_PERIODS = 2.5
IDLE_MAX_S = 30.0
CLOCK_CHECK_S = 1.0
CLOCK_OFFSET_MAX_S = 2.0
CLOCK_OFFSET_CLEAR_S = 1.0


@dataclass(frozen=True, slots=True)
class _InUse:
    """The configuration by which data is read, and which PMU of the stream is ours."""

    config: Config
    layout: DataLayout
    index: int


class PmuClient:
    """One frequency source. `events` is told of PMU_LOST, PMU_TIME, PMU_FROZEN, PMU_FLOOD and
    DEAD_BUS, once a change."""

    def __init__(
        self,
        settings: PmuSettings,
        bands: BandSettings,
        board: Board,
        clock: Clock,
        events: Events,
        timing: Timing | None = None,
        sources: SourceSettings | None = None,
    ) -> None:
        self._settings, self._bands = settings, bands
        self._board, self._clock, self._events = board, clock, events
        self._timing = timing or Timing()
        self._source = UnitId(settings.id)
        self._deframer = Deframer()
        self._load = Load(self._timing.load_bytes_per_s, self._timing.calm_s)
        self._fragments = Fragments()
        self._sequence = Sequence()
        self._live = LiveWatch(sources or SourceSettings())
        self._use: _InUse | None = None
        self._summary: ConfigSummary | None = None
        self._ask_word = CommandWord.SEND_CFG3
        self._ask_at_s: float | None = None  # None: nothing to ask
        self._asked_s = -math.inf
        self._changing: bool | None = None  # the configuration-change bit of the last frame
        self._fitted = False  # a frame has fitted the configuration in use
        self._trouble = ""  # why frames come and nothing is published
        self._published_s = -math.inf
        self._connected = self._lost = False
        self._published = self._undecoded = self._reconnects = self._weighed_frames = 0
        self._clock_checked_s = -math.inf
        self._clock_trouble = ""

    async def run(self) -> None:
        """Converse for ever; a lost PMU is tried again after 0.5 s, doubling to 8 s."""
        pause_s = self._timing.pause_first_s
        while True:
            published = self._published
            self._lose(await self._session())
            if self._published > published and not self._load.flooding:
                pause_s = self._timing.pause_first_s
            await self._clock.sleep_until(self._clock.now_s() + pause_s)
            pause_s = min(2.0 * pause_s, self._timing.pause_max_s)
            self._reconnects += 1

    def counters(self) -> PmuCounters:
        """As they are now."""
        deframer = self._deframer
        return PmuCounters(
            self._connected,
            self._lost,
            self._published,
            deframer.frames,
            deframer.bad_frames,
            deframer.bad_bytes,
            deframer.resyncs,
            self._undecoded,
            self._reconnects,
            self._load.floods,
            self._sequence.counts,
            self._summary,
        )

    async def _session(self) -> str:
        """One connection from start to end; gives the reason of the end."""
        try:
            async with asyncio.timeout(self._timing.connect_s):
                link = await open_link(self._settings)
        except TimeoutError:
            return f"no connection within {self._timing.connect_s:g} s"
        except OSError as error:
            return f"no connection: {error}"
        try:
            self._connected = True
            return await self._converse(link)
        except OSError as error:
            return str(error)
        finally:
            self._connected = False
            self._say_goodbye(link)

    def _say_goodbye(self, link: Link) -> None:
        try:
            self._command(link, CommandWord.OFF)
        except OSError:
            pass  # it is gone already, which is why we leave
        finally:
            link.close()

    async def _converse(self, link: Link) -> str:
        now_s = self._clock.now_s()
        self._start(now_s)
        self._command(link, CommandWord.OFF)
        heard_s, unread = now_s, link.unread
        self._published_s = now_s
        while True:
            self._ask_when_due(link)
            idle_s = self._idle_s()
            # the one sum is slept until and compared with: a difference may fall short by a bit,
            # and then nothing would end the waiting for no time
            silent_s = heard_s + idle_s
            wake_s = min(silent_s, math.inf if self._ask_at_s is None else self._ask_at_s)
            data = await self._read(link, wake_s)
            now_s = self._clock.now_s()
            heard = self._take(data, now_s, link)
            if not self._weighed(len(data), link.unread - unread, now_s):
                return "it sends more than may be read"
            unread = link.unread
            if heard:
                heard_s = now_s
            elif now_s >= silent_s:
                return f"no frame for {idle_s:g} s"
            if now_s - self._published_s >= idle_s:
                self._lose(self._trouble or "no data frames")
            if len(data) >= READ_BYTES:
                await asyncio.sleep(0)  # a backlog: let others run in between

    async def _read(self, link: Link, until_s: float) -> bytes:
        """The next bytes, or none when there are none by then."""
        try:
            async with asyncio.timeout(max(until_s - self._clock.now_s(), 0.0)) as limit:
                return await link.read()
        except TimeoutError:
            if not limit.expired():
                raise  # the network's own
            return b""

    def _take(self, data: bytes, now_s: float, link: Link) -> bool:
        """Whether bytes held a whole frame."""
        found = self._deframer.feed(data)
        if link.datagrams and data:
            self._deframer.end()
        for each in found:
            try:
                self._take_frame(read_frame(each), now_s, link)
            except FrameError as error:
                self._undecoded += 1
                self._trouble = str(error)
        return bool(found)

    def _weighed(self, read_bytes: int, unread: int, now_s: float) -> bool:
        """Whether what was read is within the measure, with the frames found in it and the
        datagrams thrown away; tells when it is not any more, and when it long is again."""
        frames = self._deframer.frames - self._weighed_frames
        self._weighed_frames = self._deframer.frames
        was = self._load.flooding
        if not self._load.fits(read_bytes, frames + unread, now_s):
            if not was:
                most = f"more than {self._load.per_s / 1000:g} kB a second, frames counted"
                self._events(Code.PMU_FLOOD, True, f"{most}; it is left and tried again")
            return False
        if self._load.calmed(now_s):
            self._events(Code.PMU_FLOOD, False, f"no flood for {self._load.calm_s:g} s")
        return True

    def _take_frame(self, frame: Frame, now_s: float, link: Link) -> None:
        if frame.idcode != self._settings.idcode:
            raise FrameError(f"frames of stream {frame.idcode}, not {self._settings.idcode}")
        if frame.type is FrameType.DATA:
            self._take_data(frame, now_s)
        elif frame.type in (FrameType.CFG2, FrameType.CFG3):
            self._take_config(frame, now_s, link)

    # configuration

    def _start(self, now_s: float) -> None:
        self._deframer.reset()
        self._fragments = Fragments()
        if self._use is not None:  # else in turn: some PMUs hang up when asked for frame 3
            self._ask_word = CommandWord.SEND_CFG3
        self._use, self._changing, self._fitted, self._trouble = None, None, False, ""
        self._ask_at_s = now_s

    def _ask_when_due(self, link: Link) -> None:
        now_s = self._clock.now_s()
        if self._ask_at_s is None or now_s < self._ask_at_s:
            return
        self._command(link, self._ask_word)
        self._asked_s, self._ask_at_s = now_s, now_s + self._timing.answer_s
        self._ask_word = (
            CommandWord.SEND_CFG2
            if self._ask_word is CommandWord.SEND_CFG3
            else CommandWord.SEND_CFG3
        )

    def _ask_anew(self, word: CommandWord, now_s: float) -> None:
        """Ask, unless that is going on; not more often than answers can be waited for."""
        if self._ask_at_s is None:
            self._ask_word = word
            self._ask_at_s = max(now_s, self._asked_s + self._timing.answer_s)

    def _take_config(self, frame: Frame, now_s: float, link: Link) -> None:
        asking = self._ask_at_s is not None
        if frame.type is FrameType.CFG2 and not asking and self._has_frame3():
            return  # sent by itself, and it says less than what we have
        try:
            whole = self._fragments.add(frame)
            if whole is None:
                return
            self._use = self._choose(read_config(whole))
        except FrameError:
            if asking and self._ask_word is CommandWord.SEND_CFG2:
                self._ask_at_s = now_s  # garbled: no need to wait for more
            raise
        self._ask_at_s, self._changing, self._fitted = None, None, False
        self._trouble = "configured, but no data frames"
        self._command(link, CommandWord.ON)

    def _has_frame3(self) -> bool:
        return self._use is not None and self._use.config.kind is FrameType.CFG3

    def _choose(self, config: Config) -> _InUse:
        wanted = self._settings.pmu_idcode
        ids = [station.idcode for station in config.stations]
        if wanted is not None and wanted not in ids:
            raise FrameError(f"no PMU {wanted} in the stream, only {ids}")
        index = 0 if wanted is None else ids.index(wanted)
        station = config.stations[index]
        self._summary = ConfigSummary(
            "CFG-3" if config.kind is FrameType.CFG3 else "CFG-2",
            config.idcode,
            station.idcode,
            station.name,
            station.nominal_hz,
            config.data_rate,
            str(station.format),
        )
        return _InUse(config, DataLayout(config), index)

    def _idle_s(self) -> float:
        if self._use is None:  # both configuration frames get their time
            return self._timing.idle_s + self._timing.answer_s
        period_s = self._use.config.period_s
        return max(self._timing.idle_s, min(IDLE_PERIODS * period_s, IDLE_MAX_S))

    def _command(self, link: Link, word: CommandWord) -> None:
        utc = self._clock.utc()
        stamp = Stamp(int(utc.timestamp()) & 0xFFFFFFFF, utc.microsecond)
        link.send(write_command(Command(self._settings.idcode, stamp, word)))

    # data

    def _take_data(self, frame: Frame, now_s: float) -> None:
        use = self._use
        if use is None:
            raise FrameError("data frames, but no configuration")
        if not use.layout.fits(frame):
            other = self._has_frame3() and not self._fitted
            self._ask_anew(CommandWord.SEND_CFG2 if other else CommandWord.SEND_CFG3, now_s)
            raise FrameError("data frames of another size than the configuration says")
        self._fitted = True
        changing = use.layout.config_change(frame)
        changed = self._changing is not None and changing != self._changing
        self._changing = changing
        if changed:
            self._use = None
            self._ask_anew(CommandWord.SEND_CFG3, now_s)
            raise FrameError("the PMU changes its configuration")
        self._publish(frame, use, now_s)

    def _publish(self, frame: Frame, use: _InUse, now_s: float) -> None:
        time_base = use.config.time_base
        delay_s = self._sequence.place(frame.stamp.seconds(time_base), now_s, use.config.period_s)
        if delay_s is None:
            self._trouble = "only frames that are no newer than those before"
            return
        data = use.layout.read_pmu(frame, use.index)
        fault = clock_fault(data.stat, frame.stamp, self._settings.clock_error_max_s)
        quality, quality_text = judge(data.frequency_hz, data.stat, fault, self._bands)
        frequency_hz = round(data.frequency_hz, FREQUENCY_DIGITS)
        phasors = tuple(
            [each for each in data.phasors if math.isfinite(each.magnitude + each.angle_deg)]
        )
        if quality is Quality.GOOD:
            floats = use.config.stations[use.index].format.float_frequency
            step_hz = FLOAT_STEP_HZ if floats else INTEGER_STEP_HZ
            quality, quality_text, told = self._live.judge(
                frequency_hz, phasors, now_s - delay_s, step_hz
            )
            for code, active, text in told:
                self._events(code, active, text)
        rocof = data.rocof_hz_per_s
        synchro = Synchro(
            source=self._source,
            frequency_hz=frequency_hz,
            at_s=now_s,
            max_age_s=self._settings.max_age_s,
            quality=quality,
            quality_text=quality_text,
            rocof_hz_per_s=rocof if math.isfinite(rocof) else None,
            delay_s=delay_s,
            utc=frame.stamp.utc(time_base),
            time_quality_s=frame.stamp.error_s,
            stat_bits=data.stat.bits,
            phasors=phasors,
        )
        self._board.publish(synchro)
        self._published += 1
        self._published_s = now_s
        self._find(use)
        if now_s - self._clock_checked_s >= CLOCK_CHECK_S:
            self._clock_checked_s = now_s
            self._check_clock(fault, synchro)

    # alarms

    def _lose(self, why: str) -> None:
        if not self._lost:
            self._lost = True
            self._events(Code.PMU_LOST, True, why)

    def _find(self, use: _InUse) -> None:
        if self._lost and not self._load.flooding:
            self._lost = False
            station = use.config.stations[use.index].name
            self._events(Code.PMU_LOST, False, f"data from {station}")

    def _check_clock(self, fault: str, synchro: Synchro) -> None:
        """Tell of a clock that is not trusted, or is off against ours; the latter only alarms."""
        if fault or synchro.utc is None:
            self._tell_clock(fault, fault)
            return
        ahead_s = (synchro.utc - self._clock.utc()).total_seconds() + synchro.delay_s
        bound_s = CLOCK_OFFSET_CLEAR_S if self._clock_trouble == "offset" else CLOCK_OFFSET_MAX_S
        if abs(ahead_s) <= bound_s:
            self._tell_clock("", "time agrees with the site's clock")
            return
        side = "ahead of" if ahead_s > 0.0 else "behind"
        self._tell_clock("offset", f"{abs(ahead_s):.1f} s {side} the site's clock")

    def _tell_clock(self, trouble: str, words: str) -> None:
        if trouble != self._clock_trouble:
            self._clock_trouble = trouble
            self._events(Code.PMU_TIME, bool(trouble), words)
