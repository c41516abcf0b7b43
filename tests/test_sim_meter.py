"""The simulated meter at the point of connection, and the mistakes of a commissioning."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException

from tests.sim_site import HOST, signed, site, unit
from tests.virtual_time import VirtualClock, virtual
from vppd.core.settings import InverterSettings, MeterSettings, UnitSettings
from vppd.sim.faults.door import obey
from vppd.sim.faults.registry import UnknownFaultError
from vppd.sim.meter import SimMeter, SitePower
from vppd.sim.plant import Plant
from vppd.sim.slave import Behaviour, Layout
from vppd.spine.clock import SystemClock

METER_ID, INVERTER_ID = 20, 12


def meter(**settings: Any) -> MeterSettings:
    where = {"host": HOST, "unit_id": METER_ID}
    return MeterSettings(**{"profile": "eastron-sdm630", **where, **settings})


def inverted(name: str = "B2") -> UnitSettings:
    """A unit that its inverter alone answers for."""
    return replace(
        unit(name), modbus=None, inverter=InverterSettings(host=HOST, unit_id=INVERTER_ID)
    )


class Lab:
    """One unit, an inverter-only one and the meter."""

    def __init__(self, plant: Plant, client: Any) -> None:
        self.plant, self.client = plant, client

    async def words(self, address: int, count: int = 2, unit_id: int = METER_ID) -> list[int]:
        read = await self.client.read_input_registers(address, count=count, device_id=unit_id)
        assert not read.isError(), read
        return list(read.registers)

    async def value(self, address: int) -> float:
        words = await self.words(address)
        return float(struct.unpack(">f", struct.pack(">HH", *words))[0])

    async def run_at(self, power_kw: float, reactive_kvar: float = 0.0) -> None:
        """The first unit, positive = discharge."""
        words = [round(-10 * power_kw) & 0xFFFF, round(-10 * reactive_kvar) & 0xFFFF, 3, 1]
        assert not (await self.client.write_registers(0x2000, words, device_id=1)).isError()
        await asyncio.sleep(5.0)


@asynccontextmanager
async def lab(**settings: Any) -> AsyncIterator[Lab]:
    made = site(unit(), inverted(), meter=meter(**settings))
    async with Plant(made, VirtualClock(), seed=1) as plant:
        client = AsyncModbusTcpClient(HOST, port=502, timeout=1, retries=0)
        assert await client.connect()
        yield Lab(plant, client)
        client.close()


@virtual
async def test_golden_floats() -> None:
    async with lab() as on:
        assert await on.words(0x0034) == [0, 0]
        assert await on.words(0x003C) == [0, 0]
        on.plant.inject("site_load", load_kw=46.0)
        on.plant.inject("frequency_step", frequency_hz=49.5)
        # IEEE 754 by hand: 46000 = 0xB3B0 = 1.01100111011 x 2^15, 230 = 1.1100110 x 2^7,
        # 49.5 = 1.100011 x 2^5, 1 = 1.0 x 2^0
        assert await on.words(0x0034) == [0x4733, 0xB000]
        assert await on.words(0x0038) == [0x4733, 0xB000]
        assert await on.words(0x0000, 6) == [0x4366, 0x0000] * 3
        assert await on.words(0x003E) == [0x3F80, 0x0000]
        assert await on.words(0x0046) == [0x4246, 0x0000]
        assert await on.words(0x0036) == [0, 0]  # the table leaves it out
        # 46 kW in three phases of 230 V: 66.667 A
        assert await on.value(0x0006) == pytest.approx(66.667, abs=0.001)
        assert await on.value(0x0010) == pytest.approx(15333.3, abs=0.1)


@virtual
async def test_import_is_positive_and_units_other_load_and_generation_add_up() -> None:
    async with lab() as on:
        await on.run_at(30.0, 12.0)
        on.plant.units["B2"].command(10.0, -2.0)
        await asyncio.sleep(5.0)
        assert await on.value(0x0034) == pytest.approx(-40_000.0, abs=1.0)
        assert await on.value(0x003C) == pytest.approx(-10_000.0, abs=1.0)
        assert await on.value(0x003E) == pytest.approx(-40.0 / 41.231, abs=1e-4)
        on.plant.inject("site_load", load_kw=100.0, generation_kw=25.0)
        assert await on.value(0x0034) == pytest.approx(35_000.0, abs=1.0)
        on.plant.clear("site_load")
        assert await on.value(0x0034) == pytest.approx(-40_000.0, abs=1.0)


@virtual
async def test_energy_counts_both_ways() -> None:
    async with lab() as on:
        on.plant.inject("site_load", load_kw=60.0)
        await asyncio.sleep(1800.0)
        on.plant.inject("site_load", generation_kw=20.0)
        await asyncio.sleep(3600.0)
        assert await on.value(0x0048) == pytest.approx(30.0, rel=1e-5)
        assert await on.value(0x004A) == pytest.approx(20.0, rel=1e-5)
        assert await on.value(0x0156) == pytest.approx(50.0, rel=1e-5)
        on.plant.clear()
        await on.run_at(50.0)
        before_kwh = await on.value(0x004A)
        await asyncio.sleep(3600.0)  # nobody looks for an hour
        assert await on.value(0x004A) - before_kwh == pytest.approx(50.0, abs=0.01)
        state = on.plant.state("meter")
        assert state["power_w"] == pytest.approx(-50_000.0)
        assert state["import_kwh"] == pytest.approx(30.0, rel=1e-5)


@virtual
async def test_transformers_outside_divide() -> None:
    async with lab(ratio=40.0) as on:
        on.plant.inject("site_load", load_kw=400.0)
        assert await on.value(0x0034) == pytest.approx(10_000.0)


@pytest.mark.parametrize(
    ("function", "address", "count", "code"),
    [
        (4, 0x0001, 2, 2),  # an odd address
        (4, 0x0034, 1, 3),  # an odd count
        (4, 0x0000, 82, 3),  # 41 parameters
        (4, 0x017E, 2, 2),  # behind the table
        (3, 0x0034, 2, 1),
    ],
)
def test_what_the_manual_refuses(function: int, address: int, count: int, code: int) -> None:
    @virtual
    async def main() -> None:
        async with lab():
            reader, writer = await asyncio.open_connection(HOST, 502)
            writer.write(struct.pack(">HHHBBHH", 7, 0, 6, METER_ID, function, address, count))
            answer = await reader.readexactly(9)
            assert answer == struct.pack(">HHHBBB", 7, 0, 3, METER_ID, function | 0x80, code)
            writer.write(struct.pack(">HHHBBHH", 8, 0, 6, METER_ID, 4, 0, 80))
            assert len(await reader.readexactly(9 + 160)) == 169
            writer.close()

    main()


@virtual
async def test_nothing_can_be_written() -> None:
    async with lab() as on:
        assert (await on.client.write_registers(0, [1, 2], device_id=METER_ID)).exception_code == 1


async def test_it_answers_on_a_serial_line(tmp_path: Path) -> None:
    path = tmp_path / "ttyMETER"
    made = replace(meter(), host=None, serial=str(path), baudrate=38400, unit_id=1)
    units = unit(host="127.0.0.1", port=0)
    async with Plant(site(units, meter=made), SystemClock()) as plant:
        plant.inject("site_load", load_kw=46.0)
        client = AsyncModbusSerialClient(
            str(path), framer=FramerType.RTU, baudrate=38400, timeout=2, retries=0
        )
        assert await client.connect()
        read = await client.read_input_registers(0x0034, count=2, device_id=1)
        assert read.registers == [0x4733, 0xB000]
        client.close()


# in one configuration


def test_what_is_marked_is_simulated_in_hil() -> None:
    @virtual
    async def main() -> None:
        real = site(unit(), meter=meter(), mode="hil")
        async with Plant(real, VirtualClock()) as plant:
            assert plant.meter is None
            with pytest.raises(UnknownFaultError, match="the plant has no meter"):
                plant.inject("site_load", load_kw=1.0)
        marked = site(replace(inverted(), simulate=True), unit(), meter=meter(), mode="hil")
        async with Plant(marked, VirtualClock()) as plant:
            assert set(plant.units) == {"B2"}
            assert set(plant.inverters) == {"B2"}
            assert plant.meter is None
        async with Plant(replace(real, meter=meter(simulate=True)), VirtualClock()) as plant:
            assert plant.meter is not None
            assert not plant.units

    main()


@virtual
async def test_what_the_plant_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match="knows eastron-sdm630, not abb"):
        Plant(site(unit(), meter=meter(profile="abb")), VirtualClock())
    with pytest.raises(ValueError, match="meter: B1 already has its Modbus address"):
        Plant(site(unit(), meter=meter(unit_id=1)), VirtualClock())


# faults


@virtual
async def test_a_silent_and_a_stuck_meter() -> None:
    async with lab() as on:
        on.plant.inject("meter_silence", for_s=3.0)
        with pytest.raises(ModbusIOException):
            await on.value(0x0034)
        await on.words(0x1000, 1, unit_id=1)  # the unit beside it answers
        await asyncio.sleep(3.0)
        on.plant.inject("meter_stuck")
        on.plant.inject("site_load", load_kw=46.0)
        assert await on.value(0x0034) == 0.0
        on.plant.clear("meter_stuck")
        assert await on.words(0x0034) == [0x4733, 0xB000]


@virtual
async def test_a_reversed_transformer_turns_power_and_counters() -> None:
    async with lab() as on:
        on.plant.inject("site_load", load_kw=46.0)
        await asyncio.sleep(3600.0)
        on.plant.inject("ct_reversed")
        await asyncio.sleep(1800.0)
        assert await on.words(0x0034) == [0xC733, 0xB000]
        assert await on.value(0x003E) == -1.0
        assert await on.value(0x0048) == pytest.approx(46.0, rel=1e-5)
        assert await on.value(0x004A) == pytest.approx(23.0, rel=1e-5)
        on.plant.clear()
        await asyncio.sleep(1800.0)
        assert await on.value(0x004A) == pytest.approx(23.0, rel=1e-5)


@virtual
async def test_mistakes_of_the_set_up_on_the_meter() -> None:
    async with lab() as on:
        on.plant.inject("site_load", load_kw=46.0)
        on.plant.inject("swapped_words", "meter")
        assert await on.words(0x0034) == [0xB000, 0x4733]
        assert await on.words(0x0000, 6) == [0x0000, 0x4366] * 3
        on.plant.clear("swapped_words")
        on.plant.inject("inverted_sign", "meter")
        assert await on.words(0x0034) == [0xC733, 0xB000]
        assert await on.words(0x0038) == [0x4733, 0xB000]  # apparent power has none
        on.plant.clear("inverted_sign")
        on.plant.inject("scale_ten", "meter")
        assert await on.value(0x0034) == 460_000.0
        assert await on.value(0x0000) == 230.0
        on.plant.clear("scale_ten")
        assert await on.words(0x0034) == [0x4733, 0xB000]


@virtual
async def test_mistakes_of_the_set_up_on_a_controller() -> None:
    async with lab() as on:
        await on.run_at(48.0)
        on.plant.inject("inverted_sign", "B1")
        assert signed((await on.words(0x1005, 1, unit_id=1))[0]) == 480
        assert await on.words(0x1000, 1, unit_id=1) == [500]
        on.plant.inject("scale_ten", "B1")
        assert signed((await on.words(0x1005, 1, unit_id=1))[0]) == 4800
        on.plant.clear()
        assert signed((await on.words(0x1005, 1, unit_id=1))[0]) == -480
        with pytest.raises(ValueError, match="no value of two registers"):
            on.plant.inject("swapped_words", "B1")


@virtual
async def test_mistakes_of_the_set_up_on_an_inverter() -> None:
    async with lab() as on:
        inverter = on.plant.inverters["B2"]
        on.plant.inject("inverter_rival", power_kw=40.0, period_s=100.0)
        await asyncio.sleep(5.0)

        async def holding(model: int, point: str, count: int) -> list[int]:
            at = inverter.image.address(model, point)
            read = await on.client.read_holding_registers(at, count=count, device_id=INVERTER_ID)
            return list(read.registers)

        (true,) = await holding(701, "W", 1)
        assert on.plant.unit("B2").power_kw == pytest.approx(40.0, abs=0.01)
        assert signed(true) > 0
        high, low = await holding(704, "WSet", 2)
        on.plant.inject("swapped_words", "B2/inverter")
        assert await holding(704, "WSet", 2) == [low, high]
        assert await holding(701, "W", 1) == [true]
        on.plant.clear("swapped_words")
        on.plant.inject("inverted_sign", "B2/inverter")
        assert signed((await holding(701, "W", 1))[0]) == -signed(true)
        assert await holding(704, "WSet", 2) == [high, low]
        on.plant.clear()
        assert await holding(701, "W", 1) == [true]


@given(st.integers(0, 0xFFFF), st.sampled_from([-1.0, 10.0, -10.0]))
def test_a_garbled_power_is_the_product_as_far_as_it_fits(raw: int, factor: float) -> None:
    how = Behaviour(inverts_power=factor < 0.0, power_factor=abs(factor))
    layout = Layout(function=4, powers=frozenset({5}))
    before, garbled, after = how.garble(layout, 4, [raw, raw, raw])
    assert (before, after) == (raw, raw)
    if raw == 0x8000:  # not implemented
        assert garbled == raw
    else:
        expected = min(max(signed(raw) * factor, -32767), 32767)
        assert signed(garbled) == expected


# the inverter in the plant


@pytest.mark.parametrize("drive", ["der", "storage"])
def test_a_rival_drives_the_inverter_and_is_told_apart(drive: Any) -> None:
    @virtual
    async def main() -> None:
        base = inverted()
        assert base.inverter is not None
        only = replace(base, inverter=replace(base.inverter, drive=drive))
        async with Plant(site(only), VirtualClock(), seed=1) as plant:
            plant.inject("inverter_rival", power_kw=-30.0, period_s=1.0)
            await asyncio.sleep(5.5)
            assert plant.unit("B2").power_kw == pytest.approx(-30.0, abs=0.1)
            writes = [each for each in plant.units["B2"].setpoints if each.source == "rival"]
            assert writes[-1].power_kw == pytest.approx(-30.0, abs=0.1)
            assert 6 <= len(writes) <= 12
            plant.clear()
            plant.inject("inverter_fault", "B2/inverter", for_s=3.0)
            await asyncio.sleep(2.0)
            assert plant.unit("B2").power_kw == pytest.approx(0.0, abs=0.01)
            await asyncio.sleep(5.0)
            assert plant.unit("B2").power_kw == pytest.approx(-30.0, abs=0.1)
            plant.inject("inverter_reset")
            await asyncio.sleep(2.0)
            assert plant.unit("B2").power_kw == pytest.approx(0.0, abs=0.01)
            with pytest.raises(ValueError, match="no Modbus device 'B2'"):
                plant.inject("device_reset", "B2")

    main()


@virtual
async def test_beside_an_inverter_the_controller_only_measures() -> None:
    both = replace(unit(), inverter=InverterSettings(host=HOST, unit_id=INVERTER_ID))
    async with Plant(site(both), VirtualClock(), seed=1) as plant:
        client = AsyncModbusTcpClient(HOST, port=502, timeout=1, retries=0)
        assert await client.connect()
        words = [400, 0, 3, 1]
        assert not (await client.write_registers(0x2000, words, device_id=1)).isError()
        await asyncio.sleep(5.0)
        assert plant.unit("B1").power_kw == 0.0
        plant.units["B1"].command(25.0, -5.0)
        await asyncio.sleep(5.0)
        read = await client.read_input_registers(0x1005, count=2, device_id=1)
        assert [signed(raw) for raw in read.registers] == [-250, 50]
        read = await client.read_holding_registers(0x2000, count=4, device_id=1)
        assert read.registers == words
        sources = [each.source for each in plant.units["B1"].setpoints]
        assert sources.count("modbus") == 1
        assert plant.state("B1")["setpoint_kw"] == 25.0
        client.close()


@virtual
async def test_the_socket_names_the_meter() -> None:
    async with lab() as on:
        answer = obey(on.plant, b'{"inject": "site_load", "target": "meter", "load_kw": 46}')
        assert answer == {"ok": True}
        answer = obey(on.plant, b'{"state": "meter"}')
        assert answer["state"]["power_w"] == 46_000.0
        answer = obey(on.plant, b'{"list": true}')
        assert answer["active"][0]["target"] == "meter"


@given(st.floats(-1e4, 1e4), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0.1, 1e4))
def test_energy_is_conserved(power_kw: float, load_kw: float, sun_kw: float, hours: float) -> None:
    given_kwh = 0.0
    subject = SimMeter(meter(), lambda: SitePower(power_kw, 0.0, given_kwh), lambda: 50.0, 0.0)
    subject.load_kw, subject.generation_kw = load_kw, sun_kw
    given_kwh = power_kw * hours
    subject.advance(3600.0 * hours)
    net_kwh = (load_kw - sun_kw - power_kw) * hours
    assert subject.import_kwh - subject.export_kwh == pytest.approx(net_kwh, abs=1e-3)
    assert min(subject.import_kwh, subject.export_kwh) == 0.0
