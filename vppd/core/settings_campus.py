"""Settings of the campus: what losses are modelled, what is kept in reserve, who goes first.

The loss figures of the defaults are those of a good 100 kW inverter of today, 97.5 % at full power
and best at 70 %; a site types its own from the maker's sheet, or lets them be fitted from points.
"""

from dataclasses import dataclass
from typing import Literal

from vppd.core.model import Point
from vppd.core.profile import key

ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePointSettings:
    """One point of an efficiency curve."""

    load_pct: float = key("AC power, of the rating", gt=0, le=120)
    efficiency_pct: float = key("AC over DC when discharging", gt=0, le=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class InverterLossSettings:
    """What an inverter loses: no-load + linear x |P| + quadratic x P^2, of its rating."""

    no_load_pct: float = key("of the rating, lost whenever it gives or takes", 0.7, ge=0, le=20)
    linear_pct: float = key("of the rating, lost at full power besides", 0.5, ge=0, le=20)
    quadratic_pct: float = key("of the rating, lost at full power besides", 1.3, ge=0, le=20)
    standby_pct: float = key("of the rating, lost while it is asked for 0", 0.1, ge=0, le=20)
    points: tuple[CurvePointSettings, ...] = key(
        "an efficiency curve: the three loss figures are fitted to it instead", ()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitLossSettings:
    """The losses of one unit, where they are not those of all."""

    id: str = key("id of the unit", pattern=ID)
    inverter: InverterLossSettings = key("its inverter", InverterLossSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuxiliarySettings:
    """What a building takes for itself: cooling, controls, fire protection."""

    constant_kw: float = key("always taken, or while the point is not known", 0.0, ge=0)
    unit: str | None = key("device that measures it (null: the constant counts)", None)
    point: Point = key("which of its points, + is consumption", Point.LOAD_KW)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildingLossSettings:
    """Transformer and feeder of one building. Three phases, nominal voltage, power factor 1."""

    id: str = key("id of the building", pattern=ID)
    transformer_no_load_kw: float = key("iron loss, always", 0.0, ge=0)
    transformer_load_kw: float = key("copper loss at its rating", 0.0, ge=0)
    transformer_rated_kva: float = key("its rating", 1000.0, gt=0)
    feeder_ohm: float = key("resistance of one phase of the feeder", 0.0, ge=0)
    feeder_v: float = key("nominal voltage of the feeder, line to line", 11000.0, gt=0)
    auxiliary: AuxiliarySettings = key("what it takes for itself", AuxiliarySettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSettings:
    """What the strategy `losses` minimises."""

    inverter: InverterLossSettings = key("every inverter not named in units", InverterLossSettings)
    units: tuple[UnitLossSettings, ...] = key("inverters of their own kind", ())
    buildings: tuple[BuildingLossSettings, ...] = key("transformers and feeders", ())
    balance_weight: float = key(
        "second aim: loss accepted, kW a kW moved, for each 100 % SoC away from the mean",
        0.0,
        ge=0,
        le=10,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImbalanceSettings:
    """How far apart nodes may be."""

    of: Literal["soc", "loading"] = key("state of charge, or power of rating", "soc")
    max_pct: float = key("highest less lowest; above: an alarm", 20.0, gt=0, le=100)
    hysteresis_pct: float = key("the alarm ends this far below", 2.0, ge=0, le=50)
    weight: float = key(
        "strategy losses: like balance_weight, of what SoC is beyond half of max_pct from the mean",
        1.0,
        ge=0,
        le=10,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveSettings:
    """What is kept back of what could be given."""

    margin_min_pct: float = key("of what could be given; less left: an alarm", 20.0, ge=0, le=90)
    hysteresis_pct: float = key("the alarm ends this far above", 1.0, ge=0, le=20)
    bounds_base: bool = key("true: the base never takes of it", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CampusRulesSettings:
    """How the campus is run, beside where everything stands."""

    losses: LossSettings = key("modelled losses", LossSettings)
    imbalance: ImbalanceSettings = key("nodes drifting apart", ImbalanceSettings)
    reserve: ReserveSettings = key("minimum reserve margin", ReserveSettings)
    queue: tuple[str, ...] = key(
        "sources (with *) in the order in which plans of equal priority go; others come last", ()
    )
