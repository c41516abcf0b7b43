"""The library of device profiles under its law, and anybody's own files beside it.

`VPPD_DEVICES=my/devices .venv/bin/pytest -q tests/test_profiles.py` tests the register maps there.
"""

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.modbus_device import PROFILES
from tests.profile_law import (
    FORMATS,
    OURS,
    Image,
    breaches,
    disagreements,
    image_of,
    meaning,
    near,
    read_over_the_wire,
    size_of,
    words_of,
)
from tests.virtual_time import VirtualClock, run_virtual
from vppd.config import ConfigError, load_profile, shipped_profiles
from vppd.core.model import Point
from vppd.core.profile import DeviceProfile, Example, Kind, PointSpec, Table, Writable
from vppd.field.blocks import source
from vppd.spine.clock import SystemClock

FAMILIES = {
    *("eastron-sdm630", "eastron-sdm72d", "abb-a43", "abb-pqstori", "carlo-gavazzi-em24"),
    *("eig-shark100", "growatt-vpp", "schneider-em3555", "victron-gx-battery"),
}


def maps_in(directory: Path) -> list[Path]:
    """The register maps of a directory; a BMS model has a DBC beside it."""
    paths = sorted(directory.glob("*.yaml"))
    return [path for path in paths if not path.with_suffix(".dbc").exists()]


PATHS = maps_in(PROFILES)
if own := os.environ.get("VPPD_DEVICES"):
    PATHS += maps_in(Path(own))
EVERY = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


@EVERY
def test_a_profile_keeps_the_law(path: Path) -> None:
    profile = load_profile(path)  # raises with every finding
    assert profile.name == path.stem
    assert breaches(profile, path.read_text()) == []


@EVERY
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_a_device_of_this_model_sends_is_what_the_board_shows(path: Path, seed: int) -> None:
    profile = load_profile(path)
    image = image_of(profile, random.Random(seed))
    zeros = seed != 2  # the second refuses what is not in its map
    seen = asyncio.run(read_over_the_wire(profile, image, SystemClock(), zeros=zeros))
    assert disagreements(profile, image, seen) == []


def test_the_library_is_what_it_is_said_to_be() -> None:
    shipped = shipped_profiles()
    assert shipped.keys() >= FAMILIES | OURS
    library = [profile for name, profile in shipped.items() if name not in OURS]
    assert all(profile.read_only and not profile.writes for profile in library)
    assert len({profile.maker for profile in library}) >= 7
    assert {profile.device for profile in library} == {"bess", "inverter", "meter"}


# ---- the law can be broken, and says so ---------------------------------------------------------

METER = load_profile(PROFILES / "eastron-sdm630.yaml")
OWN = load_profile(PROFILES / "vpp-bess-v2.yaml")


def altered(profile: DeviceProfile, point: Point, **changes: Any) -> DeviceProfile:
    spec = replace(profile.points[point], **changes)
    return replace(profile, points={**profile.points, point: spec})


BROKEN: list[tuple[str, Callable[[], DeviceProfile]]] = [
    ("read_only", lambda: replace(METER, read_only=False)),
    ("no revision", lambda: replace(METER, source="a page, https://example.com/x")),
    ("not where it was read", lambda: replace(METER, source="Manual, V1.8, page 3")),
    ("no page or section", lambda: replace(METER, source="Manual, V1.8, https://example.com/x")),
    ("firmware", lambda: replace(METER, firmware=())),
    ("none typed", lambda: replace(METER, examples=())),
    ("power_kw: no page", lambda: altered(METER, Point.POWER_KW, page="")),
    ("low and high", lambda: altered(METER, Point.FREQUENCY_HZ, high=None)),
    ("not within", lambda: altered(METER, Point.FREQUENCY_HZ, high=500.0)),
    ("two directions", lambda: altered(METER, Point.POWER_KW, low=0.0)),
    ("two directions", lambda: altered(OWN, Point.CURRENT_A, type=Kind.U16)),
    ("a float is in", lambda: altered(METER, Point.POWER_KW, scale=0.1)),
    ("steps of", lambda: altered(OWN, Point.POWER_KW, scale=10.0)),
    ("beyond", lambda: altered(OWN, Point.POWER_KW, high=4000.0)),
    ("longer than", lambda: replace(METER, max_block=1)),
    ("the document says", lambda: altered(METER, Point.POWER_KW, sign=1)),
    ("the document says", lambda: altered(METER, Point.POWER_KW, scale=1.0)),
    ("the document says", lambda: altered(METER, Point.FREQUENCY_HZ, word_order="little")),
    ("is also", lambda: altered(METER, Point.FREQUENCY_HZ, address=0x003F)),
    (
        "would be told",
        lambda: replace(
            OWN,
            writes={
                **OWN.writes,
                Writable.POWER_KW: replace(OWN.writes[Writable.POWER_KW], high=4000.0),
            },
        ),
    ),
    (
        "no such point",
        lambda: replace(
            METER, examples=(*METER.examples, Example(point=Point.SOC_PCT, registers=(1,), value=1))
        ),
    ),
]


@pytest.mark.parametrize(("words", "broken"), BROKEN, ids=[words for words, _ in BROKEN])
def test_the_law_finds_what_is_broken(words: str, broken: Callable[[], DeviceProfile]) -> None:
    text = "positive"
    assert breaches(METER, text) == []
    assert any(words in each for each in breaches(broken(), text))


def test_a_profile_says_which_way_its_device_counts() -> None:
    assert any("which way" in each for each in breaches(METER, "points: of no direction"))


@pytest.mark.parametrize(
    "changes",
    [{"sign": 1}, {"scale": 1.0}, {"word_order": "little"}, {"type": Kind.I32}, {"address": 0x46}],
)
def test_a_map_that_is_not_the_devices_shows_on_the_wire(changes: dict[str, Any]) -> None:
    image = image_of(METER, random.Random(4))
    wrong = altered(METER, Point.POWER_KW, **changes)
    seen = asyncio.run(read_over_the_wire(wrong, image, SystemClock(), zeros=True))
    assert [each.split(":")[0] for each in disagreements(METER, image, seen)] == ["power_kw"]


# ---- no profile, however strange, shows a wrong sign or scale -----------------------------------

POINTS = [Point.POWER_KW, Point.REACTIVE_KVAR, Point.PACK_A, Point.CELL_MIN_V, Point.TEMPERATURE_C]
STRIDE = 64  # so far apart that points and their exponents never share a register
INTEGERS = [kind for kind in FORMATS if kind is not Kind.F32]


@st.composite
def counted(draw: st.DrawFn, slot: int = 0) -> tuple[PointSpec, float, int]:
    """A strange but valid point, a raw count of its device, and an exponent."""
    kind = draw(st.sampled_from(list(FORMATS)))
    address = STRIDE * slot + draw(st.integers(20, 40))
    after = address + (4 if kind in {Kind.U64, Kind.I64} else 2)
    places = st.one_of(st.integers(address - 20, address - 1), st.integers(after, after + 15))
    bits = 32 if kind is Kind.F32 else 8 * {"H": 2, "I": 4, "Q": 8}[FORMATS[kind].upper()]
    span = st.integers(0, 2**bits - 1)
    if kind in {Kind.I16, Kind.I32, Kind.I64}:
        span = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    raws: st.SearchStrategy[Any] = span
    if kind is Kind.F32:
        raws = st.floats(-1e6, 1e6, width=32)
    raw = draw(raws)
    missing = draw(st.lists(span, max_size=2).map(tuple))
    if kind is not Kind.F32 and draw(st.booleans()) and draw(st.booleans()):
        missing += (int(raw) - draw(st.sampled_from([0, 2**bits])),)  # typed signed or not
    spec = PointSpec(
        table=draw(st.sampled_from([Table.INPUT, Table.HOLDING])),
        address=address,
        type=kind,
        word_order=draw(st.sampled_from(["big", "little"])),
        byte_order=draw(st.sampled_from(["big", "little"])),
        scale=draw(st.floats(1e-6, 1e6) | st.sampled_from([0.1, 0.001, 1.0, -0.5, 3.0])),
        offset=draw(st.just(0.0) | st.floats(-1e6, 1e6)),
        sign=draw(st.sampled_from([1, -1])),
        not_available=missing,
        scale_register=draw(st.none() | places),
    )
    return spec, raw, draw(st.integers(-10, 10)) if spec.scale_register is not None else 0


@settings(max_examples=400, deadline=None)
@given(counted())
def test_a_strange_point_says_what_its_registers_mean(case: tuple[PointSpec, float, int]) -> None:
    spec, raw, exponent = case
    read = source(spec)
    words = dict(enumerate(words_of(spec, raw), spec.address))
    if spec.scale_register is not None:
        words[spec.scale_register] = exponent & 0xFFFF
    value = read.decode([words.get(at, 0xA5A5) for at in range(read.block.address, read.block.end)])
    told = meaning(spec, raw, exponent)
    assert (value is None) == (told is None)
    assert value is None or told is None or near(spec, value, told)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.tuples(*(counted(slot) for slot in range(len(POINTS)))),
    st.integers(45, 125),
    st.integers(0, 124),
    st.booleans(),
)
def test_a_strange_profile_shows_nothing_wrong(
    cases: tuple[tuple[PointSpec, float, int], ...], max_block: int, max_gap: int, zeros: bool
) -> None:
    image = Image()
    for point, (spec, raw, exponent) in zip(POINTS, cases, strict=True):
        image.put(point, spec, raw, exponent)
    profile = DeviceProfile(
        name="strange",
        maker="nobody",
        model="none",
        source="made up",
        read_only=True,
        max_block=max_block,
        max_gap=max_gap,
        points={point: spec for point, (spec, _, _) in zip(POINTS, cases, strict=True)},
    )

    async def main() -> list[str]:
        seen = await read_over_the_wire(profile, image, VirtualClock(), zeros=zeros)
        return disagreements(profile, image, seen)

    assert run_virtual(main()) == []


@given(st.sampled_from(INTEGERS), st.integers(-40, 40).filter(lambda n: abs(n) > 10))
def test_what_is_no_exponent_makes_no_value(kind: Kind, exponent: int) -> None:
    spec = PointSpec(table=Table.INPUT, address=0, type=kind, scale_register=size_of_kind(kind))
    words = [*words_of(spec, 1), exponent & 0xFFFF]
    assert source(spec).decode(words) is None


def size_of_kind(kind: Kind) -> int:
    return size_of(PointSpec(table=Table.INPUT, address=0, type=kind))


def test_a_file_that_is_no_profile_is_refused_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((PROFILES / "abb-a43.yaml").read_text().replace("i32", "i33"))
    with pytest.raises(ConfigError, match="i33"):
        load_profile(path)
