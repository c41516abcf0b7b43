"""What the demo plays: a site on free loopback ports, a day's worth of trouble in a minute."""

import csv
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vppd.market.blocks import BLOCK, block_at

UNITS = ("BESS_DC01_01", "BESS_DC01_02", "BESS_DC02_01", "BESS_DC02_02")
FAILING = "BESS_DC02_01"
SCHEDULED_KW = 120.0
NOMINAL_HZ = 50.0
NADIR_HZ = 49.62
SETTLED_HZ = 49.78


@dataclass(frozen=True, slots=True)
class Timing:
    """When things happen, seconds from the start of the plant."""

    event_s: float
    recovered_s: float
    silent_s: float
    back_s: float
    end_s: float


def timing(length_s: float) -> Timing:
    """The scene stretched over this length."""
    return Timing(0.2 * length_s, 0.45 * length_s, 0.6 * length_s, 0.7 * length_s, length_s)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def write_site(
    directory: Path, now: datetime, units: tuple[str, ...] = UNITS, *, extra_grid: str = ""
) -> None:
    """A configuration like the example, on free ports, with a schedule that holds now."""
    *ports, pmu_port = free_ports(len(units) + 1)
    (directory / "vppd.yaml").write_text(
        "site: {id: demo, name: Demonstration site}\nmode: simulation\n"
        "simulation: {trace: trace.csv}\n"
    )
    rows = [
        f"  - {{id: {unit}, building: {unit.rpartition('_')[0]}, rated_power_kw: 100,"
        " energy_kwh: 250, modules_parallel: 23,"
        f" modbus: {{profile: vpp-bess-v2, host: 127.0.0.1, port: {port}}}}}"
        for unit, port in zip(units, ports, strict=True)
    ]
    (directory / "field.yaml").write_text("\n".join(["units:", *rows]) + "\n")
    (directory / "grid.yaml").write_text(
        f"pmu: {{host: 127.0.0.1, port: {pmu_port}}}\n" + extra_grid
    )
    (directory / "market.yaml").write_text("schedule: schedule.csv\n")
    with (directory / "schedule.csv").open("w", newline="") as file:
        rows_out = csv.writer(file)
        rows_out.writerow(("date", "block", "power_kw"))
        for step in range(-1, 12):
            block = block_at(now + step * BLOCK)
            rows_out.writerow((block.day, block.number, SCHEDULED_KW))


def write_trace(path: Path, when: Timing) -> None:
    """A generator trips: frequency falls, settles low, and is brought back."""
    fall_s = min(2.0, 0.05 * when.end_s)
    points = [
        (0.0, NOMINAL_HZ),
        (when.event_s, NOMINAL_HZ),
        (when.event_s + fall_s, NADIR_HZ),
        (when.event_s + 3.0 * fall_s, SETTLED_HZ),
        (when.recovered_s, SETTLED_HZ),
        (when.recovered_s + fall_s, NOMINAL_HZ),
        (when.end_s, NOMINAL_HZ),
    ]
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("t_s", "freq_hz"))
        rows.writerows(points)
