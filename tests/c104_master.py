"""A master written by other people (c104 over lib60870-C), as a process of its own: c104 is GPL and
is imported by nothing of vppd.

Reads one JSON list a line, `[what, ...]`, and answers with one JSON value a line.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import c104

TAGGED = (1002,)
FLOATS, SINGLES, DOUBLES = (1001, 1012, 1013), (1111, 1112), (1109,)
MODES = {
    "direct": c104.CommandMode.DIRECT,
    "select": c104.CommandMode.SELECT_AND_EXECUTE,
}
WAIT_S = 8.0


class Desk:
    """The connections by name, one client each, and their points."""

    def __init__(self, common_address: int) -> None:
        self.common_address = common_address
        self.clients: dict[str, Any] = {}
        self.connections: dict[str, Any] = {}
        self.points: dict[str, dict[int, Any]] = {}
        self._order: Future[bool] | None = None
        self._background = ThreadPoolExecutor(1)

    def connect(
        self,
        name: str,
        port: int,
        init: str,
        timed: bool = False,
        patience_ms: int = 3000,
    ) -> bool:
        """Connect, start data transfer unless `init` is MUTED, and wait for it. `timed`: set-points
        carry a time tag. `patience_ms`: for the answer to a command."""
        client: Any = c104.Client(tick_rate_ms=50, command_timeout_ms=patience_ms)
        link = client.add_connection(ip="127.0.0.1", port=port, init=getattr(c104.Init, init))
        station = link.add_station(common_address=self.common_address)
        setpoint = c104.Type.C_SE_TC_1 if timed else c104.Type.C_SE_NC_1
        types = {
            **dict.fromkeys(FLOATS, c104.Type.M_ME_NC_1),
            **dict.fromkeys(TAGGED, c104.Type.M_ME_TF_1),
            **dict.fromkeys(SINGLES, c104.Type.M_SP_NA_1),
            **dict.fromkeys(DOUBLES, c104.Type.M_DP_NA_1),
            **dict.fromkeys((3001, 3002, 3003), setpoint),
            **dict.fromkeys((3101, 3102), c104.Type.C_SC_NA_1),
        }
        self.points[name] = {
            at: station.add_point(io_address=at, type=of) for at, of in types.items()
        }
        self.clients[name], self.connections[name] = client, link
        client.start()
        wanted = c104.ConnectionState.OPEN_MUTED if init == "MUTED" else c104.ConnectionState.OPEN
        return self.wait(lambda: link.state == wanted, link, init)

    def wait(self, found: Callable[[], bool], link: Any = None, init: str = "MUTED") -> bool:
        """Whether it came true in time. A start that got lost is sent again."""
        end_s = time.monotonic() + WAIT_S
        while time.monotonic() < end_s:
            if found():
                return True
            time.sleep(0.02)
            muted = link is not None and link.state == c104.ConnectionState.OPEN_MUTED
            if muted and init != "MUTED":
                link.unmute()
        return False

    def stop(self, name: str) -> bool:
        """STOPDT."""
        link = self.connections[name]
        link.mute()
        return self.wait(lambda: link.state == c104.ConnectionState.OPEN_MUTED)

    def start(self, name: str) -> bool:
        link = self.connections[name]
        link.unmute()
        return self.wait(lambda: link.state == c104.ConnectionState.OPEN, link, "NONE")

    def interrogate(self, name: str) -> bool:
        return bool(self.connections[name].interrogation(common_address=self.common_address))

    def clock(self, name: str) -> bool:
        return bool(self.connections[name].clock_sync(common_address=self.common_address))

    def command(self, name: str, address: int, value: float | bool, mode: str, cause: str) -> bool:
        point = self.points[name][address]
        point.command_mode = MODES[mode]
        point.value = float(value) if address < 3100 else bool(value)
        return bool(point.transmit(cause=getattr(c104.Cot, cause)))

    def begin(self, name: str, address: int, value: float, mode: str) -> bool:
        """A command whose end is not waited for."""
        order = (name, address, value, mode, "ACTIVATION")
        self._order = self._background.submit(self.command, *order)
        return True

    def end(self) -> bool:
        """How the command that was begun ended."""
        assert self._order is not None
        return self._order.result(WAIT_S)

    def tag_s(self, name: str, address: int) -> float | None:
        """The time tag of a point, seconds since 1970."""
        at = self.points[name][address].recorded_at
        return at.timestamp() if at is not None else None

    def value(self, name: str, address: int) -> list[Any]:
        point = self.points[name][address]
        value = point.value
        number = getattr(value, "value", value)
        return [float(number), str(point.quality), point.processed_at is not None]

    def await_value(self, name: str, address: int, value: float) -> bool:
        return self.wait(lambda: abs(self.value(name, address)[0] - value) < 1e-6)

    def open(self, name: str) -> bool:
        return bool(self.connections[name].is_connected)

    def leave(self, name: str) -> bool:
        self.connections[name].disconnect()
        self.clients[name].stop()
        return True


def main() -> None:
    desk = Desk(int(sys.argv[1]))
    for line in sys.stdin:
        what, *rest = json.loads(line)
        try:
            answer = getattr(desk, what)(*rest)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
