"""What stands around the gateway and outlives it: devices, PMU, exchange, broker, cables.

What a device was told, and when, is what the plant says: `Watch` asks it all the time.
"""

import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.cable import Cable, Cables
from tests.faults.hall import Exchange
from tests.mqtt_rig import MOSQUITTO
from tests.process_site import NAMES, Plant, until
from vppd.cli.scene import free_ports

RATED_KW = 100.0
CONNECTION_KW = 250.0
SHIFT_S = 0.05  # together over the limit: what two writes at one instant may look like
RESOLUTION_KW = 0.11  # of a setpoint register, and what rounding it adds
LOOK_S = 0.15
FIRST_OPEN_MIN = 16.0  # before delivery, in real time


@dataclass
class Told:
    """A setpoint that arrived at a device."""

    at_s: float
    unit: str
    power_kw: float
    source: str


class Ground:
    """All of it, as processes and threads of ours."""

    def __init__(self, directory: Path, *, named: bool) -> None:
        """`named`: one unit and the broker are configured by name, not by address."""
        self.directory = directory
        *units, self._input, self._pmu, self._exchange, self._broker = free_ports(len(NAMES) + 4)
        (plant := directory / "plant").mkdir()
        (plant / "etc").mkdir()
        self._write(plant / "etc", units, self._pmu, self._exchange, self._broker, named=False)
        self.cables = Cables()
        self.units = dict(zip(NAMES, map(self.cables.lay, units), strict=True))
        self.pmu = self.cables.lay(self._pmu)
        self.exchange_cable = self.cables.lay(self._exchange)
        self.broker_cable = self.cables.lay(self._broker)
        self.config = directory / "etc"
        self.config.mkdir()
        ports = [cable.port for cable in self.units.values()]
        outside = (self.pmu.port, self.exchange_cable.port, self.broker_cable.port)
        self._write(self.config, ports, *outside, named=named)
        self.exchange = Exchange(directory, self._exchange)
        self.plant = Plant(plant)
        until(self.plant.serves, 20.0, lambda: self.plant.words)
        self.frequency(50.0)
        self.broker: subprocess.Popen[bytes] | None = None
        self.start_broker()
        self.watch = Watch(self)

    def _write(
        self,
        config: Path,
        units: Sequence[int],
        pmu: int,
        exchange: int,
        broker: int,
        *,
        named: bool,
    ) -> None:
        broker_at, last = ("broker.lab", "unit-d.lab") if named else ("127.0.0.1", "127.0.0.1")
        (config / "vppd.yaml").write_text(
            "site: {id: lab}\nmode: hardware\nclock: {sync: assume}\n"
            "journal: {max_mb: 16}\nrecorder: {max_mb: 24}\n"
            f"mqtt: {{url: 'mqtt://{broker_at}:{broker}', keepalive_s: 5, reconnect_max_s: 0.5,"
            " telemetry_every_s: 0.5, hold_unheard: false}\n"
        )
        rows = [
            f"  - {{id: {name}, building: {'NORTH' if name in 'AB' else 'SOUTH'},"
            f" rated_power_kw: {RATED_KW}, energy_kwh: 250, modules_parallel: 23,"
            f" safety: {{ramp_max_kw_per_s: 100}}, modbus: {{profile: vpp-bess-v2,"
            f" host: {last if name == NAMES[-1] else '127.0.0.1'}, port: {port},"
            f" unit_id: {number}}}}}"
            for number, (name, port) in enumerate(zip(NAMES, units, strict=True), start=1)
        ]
        (config / "field.yaml").write_text(
            "\n".join(["units:", *rows])
            + "\ninterlock_inputs:\n  - {id: door, scope: A, modbus: {host: 127.0.0.1,"
            + f" port: {self._input}, unit_id: 9, discrete_input: 3}}}}\n"
        )
        (config / "grid.yaml").write_text(
            f"connection: {{export_max_kw: {CONNECTION_KW}, import_max_kw: {CONNECTION_KW}}}\n"
            f"pmu: {{host: 127.0.0.1, port: {pmu}}}\n"
            "droop: {droop_pct: 5, rocof_gain_pu_per_hz_per_s: 0}\n"
        )
        self._market(config, exchange, "rtm", FIRST_OPEN_MIN)

    @staticmethod
    def _market(config: Path, exchange: int, product: str, open_min: float) -> None:
        new = config / "market.new"
        new.write_text(
            f"enabled: true\ndry_run: false\nproducts: [{product}]\n"
            f"gates: {{rtm_open_min: {open_min:.4f}, rtm_close_min: 3, rtm_result_min: 2}}\n"
            f"exchange: {{kind: simulated, url: 'http://127.0.0.1:{exchange}', user: U1,"
            " participant: P1, timeout_s: 5}\n"
        )
        new.replace(config / "market.yaml")

    def trades(self, product: str, open_min: float) -> None:
        """What is traded, and how long before delivery real time opens, from the next reload on."""
        self._market(self.config, self.exchange_cable.port, product, open_min)

    # the broker
    def start_broker(self) -> None:
        """Mosquitto, on its port."""
        path = self.directory / "mosquitto.conf"
        path.write_text(
            f"listener {self._broker} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "user root\n"
        )
        quiet = subprocess.DEVNULL
        self.broker = subprocess.Popen([MOSQUITTO, "-c", path], stdout=quiet, stderr=quiet)

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self._broker)) == 0

        until(listens, 10.0, lambda: "mosquitto does not listen")

    def kill_broker(self) -> None:
        """kill -9."""
        if self.broker is not None:
            self.broker.kill()
            self.broker.wait(10.0)
            self.broker = None

    # the plant
    def frequency(self, frequency_hz: float) -> None:
        self.plant.inject("frequency_step", "grid", frequency_hz=frequency_hz)

    def held_kw(self) -> dict[str, float]:
        """The setpoint in every device now."""
        return dict(zip(NAMES, self.plant.held_kw(*NAMES), strict=True))

    def sum_kw(self) -> float:
        return sum(self.held_kw().values())

    def heal(self) -> None:
        """Everything out here as new; the broker's process is its kind's own."""
        self.cables.heal()
        self.exchange.trouble()
        self.plant.clear("all")
        self.frequency(50.0)

    def close(self) -> None:
        self.watch.close()
        self.kill_broker()
        self.exchange.kill()
        self.plant.end()
        self.cables.close()


class Watch:
    """Every setpoint that arrives at a device, judged: within its rating, and the sum within the
    site's connection, but for the moment in which shares move from one device to another."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._last_s = dict.fromkeys(NAMES, 0.0)
        self._held = dict.fromkeys(NAMES, 0.0)
        self._waiting: list[Told] = []
        self._over_s: float | None = None  # since when the sum is too large
        self._lock, self._over = threading.Lock(), threading.Event()
        self.count, self.most_kw, self.most_sum_kw, self.longest_s = 0, 0.0, 0.0, 0.0
        self._wrong: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join(10.0)

    def wrong(self) -> list[str]:
        """What broke a limit since the last call."""
        with self._lock:
            wrong, self._wrong = self._wrong, []
        return wrong

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            until_s = time.monotonic()  # the devices are asked one by one: what is older is whole
            try:
                for name in NAMES:
                    self._waiting += self._new(name)
            except (OSError, AssertionError):  # the plant ends, or is too busy to answer
                continue
            whole = sorted(
                (each for each in self._waiting if each.at_s < until_s), key=lambda each: each.at_s
            )
            self._waiting = [each for each in self._waiting if each.at_s >= until_s]
            self.judge(whole, until_s)

    def _new(self, name: str) -> list[Told]:
        writes = self._ground.plant.state(name)["setpoints"]
        new = [
            Told(each["at_s"], name, each["power_kw"], each["source"])
            for each in writes
            if each["at_s"] > self._last_s[name]
        ]
        if new:
            self._last_s[name] = new[-1].at_s
        return new

    def judge(self, told: Sequence[Told], until_s: float) -> None:
        """Setpoints in their order; nothing else arrived before `until_s`."""
        for each in told:
            self._held[each.unit] = each.power_kw
            self.count += 1
            self.most_kw = max(self.most_kw, abs(each.power_kw))
            if abs(each.power_kw) > RATED_KW + RESOLUTION_KW:
                self._say(f"{each.unit} was told {each.power_kw:.1f} kW by {each.source}")
            self._sum(each.at_s)
        self._sum(until_s)

    def _sum(self, at_s: float) -> None:
        total_kw = sum(self._held.values())
        self.most_sum_kw = max(self.most_sum_kw, abs(total_kw))
        if self._over_s is not None:
            over_s = at_s - self._over_s
            self.longest_s = max(self.longest_s, over_s)
            if over_s > SHIFT_S:
                self._say(f"too much together for {over_s:.2f} s, now {self._held}")
                self._over_s = at_s
        if abs(total_kw) <= CONNECTION_KW + len(NAMES) * RESOLUTION_KW:
            self._over_s = None
        elif self._over_s is None:
            self._over_s = at_s

    def _say(self, text: str) -> None:
        with self._lock:
            self._wrong.append(text)


@dataclass
class Clock:
    """How long a phase took."""

    begun_s: float = field(default_factory=time.monotonic)

    @property
    def s(self) -> float:
        return time.monotonic() - self.begun_s


__all__ = ["CONNECTION_KW", "RATED_KW", "Cable", "Clock", "Ground", "Told", "Watch"]
