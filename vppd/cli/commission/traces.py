"""What a bump test saw, as traces: one look at the daemon after another, taken apart.

A reading is kept once, at the time at which it was true; looking more often than a device is read
adds nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from vppd.cli.wire import Json
from vppd.field.step_response import Sample, Step
from vppd.field.step_verdict import Measurement, Recording

SAME_S = 1e-3  # closer than this it is the same reading
CALM = frozenset({"ramp", "device_ramp"})  # they cut on the way, not at the end


@dataclass
class Recorder:
    """Fills the traces of one test. `basis` is what the daemon says measures the unit."""

    basis: Json
    told: list[Sample] = field(default_factory=list)
    read_back: list[Sample] = field(default_factory=list)
    kvar: list[Sample] = field(default_factory=list)
    soc: list[Sample] = field(default_factory=list)
    powers: dict[str, list[Sample]] = field(default_factory=dict)
    elsewhere: dict[str, list[Sample]] = field(default_factory=dict)
    bound_by: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.powers = {each["name"]: [] for each in self.basis["measurements"]}
        self.elsewhere = {each["id"]: [] for each in self.basis["others"] if each["point"]}

    def take(self, view: Json) -> None:
        """One look."""
        now_s, own = float(view["now_s"]), view["readings"].get(view["unit"], {})
        if view["setpoint_kw"] is not None:
            _keep(self.told, now_s, float(view["setpoint_kw"]))
        for trace, point in (
            (self.read_back, "setpoint_kw"),
            (self.kvar, self.basis["reactive_point"]),
            (self.soc, self.basis["soc_point"]),
        ):
            _keep_reading(trace, now_s, own.get(point))
        for each in self.basis["measurements"]:
            self._measure(each, now_s, view["readings"])
        for other in self.basis["others"]:
            reading = view["readings"].get(other["id"], {}).get(other["point"])
            told_kw = view["setpoints_kw"].get(other["id"])
            if told_kw is not None:
                _keep_reading(self.elsewhere[other["id"]], now_s, reading, less_kw=told_kw)
        self.bound_by += [
            code for code in view["bound_by"] if code not in CALM and code not in self.bound_by
        ]

    def _measure(self, how: Json, now_s: float, readings: Json) -> None:
        """The product of its points; of the meter what is left without the other units."""
        found = [readings.get(how["unit"], {}).get(point) for point in how["points"]]
        if any(each is None or each["value"] is None for each in found):
            return
        value_kw = prod(each["value"] for each in found) * how["factor"]
        if how["name"] == "meter":
            others = [readings[each["id"]].get(each["point"]) for each in self.basis["others"]]
            if any(each is None or each["value"] is None for each in others):
                return
            value_kw -= sum(each["value"] for each in others)
        _keep(self.powers[how["name"]], now_s - min(each["age_s"] for each in found), value_kw)

    def recording(self, steps: Sequence[Step], broken_off: str) -> Recording:
        """All of it, for the judge."""
        return Recording(
            steps=[step for step in steps if step.asked_kw or not step.cut],
            told=self.told,
            measurements=[
                Measurement(
                    each["name"],
                    each["text"],
                    each["independent"],
                    each["resolution_kw"],
                    each["tolerance_ratio"],
                    self.powers[each["name"]],
                )
                for each in self.basis["measurements"]
            ],
            read_back=self.read_back,
            kvar=self.kvar,
            soc=self.soc,
            elsewhere=self.elsewhere,
            energy_kwh=self.basis["energy_kwh"],
            soc_resolution_pct=self.basis["soc_resolution_pct"],
            bound_by=self.bound_by,
            broken_off=broken_off,
        )

    def columns(self) -> Mapping[str, Sequence[Sample]]:
        """Every trace by its name, for plots and files."""
        return {
            "told": self.told,
            **self.powers,
            "read_back": self.read_back,
            "reactive_kvar": self.kvar,
            "soc_pct": self.soc,
        }


def _keep(trace: list[Sample], at_s: float, value: float) -> None:
    if not trace or at_s > trace[-1].at_s + SAME_S:
        trace.append(Sample(at_s, value))


def _keep_reading(
    trace: list[Sample], now_s: float, reading: Json | None, less_kw: float = 0.0
) -> None:
    if reading is not None and reading["value"] is not None:
        _keep(trace, now_s - reading["age_s"], reading["value"] - less_kw)
