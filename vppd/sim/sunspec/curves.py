"""The stored curves of models 705, 706, 711 and 712: slot 1 is what acts and is only read, the
others are written, and a slot is adopted by asking for it.

A request reads in progress for ADOPT_S, then completed or failed. A slot's points are judged at
that moment and not when they are written: too few or too many active points, points that go
backwards, a droop of 0 or a slot that is not there make it fail, and slot 1 stays as it was.
Asking for slot 1 completes and changes nothing. Reversion of curves is not implemented. Of the
curves only the frequency droop of 711 acts here; its response time is kept, not simulated.
"""

from dataclasses import replace

from vppd.sim.sunspec.image import Image, Model, Value, Written
from vppd.sim.sunspec.models import M705, M706, M711, M712
from vppd.sim.sunspec.power import Droop
from vppd.sim.sunspec.table import Table
from vppd.sim.sunspec.timer import Timer

ADOPT_S = 0.5
LEAST_POINTS, POINTS = 2, 4
IN_PROGRESS, COMPLETED, FAILED = 0, 1, 2
FREQUENCY_DROOP = 711

# IEEE 1547-2018 category B: tables 8, 10 and 25; volts in percent of nominal.
VOLT_VAR: dict[str, Value] = {"ActPt": 4, "DeptRef": 1, "Pri": 1, "RspTms": 5}
VOLT_VAR_POINTS = ((92.0, 44.0), (98.0, 0.0), (102.0, 0.0), (108.0, -44.0))
VOLT_WATT: dict[str, Value] = {"ActPt": 2, "DeptRef": 0, "RspTms": 10}
VOLT_WATT_POINTS = ((106.0, 100.0), (110.0, 0.0))
WATT_VAR: dict[str, Value] = {"ActPt": 3, "DeptRef": 1, "Pri": 1}
WATT_VAR_POINTS = ((20.0, 0.0), (50.0, 0.0), (100.0, -44.0))
DROOP: dict[str, Value] = {
    "DbOf": 0.036,
    "DbUf": 0.036,
    "KOf": 0.05,
    "KUf": 0.05,
    "RspTms": 5,
    "PMin": -100,
}
CURVES = {
    705: (M705, ("V", "Var"), VOLT_VAR, VOLT_VAR_POINTS),
    706: (M706, ("V", "W"), VOLT_WATT, VOLT_WATT_POINTS),
    712: (M712, ("W", "Var"), WATT_VAR, WATT_VAR_POINTS),
}
EXPONENTS = {
    **{(705, name): exponent for name, exponent in (("V_SF", -1), ("DeptRef_SF", -1))},
    **{(706, name): exponent for name, exponent in (("V_SF", -1), ("DeptRef_SF", -1))},
    **{(712, name): exponent for name, exponent in (("W_SF", -1), ("DeptRef_SF", -1))},
    **{(711, name): exponent for name, exponent in (("Db_SF", -3), ("K_SF", -3))},
    **{(model, "RspTms_SF"): 0 for model in (705, 706, 711)},
}


def chain(slots: int) -> tuple[Model, ...]:
    """The four models with so many slots."""
    tables = (M705, M706, M711, M712)
    return tuple(_read_only_first(table, slots) for table in tables)


def _read_only_first(table: Table, slots: int) -> Model:
    group = table.group.name if table.group is not None else ""
    points = table.layout(slots, POINTS)
    return Model(
        table.model,
        tuple(
            replace(point, writable=False) if point.name.startswith(f"{group}[1].") else point
            for point in points
        ),
    )


class Curves:
    """The slots of one device."""

    def __init__(self, image: Image, slots: int) -> None:
        self._image, self._slots = image, slots
        self._adopting = {model: Timer() for model in (*CURVES, FREQUENCY_DROOP)}

    def power_up(self) -> None:
        """Nothing enabled, the makers' curves in every slot."""
        for model, (_, axes, settings, points) in CURVES.items():
            self._fill_head(model, "AdptCrv")
            self._image.show(model, {"NCrv": self._slots, "NPt": POINTS})
            for slot in range(1, self._slots + 1):
                self._fill(model, f"Crv[{slot}].", slot, settings)
                for index in range(POINTS):
                    pair = points[index] if index < len(points) else (None, None)
                    where = f"Crv[{slot}].Pt[{index + 1}]."
                    values = dict(zip((where + axis for axis in axes), pair, strict=True))
                    self._image.hold(model, values)
        self._fill_head(FREQUENCY_DROOP, "AdptCtl")
        self._image.show(FREQUENCY_DROOP, {"NCtl": self._slots})
        for slot in range(1, self._slots + 1):
            self._fill(FREQUENCY_DROOP, f"Ctl[{slot}].", slot, DROOP)

    def _fill_head(self, model: int, request: str) -> None:
        self._image.hold(model, {"Ena": 0, f"{request}Req": 0})
        self._image.show(model, {f"{request}Rslt": COMPLETED})
        self._adopting[model].stop()

    def _fill(self, model: int, where: str, slot: int, settings: dict[str, Value]) -> None:
        self._image.hold(model, {where + name: value for name, value in settings.items()})
        self._image.show(model, {f"{where}ReadOnly": 1 if slot == 1 else 0})

    def written(self, points: list[Written], now_s: float) -> None:
        """Begin what was asked for."""
        for point in points:
            if point.name in ("AdptCrvReq", "AdptCtlReq"):
                self._image.show(point.model, {_result(point.model): IN_PROGRESS})
                self._adopting[point.model].start(now_s, ADOPT_S)

    def advance(self, now_s: float) -> None:
        """End what has taken its time."""
        for model, timer in self._adopting.items():
            if timer.ran_out(now_s):
                self._image.show(
                    model, {_result(model): COMPLETED if self._adopt(model) else FAILED}
                )

    def _adopt(self, model: int) -> bool:
        group = "Ctl" if model == FREQUENCY_DROOP else "Crv"
        slot = self._image.raw(model, f"Adpt{group}Req") or 0
        if not 1 <= slot <= self._slots:
            return False
        where = f"{group}[{slot}]."
        if not (self._droops(where) if model == FREQUENCY_DROOP else self._ascends(model, where)):
            return False
        for name in self._image.names(model, where):
            own = name.removeprefix(where)
            if own != "ReadOnly":
                value = self._image.value(model, name)
                self._image.show(model, {f"{group}[1].{own}": value})
        return True

    def _droops(self, where: str) -> bool:
        return all(self._image.raw(FREQUENCY_DROOP, where + name) for name in ("KOf", "KUf"))

    def _ascends(self, model: int, where: str) -> bool:
        active = self._image.raw(model, f"{where}ActPt") or 0
        if not LEAST_POINTS <= active <= POINTS:
            return False
        axes = CURVES[model][1]
        points = [
            [self._image.raw(model, f"{where}Pt[{index + 1}].{axis}") for axis in axes]
            for index in range(active)
        ]
        abscissas = [point[0] for point in points if point[0] is not None]
        complete = all(raw is not None for point in points for raw in point)
        return complete and abscissas == sorted(abscissas)

    def droop(self) -> Droop | None:
        """The control that acts, when frequency droop is enabled."""
        if not self._image.raw(FREQUENCY_DROOP, "Ena"):
            return None
        names = ("DbOf", "DbUf", "KOf", "KUf")
        values = [self._image.given(FREQUENCY_DROOP, f"Ctl[1].{name}") for name in names]
        if not all(values[2:]):  # a coarse scale factor rounded it away
            return None
        return Droop(*values)

    def least_share(self) -> float:
        """PMin of the control that acts, as a share of WMax: droop goes no lower."""
        return self._image.given(FREQUENCY_DROOP, "Ctl[1].PMin") / 100.0


def _result(model: int) -> str:
    return "AdptCtlRslt" if model == FREQUENCY_DROOP else "AdptCrvRslt"
