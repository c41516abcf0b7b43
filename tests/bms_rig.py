"""A BMS of one unit, the board it publishes on, and what it tells; a LAWICEL adapter on a pty."""

import asyncio
import os
import pty
import tty
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.rig import B1, HandClock
from vppd.config.devices import SHIPPED_PROFILES, load_bms
from vppd.core.bms import BmsProfile
from vppd.core.model import Cells, DeviceNotice, DeviceReport, LinkChange, Point, Quality, UnitId
from vppd.core.ports import Clock
from vppd.core.settings import BmsSettings, UnitSettings
from vppd.field.hear import Bms
from vppd.field.presence import Presence
from vppd.spine.bus import Bus, Message

STRANGE_DBC = Path(__file__).parent / "data" / "can" / "strange.dbc"
BOUND_S = 10.0


def shipped(name: str) -> BmsProfile:
    return load_bms(SHIPPED_PROFILES / f"{name}.yaml")


class Ear:
    """One BMS with its own board; without a clock of the caller's, time stands until moved."""

    def __init__(
        self,
        profile: BmsProfile,
        clock: Clock | None = None,
        *,
        unit: UnitId = B1,
        modules: int = 1,
        **bms: Any,
    ) -> None:
        self.hand = HandClock()
        self.clock: Clock = clock or self.hand
        self.bus = Bus(self.clock)
        self.published: list[Message] = []
        self.bus.tap(self.published.append)
        self.reports: list[DeviceReport] = []
        at = BmsSettings(**({"dbc": profile.name, "channel": "test"} | bms))
        settings = UnitSettings(
            id=unit,
            building="north",
            rated_power_kw=100.0,
            energy_kwh=250.0,
            modules_parallel=modules,
            bms=at,
        )
        told = self.reports.append
        presence = Presence(UnitId(f"{unit}/bms"), told)
        self.unit = unit
        self.bms = Bms(settings, profile, self.bus, self.clock, told, presence)

    def hear(self, number: int, data: str | bytes, *, extended: bool = False) -> "Ear":
        raw = bytes.fromhex(data) if isinstance(data, str) else data
        self.bms.take(number, extended, raw, self.clock.now_s())
        return self

    def after(self, seconds: float = 0.1) -> "Ear":
        """Time passes, and it is looked after."""
        self.hand.t_s += seconds
        self.bms.tend(self.hand.t_s)
        return self

    def value(self, point: Point) -> float | None:
        return self.bus.snapshot().fresh(self.unit, point)

    def quality(self, point: Point) -> Quality:
        return self.bus.snapshot().quality(self.unit, point)

    def values(self) -> Mapping[Point, float]:
        known = {point: self.value(point) for point in Point}
        return {point: value for point, value in known.items() if value is not None}

    @property
    def cells(self) -> Cells:
        return self.bus.snapshot().cells[self.unit]

    @property
    def links(self) -> list[tuple[UnitId, bool]]:
        return [(each.unit, each.up) for each in self.reports if isinstance(each, LinkChange)]

    @property
    def notices(self) -> list[tuple[str, bool]]:
        return [(each.code, each.active) for each in self.reports if isinstance(each, DeviceNotice)]


async def until(holds: Callable[[], bool], bound_s: float = BOUND_S) -> None:
    """Wait for a condition, no longer than the bound."""
    async with asyncio.timeout(bound_s):
        while not holds():
            await asyncio.sleep(0.005)


class Lawicel:
    """The other end of a serial CAN adapter, as the LAWICEL CANUSB manual says: `S6` sets the
    bitrate, `O` opens, `L` opens to listen only, `C` closes, `t` and `T` carry frames both ways;
    CR ends a line and acknowledges it, BEL refuses, `z` CR acknowledges a standard frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self.open = False
        self._buffer = b""
        self._master = self._slave = -1

    def __enter__(self) -> "Lawicel":
        self.plug()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.unplug()

    def plug(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._slave))
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def unplug(self) -> None:
        if self._master < 0:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)
        self.path.unlink(missing_ok=True)
        self._master, self.open = -1, False

    def say(self, raw: bytes) -> None:
        """Bytes to the host, whatever they are."""
        os.write(self._master, raw)

    def _read(self) -> None:
        try:
            self._buffer += os.read(self._master, 4096)
        except OSError:
            return
        *lines, self._buffer = self._buffer.split(b"\r")
        for line in lines:
            self._obey(line.decode("ascii"))

    def _obey(self, line: str) -> None:
        self.lines.append(line)
        match line[:1]:
            case "O" | "L":
                self.say(b"\a" if self.open else b"\r")
                self.open = True
            case "C":
                self.open = False
                self.say(b"\r")
            case "t":
                self.say(b"z\r" if self.open else b"\a")
            case "T":
                self.say(b"Z\r" if self.open else b"\a")
            case _:
                self.say(b"\r")
