"""The demo: its scene can be played at any length, and playing it tells what happened."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vppd.cli.scene import FAILING, timing, write_trace
from vppd.sim.grid import read_trace


@given(st.floats(20.0, 1e5))
def test_the_scene_fits_any_length(length_s: float) -> None:
    when = timing(length_s)
    moments = (when.event_s, when.recovered_s, when.silent_s, when.back_s, when.end_s)
    assert all(one < other for one, other in pairwise(moments))


def test_its_trace_is_one_the_plant_can_play(tmp_path: Path) -> None:
    for length_s in (20.0, 30.0, 47.5, 60.0, 3600.0):
        path = tmp_path / "trace.csv"
        write_trace(path, timing(length_s))
        read_trace(path)


def test_it_plays_and_tells_what_happened(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-P", "-m", "vppd.cli.demo", "--seconds", "20", "--keep", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    for word in ("frequency_low", "link_lost", FAILING, "owed", "energy: out", "ticks:"):
        assert word in told.stdout, told.stdout
