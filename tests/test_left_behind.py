"""A device without a timer of its own that nobody commands any more: it is named, until it is
configured again. Daemon and plant are processes, and the plant says what the device holds."""

import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.process_site import Daemon, Site, until, write_config
from tests.reload_rig import ReloadRig, plant_settings, used, with_unit
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.model import UnitId
from vppd.core.settings import Settings
from vppd.left_behind import unattended

pytestmark = pytest.mark.timeout(300)

TIMED, TIMERLESS = (
    "modbus: {profile: vpp-bess-v2",
    "accept_no_revert: true, modbus: {profile: vpp-bess",
)


def timerless_config(directory: Path) -> Path:
    """D holds its setpoint for ever."""
    config = write_config(directory)
    head, d, rest = (config / "field.yaml").read_text().partition("  - {id: D,")
    (config / "field.yaml").write_text(head + d + rest.replace(TIMED, TIMERLESS))
    return config


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with closing(Site(tmp_path, timerless_config)) as site:
        yield site


def told_of(daemon: Daemon) -> list[str]:
    alarms = daemon.get("/v1/status")["alarms"]
    return [f"{each['unit']}: {each['text']}" for each in alarms if each["code"] == "left_behind"]


def held(site: Site, low_kw: float, high_kw: float) -> None:
    """Wait until D's device holds a setpoint of this range."""
    until(
        lambda: low_kw <= site.plant.held_kw("D")[0] <= high_kw,
        60.0,
        lambda: (site.plant.held_kw("D"), site.daemon.get("/v1/status")),
    )


def test_taken_out_of_the_files_after_a_kill_it_is_named_until_it_is_configured_again(
    site: Site,
) -> None:
    field = site.config / "field.yaml"
    with_d = field.read_text()
    without_d = with_d.replace("  - {id: D,", "  # - {id: D,")
    daemon = site.start().ready(60.0)
    daemon.dispatch(80.0)
    held(site, 15.0, 25.0)
    daemon.send(signal.SIGKILL)
    daemon.exit_code(60.0)

    field.write_text(without_d)
    daemon = site.start().ready(60.0)
    until(lambda: told_of(daemon), 60.0, lambda: daemon.get("/v1/status"))
    (told,) = told_of(daemon)
    assert told.startswith("D: the last run ended without bringing D at 127.0.0.1:")
    assert "unit 4 to 0 kW" in told
    assert site.plant.held_kw("D")[0] > 15.0, "and it is true"

    field.write_text(with_d)
    daemon.send(signal.SIGHUP)
    until(lambda: not told_of(daemon), 60.0, lambda: daemon.get("/v1/status"))
    daemon.ready(60.0).dispatch(40.0)
    held(site, 9.0, 11.0)

    daemon.send(signal.SIGTERM)
    assert daemon.exit_code(60.0) == 0
    assert site.plant.held_kw("D") == [0.0]
    field.write_text(without_d)
    daemon = site.start().ready(60.0)
    daemon.control("A", "disable")  # after this everything of the start has been told
    assert told_of(daemon) == []


PLANT = plant_settings(model="vpp-bess")
FOUR = used(PLANT, "A", "B", "C", "D")


@pytest.mark.parametrize("moves", [False, True])
@virtual
async def test_a_unit_that_does_not_answer_when_it_leaves_is_named(moves: bool) -> None:
    other = PLANT.units[-1].modbus
    new = with_unit(FOUR, "D", modbus=other) if moves else used(FOUR, "A", "B", "C")
    async with ReloadRig(PLANT, FOUR) as rig:
        rig.plan(80.0)
        await rig.run(6.0)
        held_kw = rig.held_kw("D")
        assert held_kw > 15.0
        rig.plant.inject("silence", "D")
        await rig.until(lambda: rig.alarmed(Code.LINK_LOST, UnitId("D")), within_s=10.0)
        await rig.reloaded(new)
        (told,) = [each for each in rig.house.alarms.standing() if each.code is Code.LEFT_BEHIND]
        place = unattended(FOUR)["D"]
        assert told.text.startswith(f"D at {place} left this configuration"), told.text
        assert rig.held_kw("D") == held_kw, "and it is true"


def test_only_devices_that_are_real_and_keep_their_setpoint_can_be_left_behind() -> None:
    def those(settings: Settings) -> set[str]:
        return set(unattended(settings))

    assert those(FOUR) == {"A", "B", "C", "D"}
    assert those(replace(FOUR, mode="simulation")) == set()
    first, *rest = FOUR.units
    units = (replace(first, simulate=True), *rest)
    assert those(replace(FOUR, mode="hil", units=units)) == {"B", "C", "D"}
    units = (replace(first, accept_no_revert=False), *rest)
    assert those(replace(FOUR, units=units)) == {"B", "C", "D"}
