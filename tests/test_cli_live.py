"""`vppd check --live` as a user sees it: the words, the JSON and the exit codes."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.process_site import Site
from tests.survey_site import READS, Threaded, Wire, battery
from tests.test_full_site import write_full
from vppd.cli.survey import vppd_runs
from vppd.cli.vppd import main

FIELD = """\
units:
  - id: A
    building: B
    rated_power_kw: 100
    energy_kwh: 250
    modules_parallel: 23
    modbus: {{profile: vpp-bess-v2, host: 127.0.0.1, port: {port}, timeout_s: 0.3}}
"""


def vppd(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False)


@pytest.fixture
def plant() -> Iterator[Threaded]:
    with Threaded() as threaded:
        yield threaded


def site(directory: Path, port: int, grid: str = "") -> Path:
    files = {"vppd": "site: {id: here}\nmode: hardware\n", "field": FIELD.format(port=port)}
    for name, text in {**files, "grid": grid}.items():
        (directory / f"{name}.yaml").write_text(text, encoding="utf-8")
    return directory


def live(directory: Path, *more: str) -> Result:
    where = ("--config", str(directory), "--socket", str(directory / "none"))
    return vppd("check", "--live", *where, *more)


def test_a_healthy_site_ends_with_0_and_a_table(tmp_path: Path, plant: Threaded) -> None:
    wire: Wire = plant.add(Wire({1: battery()}))
    result = live(site(tmp_path, wire.port))
    assert result.exit_code == 0, result.output
    assert f"A  profile vpp-bess-v2  127.0.0.1:{wire.port} unit id 1\n" in result.stdout
    assert result.stdout.endswith("1 device: 1 ok\n")
    assert "done within 10 s" in result.stderr
    assert set(wire.functions) <= READS
    assert wire.functions


def test_a_wrong_device_ends_with_1_and_its_remedy(tmp_path: Path, plant: Threaded) -> None:
    wire = plant.add(Wire({1: battery(power=500)}))
    result = live(site(tmp_path, wire.port))
    assert result.exit_code == 1
    assert "  WRONG  sign" in result.stdout
    assert "-> power_kw.sign or current_a.sign" in result.stdout


def test_json_is_all_of_standard_output(tmp_path: Path, plant: Threaded) -> None:
    wire = plant.add(Wire({1: battery(soc=5530)}))
    result = live(site(tmp_path, wire.port), "--json")
    body: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == 1
    assert body["verdict"] == "wrong"
    (device,) = body["devices"]
    assert device["device"] == "A"
    assert device["values"]["power_kw"] == 50.0
    assert {"verdict", "about", "text", "remedy"} == set(device["remarks"][0])


def test_a_configuration_that_is_wrong_asks_nobody(tmp_path: Path, plant: Threaded) -> None:
    wire = plant.add(Wire({1: battery()}))
    directory = site(tmp_path, wire.port)
    (directory / "vppd.yaml").write_text("site: {id: here}\nmode: dream\n", encoding="utf-8")
    assert live(directory).exit_code == 1
    assert wire.functions == []


def test_a_dead_pmu_is_wrong_and_does_not_hang(tmp_path: Path, plant: Threaded) -> None:
    wire = plant.add(Wire({1: battery()}))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    result = live(site(tmp_path, wire.port, f"pmu: {{host: 127.0.0.1, port: {port}}}\n"))
    assert result.exit_code == 1
    assert f"pmu  PMU  127.0.0.1:{port} id code 1" in result.stdout


def test_a_daemon_is_known_by_its_socket(tmp_path: Path) -> None:
    assert not vppd_runs(tmp_path / "none")
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "vppd.sock"))
        assert not vppd_runs(tmp_path / "vppd.sock")
        daemon.listen()
        assert vppd_runs(tmp_path / "vppd.sock")


# ---- the whole simulated site, a process of its own ----------------------------------------------


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("live"), write_full)
    try:
        yield made
    finally:
        made.close()


def sheets(full: Site) -> dict[str, dict[str, Any]]:
    """Every device by its name, as the JSON tells."""
    none = str(full.directory / "none")
    words = ("--config", str(full.config), "--socket", none, "--json")
    body = json.loads(vppd("check", "--live", *words).stdout)
    return {device["device"]: device for device in body["devices"]}


def not_ok(device: dict[str, Any]) -> list[str]:
    return [f"{r['about']}: {r['text']}" for r in device["remarks"] if r["verdict"] != "ok"]


def test_a_healthy_full_site_is_ok_in_every_respect(full: Site) -> None:
    devices = sheets(full)
    names = {f"{unit}{part}" for unit in "ABCD" for part in ("", "/controller", "/bms")}
    assert set(devices) == names | {"meter", "input:door", "pmu"}
    assert {name: found for name, each in devices.items() if (found := not_ok(each))} == {}


def fault(full: Site, *words: str) -> Result:
    return vppd("fault", "--plant", str(full.directory / "plant.sock"), *words)


def test_faults_are_told_as_a_table(full: Site) -> None:
    table = {
        *("ct_reversed meter", "silence UNIT, UNIT/inverter, meter", "bms_soc UNIT soc_pct=20.0"),
    }
    lines = [" ".join(line.split()) for line in fault(full, "list").stdout.splitlines()]
    assert table <= set(lines)
    assert lines[-1].startswith("acting: frequency_step grid"), "as the plant was started"
    full.plant.inject("bms_soc", "B", soc_pct=30.0)
    assert fault(full, "list").stdout.splitlines()[-1] == "acting: bms_soc B soc_pct=30.0"
    full.plant.clear("bms_soc")
    refused = fault(full, "silence", "X")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Error: no Modbus device 'X'; there are: A,")


def test_each_seeded_fault_is_named(full: Site) -> None:
    for name, target, parameters in (
        ("wrong_unit_id", "A", {}),
        ("slow", "C", {"delay_s": 0.6}),
        ("swapped_words", "meter", {}),
        ("inverter_local", "D", {}),
        ("bms_short_frame", "A", {}),
        ("bms_soc", "B", {"soc_pct": 20.0}),
        ("interlock", "door", {}),
    ):
        full.plant.inject(name, target, **parameters)
    devices = {name: "; ".join(not_ok(device)) for name, device in sheets(full).items()}
    full.plant.clear("all")
    assert "unit id 2 answers where 1 is configured" in devices["A/controller"]
    assert "poll time: the fast points take" in devices["C/controller"]
    assert "word_order: little" in devices["meter"]
    assert "local control" in devices["D"]
    assert "length: CELLS_1 (0x100) has 7 bytes, not 8" in devices["A/bms"]
    assert "BMS SoC, controller SoC: 20 %, 50 %" in devices["B"]
    assert "discrete_input 3 is 0" in devices["input:door"]
    assert {name for name, words in devices.items() if not words} >= {"A", "C/bms", "D/bms", "pmu"}
