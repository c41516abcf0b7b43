"""The plant as a whole: every fault shows where it should, ends when it should, and the socket."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException

from tests.sim_site import HOST, interlock, pmu, signed, site, unit
from tests.virtual_time import VirtualClock, run_virtual, virtual
from vppd.cli.plant import ask_plant
from vppd.core.settings import BmsSettings, InverterSettings, MeterSettings
from vppd.sim.exchange import SimulatedExchange
from vppd.sim.faults.door import FaultSocket, obey, request
from vppd.sim.faults.registry import KINDS, UnknownFaultError
from vppd.sim.plant import Plant, serve


class Lab:
    """One v2 unit, an interlock input and a PMU, with a client."""

    def __init__(self, plant: Plant, client: AsyncModbusTcpClient) -> None:
        self.plant, self.client = plant, client

    async def word(self, address: int, unit_id: int = 1) -> int:
        if address >= 0x2000:
            read = await self.client.read_holding_registers(address, count=1, device_id=unit_id)
        else:
            read = await self.client.read_input_registers(address, count=1, device_id=unit_id)
        assert not read.isError(), read
        return int(read.registers[0])

    async def write(self, address: int, *words: int) -> Any:
        return await self.client.write_registers(address, list(words), device_id=1)


@asynccontextmanager
async def lab() -> AsyncIterator[Lab]:
    settings = site(unit(), interlock_inputs=(interlock(),), pmu=(pmu(),))
    async with Plant(settings, VirtualClock(), seed=1) as plant:
        client = AsyncModbusTcpClient(HOST, port=502, timeout=1, retries=0)
        assert await client.connect()
        yield Lab(plant, client)
        client.close()


@virtual
async def test_over_temperature_heats_at_its_rate_and_cools_when_cleared() -> None:
    async with lab() as on:
        on.plant.inject("over_temperature", "B1", temperature_c=65.0, rate_c_per_s=2.0)
        await asyncio.sleep(10.0)
        assert 430 < await on.word(0x1004) < 460
        await asyncio.sleep(15.0)
        assert 640 < await on.word(0x1004) < 660
        on.plant.clear("over_temperature")
        await asyncio.sleep(30.0)
        assert await on.word(0x1004) < 260


@virtual
async def test_cell_drift_spreads_the_cells_and_moves_the_pack() -> None:
    async with lab() as on:
        before = await on.word(0x1002)
        on.plant.inject("cell_drift", cell=3, drift_v=-0.5)
        cells_v = on.plant.state("B1")["cells_v"]
        assert cells_v.index(min(cells_v)) == 2
        assert max(cells_v) - min(cells_v) > 0.48
        assert await on.word(0x1002) == pytest.approx(before - 5, abs=1)
        with pytest.raises(ValueError, match="1 to 16"):
            on.plant.inject("cell_drift", cell=17)


@pytest.mark.parametrize("point", ["power_kw", 0x1005])
def test_a_stuck_register_stays(point: str | int) -> None:
    @virtual
    async def main() -> None:
        async with lab() as on:
            on.plant.inject("stuck_register", point=point)
            await on.write(0x2000, 500, 0, 3, 1)
            await asyncio.sleep(5.0)
            assert await on.word(0x1005) == 0
            assert on.plant.unit("B1").power_kw == pytest.approx(-50.0)
            on.plant.clear()
            assert await on.word(0x1005) == 500

    main()


@virtual
async def test_a_stuck_setpoint_obeys_but_reads_old() -> None:
    async with lab() as on:
        on.plant.inject("stuck_register", point="setpoint_kw")
        await on.write(0x2000, 500)
        assert await on.word(0x2000) == 0
        assert on.plant.units["B1"].setpoint_kw == -50.0


@virtual
async def test_silence_accepts_and_never_answers() -> None:
    async with lab() as on:
        on.plant.inject("silence", "B1", for_s=3.0)
        with pytest.raises(ModbusIOException):
            await on.word(0x1000)
        probe = AsyncModbusTcpClient(HOST, port=502, timeout=1, retries=0)
        assert await probe.connect()
        probe.close()
        await asyncio.sleep(3.0)
        assert await on.word(0x1000) == 500
        assert not on.plant.active


@virtual
async def test_exceptions_on_one_function_or_all() -> None:
    async with lab() as on:
        on.plant.inject("exception", "B1", code=6, function=16)
        assert (await on.write(0x2000, 1)).exception_code == 6
        assert await on.word(0x1000) == 500
        on.plant.inject("exception", "B1", code=5)
        read = await on.client.read_input_registers(0x1000, count=1, device_id=1)
        assert read.exception_code == 5
        assert len(on.plant.active) == 1  # the second took the first's place
        on.plant.clear("exception", "B1")
        assert not (await on.write(0x2000, 1)).isError()


@virtual
async def test_slow_answers_take_their_time() -> None:
    async with lab() as on:
        on.plant.inject("slow", "B1", delay_s=0.7)
        before_s = on.plant.clock.now_s()
        await on.word(0x1000)
        assert on.plant.clock.now_s() - before_s == pytest.approx(0.7, abs=0.01)


@virtual
async def test_a_wrong_unit_id_answers() -> None:
    async with lab() as on:
        on.plant.inject("wrong_unit_id", "B1")
        reader, writer = await asyncio.open_connection(HOST, 502)
        writer.write(bytes.fromhex("0001 0000 0006 01 04 1000 0001"))
        assert (await reader.readexactly(11)).hex() == "0001000000050204" + "0201f4"
        writer.close()


@virtual
async def test_a_device_reset_forgets_and_drops() -> None:
    async with lab() as on:
        await on.write(0x2000, 500, 0, 3, 1)
        await on.write(0x2005, 5, 17)
        await asyncio.sleep(2.0)
        assert await on.word(0x2006) == 17
        on.plant.inject("device_reset", "B1")
        await asyncio.sleep(0.01)
        assert not on.client.connected
        assert set(on.plant.units["B1"].holding.values()) == {0}
        assert on.plant.unit("B1").power_kw == 0.0
        assert on.plant.units["B1"].setpoints[-1].source == "reset"


@virtual
async def test_refused_writes_change_nothing() -> None:
    async with lab() as on:
        on.plant.inject("refuse_writes", "B1")
        assert (await on.write(0x2000, 500)).exception_code == 4
        assert await on.word(0x2000) == 0


@virtual
async def test_soc_current_and_voltage_are_set() -> None:
    async with lab() as on:
        on.plant.inject("soc", soc_pct=9.5)
        assert await on.word(0x1000) == 95
        on.plant.inject("current_surge", current_a=-130.0)
        assert signed(await on.word(0x1003)) == 1300
        on.plant.inject("voltage", pack_v=44.0)
        assert await on.word(0x1002) == 440
        assert on.plant.clear() == 2
        assert await on.word(0x1003) == 0
        assert await on.word(0x1002) > 500


@virtual
async def test_fault_bits_stop_the_device_and_latch_on_request() -> None:
    async with lab() as on:
        await on.write(0x2000, 500, 0, 3, 1)
        on.plant.inject("fault_bits", bits=0b101, latched=True)
        on.plant.inject("alarm_bits", bits=2)
        await asyncio.sleep(3.0)
        assert await on.word(0x1012) == 5
        assert await on.word(0x1011) == 2
        assert on.plant.unit("B1").power_kw == pytest.approx(0.0, abs=0.01)
        on.plant.clear()
        assert await on.word(0x1011) == 0
        assert await on.word(0x1012) == 5
        await on.write(0x2004, 1)
        assert await on.word(0x1012) == 0
        await asyncio.sleep(3.0)
        assert on.plant.unit("B1").power_kw == pytest.approx(-50.0)


@virtual
async def test_a_rival_writes_again_and_again() -> None:
    async with lab() as on:
        on.plant.inject("rival", power_kw=33.0, period_s=0.5, for_s=2.2)
        await on.write(0x2000, 0)
        await asyncio.sleep(0.6)
        assert signed(await on.word(0x2000)) == -330
        await asyncio.sleep(5.0)
        rivals = [w for w in on.plant.units["B1"].setpoints if w.source == "rival"]
        assert [write.power_kw for write in rivals] == [pytest.approx(33.0)] * 5


@virtual
async def test_a_drop_resets_and_a_refusal_lasts() -> None:
    async with lab() as on:
        reader, _ = await asyncio.open_connection(HOST, 502)
        await asyncio.sleep(0.01)
        on.plant.inject("drop", "B1")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        on.plant.inject("connection_refused", "fire", for_s=4.0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, 502)
        await asyncio.sleep(4.1)
        _, writer = await asyncio.open_connection(HOST, 502)
        writer.close()


@virtual
async def test_an_interlock_opens_or_falls_silent() -> None:
    async with lab() as on:
        on.plant.inject("interlock", "fire")
        assert (await on.client.read_discrete_inputs(3, count=1, device_id=9)).bits[0] is False
        on.plant.clear("interlock")
        assert (await on.client.read_discrete_inputs(3, count=1, device_id=9)).bits[0] is True
        on.plant.inject("interlock_silent", "fire")
        with pytest.raises(ModbusIOException):
            await on.client.read_discrete_inputs(3, count=1, device_id=9)


@virtual
async def test_frequency_faults_reach_the_devices_own_register() -> None:
    async with lab() as on:
        on.plant.inject("frequency_step", frequency_hz=49.7)
        assert await on.word(0x1007) == 4970
        on.plant.clear()
        natural = await on.word(0x1007)
        on.plant.inject("frequency_step", offset_hz=-0.2)
        assert await on.word(0x1007) == pytest.approx(natural - 20, abs=1)
        on.plant.clear()
        on.plant.inject("frequency_ramp", frequency_hz=49.0, rate_hz_per_s=0.5)
        await asyncio.sleep(1.0)
        assert await on.word(0x1007) == pytest.approx(natural - 50, abs=2)
        await asyncio.sleep(5.0)
        assert await on.word(0x1007) == 4900


@virtual
async def test_every_kind_can_begin_and_end() -> None:
    whole = replace(
        unit("B2", unit_id=2),
        bms=BmsSettings(dbc="pylontech", interface="virtual", channel="bus"),
        inverter=InverterSettings(host=HOST, unit_id=12),
    )
    meter = MeterSettings(profile="eastron-sdm630", host=HOST, unit_id=20)
    settings = site(unit(), whole, interlock_inputs=(interlock(),), pmu=(pmu(),), meter=meter)
    targets = {"unit": "B1", "slave": "B1", "bms": "B2", "inverter": "B2", "input": "fire"}
    async with Plant(settings, VirtualClock(), seed=1) as plant:
        plant.exchange = SimulatedExchange(plant.clock)
        for name, kind in KINDS.items():
            target = "meter" if name == "swapped_words" else targets.get(kind.target, "")
            plant.inject(name, target)
            await asyncio.sleep(0.3)
            plant.clear()
        await asyncio.sleep(1.0)
        assert not plant.active
        again = AsyncModbusTcpClient(HOST, port=502, timeout=1, retries=0)
        assert await again.connect()
        for unit_id, address in ((1, 0x1000), (2, 0x1000), (20, 0)):
            read = await again.read_input_registers(address, count=8, device_id=unit_id)
            assert not read.isError()
        read = await again.read_holding_registers(40000, count=2, device_id=12)
        assert read.registers == [0x5375, 0x6E53]
        again.close()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"inject": "fire_drill"}, "no fault 'fire_drill'; there are: alarm_bits, "),
        ({"inject": "silence", "unit": "B9"}, "no Modbus device 'B9'; there are: B1, fire"),
        ({"inject": "pmu_loss", "pmu": "x"}, "no pmu 'x'; there are: pmu"),
        ({"inject": "slow", "unit": "B1", "delay": 3}, "no parameter 'delay'; it has: delay_s"),
        ({"inject": "slow", "unit": "B1", "delay_s": "3"}, "delay_s is '3', wanted like 0.8"),
        ({"inject": "exception", "unit": "B1", "code": True}, "code is True"),
        ({"inject": "silence", "unit": "B1", "for_s": "soon"}, "for_s"),
        ({"inject": "silence", "unit": "B1", "for_s": -1}, "for_s is seconds"),
        ({"inject": "stuck_register", "unit": "B1", "point": "soc"}, "no point 'soc'"),
        ({"inject": "stuck_register", "unit": "B1", "point": 9}, "no register 0x0009"),
        ({"state": "B9"}, "no unit 'B9'"),
        ({"inject": "exchange_down"}, "no exchange is served"),
        ({"what": 1}, "wanted inject, clear, list or state"),
        ([1], ""),
        ("x", ""),
        (None, ""),
    ],
)
def test_what_cannot_be_done_is_said(asked: Any, words: str) -> None:
    @virtual
    async def main() -> None:
        async with lab() as on:
            answer = obey(on.plant, json.dumps(asked).encode())
            assert answer["ok"] is False
            assert words in answer["error"]
            assert "silence" in answer["valid"]
            assert not on.plant.active

    main()


@given(st.binary(max_size=200))
def test_any_line_is_answered(line: bytes) -> None:
    async def main() -> None:
        plant = Plant(site(unit()), VirtualClock())
        assert obey(plant, line)["ok"] is False

    run_virtual(main())


def test_an_ambiguous_target_must_be_named() -> None:
    @virtual
    async def main() -> None:
        plant = Plant(site(unit("B1"), unit("B2", unit_id=2)), VirtualClock())
        with pytest.raises(UnknownFaultError, match="name a slave; there are: B1, B2"):
            plant.inject("silence")
        with pytest.raises(ValueError, match="B1 already has its Modbus address"):
            Plant(site(unit("B1"), unit("B2")), VirtualClock())

    main()


@virtual
async def test_in_hil_only_marked_units_are_served() -> None:
    import dataclasses

    real, simulated = unit("B1"), dataclasses.replace(unit("B2", unit_id=2), simulate=True)
    settings = site(real, simulated, mode="hil", interlock_inputs=(interlock(),), pmu=(pmu(),))
    plant = Plant(settings, VirtualClock())
    assert (list(plant.units), plant.inputs, plant.pmus) == (["B2"], {}, {})


async def test_the_socket_serves_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "faults.sock"
    plant = Plant(site(unit()), VirtualClock())
    async with FaultSocket(path, plant):
        assert await request(path, {"inject": "soc", "unit": "B1", "soc_pct": 20}) == {"ok": True}
        assert (await request(path, {"state": "B1"}))["state"]["soc_pct"] == pytest.approx(20.0)
        assert await request(path, {"inject": "silence", "unit": "B1"}) == {"ok": True}
        listed = await request(path, {"list": True})
        assert listed["active"] == [{"name": "silence", "target": "B1"}]
        assert listed["valid"]["slow"] == {"target": "slave", "delay_s": 0.8}
        assert await request(path, {"clear": "all"}) == {"ok": True, "cleared": 1}
        assert (await request(path, {"inject": "nothing"}))["ok"] is False
        for target, parameters in (("B1", ["soc_pct=30"]), ("soc_pct=30", [])):  # as typed by hand
            plant.units["B1"].battery.soc_pct = 50.0
            said = await asyncio.to_thread(ask_plant, path, "soc", target, parameters, clear=False)
            assert said == {"ok": True}
            assert plant.units["B1"].battery.soc_pct == pytest.approx(30.0)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x" * 200_000)  # a line without end
        async with asyncio.timeout(5.0):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()
    with pytest.raises(OSError, match="No such file"):
        await request(path, {"list": True})


def test_serve_is_ready_runs_and_ends(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("t_s,freq_hz\n0,49.6\n")

    async def main() -> None:
        up = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(
                serve(
                    site(unit(), pmu=(pmu(),)),
                    trace=trace,
                    seed=1,
                    clock=VirtualClock(),
                    faults_socket=None,
                    ready=up.set,
                )
            )
            await up.wait()
            client = AsyncModbusTcpClient(HOST, port=502, timeout=1, retries=0)
            assert await client.connect()
            read = await client.read_input_registers(0x1007, count=1, device_id=1)
            assert read.registers == [4960]
            client.close()
            serving.cancel()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, 502)

    run_virtual(main())


@virtual
async def test_an_error_of_the_body_stays_itself() -> None:
    with pytest.raises(KeyError):
        async with Plant(site(unit()), VirtualClock()) as plant:
            plant.units["nobody"]


def one_hour(seed: int) -> list[tuple[float, float]]:
    async def main() -> list[tuple[float, float]]:
        settings = site(*(unit(f"B{n}", unit_id=n) for n in range(1, 3)), pmu=(pmu(),))
        clock = VirtualClock()
        async with Plant(settings, clock, seed=seed) as plant:
            client = AsyncModbusTcpClient(HOST, port=502, timeout=1, retries=0)
            assert await client.connect()
            await client.write_registers(0x2000, [300, 0, 3, 1], device_id=1)
            seen = []
            for _ in range(60):
                await asyncio.sleep(5.0)
                hz = plant.frequency_hz()
                seen.append((hz, plant.unit("B1").battery.soc_pct))
            client.close()
            return seen

    return run_virtual(main())


def test_a_seed_makes_a_plant() -> None:
    assert one_hour(5) == one_hour(5)
    assert one_hour(5) != one_hour(6)
