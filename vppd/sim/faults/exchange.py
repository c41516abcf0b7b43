"""Faults of the simulated power exchange."""

from typing import TYPE_CHECKING, Any

from vppd.sim.faults.kind import Kind, Undo, put

if TYPE_CHECKING:
    from vppd.sim.plant import Plant


def _down(plant: "Plant", _: str, __: dict[str, Any]) -> Undo:
    return put(plant.site_exchange().trouble, "down", on=True, off=False)


def _restart(plant: "Plant", _: str, __: dict[str, Any]) -> None:
    plant.site_exchange().restart()


def _request(plant: "Plant", _: str, how: dict[str, Any]) -> None:
    """The next requests to a path: see sim.exchange_trouble."""
    plant.site_exchange().trouble.next(
        how["kind"], on=how["on"], count=how["count"], text=how["text"], by_s=how["by_s"]
    )


def _results(plant: "Plant", _: str, how: dict[str, Any]) -> Undo:
    trouble = plant.site_exchange().trouble
    trouble.results(how["kind"], how["by_s"])
    return lambda: trouble.results("")


KINDS: dict[str, Kind] = {
    "exchange_down": Kind("exchange", {}, _down),
    "exchange_restart": Kind("exchange", {}, _restart),
    "exchange_request": Kind(
        "exchange",
        {"kind": "cut_after", "on": "submit", "count": 1, "text": "", "by_s": 60.0},
        _request,
    ),
    "exchange_results": Kind("exchange", {"kind": "late", "by_s": 3600.0}, _results),
}
