"""What must hold for a site that rides through, and what is odd about it."""

from collections.abc import Callable, Iterator

from vppd.config.document import KeyPath
from vppd.config.oddities import odd
from vppd.config.rules import Breach, broken
from vppd.core.settings import Settings

AT: KeyPath = ("ride_through",)
PROFILE: KeyPath = (*AT, "profile")


def _sees_its_voltage(settings: Settings) -> Iterator[Breach]:
    """A site that must cease on a dead bus, or by a row of voltage, needs its voltage. What 1 pu is
    is not guessed from measurements: a bus that is down when vppd starts would pass for whole."""
    rules = settings.ride_through
    ceases = rules.profile == "distribution" or any(
        row.when.startswith("voltage") and row.then == "cease" for row in rules.rows
    )
    if rules.profile == "none" or not ceases:
        return
    if rules.nominal_v is None:
        yield broken(
            (*AT, "nominal_v"),
            "a site that must cease sees no voltage without it, not even a dead bus: give the"
            " magnitude of the PMU's voltage phasors at 1 pu, or another profile",
            PROFILE,
            (*AT, "rows"),
        )
    elif not settings.pmu:
        text = "no PMU is configured, so there is no voltage to watch: the site would not cease"
        yield odd((*AT, "nominal_v"), text, ("pmu",), PROFILE)


def _alive_above_dead(settings: Settings) -> Iterator[Breach]:
    rules = settings.ride_through
    if rules.nominal_v is not None and rules.live_pu < rules.dead_pu:
        text = f"{rules.live_pu:g} is below dead_pu {rules.dead_pu:g}: alive is from dead_pu on"
        yield odd((*AT, "live_pu"), text, (*AT, "dead_pu"))


GRID_RULES: tuple[Callable[[Settings], Iterator[Breach]], ...] = (
    _sees_its_voltage,
    _alive_above_dead,
)
