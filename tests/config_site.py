"""A small configuration that is fine, and ways to make it wrong."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from vppd.config import Loaded, load
from vppd.core.settings import Settings

VPPD = """\
site: {id: here}
mode: simulation
"""
FIELD = """\
units:
  - id: A
    building: B1
    rated_power_kw: 5
    energy_kwh: 20
    modbus:
      profile: toy
      host: 127.0.0.2
      poll_s: 0.5
    safety:
      soc_rate_max_pct_per_min: 1.0
"""
GRID = "pmu: {host: 127.0.0.1}\n"
TOY = """\
name: toy
maker: test
model: toy
source: nowhere
points:
  soc_pct: {table: input, address: 0x10, type: u16, max_age_s: 1.0}
  setpoint_kw: {table: holding, address: 1, type: i16, max_age_s: 3.0}
  power_kw: {table: input, address: 0x20, type: i16, max_age_s: 3.0}
  voltage_v: {table: input, address: 0x21, type: i16, max_age_s: 3.0}
  current_a: {table: input, address: 0x22, type: i16, max_age_s: 3.0}
  temperature_c: {table: input, address: 0x23, type: i16, max_age_s: 3.0}
  fault_bits: {table: input, address: 0x24, type: bits, max_age_s: 3.0}
writes:
  power_kw: {address: 1, type: i16, low: -10, high: 10, read_back: setpoint_kw}
  heartbeat: {address: 2, type: u16, low: 0, high: 9, read_back: setpoint_kw}
revert: {kind: timeout, timeout_s: 5, heartbeat_s: 2}
"""
FINE = {
    "vppd.yaml": VPPD,
    "field.yaml": FIELD,
    "grid.yaml": GRID,
    "devices/toy.yaml": TOY,
}


def loaded(files: Mapping[str, str | bytes]) -> Loaded:
    """Load these files from a directory of their own."""
    with tempfile.TemporaryDirectory() as name:
        for file, text in files.items():
            path = Path(name) / file
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(Path(name))


def changed(file: str, old: str, new: str) -> Loaded:
    """The fine site with one text replaced."""
    assert FINE[file].count(old) == 1
    return loaded(FINE | {file: FINE[file].replace(old, new)})


def settings_of(result: Loaded) -> Settings:
    assert result.settings is not None, "\n".join(map(str, result.findings))
    return result.settings


def error_lines(result: Loaded) -> set[tuple[str, int, str]]:
    return {(each.file, each.line, each.key) for each in result.errors}
