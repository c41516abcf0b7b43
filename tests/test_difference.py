"""Which settings differ, in words, and without a secret."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.site_rig import site_settings, with_safety
from vppd.core.difference import differences
from vppd.core.settings import DroopSettings
from vppd.core.settings_mqtt import MqttSettings
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
        "role: it is settled at the start; restart needed"
    ]
