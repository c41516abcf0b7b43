"""The demo: its scene can be played at any length, and playing it tells what happened."""

import os
import re
import signal
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


def test_who_ends_it_early_leaves_no_daemon_behind(tmp_path: Path) -> None:
    words = ["-m", "vppd.cli.demo", "--seconds", "600", "--keep", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-P", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        assert "vppd runs" in demo.stdout.readline()
        demo.send_signal(signal.SIGTERM)
        told, wrong = demo.communicate(timeout=60)
    assert (demo.returncode, wrong) == (0, "")
    assert "ticks:" in told
    assert not (tmp_path / "vppd.sock").exists()


def test_it_plays_and_tells_what_happened(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-P", "-m", "vppd.cli.demo", "--seconds", "20", "--keep", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    shown = re.search(r"look at it with: (\S+) --socket (\S+) top$", told.stdout, re.MULTILINE)
    assert shown is not None, told.stdout
    assert os.access(shown[1], os.X_OK), "it can be pasted into another terminal"
    assert shown[2] == str(tmp_path.resolve() / "vppd.sock")
    kept = re.search(r"kept in .*: (\S+) report day --state (\S+) > ", told.stdout)
    assert kept is not None, told.stdout
    assert os.access(kept[1], os.X_OK)
    assert Path(kept[2], "journal.db").exists()
    for word in ("frequency_low", "link_lost", FAILING, "owed", "energy: out", "ticks:"):
        assert word in told.stdout, told.stdout
