"""The unit and its drop-ins: they parse, they stay hard, and they say what the daemon relies on."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[1] / "systemd"
DROP_INS = sorted(path.stem for path in (SYSTEMD / "vppd.service.d").glob("*.conf"))
# Overall exposure, 0 (none) to 10. What a drop-in opens is the price of that hardware.
EXPOSURE_MAX = {
    (): 1.2,
    ("ip",): 1.2,
    ("credentials",): 1.2,
    ("serial",): 1.5,
    ("can",): 1.5,
    ("ip", "serial"): 1.4,
    ("can", "ip"): 1.4,
    ("can", "credentials", "ip", "serial"): 1.6,
}

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


def unit(directory: Path, drop_ins: tuple[str, ...] = ()) -> Path:
    """A copy of the unit that names a program which exists on this machine."""
    text = (SYSTEMD / "vppd.service").read_text(encoding="utf-8")
    copy = directory / "vppd.service"
    copy.write_text(text.replace("/opt/vppd/current/bin/python", "/bin/sh"), encoding="utf-8")
    for name in drop_ins:
        (directory / "vppd.service.d").mkdir(exist_ok=True)
        shutil.copy(SYSTEMD / "vppd.service.d" / f"{name}.conf", directory / "vppd.service.d")
    return copy


def analyze(verb: str, copy: Path) -> subprocess.CompletedProcess[str]:
    options = ["--offline=true", "--no-pager"] if verb == "security" else ["--man=no"]
    return subprocess.run(
        ["systemd-analyze", verb, *options, str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@needs_analyze
@pytest.mark.parametrize("drop_ins", [(), *((name,) for name in DROP_INS)], ids=str)
def test_systemd_understands_every_line(tmp_path: Path, drop_ins: tuple[str, ...]) -> None:
    """It answers 0 for an unknown key too: only silence is good."""
    done = analyze("verify", unit(tmp_path, drop_ins))
    assert (done.returncode, done.stderr) == (0, "")


@needs_analyze
def test_a_misspelt_key_is_seen(tmp_path: Path) -> None:
    copy = unit(tmp_path)
    copy.write_text(copy.read_text().replace("WatchdogSec=", "WatchdogSecs="), encoding="utf-8")
    assert "WatchdogSecs" in analyze("verify", copy).stderr


@needs_analyze
@pytest.mark.parametrize(("drop_ins", "most"), EXPOSURE_MAX.items(), ids=str)
def test_exposure_stays_low(tmp_path: Path, drop_ins: tuple[str, ...], most: float) -> None:
    done = analyze("security", unit(tmp_path, drop_ins))
    seen = re.search(r"Overall exposure level for vppd.service: ([\d.]+)", done.stdout)
    assert seen, done.stdout + done.stderr
    assert float(seen[1]) <= most, done.stdout


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / "vppd.service").read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def test_what_the_daemon_relies_on() -> None:
    unit_says = settings()
    assert unit_says["Type"] == ["notify"]
    assert unit_says["ExecStart"] == [
        "/opt/vppd/current/bin/python -P -m vppd run --config /etc/vppd"
    ]
    assert unit_says["Restart"] == ["on-failure"]
    assert unit_says["KillMode"] == ["mixed"], "the simulated plant must outlive the last 0 kW"
    assert unit_says["StateDirectory"] == unit_says["RuntimeDirectory"] == ["vppd"]
    assert "PrivateUsers" not in unit_says, "it would hide the peers of the socket"
    assert unit_says["After"] == ["network.target"], "control waits for no time server, no cable"


def test_every_user_and_group_is_made() -> None:
    made = {line.split()[1] for line in sysusers()}
    unit_says = settings()
    assert {*unit_says["User"], *unit_says["Group"], "vppd-operators"} <= made
    assert ["m", "vppd", "vppd"] in [line.split()[:3] for line in sysusers()]


def sysusers() -> list[str]:
    lines = (SYSTEMD / "vppd.sysusers").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_drop_in_says_what_for_and_changes_only_the_service() -> None:
    assert {"serial", "can", "ip"} <= set(DROP_INS)
    for name in DROP_INS:
        text = (SYSTEMD / "vppd.service.d" / f"{name}.conf").read_text(encoding="utf-8")
        assert text.startswith("# "), name
        assert re.findall(r"^\[(\w+)\]$", text, re.MULTILINE) == ["Service"], name
