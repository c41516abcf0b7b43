"""What befalls devices, their links, and the PMU."""

from collections.abc import Callable, Mapping

from tests.faults.ground import Cable
from tests.faults.kinds_process import HELD_S, Kind
from tests.faults.promises import AT_ONCE_S, RETRY_S, Promise
from tests.faults.site import TOLERANCE_KW, FaultSite

DROOP_HZ = 49.8
DROOP_KW = 41.0  # of four units of 100 kW, 0.2 Hz below nominal, droop of 4 to 6 %
LONG_S = 3.0
LATE_S = 2.0


def _plant(name: str, **how: object) -> Kind:
    """A fault that the simulated device knows; the promised state is the unit's."""

    def inflict(site: FaultSite, promise: Promise) -> float:
        unit, plant = site.unit, site.ground.plant
        with site.hurt(lambda: plant.inject(name, unit, **how), lambda: plant.clear(name, unit)):
            if promise.state == "unit zero":
                return site.unit_zero(promise.within_s)
            return site.held(LONG_S)

    return inflict


def slow(site: FaultSite, promise: Promise) -> float:
    """Within its timeout, each time."""
    delay_s = site.chance.uniform(0.05, 0.25)
    return _plant("slow", delay_s=delay_s)(site, promise)


def resets(site: FaultSite, promise: Promise) -> float:
    """It forgets its setpoint and its timer; both are programmed again."""
    site.ground.plant.inject("device_reset", site.unit)
    return site.owed(promise.within_s)


def _cable(hurt: Callable[[FaultSite, Cable], None]) -> Kind:
    """A fault of the hurt unit's cable."""

    def inflict(site: FaultSite, promise: Promise) -> float:
        cable, cables = site.ground.units[site.unit], site.ground.cables
        with site.hurt(lambda: hurt(site, cable), lambda: cables.do(cable.heal)):
            if promise.state == "unit zero":
                return site.unit_zero(promise.within_s)
            return site.held(HELD_S)

    return inflict


def _set(**values: object) -> Callable[[FaultSite, Cable], None]:
    def hurt(_: FaultSite, cable: Cable) -> None:
        for name, value in values.items():
            setattr(cable, name, value)

    return hurt


def _closing(site: FaultSite, cable: Cable) -> None:
    cable.closing = True
    site.ground.cables.do(cable.cut)


def _refusing(site: FaultSite, cable: Cable) -> None:
    site.ground.cables.do(cable.refuse)


def _half(site: FaultSite, cable: Cable) -> None:
    site.ground.cables.do(cable.half)


def _cut(site: FaultSite, cable: Cable) -> None:
    site.ground.cables.do(cable.cut)


def switch_out(site: FaultSite, promise: Promise) -> float:
    """Every device is behind it."""
    cables, units = site.ground.cables, site.ground.units.values()

    def dark() -> None:
        for cable in units:
            cable.dark = True

    def heal() -> None:
        for cable in units:
            cables.do(cable.heal)

    with site.hurt(dark, heal):
        return site.zero(promise.within_s)


def _pmu(hurt: Callable[[FaultSite], None]) -> Kind:
    """The answer to frequency is owed all the while."""

    def inflict(site: FaultSite, promise: Promise) -> float:
        ground = site.ground

        def heal() -> None:
            ground.plant.clear("all")
            ground.cables.do(ground.pmu.heal)
            ground.frequency(50.0)

        with site.hurt(lambda: ground.frequency(DROOP_HZ), heal):
            hurt(site)
            site.held(LONG_S, DROOP_KW + TOLERANCE_KW)
            if promise.alarm:
                site.until(lambda: promise.alarm in site.alarms(), RETRY_S, promise.alarm)
        site.owed(AT_ONCE_S * 2.0)
        return 0.0

    return inflict


def _pmu_fault(name: str, **how: object) -> Kind:
    return _pmu(lambda site: site.ground.plant.inject(name, "pmu", **how))


KINDS: Mapping[str, Kind] = {
    "device_slow": slow,
    "device_dies": _plant("silence"),
    "device_errs": _plant("exception", code=4),
    "device_resets": resets,
    "device_closes": _cable(_closing),
    "device_refuses": _cable(_refusing),
    "half_open": _cable(_half),
    "cable_out": _cable(_set(dark=True)),
    "cable_cut": _cable(_cut),
    "switch_out": switch_out,
    "requests_lost": _cable(_set(holds=frozenset({"up"}))),
    "answers_lost": _cable(_set(holds=frozenset({"down"}))),
    "answers_twice": _cable(_set(twice=True)),
    "answers_late": _cable(_set(delay_s=LATE_S)),
    "pmu_silent": _pmu_fault("pmu_loss", close=False),
    "pmu_cut": _pmu(lambda site: site.ground.cables.do(site.ground.pmu.refuse)),
    "pmu_garbage": _pmu_fault("pmu_garbage"),
    "pmu_wrong_time": _pmu_fault("pmu_wrong_time", ahead_s=3600.0),
    "pmu_frozen": _pmu_fault("pmu_frozen"),
}
