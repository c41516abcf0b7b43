"""What must hold inside one model of a device; errors, as in `rules`."""

from collections.abc import Iterator

from vppd.config.dbc import dbc_rules
from vppd.config.document import KeyPath
from vppd.config.rules import Breach, broken
from vppd.core.bms import BMS_POINTS, BmsProfile, Take
from vppd.core.profile import DeviceProfile, Group

SLOW_PERIOD_S = 10.0  # of the poll group `slow`
CYCLIC = ("power_kw", "reactive_kvar", "heartbeat")


def profile_rules(profile: DeviceProfile) -> Iterator[Breach]:
    """What must hold inside one device profile."""
    yield from _references(profile)
    yield from _wear(profile)
    yield from _slow_points(profile)
    yield from _renewed_in_time(profile)


def bms_rules(bms: BmsProfile) -> Iterator[Breach]:
    """What must hold inside one BMS model and between it and its DBC."""
    yield from dbc_rules(bms)
    for name, frame in bms.frames.items():
        if frame.max_age_s is not None and frame.max_age_s < 2.0 * frame.period_s:
            text = f"{frame.max_age_s:g} s must hold two periods of {frame.period_s:g} s"
            yield broken(("frames", name, "max_age_s"), text, ("frames", name, "period_s"))
    for point, spec in bms.points.items():
        if point not in BMS_POINTS:
            yield broken(("points", point), f"{point} is not what a BMS on CAN may tell")
        if spec.take is Take.ONE and len(spec.signals) != 1:
            text = f"take: one, but {len(spec.signals)} signals; say how they make one value"
            yield broken(("points", point, "signals"), text, ("points", point, "take"))


def _wear(profile: DeviceProfile) -> Iterator[Breach]:
    """What is written again and again must not wear the device's memory out."""
    if profile.read_only:
        return
    for name, spec in profile.writes.items():
        if name in CYCLIC and not spec.volatile:
            yield broken(
                ("writes", name, "volatile"),
                f"{name} is written all day, and non-volatile memory is never written cyclically;"
                " take the device's volatile register, or set read_only: true",
                ("read_only",),
            )


def _references(profile: DeviceProfile) -> Iterator[Breach]:
    used: list[tuple[KeyPath, str | None, str]] = [
        *(
            (("points", name, "moves_with"), s.moves_with, "points")
            for name, s in profile.points.items()
        ),
        *(
            (("writes", name, "read_back"), s.read_back, "points")
            for name, s in profile.writes.items()
        ),
        *(
            ((name, index, "write"), step.write, "writes")
            for name in ("enable", "disable", "on_stop", "release")
            for index, step in enumerate(getattr(profile, name))
        ),
    ]
    known = {"points": set(map(str, profile.points)), "writes": set(map(str, profile.writes))}
    for path, name, section in used:
        if name is not None and name not in known[section]:
            yield broken(path, f"{name} is not among the {section}", (section,))


def _slow_points(profile: DeviceProfile) -> Iterator[Breach]:
    for point, spec in profile.points.items():
        if spec.group is Group.SLOW and spec.max_age_s < 2.0 * SLOW_PERIOD_S:
            path = ("points", point)
            yield broken(
                (*path, "max_age_s"),
                f"{spec.max_age_s:g} s, but slow points are read every {SLOW_PERIOD_S:g} s:"
                f" at least {2.0 * SLOW_PERIOD_S:g}",
                (*path, "group"),
            )


def _renewed_in_time(profile: DeviceProfile) -> Iterator[Breach]:
    if profile.revert.kind != "timeout":
        return
    slowest_s = max(
        [profile.revert.heartbeat_s]
        + [spec.period_s for name, spec in profile.writes.items() if name == "heartbeat"]
    )
    if 2.0 * slowest_s > profile.revert.timeout_s:
        yield broken(
            ("revert", "timeout_s"),
            f"{profile.revert.timeout_s:g} s must hold two renewals of {slowest_s:g} s:"
            f" at least {2.0 * slowest_s:g}, or a shorter heartbeat_s",
            ("revert", "heartbeat_s"),
            ("writes", "heartbeat", "period_s"),
        )
