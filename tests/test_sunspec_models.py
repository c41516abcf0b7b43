"""SunSpec models as sums: our numbers beside pysunspec2's own, and chains of every shape."""

import math
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sunspec2.device as ssd
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from tests.sunspec_device import (
    COMMON,
    DER,
    END,
    M705,
    M711,
    M714,
    MARKER,
    STORAGE,
    chain_words,
    model_words,
    raw,
    unit_of,
)
from vppd.core.model import Point
from vppd.core.profile import Kind, Table, Writable
from vppd.field.blocks import Holes, plan, source
from vppd.field.decode import encode, framed, framed_value
from vppd.field.sunspec.models import (
    KNOWN,
    Found,
    Model,
    Read,
    Turns,
    definition,
    discover,
    unchanged,
)
from vppd.field.sunspec.profile import render

COUNTED: dict[int, dict[str, Any]] = {
    160: {"N": 1, "module": [{}]},
    705: M705,
    706: {"NPt": 1, "NCrv": 1, "Crv": [{"Pt": [{}]}]},
    711: M711,
    712: {"NPt": 1, "NCrv": 1, "Crv": [{"Pt": [{}]}]},
    714: M714,
    803: {"NStr": 1, "string": [{}]},
    804: {"NMod": 1, "lithium_ion_string_module": [{}]},
    805: {"NCell": 1, "lithium-ion-module-cell": [{}]},
}
COUNTS = {"ID", "L", "N", "NPt", "NCrv", "NCtl", "NPrt", "NStr", "NMod", "NCell"}
NUMBERS = sorted(KNOWN - {1})


def octets(words: Sequence[int]) -> bytes:
    return struct.pack(f">{len(words)}H", *words)


def filled(number: int, tens: int, seed: int | None) -> list[int]:
    """A model full of random registers (seed None: of nothing implemented), every scale factor the
    same."""
    words = model_words(number, COUNTED.get(number, {}))
    dice = random.Random(seed)
    for name, point in definition(number).fields.items():
        if name in COUNTS:
            continue
        span = range(point.offset, point.offset + point.size)
        for at in span:
            if point.type == "sunssf":
                words[at] = tens & 0xFFFF
            elif seed is not None and point.type != "string":
                words[at] = dice.choice([0, 1, 0x7FFF, 0x8000, 0xFFFF, dice.randrange(0x10000)])
    return words


def ours(number: int, words: Sequence[int]) -> Model:
    return Model(number, 0, words[1], tuple(words))


def theirs(number: int, words: Sequence[int]) -> dict[str, Any]:
    model = ssd.Model(model_id=number, model_addr=0, model_len=words[1], data=octets(words))
    found = {}
    for name, point in model.points.items():
        found[name] = point.cvalue
    for name, group in model.groups.items():
        if not isinstance(group, list):
            found.update({f"{name}.{each}": at.cvalue for each, at in group.points.items()})
    return found


@pytest.mark.parametrize("number", NUMBERS)
def test_every_value_of_every_model_is_what_pysunspec2_says(number: int) -> None:
    compared = 0
    for tens in range(-10, 11):
        for seed in (1, 2, 3, None):
            words = filled(number, tens, seed)
            model, other = ours(number, words), theirs(number, words)
            for name in definition(number).fields:
                if model.spec(name) is None or name not in other:
                    continue
                value = other[name]
                if isinstance(value, float) and math.isnan(value):
                    value = None
                assert model.value(name) == (None if value is None else pytest.approx(value)), name
                compared += 1
    assert compared >= 84  # 21 exponents, 4 fills


@pytest.mark.parametrize("word", [0x8000, 11, 0xFFF5, 40, 0x7FFF])
def test_an_exponent_that_is_none_makes_a_value_missing(word: int) -> None:
    words = chain_words([(701, {**DER[701], "W_SF": word - (word & 0x8000) * 2})])
    model = found(words).models[701]
    assert model.value("W") is None
    assert model.value("VA") == 48260.0


POWERS_KW = [0.0, 0.001, -0.001, 12.345, -99.999, 100.0, -100.0, 33.333]


@pytest.mark.parametrize("tens", range(-10, 11))
def test_what_we_write_is_what_pysunspec2_reads(tens: int) -> None:
    """Never more than asked, and less by under one count."""
    models = {**DER, 704: {**DER[704], "WSet_SF": tens, "VarSet_SF": tens}}
    rendering = rendered(chain_words(list(models.items())))
    for write, name in ((Writable.POWER_KW, "WSet"), (Writable.REACTIVE_KVAR, "VarSet")):
        spec = rendering.profile.writes[write]
        for asked_kw in POWERS_KW:
            registers = framed(spec, asked_kw)[1]
            words = model_words(704, models[704])
            at = definition(704).fields[name].offset - len(spec.before)
            words[at : at + len(registers)] = registers
            read_kw = theirs(704, words)[name] / 1000.0
            most_kw = min(abs(asked_kw), 0x7FFFFFFF * 10.0 ** (tens - 3))
            assert 0.0 <= abs(read_kw) <= most_kw * (1 + 1e-12)
            assert most_kw - abs(read_kw) < 10.0 ** (tens - 3) * (1 + 1e-9)
            assert read_kw * asked_kw >= 0.0
            assert framed_value(spec, registers) == pytest.approx(read_kw, abs=1e-15)


@pytest.mark.parametrize("tens", range(-10, 11))
def test_the_percentages_we_write_are_what_pysunspec2_reads(tens: int) -> None:
    models = {**STORAGE, 124: {**STORAGE[124], "InOutWRte_SF": tens}}
    spec = rendered(chain_words(list(models.items()))).profile.writes[Writable.POWER_KW]
    for asked_kw in POWERS_KW:
        words = model_words(124, models[124])
        words[12:14] = encode(spec, asked_kw)
        read = theirs(124, words)
        assert read["OutWRte"] == -read["InWRte"]
        most_pct = min(abs(asked_kw), 0x7FFF * 10.0**tens)
        assert 0.0 <= abs(read["OutWRte"]) <= most_pct * (1 + 1e-12)
        assert most_pct - abs(read["OutWRte"]) < 10.0**tens * (1 + 1e-9)
        assert read["OutWRte"] * asked_kw >= 0.0


# ---- chains -----------------------------------------------------------------------------------


def walk(turns: Turns[Any], answer: Callable[[Read], Sequence[int] | None]) -> tuple[Any, int]:
    """Run a search over a memory; gives what it found and how many requests that took."""
    asked = 0
    try:
        ask = next(turns)
        while True:
            asked += 1
            assert asked < 3000, "a search that does not end"
            assert isinstance(ask, Read)
            assert 0 < ask.count <= 125
            assert ask.address >= 0
            assert ask.address + ask.count <= 0x10000
            ask = turns.send(answer(ask))
    except StopIteration as end:
        return end.value, asked


def memory(words: Sequence[int], base: int = 0) -> Callable[[Read], Sequence[int] | None]:
    def answer(read: Read) -> Sequence[int] | None:
        first = read.address - base
        inside = first >= 0 and first + read.count <= len(words)
        return words[first : first + read.count] if inside else None

    return answer


def found(words: Sequence[int], base: int = 0) -> Found:
    result, _ = walk(discover((0, 40000, 50000)), memory(words, base))
    assert isinstance(result, Found)
    return result


def rendered(words: Sequence[int], **unit: Any) -> Any:
    return render(found(words), unit_of(1, **unit), lambda: None)


@pytest.mark.parametrize("base", [0, 40000, 50000])
def test_each_base(base: int) -> None:
    result = found(chain_words(list(DER.items())), base)
    assert result.base == base
    assert set(result.models) == {1, *DER}


def test_any_order_vendor_models_and_duplicates() -> None:
    models = list(DER.items())
    random.Random(5).shuffle(models)
    words = [*MARKER]
    for number, values in models:
        words += model_words(number, values)
        words += [64123, 3, 1, 2, 3]  # a vendor's own
        words += [number, 1, 9]  # the same number, too short to be one
    words += model_words(1, COMMON)
    words += model_words(701, {**DER[701], "W": 1})  # a second one
    result = found([*words, *END])
    assert set(result.models) == {1, *DER}
    assert result.models[701].value("W") == 48000.0
    first = [*MARKER, 701, 1, 9, *model_words(701, DER[701]), *END]
    assert found(first).models[701].value("W") == 48000.0


@pytest.mark.parametrize(
    ("words", "note"),
    [
        ([*MARKER, 701, 0xFFFD], "no model and no end"),
        ([*MARKER, 0, 0, 0, 0], "no model and no end"),
        ([*MARKER, 64000, 1, 7], "no model and no end"),
        ([*MARKER, *[64000, 0] * 300], "more than 200"),
        ([1, 2, 3], "no SunSpec marker at 0, 40000, 50000"),
    ],
)
def test_chains_that_are_none(words: list[int], note: str) -> None:
    assert note in found(words).notes[-1]


def test_an_end_that_is_the_last_register_there_is() -> None:
    words = chain_words(list(DER.items()))[:-1]
    result = found(words)
    assert not result.notes
    assert set(result.models) == {1, *DER}


def test_a_chain_up_to_the_last_register() -> None:
    words = [*MARKER, 64000, 0xFFFF - 50000 - 3]
    words += [0] * (0x10000 - 50000 - len(words))
    result, _ = walk(discover((50000,)), memory(words, 50000))
    assert result.notes == ("the chain has no end before the last register",)


WORDS = st.lists(st.integers(0, 0xFFFF), max_size=60)
PIECES = st.one_of(
    WORDS,
    st.sampled_from(sorted(KNOWN)).map(lambda number: [number]),
    st.sampled_from([list(MARKER), [*END], [701, 153], [704, 65], [0xFFFF], [0, 0]]),
    st.sampled_from(list({**DER, **STORAGE}.items())).map(lambda each: model_words(*each)),
)


@effort(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=12), st.sets(st.integers(0, 400), max_size=6), st.booleans())
def test_no_memory_makes_a_search_raise_or_go_on_for_ever(
    pieces: list[list[int]],
    broken: set[int],
    short: bool,
) -> None:
    words = [*MARKER, *(word for piece in pieces for word in piece)]

    def answer(read: Read) -> Sequence[int] | None:
        span = range(read.address, read.address + read.count)
        if broken & set(span):
            return None
        some = memory(words)(read)
        return some[: read.count - 1] if short and some is not None and read.count > 2 else some

    result, _ = walk(discover((0, 40000, 50000)), answer)
    rendering = render(result, unit_of(1), lambda: None)
    points = rendering.profile.points
    blocks = [
        rendering.sources[point].block if point in rendering.sources else source(spec).block
        for point, spec in points.items()
    ]
    assert all(block.table is Table.HOLDING for block in blocks)
    plan(blocks, 125, 16, Holes())  # every point fits one request
    same, _ = walk(unchanged(result), answer)
    assert isinstance(same, bool)


@effort(max_examples=60, deadline=None)
@given(st.sampled_from(NUMBERS), st.randoms(use_true_random=False))
def test_no_content_of_a_model_makes_its_profile_raise(number: int, dice: random.Random) -> None:
    size = definition(number).size + sum(group.size for group in definition(number).groups)
    words = [number, size - 2, *(dice.randrange(0x10000) for _ in range(size - 2))]
    others = [(each, values) for each, values in DER.items() if each != number]
    rendering = rendered([*chain_words(others)[:-2], *words, *END], modbus=None)
    for point, spec in rendering.profile.points.items():
        made = rendering.sources.get(point, source(spec))
        block = [dice.randrange(0x10000) for _ in range(made.block.count)]
        value = made.decode(block)
        assert value is None or isinstance(value, float | int)
    for spec in rendering.profile.writes.values():
        for asked_kw in POWERS_KW:
            value = framed_value(spec, framed(spec, asked_kw)[1])
            assert abs(value) <= abs(asked_kw) * (1 + 1e-6)


def test_the_same_device_is_known_again_and_another_is_not() -> None:
    words = chain_words(list(DER.items()))
    result = found(words)
    same, asked = walk(unchanged(result), memory(words))
    assert same
    assert asked <= len(result.models)
    for change in (5, 70, 71):
        other = list(words)
        other[change] ^= 1
        assert walk(unchanged(result), memory(other))[0] is False
    assert walk(unchanged(Found(None)), memory(words))[0] is False


# ---- what a profile says ----------------------------------------------------------------------


def test_a_profile_is_an_ordinary_one() -> None:
    profile = rendered(chain_words(list(DER.items()))).profile
    assert (profile.maker, profile.model, profile.firmware) == ("Acme", "PCS-100", ("1.2.3",))
    assert profile.device == "inverter"
    assert profile.revert.kind == "timeout"
    assert profile.writes[Writable.HEARTBEAT].type is Kind.U32
    assert [(step.write, step.value) for step in profile.release] == [
        (Writable.ENABLED, 0),
        (Writable.REACTIVE_ENABLED, 0),
    ]
    assert Writable.POWER_KW not in {step.write for step in profile.release}  # never "100 %"
    assert rendered(chain_words(list(DER.items())), on_stop="stay").profile.on_stop == ()


@pytest.mark.parametrize("number", [101, 102, 103, 111, 112, 113, 701])
def test_every_ac_model_shows_what_an_inverter_has_to(number: int) -> None:
    floats: dict[str, Any] = {"W": 48000.0, "Hz": 50.0, "St": 4, "Evt1": 2, "DCW": 50000.0}
    values = DER[701] if number == 701 else {**STORAGE[103], "Evt1": 2}
    rendering = rendered(chain_words([(number, floats if 110 < number < 120 else values)]))
    words = chain_words([(number, floats if 110 < number < 120 else values)])
    wanted = {
        Point.INVERTER_KW: 48.0,
        Point.INVERTER_STATE: 4.0,
        Point.INVERTER_FAULT_BITS: 0.0 if number == 701 else 2.0,
    }
    for point, value in wanted.items():
        made = rendering.sources.get(point, source(rendering.profile.points[point]))
        block = made.block
        assert made.decode(words[block.address : block.end]) == value


def test_battery_models_are_recognised_and_their_headlines_read() -> None:
    values = {
        **raw("SoC=553 SoC_SF=-1 SoH=98 SoH_SF=0 CellVMax=3400 CellVMin=3300"),
        **raw("CellV_SF=-3 V=7143 V_SF=-1 NCyc=17 Hb=5"),
    }
    strings = {"ModTmpMax": 310, "ModTmpMin": 290, "ModTmp_SF": -1, "NStr": 1, "string": [{}]}
    words = chain_words([(701, DER[701]), (802, values), (803, strings)])
    rendering = rendered(words, modbus=None)
    wanted = {
        Point.SOC_PCT: 55.3,
        Point.SOH_PCT: 98.0,
        Point.CELL_MAX_V: 3.4,
        Point.CELL_MIN_V: 3.3,
        Point.CELL_MAX_C: 31.0,
        Point.CELL_MIN_C: 29.0,
        Point.CYCLES: 17.0,
        Point.INVERTER_DC_V: 714.3,
        Point.INVERTER_HEARTBEAT: 5.0,
    }
    for point, value in wanted.items():
        block = source(rendering.profile.points[point]).block
        made = source(rendering.profile.points[point])
        assert made.decode(words[block.address : block.end]) == pytest.approx(value)
    beside = rendered(words).profile.points  # where a controller tells of the battery
    assert Point.CELL_MAX_V not in beside
    assert Point.INVERTER_SOC_PCT in beside
