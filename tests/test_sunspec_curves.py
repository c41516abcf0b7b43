"""Curves of a SunSpec inverter, read and written through its link; the device adopts by itself."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.sunspec_device import (
    DER,
    M705,
    M711,
    Inverter,
    SunSpecRig,
    chain_words,
    driven,
    raw,
)
from tests.virtual_time import VirtualClock, run_virtual, virtual
from vppd.field.sunspec.curves import Curve, CurveError, CurveKind, check
from vppd.field.sunspec.models import Found, Read, discover

SLOTS = {705: (15, 18, 3), 706: (15, 9, 2), 711: (14, 10, 2), 712: (14, 8, 2)}  # head, size, count
REQUEST = {705: 3, 706: 3, 711: 3, 712: 3}
M706 = {
    **raw("Ena=1 AdptCrvReq=0 AdptCrvRslt=0 NPt=2 NCrv=2 V_SF=-1"),
    **raw("DeptRef_SF=0 RspTms_SF=0"),
    "Crv": [
        {"ActPt": 2, "DeptRef": 0, "RspTms": 5, "ReadOnly": only, "Pt": pts}
        for only, pts in ((1, [{"V": 1060, "W": 100}, {"V": 1100, "W": 0}]), (0, [{"V": 0}] * 2))
    ],
}
M712 = {
    **raw("Ena=0 AdptCrvReq=0 AdptCrvRslt=0 NPt=2 NCrv=2 W_SF=0"),
    "DeptRef_SF": -1,
    "Crv": [
        {"ActPt": 2, "DeptRef": 1, "Pri": 1, "ReadOnly": only, "Pt": pts}
        for only, pts in (
            (1, [{"W": -50, "Var": 300}, {"W": 50, "Var": -300}]),
            (0, [{"W": 0}] * 2),
        )
    ],
}
MODELS = {**DER, 706: M706, 712: M712}


@dataclass
class Adopter(Inverter):
    """Copies the slot asked for over the first, as a device does."""

    result: int = 1  # what it answers: 1 completed, 2 failed, 0 still at it
    copies: bool = True

    def adopt_on(self, model: int) -> None:
        at, before = self.places[model] + REQUEST[model], self.on_write
        head, size, _ = SLOTS[model]

        def wrote(address: int, word: int) -> None:
            before(address, word)
            if address != at or word == 0:
                return
            first = self.places[model] + head
            source = first + (word - 1) * size
            for n in range(size) if self.copies and self.result == 1 else ():
                read_only = {705: 9, 706: 4, 711: 9, 712: 3}[model]
                if n != read_only:
                    self.holding[first + n] = self.holding[source + n]
            self.holding[at + 1] = self.result

        self.on_write = wrote


def with_device(use: Callable[[SunSpecRig, Adopter], Any], models: Any = None, **more: Any) -> None:
    async def main() -> None:
        clock = VirtualClock()
        inverter = Adopter(words=chain_words(list((models or MODELS).items())), **more)
        for model in SLOTS:
            if model in inverter.places:
                inverter.adopt_on(model)
        async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
            await rig.tick(1.0, 0.0)
            await use(rig, inverter)

    run_virtual(main(), limit_s=60.0)


def test_each_curve_is_read() -> None:
    async def use(rig: SunSpecRig, inverter: Adopter) -> None:
        assert await rig.device.curve(CurveKind.VOLT_VAR) == Curve(
            CurveKind.VOLT_VAR, ((92.0, 44.0), (108.0, -44.0)), ("v_nom_pct", "var_max_pct")
        )
        assert await rig.device.curve(CurveKind.VOLT_WATT) == Curve(
            CurveKind.VOLT_WATT, ((106.0, 100.0), (110.0, 0.0)), ("v_nom_pct", "w_max_pct")
        )
        assert await rig.device.curve(CurveKind.WATT_VAR) == Curve(
            CurveKind.WATT_VAR, ((-50.0, 30.0), (50.0, -30.0)), ("w_max_pct", "var_max_pct"), False
        )
        assert await rig.device.curve(CurveKind.FREQUENCY_DROOP) == Curve(
            CurveKind.FREQUENCY_DROOP, ((-0.04, 0.04), (0.06, 0.05)), ("hz", "pu_per_pu"), False
        )

    with_device(use)


NEW = [
    Curve(
        CurveKind.VOLT_VAR,
        ((91.0, 30.0), (98.0, 0.0), (102.0, 0.0), (109.0, -30.5)),
        ("v_nom_pct", "w_max_pct"),
    ),
    Curve(CurveKind.VOLT_WATT, ((105.5, 100.0), (109.9, -20.0)), ("v_nom_pct", "w_max_pct")),
    Curve(CurveKind.WATT_VAR, ((-80.0, 12.3), (80.0, -12.3)), ("w_max_pct", "va_max_pct")),
    Curve(CurveKind.FREQUENCY_DROOP, ((-0.1, 0.05), (0.05, 0.0401)), ("hz", "pu_per_pu")),
]


@pytest.mark.parametrize("curve", NEW, ids=lambda curve: curve.kind)
def test_each_curve_is_written_adopted_enabled_and_read_back(curve: Curve) -> None:
    async def use(rig: SunSpecRig, inverter: Adopter) -> None:
        assert await rig.device.set_curve(curve.kind, curve) == curve
        assert await rig.device.curve(curve.kind) == curve
        off = replace(curve, enabled=False)
        assert await rig.device.set_curve(curve.kind, off) == off
        assert rig.device.ready
        await rig.tick(1.0, 5.0)

    with_device(use)


def test_only_a_slot_that_may_be_written_is_written() -> None:
    async def use(rig: SunSpecRig, inverter: Adopter) -> None:
        await rig.device.set_curve(CurveKind.VOLT_VAR, NEW[0])
        first = inverter.places[705]
        third = first + 15 + 2 * 18
        frames = [(each.address, each.size) for each in inverter.frames(705)]
        assert frames == [(third, 2), (third + 10, 8), (first + 3, 1)]
        assert inverter.frames(705)[-1].words == (3,)

    with_device(use)


def test_polls_and_setpoints_go_on_while_a_curve_is_written() -> None:
    async def use(rig: SunSpecRig, inverter: Adopter) -> None:
        inverter.result = 0
        rig.device.actuator.enable(on=True)
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(refused(rig))
            await rig.tick(4.0, 33.0)
            assert inverter.long(704, "WSet") == 3300
            assert "not done" in await writing

    async def refused(rig: SunSpecRig) -> str:
        with pytest.raises(CurveError) as error:
            await rig.device.set_curve(CurveKind.VOLT_VAR, NEW[0])
        return str(error.value)

    with_device(use)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"result": 2}, "does not adopt"),
        ({"result": 0}, "not done"),
        ({"copies": False}, "another curve"),
    ],
)
def test_a_device_that_does_not_adopt_is_told(more: dict[str, Any], words: str) -> None:
    async def use(rig: SunSpecRig, inverter: Adopter) -> None:
        with pytest.raises(CurveError, match=words):
            await rig.device.set_curve(CurveKind.VOLT_VAR, NEW[0])
        assert rig.device.ready

    with_device(use, **more)


def test_no_slot_no_model_no_connection() -> None:
    fixed = [{**slot, "ReadOnly": 1} for slot in M705["Crv"]]

    async def full(rig: SunSpecRig, inverter: Adopter) -> None:
        with pytest.raises(CurveError, match="no slot"):
            await rig.device.set_curve(CurveKind.VOLT_VAR, NEW[0])
        with pytest.raises(CurveError, match="model 706"):
            await rig.device.curve(CurveKind.VOLT_WATT)
        inverter.silent = True
        with pytest.raises(CurveError, match="no answer"):
            await rig.device.curve(CurveKind.VOLT_VAR)

    with_device(full, {**DER, 705: {**M705, "Crv": fixed}})


@virtual
async def test_nothing_is_known_of_curves_before_discovery() -> None:
    clock = VirtualClock()
    async with (
        asyncio.TaskGroup() as group,
        driven(clock, group, Inverter(silent=True)) as (rig, _),
    ):
        with pytest.raises(CurveError):
            await rig.device.curve(CurveKind.VOLT_VAR)


def found(models: Any = None) -> Found:
    words = chain_words(list((models or MODELS).items()))
    turns = discover((0,))
    ask = next(turns)
    while True:
        try:
            assert isinstance(ask, Read)
            ask = turns.send(words[ask.address : ask.address + ask.count])
        except StopIteration as end:
            result = end.value
            assert isinstance(result, Found)
            return result


@pytest.mark.parametrize(
    ("kind", "points", "words"),
    [
        (CurveKind.VOLT_VAR, ((98.0, 1.0), (98.0, 0.0)), "x must rise"),
        (CurveKind.VOLT_VAR, ((99.0, 1.0), (98.0, 0.0)), "x must rise"),
        (CurveKind.VOLT_VAR, ((98.0, 101.0), (99.0, 0.0)), "y 101 % is outside"),
        (CurveKind.VOLT_VAR, ((79.9, 1.0), (99.0, 0.0)), "x 79.9 % is outside 80 to 120 %"),
        (CurveKind.VOLT_VAR, ((98.0, 1.0),), "2 to 4"),
        (CurveKind.VOLT_VAR, tuple((90.0 + n, 0.0) for n in range(5)), "2 to 4"),
        (CurveKind.VOLT_VAR, ((98.0, float("nan")), (99.0, 0.0)), "not a number"),
        (CurveKind.WATT_VAR, ((-101.0, 0.0), (50.0, 0.0)), "x -101 % is outside"),
        (CurveKind.FREQUENCY_DROOP, ((0.1, 0.05), (0.2, 0.05)), "two points"),
        (CurveKind.FREQUENCY_DROOP, ((-0.1, 0.05), (0.2, 0.0)), "above 0"),
        (CurveKind.FREQUENCY_DROOP, ((-0.1, 0.05), (0.2, 70.0)), "does not fit"),
    ],
)
def test_a_wrong_curve_is_refused_in_words(kind: CurveKind, points: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check(found().models, kind, Curve(kind, points))


def test_wrong_units_and_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="units are"):
        check(found().models, CurveKind.VOLT_VAR, replace(NEW[0], units=("hz", "kw")))
    with pytest.raises(ValueError, match="is no"):
        check(found().models, CurveKind.VOLT_WATT, NEW[0])


def test_a_curve_model_that_is_shorter_than_it_says_is_refused() -> None:
    models = found({**DER, 711: M711}).models
    cut = {**models, 705: replace(models[705], length=models[705].length - 1)}
    with pytest.raises(CurveError, match="do not fit"):
        check(cut, CurveKind.VOLT_VAR, NEW[0])
