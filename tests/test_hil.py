"""Mode `hil`: some units are real and others simulated, in one configuration.

What is real is served by a plant of the test's own, what is simulated by the plant that the daemon
starts. As processes over sockets and CAN adapters on ptys; the two ways round of the meter on
virtual time, with two plants on one network in memory.
"""

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.process_site import Daemon, Json, Plant, until, write_grid
from tests.site_rig import FULL, METER_AT, OLDER, SOLE_INVERTER, SiteRig, site_settings
from tests.virtual_time import virtual
from vppd.cli.scene import free_ports
from vppd.core.alarms import Code
from vppd.core.settings import ConnectionSettings, Settings
from vppd.sim.faults.registry import UnknownFaultError
from vppd.sim.plant import Plant as EmbeddedPlant

REAL, SIMULATED = ("A", "C"), ("B", "D")
NAMES = ("A", "B", "C", "D")
WITHIN_S = 15.0


class Bench:
    """The configuration of the daemon, and that of the plant which plays the real devices."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.real = directory, directory / "real"
        self.ports = dict(zip(("A", "B", "iA", "iB", "iC", "iD", "m"), free_ports(7), strict=True))
        (pmu_port,) = free_ports(1)
        for at, mode, units, meter in (
            (directory / "etc", "hil", NAMES, True),
            (self.real / "etc", "hardware", REAL, False),
        ):
            at.mkdir(parents=True)
            head = f"site: {{id: lab}}\nmode: {mode}\nclock: {{sync: assume}}\n"
            (at / "vppd.yaml").write_text(head)
            rows = [self._unit(name) for name in units]
            rows += [self._meter()] if meter else []
            (at / "field.yaml").write_text("\n".join(["units:", *rows]) + "\n")
            write_grid(at, pmu_port, 5.0)

    def _unit(self, name: str) -> str:
        at, ports = self.directory, self.ports
        simulate = str(name in SIMULATED).lower()
        lines = [
            f"  - {{id: {name}, building: NORTH, rated_power_kw: 100, energy_kwh: 250,"
            f" modules_parallel: 23, simulate: {simulate}, safety: {{ramp_max_kw_per_s: 100}}",
            f"inverter: {{host: 127.0.0.1, port: {ports['i' + name]}}}",
        ]
        if name in ports:
            lines += [
                f"modbus: {{profile: vpp-bess-v2, host: 127.0.0.1, port: {ports[name]}}}",
                f"bms: {{dbc: vpp-bms, interface: slcan, channel: {at}/can{name}}}",
            ]
        return ",\n     ".join(lines) + "}"

    def _meter(self) -> str:
        at = f"host: 127.0.0.1, port: {self.ports['m']}"
        return f"meter: {{profile: eastron-sdm630, simulate: true, {at}}}"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def asked(at: Path, **words: object) -> Json:
    """What the daemon's own plant says on its fault socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(5.0)
        link.connect(str(at))
        link.sendall(json.dumps(words).encode() + b"\n")
        with link.makefile() as lines:
            answer: Json = json.loads(lines.readline())
    return answer


def served(port: int) -> bool:
    """Whether anybody listens there."""
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0


def account(daemon: Daemon) -> Iterator[object]:
    status = daemon.get("/v1/status")
    yield status["units"]
    yield [(each["code"], each["unit"], each["text"]) for each in status["alarms"]]


def test_real_and_simulated_units_are_commanded_at_once(bench: Bench) -> None:
    """The daemon serves what is simulated and nothing else, and takes what is real as it comes."""
    real = Plant(bench.real)
    daemon: Daemon | None = None

    def soon(condition: Callable[[], object]) -> None:
        until(condition, WITHIN_S, lambda: daemon and [*account(daemon), daemon.words[-2000:]])

    try:
        until(real.serves, WITHIN_S, lambda: real.words)
        real.inject("frequency_step", "grid", frequency_hz=50.0)
        # nothing real stands at the address of something simulated
        assert [served(bench.ports[each]) for each in ("A", "iA", "iC")] == [True] * 3
        assert [served(bench.ports[each]) for each in ("B", "iB", "iD", "m")] == [False] * 4
        adapters = {name: bench.directory / f"can{name}" for name in "AB"}
        assert not adapters["B"].exists()
        adapter = adapters["A"].readlink()
        daemon = Daemon(bench.directory, None).ready()
        # and the reverse: the daemon's plant could open its addresses, and took no adapter
        assert [served(bench.ports[each]) for each in ("B", "iB", "iD", "m")] == [True] * 4
        assert adapters["A"].readlink() == adapter
        assert adapters["B"].exists()
        soon(lambda: set(daemon.states().values()) == {"ready"})
        for name in NAMES:
            daemon.post(f"/v1/units/{name}/power", power_kw=20.0, duration_s=600)
        simulated = bench.directory / "plant.sock"

        def simulated_kw(name: str) -> float:
            return float(asked(simulated, state=name)["state"]["setpoint_kw"])

        soon(lambda: [simulated_kw(name) for name in SIMULATED] == [20.0, 20.0])
        soon(lambda: real.held_kw(*REAL) == [20.0, 20.0])
        assert set(daemon.states().values()) == {"running"}
        assert all(view["bms"] for view in (daemon.get(f"/v1/units/{name}") for name in "AB"))
        # each plant has its own, and only those
        assert all("error" in asked(simulated, state=name) for name in REAL)
        with pytest.raises(AssertionError, match="no unit"):
            real.state("B")
        # a real device that fails does not touch a simulated one
        real.inject("inverter_fault", "C", bits=1)
        soon(lambda: daemon.states()["C"] == "tripped")
        assert [daemon.states()[name] for name in "ABD"] == ["running"] * 3
        daemon.send(15)
        assert daemon.exit_code(10.0) == 0
        assert real.held_kw(*REAL) == [0.0, 0.0]
    finally:
        if daemon is not None:
            daemon.end()
        real.end()


# --- the meter, both ways round ---

LIMIT_KW = 60.0


def hil_site(*, meter: bool) -> Settings:
    """A and C are real, B simulated; the meter as asked."""
    gear = {"A": FULL, "B": OLDER, "C": SOLE_INVERTER}
    limits = ConnectionSettings(export_max_kw=LIMIT_KW, import_max_kw=LIMIT_KW)
    settings = site_settings(
        tuple(gear), gear=gear, connection=limits, meter=replace(METER_AT, simulate=meter)
    )
    units = tuple(replace(unit, simulate=unit.id == "B") for unit in settings.units)
    return replace(settings, mode="hil", units=units)


def real_part(settings: Settings) -> Settings:
    """What stands on the site: everything that is not simulated."""
    meter = settings.meter
    return replace(
        settings,
        mode="hardware",
        units=tuple(unit for unit in settings.units if not unit.simulate),
        meter=meter if meter is not None and not meter.simulate else None,
    )


class HilRig(SiteRig):
    """The house of a hil configuration before two plants."""

    real: EmbeddedPlant

    async def __aenter__(self) -> "HilRig":
        self.real = EmbeddedPlant(real_part(self.settings), self.clock, seed=2)
        await self.real.__aenter__()
        self.real.inject("frequency_step", frequency_hz=50.0)
        try:
            await super().__aenter__()
        except BaseException:
            await self.real.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await super().__aexit__(kind, error, trace)  # type: ignore[arg-type]
        await self.real.__aexit__(None, None, None)

    def held_kw(self, name: str) -> float:
        return (self.plant if name in self.plant.units else self.real).unit(name).setpoint_kw

    def gives_kw(self, name: str) -> float:
        return (self.plant if name in self.plant.units else self.real).unit(name).power_kw

    def _is_on(self, name: str) -> bool:
        plant = self.plant if name in self.plant.units else self.real
        return not plant.inverter(name).released


@pytest.mark.parametrize("simulated", [False, True], ids=["real-meter", "simulated-meter"])
def test_what_flows_past_a_meter_keeps_the_limit_there(simulated: bool) -> None:
    """A meter only sees its own world: the power of the other one is load to it, so that each
    world's own exchange stays inside the limit at its own meter."""

    @virtual
    async def runs() -> None:
        async with HilRig(hil_site(meter=simulated), grid_hz=None) as rig:
            metered, other = (("B",), ("A", "C")) if simulated else (("A", "C"), ("B",))
            for name in rig.names:
                rig.plan(40.0, name)
            await rig.run(7.0)
            plant = rig.plant if simulated else rig.real
            assert set(plant.units) == set(metered)
            assert (rig.real if simulated else rig.plant).meter is None
            with pytest.raises(UnknownFaultError):
                plant.unit(other[0])
            through_kw = -plant.site_meter().power_kw
            assert through_kw == pytest.approx(sum(map(rig.gives_kw, metered)), abs=0.1)
            assert through_kw <= LIMIT_KW + 1.0
            assert all(rig.held_kw(name) > 0.0 for name in rig.names), rig.account()
            assert not rig.alarmed(Code.METER_SILENT, "meter")
            plant.inject("meter_silence", "meter")
            await rig.until(lambda: rig.alarmed(Code.METER_SILENT, "meter"), within_s=3.0)
            await rig.run(0.5)
            assert all(rig.held_kw(name) == 0.0 for name in rig.names)

    runs()
