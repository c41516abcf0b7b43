"""The grid: a trace is what it says, the stochastic one is deterministic and like the real one."""

import math
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.sim.grid import Grid, StochasticGrid, Trace, read_trace


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return path


def test_a_trace_is_interpolated_and_held(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "t_s,freq_hz\n0,50.0\n10,49.8\n20,50.0\n"))
    assert trace.frequency_hz(-5.0) == 50.0
    assert trace.frequency_hz(5.0) == pytest.approx(49.9)
    assert trace.frequency_hz(10.0) == 49.8
    assert trace.frequency_hz(1e6) == 50.0


def test_the_header_is_optional(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, "0,49.7\n")).frequency_hz(3.0) == 49.7


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "no rows"),
        ("t_s,freq_hz\n", 1, "no rows"),
        ("t_s,freq_hz\n0,50\n1,abc\n", 3, "could not convert"),
        ("0,50\n1\n", 2, "found 1 fields"),
        ("0,50,1\n", 1, "found 3 fields"),
        ("0,50\n0,50\n", 2, "does not follow"),
        ("5,50\n4,50\n", 2, "does not follow"),
        ("nan,50\n", 1, "does not follow"),
        ("0,nan\n", 1, "not in"),
        ("0,50\n1,0\n", 2, "not in"),
        ("0,inf\n", 1, "not in"),
    ],
)
def test_a_malformed_trace_says_where(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=words) as refused:
        read_trace(path)
    assert str(refused.value).startswith(f"{path}:{line}: ")


def samples(seed: int, seconds: int) -> list[float]:
    grid = StochasticGrid(seed)
    return [grid.frequency_hz(tenth / 10.0) for tenth in range(10 * seconds)]


def test_a_seed_is_a_grid() -> None:
    assert samples(7, 60) == samples(7, 60)
    assert samples(7, 60) != samples(8, 60)


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=40))
def test_asking_more_often_changes_nothing(times_s: list[float]) -> None:
    asked, control = StochasticGrid(3), StochasticGrid(3)
    for at_s in sorted(times_s):
        asked.frequency_hz(at_s)
    assert asked.frequency_hz(31.0) == control.frequency_hz(31.0)


def test_it_moves_like_the_recorded_grid() -> None:
    runs = [samples(seed, 3600) for seed in range(12)]
    calm = [run for run in runs if max(abs(hz - 50.0) for hz in run) < 0.1]  # no event inside
    assert len(calm) >= 9
    every = [hz for run in calm for hz in run]
    assert statistics.fmean(every) == pytest.approx(50.0, abs=0.006)
    assert statistics.pstdev(every) == pytest.approx(0.0221, rel=0.25)

    def change_mhz(lag_s: float) -> float:
        step = round(10 * lag_s)
        moves = [b - a for run in calm for a, b in zip(run, run[step:], strict=False)]
        return 1000.0 * statistics.pstdev(moves)

    assert change_mhz(0.1) == pytest.approx(0.62, rel=0.3)
    assert change_mhz(1.0) == pytest.approx(1.93, rel=0.2)
    assert change_mhz(10.0) == pytest.approx(9.47, rel=0.15)
    assert change_mhz(60.0) == pytest.approx(27.0, rel=0.2)


def test_an_event_falls_within_seconds_and_recovers_within_minutes() -> None:
    grid, quiet = StochasticGrid(1), StochasticGrid(1)
    grid._next_event_s, quiet._next_event_s = 60.0, math.inf
    depth_hz = max(abs(grid.frequency_hz(at) - quiet.frequency_hz(at)) for at in range(60, 90))
    assert grid.frequency_hz(59.0) != pytest.approx(50.0 - depth_hz, abs=0.01)
    assert 0.04 < depth_hz < 0.25
    assert abs(grid.frequency_hz(600.0) - 50.0) < 0.1


def test_steps_ramps_offsets_and_release() -> None:
    grid = Grid(Trace([0.0], [50.0]), start_s=100.0)
    grid.steer(110.0, 49.7)
    assert grid.frequency_hz(109.99) == 50.0
    assert grid.frequency_hz(110.0) == 49.7
    grid.release()
    assert grid.frequency_hz(111.0) == 50.0
    grid.steer(120.0, 49.5, 0.1)
    assert grid.frequency_hz(122.0) == pytest.approx(49.8)
    assert grid.rocof_hz_per_s(122.0) == pytest.approx(-0.1)
    assert grid.frequency_hz(200.0) == 49.5
    grid.release()
    grid.shift(-0.25)
    assert grid.frequency_hz(200.0) == 49.75


def test_time_starts_with_the_plant() -> None:
    grid = Grid(Trace([0.0, 10.0], [50.0, 49.0]), start_s=1000.0)
    assert grid.frequency_hz(1005.0) == pytest.approx(49.5)
    assert not math.isnan(grid.rocof_hz_per_s(1000.0))
