"""Which settings differ, in words, and without a secret."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.site_rig import site_settings, with_safety
from vppd.core.difference import differences
from vppd.core.settings import DroopSettings
from vppd.core.settings_mqtt import MqttSettings
from vppd.reload.places import key_of_owner, key_of_part, placed
from vppd.reload.rules import LIVE, RESTART_ONLY, refusals

SITE = site_settings()
SECRET = "correct-horse-7"  # noqa: S105  that must never be found anywhere


def told(new: object) -> list[str]:
    return [str(each) for each in differences(SITE, new)]  # type: ignore[arg-type]


def test_keys_are_named_by_the_ids_of_their_lists() -> None:
    assert told(SITE) == []
    assert told(with_safety(SITE, "B", soc_min_pct=20.0)) == [
        "units.B.safety.soc_min_pct: 10.0 -> 20.0"
    ]
    assert told(replace(SITE, units=SITE.units[:3])) == ["units.D: (D) -> (not there)"]
    assert told(replace(SITE, units=SITE.units[::-1])) == ["units: A, B, C, D -> D, C, B, A"]


@given(st.floats(0.5, 20.0))
def test_a_number_is_told_as_it_is(droop_pct: float) -> None:
    found = told(replace(SITE, droop=replace(SITE.droop, droop_pct=droop_pct)))
    assert found == ([] if droop_pct == 5.0 else [f"droop.droop_pct: 5.0 -> {droop_pct}"])


def test_no_secret_is_told() -> None:
    class Credential(str):
        """As the configuration reads one."""

        __slots__ = ()

    for password in (SECRET, Credential(SECRET)):
        link = MqttSettings(url=f"mqtts://me:{SECRET}@broker", password=password)
        quiet = replace(SITE, mqtt=replace(link, url="mqtts://broker", password=None))
        words = [str(each) for each in differences(quiet, replace(SITE, mqtt=link))]
        assert len(words) == 2
        assert SECRET not in " ".join([*words, *told(replace(SITE, mqtt=link))])
    assert SECRET not in " ".join(told(replace(SITE, droop=DroopSettings(), config_dir="x")))


def test_what_needs_a_restart_says_so_and_why() -> None:
    assert list(refusals(SITE, with_safety(SITE, "B", soc_min_pct=20.0))) == []
    other = replace(SITE, mode="simulation", site=replace(SITE.site, id="other"))
    said = list(refusals(SITE, other))
    assert len(said) == 3
    assert all(each.endswith("; restart needed") for each in said)
    assert len({each.what for each in RESTART_ONLY}) == len(RESTART_ONLY)
    assert "role" not in LIVE, "what nobody said how to take over is refused"
    assert list(refusals(SITE, replace(SITE, role="aggregator"))) == [
        "vppd.yaml: role: it is settled at the start; restart needed"
    ]


def test_a_refusal_names_file_and_key() -> None:
    other = replace(SITE, site=replace(SITE.site, id="other"))
    (why,) = refusals(SITE, other)
    assert why.startswith("vppd.yaml: site.id: rows, topics")
    simulated = replace(SITE, mode="simulation")
    renamed = tuple(
        replace(unit, energy_kwh=999.0) if unit.id in {"B", "C"} else unit
        for unit in simulated.units
    )
    (why,) = refusals(simulated, replace(simulated, units=renamed))
    assert why.startswith("field.yaml: units.B, units.C: simulated devices (")
    all_of_them = tuple(replace(unit, energy_kwh=999.0) for unit in simulated.units)
    (why,) = refusals(simulated, replace(simulated, units=all_of_them))
    assert why.startswith("field.yaml: units.A, units.B, units.C and 1 more: simulated")


def test_places_are_those_of_the_files() -> None:
    owners = ("A", "meter", "input:fire", "pmu:one")
    assert [placed([key_of_owner(each)]) for each in owners] == [
        "field.yaml: units.A",
        "field.yaml: meter",
        "field.yaml: interlock_inputs.fire",
        "grid.yaml: pmu.one",
    ]
    parts = ("scada", "metrics", "market", "schedule", "region", "pmu one")
    assert [placed([key_of_part(each)]) for each in parts] == [
        "grid.yaml: scada",
        "vppd.yaml: metrics",
        "market.yaml: market",
        "market.yaml: market.schedule",
        "vppd.yaml: aggregator",
        "grid.yaml: pmu.one",
    ]
    assert placed(["units", "mqtt"]) == "field.yaml: units, vppd.yaml: mqtt"
