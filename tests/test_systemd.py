"""The unit and its drop-ins: they parse, they stay hard, and they say what the daemon relies on."""

import itertools
import re
import subprocess
from pathlib import Path

import pytest

from vppd.cli.dropins import FILES, drop_ins
from vppd.config.openings import Host, Openings

SYSTEMD = Path(__file__).parents[1] / "systemd"
KINDS = tuple(name.removesuffix(".conf") for name in FILES)
# Overall exposure, 0 (none) to 10. What a drop-in opens is the price of that hardware; `ip` is
# always there, `users` where nobody but root and vppd itself may use the socket.
EXPOSURE_MAX = {
    (): 1.2,
    ("ip",): 1.2,
    ("ip", "credentials"): 1.2,
    ("serial",): 1.5,
    ("can",): 1.5,
    ("serial", "ip"): 1.4,
    ("can", "ip"): 1.4,
    ("serial", "can", "ip", "credentials"): 1.6,
    ("serial", "can", "ip", "users"): 1.4,
}


def texts(kinds: tuple[str, ...]) -> dict[str, str]:
    """The drop-ins of a site that needs these, as `vppd dropins` makes them."""
    openings = Openings(
        hosts=(Host("units.A.modbus.host", "192.168.1.10"), Host("mqtt.url", "broker.example")),
        serials=("/dev/ttyUSB0",) if "serial" in kinds else (),
        can="can" in kinds,
        credentials=("mqtt-password",) if "credentials" in kinds else (),
        people="users" not in kinds,
        by_hand=(),
    )
    made = drop_ins(openings, Path("/etc/vppd"), lambda name: ("10.0.0.7",), ("10.0.0.1",))
    return {name: text for name, text in made.items() if name.removesuffix(".conf") in kinds}


def unit(directory: Path, kinds: tuple[str, ...] = ()) -> Path:
    """A copy of the unit that names a program which exists on this machine."""
    text = (SYSTEMD / "vppd.service").read_text(encoding="utf-8")
    copy = directory / "vppd.service"
    copy.write_text(text.replace("/opt/vppd/current/bin/python", "/bin/sh"), encoding="utf-8")
    folder = directory / "vppd.service.d"
    folder.mkdir()
    for name, words in texts(kinds).items():
        (folder / name).write_text(words, encoding="utf-8")
    assert {path.stem for path in folder.iterdir()} == set(kinds)
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


@pytest.mark.parametrize("kinds", [(), *((kind,) for kind in KINDS), KINDS], ids=str)
def test_systemd_understands_every_line(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    """It answers 0 for an unknown key too: only silence is good."""
    done = analyze("verify", unit(tmp_path, kinds))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("key", "value"), [("WatchdogSec", "WatchdogSecs"), ("MemoryMax", "M")])
def test_a_misspelt_key_is_seen(tmp_path: Path, key: str, value: str) -> None:
    copy = unit(tmp_path)
    copy.write_text(copy.read_text().replace(f"{key}=", f"{value}="), encoding="utf-8")
    assert value in analyze("verify", copy).stderr


@pytest.mark.parametrize(("kinds", "most"), EXPOSURE_MAX.items(), ids=str)
def test_exposure_stays_low(tmp_path: Path, kinds: tuple[str, ...], most: float) -> None:
    done = analyze("security", unit(tmp_path, kinds))
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
    assert unit_says["Environment"] == ["PYTHONFAULTHANDLER=1"], "the watchdog's abort shows stacks"
    assert {"WatchdogSec", "TimeoutAbortSec", "MemoryMax", "MemoryHigh", "TasksMax"} <= set(
        unit_says
    )


def test_every_user_and_group_is_made() -> None:
    made = {line.split()[1] for line in sysusers()}
    unit_says = settings()
    assert {*unit_says["User"], *unit_says["Group"], "vppd-operators"} <= made
    assert ["m", "vppd", "vppd"] in [line.split()[:3] for line in sysusers()]


def sysusers() -> list[str]:
    lines = (SYSTEMD / "vppd.sysusers").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(
    "kinds", [kinds for n in range(3) for kinds in itertools.combinations(KINDS, n)], ids=str
)
def test_every_drop_in_says_what_for_and_changes_only_the_service(kinds: tuple[str, ...]) -> None:
    for name, text in texts(kinds).items():
        assert text.startswith("# Made by `vppd dropins` from /etc/vppd."), name
        assert re.findall(r"^\[(\w+)\]$", text, re.MULTILINE) == ["Service"], name
