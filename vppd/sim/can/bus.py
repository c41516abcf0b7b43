"""One CAN bus of the plant with its BMSs. It may be taken away and come back.

`tap` gives every frame that goes out to a callback in the same call, also where no interface can be
read: on virtual time.
"""

from typing import Any

from vppd.core.ports import Clock
from vppd.core.settings import BmsSettings
from vppd.sim.can.bms import SimBms
from vppd.sim.can.wire import Heard, wire_of


class CanBus:
    """See the module. Raises ValueError for an interface the plant cannot be."""

    def __init__(self, settings: BmsSettings, clock: Clock) -> None:
        self.interface, self.channel = settings.interface, settings.channel
        self.bmss: list[SimBms] = []
        self.sent = self.lost = 0
        self._clock = clock
        self._wire = wire_of(settings, self.hear)
        self._taps: list[Heard] = []
        self._downs = 0  # faults that hold it down

    def add(self, bms: SimBms) -> None:
        """Raises ValueError when it is another bus, or another BMS has one of its identifiers."""
        settings = bms.settings
        if settings.interface != self.interface:
            raise ValueError(f"{bms.unit.id}: {self.channel} is already {self.interface}")
        for other in self.bmss:
            if other.identifiers & bms.identifiers:
                raise ValueError(f"{bms.unit.id}: {other.unit.id} has its CAN ids; set id_offset")
        self.bmss.append(bms)

    def tap(self, callback: Heard) -> None:
        """Call it for every frame sent: identifier, whether 29-bit, bytes."""
        self._taps.append(callback)

    def hear(self, identifier: int, _extended: bool, _data: bytes) -> None:
        """A frame of somebody else arrives, as when an inverter sent it."""
        for bms in self.bmss:
            bms.hear(identifier, self._clock.now_s())

    async def start(self) -> None:
        """Open the interface. Raises OSError."""
        self._wire.open()

    def close(self) -> None:
        """Leave the bus."""
        self._wire.close()

    def refuse(self, *, on: bool) -> None:
        """On: the interface vanishes. Off: it is there again, once nobody else holds it down.
        Raises OSError."""
        was_down = self.is_down
        self._downs += 1 if on else -1
        if on and not was_down:
            self._wire.close()
        elif was_down and not self.is_down:
            self._wire.open()

    @property
    def is_down(self) -> bool:
        """Whether the interface has vanished."""
        return self._downs > 0

    def state(self) -> dict[str, Any]:
        """The interface and its counts: what nobody takes is lost, as on a bus without a reader."""
        return {"channel": self.channel, "down": self.is_down, "sent": self.sent, "lost": self.lost}

    async def tend(self) -> None:
        """Send what is due; runs until cancelled."""
        while True:
            await self._clock.sleep_until(min(bms.next_s for bms in self.bmss))
            self._wire.listen()
            now_s = self._clock.now_s()
            for bms in self.bmss:
                for frame in bms.due(now_s):
                    self._send(frame.identifier, frame.data, extended=frame.extended)

    def _send(self, identifier: int, data: bytes, *, extended: bool) -> None:
        if self.is_down:
            return
        if self._wire.send(identifier, data, extended=extended):
            self.sent += 1
        else:
            self.lost += 1
        for tapped in self._taps:
            tapped(identifier, extended, data)
