"""`vppd dropins`: from a configuration to systemd's drop-ins, and nothing beside it is opened."""

import ipaddress
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from vppd import config
from vppd.cli import dropins
from vppd.cli.dropins import RefusedError, drop_ins
from vppd.cli.vppd import main
from vppd.config import openings
from vppd.config.openings import Host, Openings, openings_of, shut_out

UNIT = """
  - id: {id}
    building: B
    rated_power_kw: 100
    energy_kwh: 200
"""
BASE = "site: {id: s1}\nmode: hardware\n"


def site(directory: Path, field: str, vppd: str = "", grid: str = "", market: str = "") -> Path:
    """A configuration in files."""
    where = directory / "etc"
    where.mkdir(exist_ok=True)
    for name, text in {"vppd": BASE + vppd, "grid": grid, "market": market}.items():
        (where / f"{name}.yaml").write_text(text or "{}\n", encoding="utf-8")
    (where / "field.yaml").write_text(field, encoding="utf-8")
    return where


def units(*links: str) -> str:
    return "units:" + "".join(
        UNIT.format(id=f"U{n}") + f"    {link}\n" for n, link in enumerate(links)
    )


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["dropins", *map(str, words)])


def nobody(name: str) -> Iterable[str]:
    raise OSError(-2, f"no such name as {name}")


def made(where: Path, resolve: dropins.Resolve = nobody) -> dict[str, str]:
    loaded = config.load(where)
    assert loaded.settings is not None, loaded.errors
    return drop_ins(openings_of(loaded.settings), where, resolve, ("10.9.9.9",))


def allowed(text: str) -> set[str]:
    return set(re.findall(r"^IPAddressAllow=(.*)$", text, re.MULTILINE))


TCP = "modbus: {profile: vpp-bess-v2, host: %s}"


def test_a_site_on_loopback_opens_nothing_but_loopback(tmp_path: Path) -> None:
    where = site(tmp_path, units(TCP % "127.0.0.5"), "api: {viewers: v, operators: o}\n")
    texts = made(where)
    assert set(texts) == {"ip.conf"}
    assert allowed(texts["ip.conf"]) == {"localhost"}
    assert "IPAddressDeny=any\n" in texts["ip.conf"]


def test_every_host_of_every_file_is_let_through_and_says_why(tmp_path: Path) -> None:
    field = units(
        TCP % "10.0.0.1",
        "inverter: {host: 'fd00::2'}\n    bms: {dbc: vpp-bms, channel: can0}",
        "bms: {dbc: vpp-bms, interface: udp_multicast, channel: 239.1.2.3}\n    "
        "modbus: {profile: vpp-bess-v2, host: 10.0.0.1, unit_id: 2}",
    )
    field += "meter: {profile: eastron-sdm630, host: 10.0.0.3}\n"
    field += "interlock_inputs:\n  - {id: fire, scope: site, modbus: {host: 10.0.0.4, coil: 1}}\n"
    grid = (
        "pmu: [{id: p, host: 10.0.0.5}, {id: q, host: 10.0.0.6}]\n"
        "scada: {enabled: true, masters: [{host: 10.0.0.7}]}\n"
    )
    where = site(tmp_path, field, "mqtt: {url: 'mqtts://[fd00::8]:8883'}\n", grid)
    text = made(where)["ip.conf"]
    expected = {*(f"10.0.0.{n}" for n in (1, 3, 4, 5, 6, 7)), "fd00::2", "fd00::8", "239.1.2.3"}
    assert allowed(text) == {"localhost", *expected}
    assert "# units.U0.modbus.host, units.U2.modbus.host\nIPAddressAllow=10.0.0.1\n" in text
    assert "# scada.masters.host\nIPAddressAllow=10.0.0.7\n" in text
    assert "10.9.9.9" not in text, "nobody needs names"


def test_the_exchange_and_the_broker_by_name_bring_their_addresses_and_the_resolver(
    tmp_path: Path,
) -> None:
    market = (
        "enabled: true\nexchange: {kind: iex, url: 'https://bids.example:9000', "
        "user: u, participant: p, token: t}\n"
    )
    where = site(
        tmp_path, units(TCP % "10.0.0.1"), "mqtt: {url: 'mqtts://b.example'}\n", "", market
    )
    book = {"b.example": ("10.1.0.1", "10.1.0.2"), "bids.example": ("10.2.0.1",)}
    text = made(where, lambda name: book[name])["ip.conf"]
    everybody = {"10.0.0.1", "10.1.0.1", "10.1.0.2", "10.2.0.1", "10.9.9.9"}
    assert allowed(text) == {"localhost", *everybody}
    assert "# exchange.url = bids.example\nIPAddressAllow=10.2.0.1\n" in text
    assert "# resolves names\nIPAddressAllow=10.9.9.9\n" in text


def test_an_aggregator_reaches_its_regions_broker(tmp_path: Path) -> None:
    settings = config.load(site(tmp_path, units(TCP % "10.0.0.1"))).settings
    assert settings is not None
    region = replace(settings.aggregator, url="mqtts://10.0.0.2:8883")
    reached = openings_of(replace(settings, aggregator=region)).hosts
    assert {host.name for host in reached} == {"10.0.0.1"}, "a site does not use it"
    reached = openings_of(replace(settings, aggregator=region, role="aggregator")).hosts
    assert {host.name for host in reached} == {"10.0.0.1", "10.0.0.2"}


def test_a_name_that_cannot_be_resolved_is_refused_by_key(tmp_path: Path) -> None:
    where = site(tmp_path, units(TCP % "bess-1.invalid", TCP % "bess-2.invalid"))
    with pytest.raises(RefusedError) as refused:
        made(where)
    first, second = refused.value.reasons
    assert first.startswith("units.U0.modbus.host: bess-1.invalid cannot be resolved now (no such")
    assert second.startswith("units.U1.modbus.host: ")


SERIAL = "modbus: {profile: vpp-bess-v2, serial: %s, unit_id: %d}"


def test_serial_lines_and_can_open_their_kind_of_device_and_no_other(tmp_path: Path) -> None:
    field = units(
        SERIAL % ("/dev/ttyUSB1", 1),
        SERIAL % ("/dev/ttyUSB1", 2)
        + "\n    bms: {dbc: vpp-bms, interface: slcan, channel: /dev/ttyACM0}",
        SERIAL % ("/dev/ttyAMA0", 1) + "\n    bms: {dbc: vpp-bms, channel: can0}",
    )
    texts = made(site(tmp_path, field))
    lines = texts["serial.conf"].splitlines()
    assert [line for line in lines if line.startswith("DeviceAllow=")] == [
        "DeviceAllow=char-ttyACM rw",
        "DeviceAllow=char-ttyAMA rw",
        "DeviceAllow=char-ttyUSB rw",
    ]
    assert "DevicePolicy=closed" in lines
    assert "RestrictAddressFamilies=AF_CAN" in texts["can.conf"]


def test_a_line_by_another_name_opens_the_usual_kinds(tmp_path: Path) -> None:
    by_id = "/dev/serial/by-id/usb-none-here"
    text = made(site(tmp_path, units(SERIAL % (by_id, 1))))["serial.conf"]
    assert re.findall(r"char-(\w+)", text) == ["ttyACM", "ttyS", "ttyUSB"]


def test_a_pseudo_terminal_needs_no_device(tmp_path: Path) -> None:
    assert "serial.conf" not in made(site(tmp_path, units(SERIAL % ("/run/line", 1))))


@pytest.mark.parametrize(
    ("api", "private"),
    [("", True), ("api: {viewers: v}\n", False), ("api: {operators: o}\n", False)],
)
def test_other_users_are_hidden_only_where_none_may_come(
    tmp_path: Path, api: str, private: bool
) -> None:
    assert ("users.conf" in made(site(tmp_path, units(TCP % "10.0.0.1"), api))) is private


# --- secrets ---

SECRET = "correct horse battery staple"  # noqa: S105
MQTT = (
    "mqtt: {url: 'mqtts://10.0.0.9', username: u, password: !credential mqtt-password, "
    "tls: {certificate: mqtt-cert, key: mqtt-key, ca: /etc/ssl/ca.pem}}\n"
)


def secrets(where: Path, *names: str, mode: int = 0o600) -> None:
    (where / "credentials").mkdir(exist_ok=True)
    for name in names:
        path = where / "credentials" / name
        path.write_text(SECRET, encoding="utf-8")
        path.chmod(mode)


def test_credentials_are_named_and_never_shown(tmp_path: Path) -> None:
    where = site(tmp_path, units(TCP % "10.0.0.1"), MQTT)
    secrets(where, "mqtt-password", "mqtt-cert")
    secrets(where, "mqtt-key.cred", mode=0o644)  # sealed to this machine
    before = os.environ.get("CREDENTIALS_DIRECTORY")
    done = run("--config", where, "--dir", tmp_path / "d", "--write")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "d/credentials.conf").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("Load")] == [
        f"LoadCredential=mqtt-cert:{where}/credentials/mqtt-cert",
        f"LoadCredentialEncrypted=mqtt-key:{where}/credentials/mqtt-key.cred",
        f"LoadCredential=mqtt-password:{where}/credentials/mqtt-password",
    ]
    everything = done.output + "".join(p.read_text() for p in (tmp_path / "d").iterdir())
    assert SECRET not in everything
    assert os.environ.get("CREDENTIALS_DIRECTORY") == before


def test_a_secret_that_is_missing_or_open_to_others_is_refused(tmp_path: Path) -> None:
    where = site(tmp_path, units(TCP % "10.0.0.1"), MQTT)
    done = run("--config", where, "--dir", tmp_path / "d", "--write")
    assert done.exit_code == 1
    assert f"it belongs into {where}/credentials/mqtt-password (mode 600" in done.output
    secrets(where, "mqtt-password", mode=0o640)
    done = run("--config", where, "--dir", tmp_path / "d", "--write")
    assert done.exit_code == 1
    assert f"chmod 600 {where}/credentials/mqtt-password" in done.output
    secrets(where, "mqtt-password")
    done = run("--config", where, "--dir", tmp_path / "d", "--write")
    assert "credential mqtt-cert: " in done.output
    assert not (tmp_path / "d").exists()
    assert SECRET not in done.output


# --- the folder ---


def test_files_come_and_go_with_the_devices(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    options = ("--dir", folder, "--config", tmp_path / "etc")
    api = "api: {viewers: v}\n"
    site(tmp_path, units(SERIAL % ("/dev/ttyUSB1", 1), TCP % "10.0.0.1"), api)
    looked = run(*options, "--check")
    assert looked.exit_code == 1
    assert "in place of --check: --write" in looked.output
    assert not folder.exists(), "a look changes nothing"
    done = run(*options, "--write")
    assert done.exit_code == 0, done.output
    assert "systemctl daemon-reload" in done.output
    assert {path.name for path in folder.iterdir()} == {"ip.conf", "serial.conf"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    again = run(*options, "--write")
    assert (again.exit_code, again.output) == (0, "")
    looked = run(*options, "--check")
    assert (looked.exit_code, looked.output) == (0, "")
    site(tmp_path, units(TCP % "10.0.0.2"), api)
    assert "no longer needed" in run(*options, "--check").output
    assert run(*options, "--write").exit_code == 0
    assert {path.name for path in folder.iterdir()} == {"ip.conf"}
    assert allowed((folder / "ip.conf").read_text()) == {"localhost", "10.0.0.2"}


def test_what_the_operator_wrote_stays(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    own = {"ip.conf": "[Service]\nIPAddressDeny=any\n", "serial.conf": "# ours\n", "zz.conf": "#\n"}
    for name, text in own.items():
        (folder / name).write_text(text, encoding="utf-8")
    where = site(tmp_path, units(TCP % "10.0.0.1"), "api: {viewers: v}\n")
    done = run("--config", where, "--dir", folder, "--write")
    assert "ip.conf: was not made here and is kept" in done.output
    assert {path.name: path.read_text() for path in folder.iterdir()} == own
    assert "--write" not in run("--config", where, "--dir", folder, "--check").output


def test_a_configuration_with_errors_makes_nothing(tmp_path: Path) -> None:
    where = site(tmp_path, units(TCP % "10.0.0.1"), "colour: red\n")
    done = run("--config", where, "--dir", tmp_path / "d", "--write")
    assert done.exit_code == 1
    assert "vppd.yaml:3: colour:" in done.output
    assert not (tmp_path / "d").exists()


def test_a_staged_configuration_is_called_what_the_service_calls_it(tmp_path: Path) -> None:
    where = site(tmp_path, units(TCP % "10.0.0.1"), MQTT)
    secrets(where, "mqtt-password", "mqtt-cert", "mqtt-key")
    done = run("--config", where, "--called", "/etc/vppd", "--dir", tmp_path / "d")
    assert "LoadCredential=mqtt-key:/etc/vppd/credentials/mqtt-key\n" in done.output
    assert str(where) not in done.output


def test_without_a_word_it_only_shows(tmp_path: Path) -> None:
    where = site(tmp_path, units(TCP % "10.0.0.1"))
    done = run("--config", where, "--dir", tmp_path / "d")
    assert done.exit_code == 0
    assert "IPAddressAllow=10.0.0.1" in done.output
    assert not (tmp_path / "d").exists()


# --- the warning of a host that is left out ---

ADDRESSES = st.lists(st.ip_addresses(v=4) | st.ip_addresses(v=6), max_size=6, unique=True)


@given(ADDRESSES, st.data())
def test_a_host_is_let_through_just_when_its_drop_in_names_it(
    addresses: list[ipaddress.IPv4Address], data: st.DataObject
) -> None:
    hosts = tuple(Host(f"k{n}", str(address)) for n, address in enumerate(addresses))
    named = data.draw(st.sets(st.sampled_from(hosts))) if hosts else set()
    nothing = Openings(tuple(named), (), False, (), True, ())
    text = drop_ins(nothing, Path("/etc/vppd"), nobody, ())["ip.conf"]
    expected = tuple(host for host in hosts if host not in named and not host.loopback)
    assert shut_out(hosts, text) == expected
    assert shut_out(hosts, text.replace("IPAddressDeny=any", "")) == ()
    assert shut_out(hosts, text + "IPAddressAllow=0.0.0.0/0 ::/0\n") == ()


def test_who_loads_the_services_configuration_is_warned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = site(tmp_path, units(TCP % "10.0.0.1", TCP % "10.0.0.2"))
    (tmp_path / "ip.conf").write_text("[Service]\nIPAddressDeny=any\nIPAddressAllow=10.0.0.1\n")
    loaded = config.load(where)
    assert loaded.settings is not None
    assert list(openings.shut_out_here(where, loaded.settings, tmp_path)) == []
    monkeypatch.setattr(openings, "SERVICE_CONFIG", where)
    (warning,) = openings.shut_out_here(where, loaded.settings, tmp_path)
    assert warning[2] == "units.U1.modbus.host"
    assert "vppd dropins --write" in warning[3]
