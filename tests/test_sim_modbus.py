"""The simulated BESS on the wire, asked by other people's clients and by bytes typed by hand."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pyModbusTCP.client import ModbusClient

from tests.sim_site import HOST, interlock, signed, site, unit
from tests.virtual_time import VirtualClock, virtual
from vppd.sim.plant import Plant
from vppd.spine.clock import SystemClock


@asynccontextmanager
async def served(*units: Any, **rest: Any) -> AsyncIterator[Plant]:
    async with Plant(site(*(units or (unit(),)), **rest), VirtualClock()) as plant:
        yield plant


@asynccontextmanager
async def raw_link(port: int = 502) -> AsyncIterator[Any]:
    reader, writer = await asyncio.open_connection(HOST, port)

    async def ask(request: str, size: int) -> str:
        writer.write(bytes.fromhex(request))
        async with asyncio.timeout(5.0):
            return (await reader.readexactly(size)).hex(" ")

    yield ask
    writer.close()


@asynccontextmanager
async def client_of(port: int = 502) -> AsyncIterator[AsyncModbusTcpClient]:
    client = AsyncModbusTcpClient(HOST, port=port, timeout=1, retries=0)
    assert await client.connect()
    yield client
    client.close()


async def run_at(client: AsyncModbusTcpClient, power_kw: float, unit_id: int = 1) -> None:
    """Auto, enabled, and this power, positive = discharge (the wire counts the other way)."""
    raw = round(-10 * power_kw) & 0xFFFF
    assert not (await client.write_registers(0x2002, [3, 1], device_id=unit_id)).isError()
    assert not (await client.write_register(0x2000, raw, device_id=unit_id)).isError()


@virtual
async def test_golden_requests_get_golden_answers() -> None:
    async with served() as plant, raw_link() as ask:
        plant.units["B1"].battery.soc_pct = 61.8
        # function 4, 0x1000, 2 registers: SoC 618 = 0x026a, SoH 980 = 0x03d4
        assert await ask("0001 0000 0006 01 04 1000 0002", 13) == (
            "00 01 00 00 00 07 01 04 04 02 6a 03 d4"
        )
        # function 16: mode 3 and enable 1 at 0x2002
        assert await ask("0002 0000 000b 01 10 2002 0002 04 0003 0001", 12) == (
            "00 02 00 00 00 06 01 10 20 02 00 02"
        )
        # function 6: -48.0 kW on the wire (0xfe20) is 48 kW discharge
        assert await ask("0003 0000 0006 01 06 2000 fe20", 12) == (
            "00 03 00 00 00 06 01 06 20 00 fe 20"
        )
        assert plant.units["B1"].setpoint_kw == 48.0
        # function 3 reads all seven holding registers of v2 back
        assert await ask("0004 0000 0006 01 03 2000 0007", 23) == (
            "00 04 00 00 00 11 01 03 0e fe 20 00 00 00 03 00 01 00 00 00 00 00 00"
        )
        await asyncio.sleep(2.0)
        # 0x1005: power -480 on the wire
        assert await ask("0005 0000 0006 01 04 1005 0001", 11) == (
            "00 05 00 00 00 05 01 04 02 fe 20"
        )
        # 0x1020: 250.0 kWh, 100.0 kW, 120 cycles
        assert await ask("0006 0000 0006 01 04 1020 0003", 15) == (
            "00 06 00 00 00 09 01 04 06 09 c4 03 e8 00 78"
        )


@virtual
async def test_every_exception() -> None:
    async with served(unit(unit_id=2)) as plant, raw_link() as ask:
        assert await ask("0001 0000 0002 02 2b", 9) == "00 01 00 00 00 03 02 ab 01"
        assert await ask("0001 0000 0006 02 04 0fff 0001", 9) == "00 01 00 00 00 03 02 84 02"
        assert await ask("0001 0000 0006 02 03 1000 0001", 9) == "00 01 00 00 00 03 02 83 02"
        assert await ask("0001 0000 0006 02 06 2007 0001", 9) == "00 01 00 00 00 03 02 86 02"
        assert await ask("0001 0000 0006 02 05 0000 ff00", 9) == "00 01 00 00 00 03 02 85 02"
        assert await ask("0001 0000 0006 02 04 1000 0000", 9) == "00 01 00 00 00 03 02 84 03"
        assert await ask("0001 0000 0006 02 04 1000 007e", 9) == "00 01 00 00 00 03 02 84 03"
        assert await ask("0001 0000 0006 02 06 2002 0004", 9) == "00 01 00 00 00 03 02 86 03"
        assert await ask("0001 0000 0005 02 04 1000 00", 9) == "00 01 00 00 00 03 02 84 03"
        assert await ask("0001 0000 0006 07 04 1000 0001", 9) == "00 01 00 00 00 03 07 84 0b"
        plant.inject("exception", "B1", code=4)
        assert await ask("0001 0000 0006 02 04 1000 0001", 9) == "00 01 00 00 00 03 02 84 04"


@virtual
async def test_a_refused_block_writes_nothing() -> None:
    async with served() as plant, client_of() as client:
        reply = await client.write_registers(0x2000, [100, 0, 9], device_id=1)
        assert reply.exception_code == 3
        assert plant.units["B1"].holding[0x2000] == 0


@virtual
async def test_pipelined_requests_are_answered_in_order() -> None:
    async with served() as plant:
        reader, writer = await asyncio.open_connection(HOST, 502)
        plant.inject("slow", "B1", delay_s=0.2)
        requests = [struct.pack(">HHHBBHH", n, 0, 6, 1, 4, 0x1000 + n, 1) for n in range(4)]
        writer.write(b"".join(requests[:3]) + requests[3][:5])
        await asyncio.sleep(0.1)
        writer.write(requests[3][5:])
        plant.clear("slow")
        began_s = plant.clock.now_s()
        got = [struct.unpack(">H", (await reader.readexactly(11))[:2])[0] for _ in range(4)]
        assert got == [0, 1, 2, 3]
        assert 0.3 < plant.clock.now_s() - began_s < 0.8
        writer.close()


@virtual
async def test_rubbish_on_tcp_ends_the_connection() -> None:
    async with served():
        reader, writer = await asyncio.open_connection(HOST, 502)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read(100)


@virtual
async def test_holes_refuse_on_even_units_and_read_zero_on_odd_ones() -> None:
    async with served(unit("B1", unit_id=1), unit("B2", unit_id=2)), client_of() as client:
        whole = await client.read_input_registers(0x1000, count=0x23, device_id=1)
        assert whole.registers[8:16] == [0] * 8
        assert whole.registers[0x21] == 1000
        refused = await client.read_input_registers(0x1000, count=9, device_id=2)
        assert refused.exception_code == 2
        assert len((await client.read_input_registers(0x1000, count=8, device_id=2)).registers) == 8


@virtual
async def test_values_are_those_of_the_battery() -> None:
    async with served() as plant, client_of() as client:
        await run_at(client, -60.0)
        await asyncio.sleep(600.0)
        read = (await client.read_input_registers(0x1000, count=8, device_id=1)).registers
        battery = plant.units["B1"].battery
        assert read[0] == pytest.approx(10 * battery.soc_pct, abs=1)
        assert read[0] > 500
        assert read[2] == pytest.approx(10 * battery.voltage_v, abs=1)
        assert signed(read[3]) == pytest.approx(-10 * battery.current_a, abs=1)
        assert signed(read[3]) > 400  # charging is positive
        assert signed(read[5]) == 600
        assert read[7] == pytest.approx(5000, abs=30)
        dc_kw = read[2] * signed(read[3]) * 23 / 100_000.0
        assert dc_kw == pytest.approx(60.0 * 0.975, rel=0.005)


@pytest.mark.parametrize(
    ("mode", "enable", "asked_kw", "gives_kw"),
    [
        *[(0, 1, 50.0, 0.0), (3, 0, 50.0, 0.0), (3, 1, 50.0, 50.0), (3, 1, -50.0, -50.0)],
        *[(1, 1, 50.0, 0.0), (1, 1, -50.0, -50.0), (2, 1, 50.0, 50.0), (2, 1, -50.0, 0.0)],
        (3, 1, 300.0, 100.0),
    ],
)
def test_mode_and_enable_are_honoured(
    mode: int, enable: int, asked_kw: float, gives_kw: float
) -> None:
    @virtual
    async def main() -> None:
        async with served() as plant, client_of() as client:
            raw = round(-10 * asked_kw) & 0xFFFF
            await client.write_registers(0x2000, [raw, 0, mode, enable], device_id=1)
            await asyncio.sleep(5.0)
            assert plant.unit("B1").power_kw == pytest.approx(gives_kw, abs=1e-6)

    main()


@virtual
async def test_reactive_power_is_cut_by_the_circle() -> None:
    async with served() as plant, client_of() as client:
        await run_at(client, 100.0)
        await client.write_register(0x2001, 1000, device_id=1)
        await asyncio.sleep(5.0)
        assert plant.unit("B1").reactive_kvar == pytest.approx(-((110.0**2 - 100.0**2) ** 0.5))
        read = await client.read_input_registers(0x1006, count=1, device_id=1)
        assert read.registers == [458]  # the sign it was asked with


@virtual
async def test_the_command_timeout_takes_power_to_zero_and_holds_it() -> None:
    async with served() as plant, client_of() as client:
        await client.write_registers(0x2005, [5, 1], device_id=1)
        await run_at(client, 40.0)
        await asyncio.sleep(4.9)
        assert plant.unit("B1").power_kw == pytest.approx(40.0)
        await asyncio.sleep(1.1)
        held = (await client.read_holding_registers(0x2000, count=7, device_id=1)).registers
        assert held == [0, 0, 3, 1, 0, 5, 1]
        assert plant.unit("B1").power_kw == pytest.approx(0.0, abs=0.1)
        assert plant.units["B1"].setpoints[-1].source == "timeout"
        await client.write_register(0x2006, 1, device_id=1)  # no change: no life
        await client.write_register(0x2000, 100, device_id=1)
        assert (await client.read_holding_registers(0x2000, count=1, device_id=1)).registers == [0]
        await client.write_register(0x2006, 2, device_id=1)
        await client.write_register(0x2000, 100, device_id=1)
        await asyncio.sleep(1.0)
        assert plant.unit("B1").power_kw == pytest.approx(-10.0, abs=0.1)


@virtual
async def test_the_timeout_counts_from_the_last_change_exactly() -> None:
    async with served() as plant, client_of() as client:
        await client.write_registers(0x2005, [3, 7], device_id=1)
        await run_at(client, 40.0)
        for beat in range(8, 12):
            await asyncio.sleep(2.0)
            await client.write_register(0x2006, beat, device_id=1)
        last_s = plant.clock.now_s()
        await asyncio.sleep(60.0)
        plant.unit("B1")
        end = plant.units["B1"].setpoints[-1]
        assert (end.source, end.power_kw) == ("timeout", 0.0)
        assert end.at_s - last_s == pytest.approx(3.0)


@virtual
async def test_timeout_zero_is_never_and_v1_has_none() -> None:
    async with (
        served(unit("B1"), unit("B2", profile="vpp-bess", unit_id=3)) as plant,
        client_of() as client,
    ):
        await run_at(client, 40.0)
        await run_at(client, 30.0, unit_id=3)
        await asyncio.sleep(600.0)
        assert plant.unit("B1").power_kw == pytest.approx(40.0)
        assert plant.unit("B2").power_kw == pytest.approx(30.0)
        refused = await client.write_register(0x2005, 5, device_id=3)
        assert refused.exception_code == 2


@virtual
async def test_the_device_follows_its_own_ramp() -> None:
    async with served() as plant, client_of() as client:
        await run_at(client, 100.0)
        await asyncio.sleep(0.2)
        assert plant.unit("B1").power_kw == pytest.approx(50.0, abs=1.0)


@virtual
async def test_an_empty_battery_stops_itself() -> None:
    async with served() as plant, client_of() as client:
        plant.units["B1"].battery.soc_pct = 0.5
        await run_at(client, 100.0)
        await asyncio.sleep(120.0)
        assert plant.unit("B1").power_kw == 0.0
        read = await client.read_input_registers(0x1000, count=1, device_id=1)
        assert read.registers == [0]
        await run_at(client, -100.0)
        await asyncio.sleep(60.0)
        assert plant.unit("B1").battery.soc_pct > 0.3


@virtual
async def test_interlock_inputs_are_bits_at_their_address() -> None:
    inputs = (
        interlock(),
        interlock("door", healthy=0, discrete_input=None, coil=11),
        interlock("estop", unit_id=1, discrete_input=0),  # beside the battery
    )
    async with served(interlock_inputs=inputs) as plant, client_of() as client:
        assert (await client.read_discrete_inputs(3, count=1, device_id=9)).bits[0] is True
        assert (await client.read_coils(11, count=1, device_id=9)).bits[0] is False
        assert (await client.read_discrete_inputs(0, count=1, device_id=1)).bits[0] is True
        assert (await client.read_discrete_inputs(2, count=2, device_id=9)).exception_code == 2
        plant.inject("interlock", "door")
        assert (await client.read_coils(11, count=1, device_id=9)).bits[0] is True
        await client.write_coil(11, False, device_id=9)
        assert plant.inputs["door"].healthy


@virtual
async def test_setpoints_are_kept_with_their_time() -> None:
    async with served() as plant, client_of() as client:
        await run_at(client, 12.3)
        write = plant.units["B1"].setpoints[-1]
        assert write.power_kw == pytest.approx(12.3)
        assert write.source == "modbus"
        assert write.at_s == plant.clock.now_s()
        for _ in range(9000):
            plant.units["B1"].set_setpoint(0, "modbus")
        assert len(plant.units["B1"].setpoints) == 8192


def test_an_unknown_map_is_refused() -> None:
    @virtual
    async def main() -> None:
        with pytest.raises(ValueError, match="vpp-bess, vpp-bess-v2, not other"):
            Plant(site(unit(profile="other")), VirtualClock())

    main()


async def test_an_independent_client_over_real_sockets() -> None:
    async with Plant(site(unit(host="127.0.0.1", port=0)), SystemClock()) as plant:
        port = next(iter(plant.lines.values())).port  # type: ignore[attr-defined]

        def talk() -> tuple[Any, ...]:
            client = ModbusClient("127.0.0.1", port, unit_id=1, timeout=5.0)
            wrote = client.write_multiple_registers(0x2000, [0xFF38, 0, 3, 1])
            read = client.read_holding_registers(0x2000, 7)
            inputs = client.read_input_registers(0x1000, 8)
            single = client.write_single_register(0x2000, 5)
            hole = client.read_input_registers(0x1040, 1), client.last_except
            client.close()
            return wrote, read, inputs, single, hole

        wrote, read, inputs, single, hole = await asyncio.to_thread(talk)
        assert wrote is True
        assert read == [0xFF38, 0, 3, 1, 0, 0, 0]
        assert inputs[:2] == [500, 980]
        assert single is True
        assert hole == (None, 2)
        sources = [write.power_kw for write in plant.units["B1"].setpoints]
        assert sources == [pytest.approx(20.0), pytest.approx(-0.5)]


@asynccontextmanager
async def serial_site(tmp_path: Path, baudrate: int = 115200) -> AsyncIterator[tuple[Plant, str]]:
    path = str(tmp_path / "ttyBESS")
    serial: dict[str, Any] = {"host": None, "serial": path, "baudrate": baudrate}
    units = (unit("B1", unit_id=1, **serial), unit("B2", unit_id=2, **serial))
    async with Plant(site(*units), SystemClock()) as plant:
        yield plant, path
    assert not Path(path).exists()


async def test_rtu_over_a_pty(tmp_path: Path) -> None:
    async with serial_site(tmp_path) as (plant, path):
        client = AsyncModbusSerialClient(
            path, framer=FramerType.RTU, baudrate=115200, timeout=2, retries=0
        )
        assert await client.connect()
        await client.write_registers(0x2000, [100, 0, 3, 1], device_id=2)
        assert plant.units["B2"].setpoint_kw == pytest.approx(-10.0)
        assert plant.units["B1"].setpoint_kw == 0.0
        read = await client.read_input_registers(0x1000, count=8, device_id=1)
        assert read.registers[:2] == [500, 980]
        assert (await client.read_input_registers(0x1000, count=9, device_id=2)).exception_code == 2
        client.close()


async def test_rtu_golden_frame_noise_and_broadcast(tmp_path: Path) -> None:
    import os

    async with serial_site(tmp_path) as (plant, path):
        end = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        heard = bytearray()
        arrived = asyncio.Event()

        def read() -> None:
            heard.extend(os.read(end, 1024))
            arrived.set()

        asyncio.get_running_loop().add_reader(end, read)

        async def expect(size: int) -> bytes:
            async with asyncio.timeout(5.0):
                while len(heard) < size:
                    arrived.clear()
                    await arrived.wait()
            taken = bytes(heard[:size])
            del heard[:size]
            return taken

        # CRCs by pyModbusTCP.utils.crc16
        os.write(end, bytes.fromhex("01 04 10 00 00 02 75 0b"))
        assert (await expect(9)).hex(" ") == "01 04 04 01 f4 03 d4 bb 25"
        os.write(end, bytes.fromhex("01 04 10 00 00 02 75 0c"))  # CRC wrong: no answer
        async with asyncio.timeout(5.0):  # noise without a pause may cost the next frame: repeat
            while plant.units["B2"].setpoint_kw == 0.0:
                os.write(end, bytes.fromhex("00 06 20 00 00 64 82 30"))  # all obey, none answer
                await asyncio.sleep(0.1)
        assert plant.units["B1"].setpoint_kw == pytest.approx(-10.0)
        os.write(end, bytes.fromhex("01 2b 0e 01"))  # unknown function, in two pieces
        os.write(end, bytes.fromhex("00 70 77"))
        assert (await expect(5)).hex(" ") == "01 ab 01 9e f0"
        assert not heard
        asyncio.get_running_loop().remove_reader(end)
        os.close(end)


async def test_a_real_device_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ttyUSB0"
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        async with Plant(site(unit(host=None, serial=str(path))), SystemClock()):
            pass
    assert path.read_text() == "precious"
