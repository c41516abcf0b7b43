"""`vppd check`, `explain` and `init`: what a user sees, and the exit codes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.config_site import FINE
from vppd.cli.vppd import main
from vppd.config import load

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "etc" / "vppd"


def vppd(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False)


def written(directory: Path, **changes: str) -> Path:
    """The fine site in a directory; `field` changes field.yaml and so on."""
    (directory / "devices").mkdir()
    for file, text in FINE.items():
        (directory / file).write_text(text, encoding="utf-8")
    for name, text in changes.items():
        (directory / f"{name}.yaml").write_text(text, encoding="utf-8")
    return directory


def test_check_of_a_fine_site_says_so() -> None:
    result = vppd("check", "--config", str(EXAMPLE))
    assert result.exit_code == 0
    assert result.output == f"{EXAMPLE}: 4 units, 1 PMU, mode simulation: fine\n"


def test_check_shows_warnings_and_is_content(tmp_path: Path) -> None:
    result = vppd("check", "--config", str(written(tmp_path, grid="")))
    assert result.exit_code == 0
    first, last = result.stdout.splitlines()
    assert first.startswith("grid.yaml:1: pmu: warning: no PMU configured")
    assert last == f"{tmp_path}: 1 unit, 0 PMUs, mode simulation: fine, 1 warning"


def test_check_shows_every_error_and_exits_1(tmp_path: Path) -> None:
    site = written(tmp_path, vppd="site: {id: here}\nmode: dream\n", grid="pmu: {port: 0}\n")
    result = vppd("check", "--config", str(site))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("vppd.yaml:2: mode: 'dream' is wrong; allowed: simulation or hil")
    assert lines[1].startswith("grid.yaml:1: pmu.host: missing")
    assert lines[2].startswith("grid.yaml:1: pmu.port: 0 is wrong")
    assert lines[3:] == [f"{tmp_path}: 3 errors"]


def test_check_of_no_directory_exits_1(tmp_path: Path) -> None:
    result = vppd("check", "--config", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "no such directory" in result.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"date,block,power_kw\n2026-01-01,97,5\n", "plan.csv:2: block: '97'"),
        (b"nonsense\n", "plan.csv:1: header 'nonsense'; it is date,block,power_kw"),
        (b"\xff", "plan.csv: cannot be read: not UTF-8 text"),
    ],
)
def test_a_broken_schedule_is_an_error_that_says_what_applies(
    tmp_path: Path, text: bytes, words: str
) -> None:
    written(tmp_path, market="schedule: plan.csv\n")
    (tmp_path / "plan.csv").write_bytes(text)
    result = vppd("check", "--config", str(tmp_path))
    assert result.exit_code == 1
    first, second, last = result.stdout.splitlines()
    assert first.startswith(words)
    assert second.startswith("plan.csv: warning: not used as it is: a vppd that runs keeps the")
    assert "0 kW but for orders, operators and droop" in second
    assert last == f"{tmp_path}: 1 unit, 1 PMU, mode simulation: 1 error, 1 warning"


def test_a_schedule_that_is_not_there_is_a_warning_that_says_what_applies(tmp_path: Path) -> None:
    written(tmp_path, market="schedule: plan.csv\n")
    result = vppd("check", "--config", str(tmp_path))
    assert result.exit_code == 0
    first, last = result.stdout.splitlines()
    assert first.startswith(
        "plan.csv: warning: not there, so nothing is scheduled: units give 0 kW"
    )
    assert last.endswith("fine, 1 warning")


def test_a_schedule_that_nobody_follows_is_not_judged(tmp_path: Path) -> None:
    trading = "enabled: true\nschedule: plan.csv\nexchange: {kind: sheet}\n"
    written(tmp_path, market=trading)
    (tmp_path / "plan.csv").write_text("nonsense\n")
    assert "plan.csv" not in vppd("check", "--config", str(tmp_path)).stdout


def test_explain_prints_the_reference() -> None:
    result = vppd("explain", "droop.droop_pct")
    assert result.exit_code == 0
    assert result.stdout == (
        "# grid.yaml\n"
        "droop.droop_pct [%]: full power at this deviation of nominal"
        " (a number from 0.5 to 20; default 5.0)\n"
    )
    everything = vppd("explain").stdout
    assert "units.safety.cell_min_v [V]" in everything
    assert "profile.revert.heartbeat_s [s]" in everything
    assert "units." not in vppd("explain", "profile").stdout


def test_explain_of_a_wrong_word_exits_2() -> None:
    result = vppd("explain", "drop_pct")
    assert result.exit_code == 2
    assert "did you mean droop_pct?" in result.stderr


def test_init_writes_a_fine_site(tmp_path: Path) -> None:
    target = tmp_path / "new" / "site"
    assert vppd("init", str(target)).exit_code == 0
    assert {path.name for path in target.iterdir()} == {
        *(path.name for path in EXAMPLE.iterdir()),
        "devices",
    }
    assert load(target).findings == ()


def test_init_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("mine")
    result = vppd("init", str(tmp_path))
    assert result.exit_code == 0
    assert (tmp_path / "grid.yaml").read_text() == "mine"
    assert f"{tmp_path / 'grid.yaml'}: kept" in result.output
    assert (tmp_path / "field.yaml").exists()


def test_init_into_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "devices").write_text("")
    assert vppd("init", str(tmp_path)).exit_code == 1


def test_sim_of_a_wrong_site_ends_before_anything_is_served(tmp_path: Path) -> None:
    site = written(tmp_path, vppd="site: {id: here}\nmode: dream\n")
    result = vppd("sim", "--config", str(site))
    assert result.exit_code == 1
    assert "vppd.yaml:2: mode" in result.output


def test_it_runs_as_a_program(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "vppd.yaml").write_text("site: {id: a}\nmode: simulation\nname: 22:30\n")
    done = subprocess.run(
        [sys.executable, "-m", "vppd", "check", "--config", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "vppd.yaml:3: name: 22:30 without quotes is not the same to every program; quote it",
        "vppd.yaml:3: name: unknown key; "
        "known are aggregator, api, clock, journal, metrics, mode, mqtt, recorder, role,"
        " simulation, site, web",
        f"{tmp_path}: 2 errors",
    ]
