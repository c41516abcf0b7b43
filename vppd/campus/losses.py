"""What it costs to move power: losses of inverters, transformers and feeders. Pure.

inverter     standby while at 0, else no-load + linear |P| + quadratic P^2
building     iron + (copper / S_rated^2 + R / V^2) x S^2, S the sum of its units less what the
             building takes for itself; three phases, nominal voltage, power factor 1
                (3 I^2 R with I = S / (sqrt(3) V) is R S^2 / V^2)

Losses are kW, never negative; power is kW, positive out.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vppd.core.asset import Asset
from vppd.core.model import Snapshot, UnitId
from vppd.core.settings_campus import (
    AuxiliarySettings,
    BuildingLossSettings,
    CurvePointSettings,
    InverterLossSettings,
    LossSettings,
)

PCT = 0.01
SINGULAR = 1e-12


@dataclass(frozen=True, slots=True)
class Curve:
    """The losses of one inverter at its terminals' power."""

    no_load_kw: float = 0.0
    linear_share: float = 0.0
    quadratic_per_kw: float = 0.0
    standby_kw: float = 0.0
    run_kw: float = field(init=False)  # what running costs beyond standby
    knee_kw: float = field(init=False)  # where a kW costs least, standby counted as nothing

    def __post_init__(self) -> None:
        run_kw = max(self.no_load_kw - self.standby_kw, 0.0)
        bent = self.quadratic_per_kw > 0.0
        knee_kw = math.sqrt(run_kw / self.quadratic_per_kw) if bent else math.inf
        object.__setattr__(self, "run_kw", run_kw)
        object.__setattr__(self, "knee_kw", knee_kw)

    def loss_kw(self, power_kw: float) -> float:
        """What is lost at this AC power."""
        size_kw = abs(power_kw)
        if size_kw == 0.0:
            return self.standby_kw
        return self.no_load_kw + size_kw * (self.linear_share + self.quadratic_per_kw * size_kw)

    def out_kw(self, dc_kw: float) -> float:
        """The AC power that this DC power gives when discharging: P + loss(P) = DC."""
        given_kw = dc_kw - self.no_load_kw
        if given_kw <= 0.0:
            return 0.0
        slope_share = 1.0 + self.linear_share
        root_share = math.sqrt(slope_share**2 + 4.0 * self.quadratic_per_kw * given_kw)
        return 2.0 * given_kw / (slope_share + root_share)


@dataclass(frozen=True, slots=True)
class Wires:
    """Transformer and feeder of one building, and what the building takes for itself."""

    id: str = ""
    iron_kw: float = 0.0
    quadratic_per_kw: float = 0.0
    auxiliary_kw: float = 0.0

    def loss_kw(self, units_kw: float) -> float:
        """What is lost when its units together give this."""
        through_kw = units_kw - self.auxiliary_kw
        return self.iron_kw + self.quadratic_per_kw * through_kw * through_kw


LOSSLESS, NO_WIRES = Curve(), Wires()


@dataclass(frozen=True, slots=True)
class LossModel:
    """The curves of every unit and the wires of every building at one instant."""

    curves: Mapping[UnitId, Curve] = field(default_factory=dict)
    wires: Mapping[str, Wires] = field(default_factory=dict)  # by building

    def curve(self, unit: UnitId) -> Curve:
        """That of a unit; none is modelled for a unit that is not in it."""
        return self.curves.get(unit, LOSSLESS)

    def behind(self, building: str) -> Wires:
        """That of a building."""
        return self.wires.get(building, NO_WIRES)

    def losses_kw(
        self, powers_kw: Mapping[UnitId, float], buildings: Mapping[UnitId, str]
    ) -> float:
        """All losses when the units give this; every building's iron counts."""
        units_kw = dict.fromkeys(self.wires, 0.0)
        lost_kw = 0.0
        for id_, power_kw in powers_kw.items():
            lost_kw += self.curve(id_).loss_kw(power_kw)
            building = buildings.get(id_, "")
            units_kw[building] = units_kw.get(building, 0.0) + power_kw
        return lost_kw + sum(self.behind(id_).loss_kw(kw) for id_, kw in units_kw.items())


def loss_model(
    settings: LossSettings, assets: Sequence[Asset], now: Snapshot | None = None
) -> LossModel:
    """The model of a site; with a snapshot, auxiliary loads are what they measure now."""
    own = {each.id: each.inverter for each in settings.units}
    return LossModel(
        {
            asset.id: inverter_curve(own.get(asset.id, settings.inverter), asset.rated_kw)
            for asset in assets
        },
        {each.id: wires_of(each, now) for each in settings.buildings},
    )


def with_auxiliaries(model: LossModel, settings: LossSettings, now: Snapshot) -> LossModel:
    """The same curves, auxiliary loads as measured now; the model itself where none is measured."""
    if all(each.auxiliary.unit is None for each in settings.buildings):
        return model
    return LossModel(model.curves, {each.id: wires_of(each, now) for each in settings.buildings})


def inverter_curve(settings: InverterLossSettings, rated_kw: float) -> Curve:
    """The curve of an inverter of this rating."""
    no_load, linear, quadratic = (
        fitted(settings.points)
        if settings.points
        else (
            settings.no_load_pct * PCT,
            settings.linear_pct * PCT,
            settings.quadratic_pct * PCT,
        )
    )
    return Curve(
        no_load * rated_kw, linear, quadratic / rated_kw, settings.standby_pct * PCT * rated_kw
    )


def fitted(points: Sequence[CurvePointSettings]) -> tuple[float, float, float]:
    """No-load, linear and quadratic loss as shares of the rating, each at least 0, that come
    nearest (least squares) to the losses of an efficiency curve."""
    loads = [point.load_pct * PCT for point in points]
    losses = [
        x * (100.0 / point.efficiency_pct - 1.0) for x, point in zip(loads, points, strict=True)
    ]
    rows = [(1.0, x, x * x) for x in loads]
    best, least = (0.0, 0.0, 0.0), sum(loss * loss for loss in losses)
    for size in (1, 2, 3):
        for chosen in itertools.combinations(range(3), size):
            solved = _least_squares([[row[at] for at in chosen] for row in rows], losses)
            if solved is None or min(solved) < 0.0:
                continue
            found = dict(zip(chosen, solved, strict=True))
            made = (found.get(0, 0.0), found.get(1, 0.0), found.get(2, 0.0))
            error = sum(
                (sum(m * r for m, r in zip(made, row, strict=True)) - loss) ** 2
                for row, loss in zip(rows, losses, strict=True)
            )
            if error < least:
                best, least = made, error
    return best


def wires_of(settings: BuildingLossSettings, now: Snapshot | None) -> Wires:
    """Transformer and feeder as one quadratic loss."""
    copper_per_kw = settings.transformer_load_kw / settings.transformer_rated_kva**2
    feeder_per_kw = 1000.0 * settings.feeder_ohm / settings.feeder_v**2
    return Wires(
        settings.id,
        settings.transformer_no_load_kw,
        copper_per_kw + feeder_per_kw,
        auxiliary_kw(settings.auxiliary, now),
    )


def auxiliary_kw(settings: AuxiliarySettings, now: Snapshot | None) -> float:
    """What a building takes for itself: as measured, else the constant."""
    measured_kw = None
    if settings.unit is not None and now is not None:
        measured_kw = now.fresh(UnitId(settings.unit), settings.point)
    return settings.constant_kw if measured_kw is None else max(measured_kw, 0.0)


def _least_squares(
    rows_share: Sequence[Sequence[float]], wanted_share: Sequence[float]
) -> list[float] | None:
    """Normal equations by Gauss with pivots; None where they are singular."""
    size = len(rows_share[0])
    matrix = [
        [sum(row[i] * row[j] for row in rows_share) for j in range(size)]
        + [sum(row[i] * value for row, value in zip(rows_share, wanted_share, strict=True))]
        for i in range(size)
    ]
    for column in range(size):
        pivot = max(range(column, size), key=lambda line: abs(matrix[line][column]))
        if abs(matrix[pivot][column]) < SINGULAR:
            return None
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        for line in range(size):
            if line != column:
                factor = matrix[line][column] / matrix[column][column]
                matrix[line] = [
                    a - factor * b for a, b in zip(matrix[line], matrix[column], strict=True)
                ]
    return [matrix[at][size] / matrix[at][at] for at in range(size)]
