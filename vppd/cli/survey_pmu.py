"""A PMU asked for its configuration frame, as part of `vppd check --live`. No data are switched on
or off: another client of it is not disturbed."""

import asyncio

from vppd.core.ports import Clock
from vppd.core.settings import PmuSettings
from vppd.field.survey.checks import clock_skew
from vppd.field.survey.remarks import Remark, Sheet, fine, odd, wrong
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
from vppd.grid.c37118_config import Config, read_config
from vppd.grid.pmu_link import Link, open_link

WITHIN_S = 6.0


async def ask_pmu(settings: PmuSettings, clock: Clock) -> Sheet:
    """Its sheet, within `WITHIN_S`. Raises nothing a PMU can cause."""
    where = f"{settings.host}:{settings.port} id code {settings.idcode}"
    heard: list[int] = []
    link: Link | None = None
    try:
        async with asyncio.timeout(WITHIN_S):
            link = await open_link(settings)
            utc = clock.utc()
            stamp = Stamp(int(utc.timestamp()), utc.microsecond)
            link.send(write_command(Command(settings.idcode, stamp, CommandWord.SEND_CFG2)))
            config = await _config(link, heard)
            remarks = _judged(config, settings, clock.utc().timestamp())
    except TimeoutError:
        remarks = [_silent(settings, heard, connected=link is not None)]
    except (OSError, FrameError) as error:
        remarks = [
            wrong("reachable", str(error), "address, port, cable? does it take more clients?")
        ]
    finally:
        if link is not None:
            link.close()
    return Sheet(settings.id, "PMU", where, tuple(remarks))


async def _config(link: Link, heard: list[int]) -> Config:
    deframer = Deframer()
    while True:
        for data in deframer.feed(await link.read()):
            try:
                frame: Frame = read_frame(data)
            except FrameError:
                continue
            heard.append(frame.idcode)
            if frame.type is FrameType.CFG2:
                return read_config(frame)
        if link.datagrams:
            deframer.end()


def _silent(settings: PmuSettings, heard: list[int], *, connected: bool) -> Remark:
    others = sorted(set(heard) - {settings.idcode})
    if others:
        many = ", ".join(map(str, others))
        text = f"it sends frames of id code {many}, {settings.idcode} is configured"
        return wrong("id code", text, f"idcode: {others[0]}")
    if not connected:
        text = f"no connection within {WITHIN_S:g} s"
        return wrong("reachable", text, "address, port, cable, firewall?")
    text = f"connected, but no configuration frame within {WITHIN_S:g} s"
    return wrong("reachable", text, "is the id code right? does it serve one client only?")


def _judged(config: Config, settings: PmuSettings, ours_s: float) -> list[Remark]:
    period_s = config.period_s
    rate = f"{1.0 / period_s:g} frames a second" if period_s else "no rate told"
    names = ", ".join(f"{station.name.strip()} ({station.idcode})" for station in config.stations)
    remarks = [fine("reachable", f"configuration frame read: {names}; {rate}")]
    if config.idcode != settings.idcode:
        text = f"the frame is of id code {config.idcode}, {settings.idcode} is configured"
        remarks.append(wrong("id code", text, f"idcode: {config.idcode}"))
    wanted = settings.pmu_idcode
    if wanted is not None and wanted not in {station.idcode for station in config.stations}:
        text = f"no PMU {wanted} in the stream"
        remarks.append(wrong("id code", text, f"pmu_idcode: {config.stations[0].idcode}"))
    if period_s > 0.2:  # noqa: PLR2004  5 frames a second: each tick wants a new one
        remarks.append(odd("rate", rate, "10 frames a second or more serve droop well"))
    remarks.append(clock_skew(config.stamp.seconds(config.time_base), ours_s))
    return remarks
