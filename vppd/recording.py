"""What the recorder is told of a site, and the words it needs to write that down."""

import functools
import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from vppd.core.alarms import Code
from vppd.core.model import DeviceReport, Outcome, Plan, Synchro, UnitId
from vppd.core.ports import Actuator, Clock
from vppd.core.settings import ApiSettings, Settings
from vppd.core.settings_market import MarketSettings
from vppd.core.settings_scada import ScadaSettings
from vppd.duty import Duty, Memory
from vppd.field.gate import Gate
from vppd.field.memory import GateMemory
from vppd.field.standing import Parts
from vppd.field.ward import Want
from vppd.spine.plain import Plain, kinds_of
from vppd.spine.recorder import Kept, OnTrouble, Recorder
from vppd.spine.tape import Begin, Exchanged

DECIDING = ("core", "field", "grid", "campus", "tick.py", "duty.py", "rerun.py")  # of this package


@functools.cache
def version() -> str:
    """Of the release and of the code that decides: two that differ may decide otherwise, though the
    release has one number."""
    return f"{importlib.metadata.version('vppd')}, code {code_of(Path(__file__).parent)}"


def code_of(top: Path) -> str:
    """A short mark of the sources in the package at `top` that decide."""
    digest = hashlib.sha256()
    roots = [top / name for name in DECIDING]
    sources = [root for root in roots if root.is_file()]
    sources += [path for root in roots if root.is_dir() for path in root.rglob("*.py")]
    for path in sorted(sources):
        digest.update(f"{path.relative_to(top)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:10]


@functools.cache
def words() -> Plain:
    """Every class that a recording may hold."""
    notes = (Parts, Want, Outcome, Code)
    told = (Plan, Synchro, DeviceReport)
    return Plain(kinds_of(Settings, Duty, Memory, GateMemory, Begin, Exchanged, *notes, *told))


def deciding(settings: Settings) -> Settings:
    """The settings without those that no decision reads, and so without any credential."""
    return replace(
        settings,
        mqtt=None,
        api=ApiSettings(),
        scada=ScadaSettings(),
        market=MarketSettings(),
        config_dir="",
    )


def recorder_of(
    settings: Settings, state_dir: Path | None, clock: Clock, on_trouble: OnTrouble
) -> Recorder | None:
    """The recorder of a site; None where nothing is to be recorded."""
    if state_dir is None or not settings.recorder.enabled:
        return None
    return Recorder(settings.recorder, state_dir, clock, words(), version(), on_trouble)


def kept_of(
    settings: Callable[[], Settings], gate: Gate, actuators: Mapping[UnitId, Actuator]
) -> Callable[[], Kept]:
    """What the head of each file says of the site at that instant."""

    last: tuple[Settings, Settings] | None = None

    def same(now: Settings) -> Settings:
        """One object as long as the settings are one: so a change is seen."""
        nonlocal last
        if last is None or last[0] is not now:
            last = now, deciding(now)
        return last[1]

    def kept() -> Kept:
        releases = {id_: each.releases for id_, each in actuators.items()}
        return Kept(same(settings()), gate.memory(), releases)

    return kept
