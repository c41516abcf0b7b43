"""The configuration edge: what is refused, where it is told, and what comes back."""

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from tests.config_site import FIELD, FINE, TOY, VPPD, changed, error_lines, loaded, settings_of
from vppd.config import ConfigError, Finding, explain, load, load_profile
from vppd.config.document import plain, trap
from vppd.config.reference import FILES, allowed, find, inside, is_block, keys_of, measure_of
from vppd.core.model import Point
from vppd.core.profile import DeviceProfile, Group, Kind, Revert, Table, Writable
from vppd.core.settings import (
    CountrySettings,
    DroopSettings,
    JournalSettings,
    SafetySettings,
    Settings,
    UnitSettings,
)
from vppd.core.settings_market import MarketSettings

EXAMPLE = Path(__file__).parents[1] / "etc" / "vppd"


# --- the example files are the manual ---


def uncommented(directory: Path, target: Path) -> None:
    """Copy the files with every `#key:` made live."""
    for path in directory.glob("*"):
        text = re.sub(r"(?m)^( *)#(?=[a-z_0-9]+:)", r"\1", path.read_text(encoding="utf-8"))
        (target / path.name).write_text(text, encoding="utf-8")


def seen_keys(kind: type, data: Any) -> Iterator[tuple[type, str]]:
    """Every (settings class, key) that the data gives somewhere."""
    for name, key in keys_of(kind).items():
        if name not in data:
            continue
        yield kind, name
        inner = inside(key.kind)
        if is_block(inner):
            values = data[name] if isinstance(data[name], list) else [data[name]]
            for value in values:
                if value is not None:
                    yield from seen_keys(inner, value)


def all_keys(kind: type) -> Iterator[tuple[type, str]]:
    for name, key in keys_of(kind).items():
        yield kind, name
        if is_block(inside(key.kind)):
            yield from all_keys(inside(key.kind))


def test_the_example_is_a_fine_site() -> None:
    result = load(EXAMPLE)
    assert result.findings == ()
    site = settings_of(result)
    assert [unit.id for unit in site.units] == [
        "BESS_DC01_01",
        "BESS_DC01_02",
        "BESS_DC02_01",
        "BESS_DC02_02",
    ]
    assert {unit.building for unit in site.units} == {"BUILDING_DC01", "BUILDING_DC02"}
    assert [unit.modbus and unit.modbus.host for unit in site.units] == [
        f"127.0.0.{n}" for n in range(11, 15)
    ]
    assert site.units[0].safety == SafetySettings()
    assert site.droop == DroopSettings()
    assert (site.pmu[0].host, site.pmu[0].port, site.pmu[0].idcode) == ("127.0.0.1", 47120, 1)
    assert site.config_dir == str(EXAMPLE)


def test_commented_keys_of_the_example_show_the_real_defaults(tmp_path: Path) -> None:
    uncommented(EXAMPLE, tmp_path)
    assert (tmp_path / "field.yaml").read_text() != (EXAMPLE / "field.yaml").read_text()
    result = load(tmp_path)
    assert result.errors == ()
    assert dataclasses.replace(settings_of(result), config_dir="") == dataclasses.replace(
        settings_of(load(EXAMPLE)), config_dir=""
    )


def test_a_wrong_commented_default_of_the_example_would_be_seen(tmp_path: Path) -> None:
    uncommented(EXAMPLE, tmp_path)
    path = tmp_path / "grid.yaml"
    path.write_text(path.read_text().replace("fade_s: 5.0", "fade_s: 6.0"))
    assert settings_of(load(tmp_path)).droop != settings_of(load(EXAMPLE)).droop


def test_every_key_is_mentioned_in_the_example(tmp_path: Path) -> None:
    from vppd.config.loader import _document

    uncommented(EXAMPLE, tmp_path)
    data: dict[str, Any] = {}
    for file in FILES:
        data |= _document(tmp_path, file).data
    missing = set(all_keys(Settings)) - set(seen_keys(Settings, data))
    told = "".join(path.read_text() for path in EXAMPLE.glob("*.yaml"))
    unsaid = {name for _, name in missing if not re.search(rf"(?m)^ *# +{name}: ", told)}
    assert not unsaid, "a key inside a list that is empty by default stands in a comment"


def test_every_setting_has_its_file() -> None:
    placed = [name for names in FILES.values() for name in names]
    assert sorted(placed) == sorted(keys_of(Settings))
    undocumented = {each.name for each in dataclasses.fields(Settings)} - set(placed)
    assert undocumented == {"profiles", "bms_profiles", "config_dir"}


# --- what comes back ---


def test_a_minimal_site_gets_the_defaults() -> None:
    site = settings_of(loaded({file: FINE[file] for file in FINE if file != "grid.yaml"}))
    assert site.journal == JournalSettings()
    assert site.country == CountrySettings()
    assert site.droop == DroopSettings()
    assert site.market == MarketSettings()
    assert site.pmu == ()
    assert isinstance(site.units[0].rated_power_kw, float)


def test_one_pmu_may_stand_without_a_list() -> None:
    alone = settings_of(loaded(FINE)).pmu
    listed = settings_of(loaded(FINE | {"grid.yaml": "pmu: [{host: 127.0.0.1}]\n"})).pmu
    assert alone == listed
    assert alone[0].host == "127.0.0.1"


def test_the_market_file_has_its_keys_at_the_top() -> None:
    site = settings_of(loaded(FINE | {"market.yaml": "horizon_s: 30\n"}))
    assert site.market == MarketSettings(horizon_s=30.0)


@pytest.mark.parametrize("text", ["", "# nothing\n", "\ufeff# nothing\r\n"])
def test_an_optional_file_may_be_empty(text: str) -> None:
    assert settings_of(loaded(FINE | {"market.yaml": text})).market == MarketSettings()


def test_a_link_to_nowhere_is_no_absent_file(tmp_path: Path) -> None:
    for name, text in FINE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "grid.yaml").unlink(missing_ok=True)
    (tmp_path / "grid.yaml").symlink_to(tmp_path / "gone.yaml")
    found = load(tmp_path)
    assert found.settings is None
    assert any(each.file == "grid.yaml" for each in found.findings), found.findings


finite = st.floats(allow_nan=False, allow_infinity=False)
units = st.builds(
    lambda rated_power_kw, energy_kwh, modules, soc, poll_s: {
        "rated_power_kw": rated_power_kw,
        "energy_kwh": energy_kwh,
        "modules_parallel": modules,
        "safety": {"soc_min_pct": soc[0], "soc_max_pct": soc[1]},
        "poll_s": poll_s,
    },
    st.floats(0.001, 1e5) | st.integers(1, 100_000),
    st.floats(0.001, 1e6),
    st.integers(1, 100_000),
    st.tuples(st.floats(0, 49.9), st.floats(50.1, 100)),
    st.floats(0.05, 0.5),
)


@given(st.lists(units, min_size=1, max_size=4))
@profile(max_examples=40, deadline=None)
def test_what_is_written_is_what_is_read(drawn: list[dict[str, Any]]) -> None:
    """JSON is YAML too, so it can be written by another library than the one that reads."""
    written = [
        {key: value for key, value in unit.items() if key != "poll_s"}
        | {
            "id": f"U{n}",
            "building": "B",
            "modbus": {"profile": "toy", "host": f"127.0.0.{n}", "poll_s": unit["poll_s"]},
        }
        for n, unit in enumerate(drawn, start=1)
    ]
    site = settings_of(loaded(FINE | {"field.yaml": json.dumps({"units": written})}))
    for unit, want in zip(site.units, written, strict=True):
        assert unit.rated_power_kw == want["rated_power_kw"]
        assert unit.energy_kwh == want["energy_kwh"]
        assert unit.modules_parallel == want["modules_parallel"]
        assert unit.safety == SafetySettings(**want["safety"])
        assert unit.modbus is not None
        assert unit.modbus.poll_s == want["modbus"]["poll_s"]


# --- everything at once ---


def test_all_errors_of_all_files_in_one_go() -> None:
    result = loaded(
        {
            "vppd.yaml": 'site:\n  id: "x y"\n  timezone: Asia/Bombay\nmode: simulaton\n'
            'journal: {retain_days: "365"}\nclocks: {}\ndroop: {}\n',
            "field.yaml": "units:\n"
            "  - id: A\n"
            "    building: B9\n"
            "    rated_power_kw: -5\n"
            "    energy_kwh: 22:30\n"
            "    modules_parallel: true\n"
            "    modbus:\n"
            "      profile: tai\n"
            "      host: 127.0.0.1\n"
            "      port: 010\n"
            "      unit_id: 300\n"
            "    safety:\n"
            "      soc_min_pct: 96\n"
            "      soc_mx_pct: 3\n"
            "      cell_min_v: 4.5\n"
            "  - id: A\n"
            "    building: B1\n"
            "    rated_power_kw: 5\n"
            "    modbus: {profile: toy}\n"
            "interlock_inputs:\n"
            "  - {id: f, scope: nowhere, modbus: {host: 127.0.0.1, coil: 1}, healthy: true}\n",
            "campus.yaml": "country:\n  states:\n    - {id: S, cities: [{id: C, campuses:\n"
            "        [{id: K, buildings: [{id: B1}]}]}]}\n"
            "dispatch: {strategy: propotional}\n",
            "grid.yaml": "droop:\n  nominal_hz: 60\n  droop_pct: .nan\n  enabled: no\n",
            "market.yaml": "enabled: true\nenabled: true\nhorizon_s: 1\n",
            "devices/toy.yaml": TOY.replace("timeout_s: 5", "timeout_s: 3"),
            "devices/bad.yaml": "name: bad\npoints:\n  soc: {}\n",
        }
    )
    assert result.settings is None
    assert error_lines(result) == {
        ("vppd.yaml", 2, "site.id"),
        ("vppd.yaml", 3, "site.timezone"),
        ("vppd.yaml", 4, "mode"),
        ("vppd.yaml", 5, "journal.retain_days"),
        ("vppd.yaml", 6, "clocks"),
        ("vppd.yaml", 7, "droop"),
        ("field.yaml", 3, "units[0].building"),
        ("field.yaml", 4, "units[0].rated_power_kw"),
        ("field.yaml", 5, "units[0].energy_kwh"),
        ("field.yaml", 6, "units[0].modules_parallel"),
        ("field.yaml", 8, "units[0].modbus.profile"),
        ("field.yaml", 10, "units[0].modbus.port"),
        ("field.yaml", 11, "units[0].modbus.unit_id"),
        ("field.yaml", 13, "units[0].safety.soc_min_pct"),
        ("field.yaml", 14, "units[0].safety.soc_mx_pct"),
        ("field.yaml", 15, "units[0].safety.cell_min_v"),
        ("field.yaml", 16, "units[1].id"),
        ("field.yaml", 16, "units[1].energy_kwh"),
        ("field.yaml", 19, "units[1].modbus.host"),
        ("field.yaml", 21, "interlock_inputs[0].scope"),
        ("field.yaml", 21, "interlock_inputs[0].healthy"),
        ("campus.yaml", 5, "dispatch.strategy"),
        ("grid.yaml", 2, "droop.nominal_hz"),
        ("grid.yaml", 3, "droop.droop_pct"),
        ("grid.yaml", 4, "droop.enabled"),
        ("market.yaml", 2, "market.enabled"),
        ("market.yaml", 3, "market.horizon_s"),
        ("devices/bad.yaml", 1, "maker"),
        ("devices/bad.yaml", 1, "model"),
        ("devices/bad.yaml", 1, "source"),
        ("devices/bad.yaml", 3, "points.soc"),
        ("devices/bad.yaml", 3, "points.soc.table"),
        ("devices/bad.yaml", 3, "points.soc.address"),
        ("devices/bad.yaml", 3, "points.soc.type"),
        ("devices/toy.yaml", 16, "revert.timeout_s"),
    }


def test_what_depends_on_a_wrong_value_is_not_guessed() -> None:
    """A window is not judged on the default that stands in for a wrong edge."""
    text = FIELD + "      soc_min_pct: ten\n      soc_max_pct: 5\n"
    result = loaded(FINE | {"field.yaml": text})
    assert error_lines(result) == {("field.yaml", 12, "units[0].safety.soc_min_pct")}


def test_a_missing_file_or_directory_is_told(tmp_path: Path) -> None:
    result = loaded({})
    assert {each.file for each in result.errors} == {"vppd.yaml", "field.yaml"}
    assert load(tmp_path / "none").settings is None
    assert "no such directory" in str(load(tmp_path / "none").findings[0])


def test_a_finding_reads_as_file_line_key_text() -> None:
    result = changed("field.yaml", "rated_power_kw: 5", "rated_power_kw: 0")
    assert [str(each) for each in result.errors] == [
        "field.yaml:4: units[0].rated_power_kw: 0 is wrong;"
        " allowed: a number above 0 and at most 100000"
    ]
    assert str(Finding("warning", "a.yaml", 0, "", "odd")) == "a.yaml: warning: odd"


# --- YAML taken strictly ---


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("22:30", "quote it"),
        ("1:30:00", "quote it"),
        ("010", "write 10"),
        ("-007", "write -7"),
        ("08", "write 8"),
        ("0o17", "decimal"),
        ("0b11", "decimal"),
        ("1_000", "write 1000"),
        ("yes", "true or false"),
        ("No", "true or false"),
        ("on", "true or false"),
        ("OFF", "true or false"),
        ("True", "small letters"),
        ("FALSE", "small letters"),
        ("~", "write null"),
        ("Null", "write null"),
        (".inf", "finite"),
        ("-.INF", "finite"),
        (".NaN", "finite"),
        (".5", "digits around the point"),
        ("5.", "digits around the point"),
        ("1" * 30, "too long"),
    ],
)
def test_words_that_other_readers_take_otherwise_are_refused(text: str, remedy: str) -> None:
    result = changed("vppd.yaml", "{id: here}", f"\n  id: here\n  name: {text}")
    assert error_lines(result) == {("vppd.yaml", 3, "site.name")}
    assert remedy in result.errors[0].text
    quoted = changed("vppd.yaml", "{id: here}", f"\n  id: here\n  name: '{text}'")
    assert settings_of(quoted).site.name == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("+5", 5),
        ("0", 0),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("-0.25", -0.25),
        ("1e3", 1000.0),
        ("1.5E-2", 0.015),
        ("true", True),
        ("false", False),
        ("null", None),
        ("", None),
        ("nan", "nan"),
        ("2026-01-01", "2026-01-01"),
        ("1.2.3", "1.2.3"),
        ("127.0.0.1", "127.0.0.1"),
        ("N", "N"),
    ],
)
def test_plain_words_mean_this(text: str, value: object) -> None:
    assert trap(text) is None
    assert plain(text) == value
    assert type(plain(text)) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**17), 10**17))
def test_every_number_python_writes_is_read_back(number: float) -> None:
    text = repr(number)
    assert trap(text) is None
    assert plain(text) == number


@given(st.text(st.sampled_from("0123456789_:.-+eExobnafity~"), min_size=1, max_size=8))
def test_a_number_is_never_read_from_what_python_does_not_call_one(text: str) -> None:
    value = plain(text)
    if isinstance(value, int | float) and trap(text) is None:
        assert value == float(int(text, 16) if text.startswith("0x") else float(text))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("site: {id: a}\nmode: hil\nsite: {id: b}\n", 3, "given twice; the first stands in line 1"),
        ("site:\n\tid: a\nmode: hil\n", 2, "tab"),
        ("site:\n  id: a\n \t name: b\nmode: hil\n", 3, "tab"),
        ("site: &here {id: a}\nmode: hil\n", 1, "anchor &here"),
        ("site: {id: a}\nmode: *here\n", 2, "*here"),
        ("site: {id: !!str a}\nmode: hil\n", 1, "tag"),
        ("site: !!map\n  id: a\nmode: hil\n", 1, "tag"),
        ("site: {id: !env a}\nmode: hil\n", 1, "tag"),
        ("site: {id: a}\nmode: hil\n---\nsite: {id: b}\n", 3, "second YAML document"),
        ("site: {id: a}\n5: b\nmode: hil\n", 2, "a key must be text"),
        ("site: {id: a}\n[b]: c\nmode: hil\n", 2, "a key must be text"),
        ("site: {id: a}\non: c\nmode: hil\n", 2, "quote it"),
        ("site: {id: a}\n<<: {mode: hil}\nmode: hil\n", 2, "unknown key"),
        ("- site\n- mode\n", 1, "must be a mapping of keys"),
        ("site: {id: a\nmode: hil\n", 2, "not YAML"),
        ("site: {id: a}\nmode: hil\nname: 'open\n", 4, "not YAML"),
        ("site: {id: a}\nmode: hil\nx: " + "[" * 40 + "]" * 40 + "\n", 3, "deeper"),
    ],
)
def test_yaml_that_is_not_plain_is_refused(text: str, line: int, words: str) -> None:
    result = loaded(FINE | {"vppd.yaml": text})
    assert any(
        each.file == "vppd.yaml" and each.line == line and words in each.text
        for each in result.errors
    ), [str(each) for each in result.errors]


def test_bytes_that_are_not_text_are_refused() -> None:
    result = loaded(FINE | {"vppd.yaml": b"site: {id: a}\nmode: \xff\n"})
    assert [(each.line, each.text) for each in result.errors] == [(2, "not UTF-8 text")]


def test_a_tab_after_a_value_is_nothing() -> None:
    assert settings_of(loaded(FINE | {"vppd.yaml": VPPD.replace("here}", "here}\t# x")}))


def test_a_misspelt_file_is_noticed() -> None:
    result = loaded(FINE | {"gird.yaml": "", "market.yml": "", "devices/x.yml": ""})
    warned = {each.file: each.text for each in result.warnings}
    assert set(warned) == {"gird.yaml", "market.yml", "devices/x.yml"}
    assert "did you mean grid.yaml?" in warned["gird.yaml"]


# --- types and bounds ---


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("rated_power_kw", '"5"', "write it without quotes"),
        ("rated_power_kw", "true", "true is wrong"),
        ("rated_power_kw", "null", "has no value"),
        ("rated_power_kw", "[5]", "a list is wrong"),
        ("rated_power_kw", "{a: 5}", "a mapping is wrong"),
        ("rated_power_kw", "1e999", "a number"),
        ("rated_power_kw", "0", "above 0"),
        ("rated_power_kw", "100001", "at most 100000"),
        ("modules_parallel", "2.0", "write 2"),
        ("modules_parallel", "2.5", "a whole number"),
        ("modules_parallel", "true", "a whole number"),
        ("accept_no_revert", "1", "true or false"),
        ("accept_no_revert", '"true"', "true or false"),
        ("building", "12", "quote it"),
        ("building", '""', "letters, digits"),
        ("building", '"a\\n"', "letters, digits"),
        ("building", "[]", "a list is wrong"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(key: str, text: str, words: str) -> None:
    unit = {"id": "A", "building": "B1", "rated_power_kw": "5", "energy_kwh": "20"} | {key: text}
    lines = "".join(f"    {name}: {value}\n" for name, value in unit.items() if name != "id")
    field = f"units:\n  - id: A\n{lines}    modbus: {{profile: toy, host: 127.0.0.2}}\n"
    result = loaded(FINE | {"field.yaml": field})
    line = field[: field.index(f"    {key}: ")].count("\n") + 1
    assert error_lines(result) == {("field.yaml", line, f"units[0].{key}")}
    assert words in result.errors[0].text


@pytest.mark.parametrize("text", ["true", "1.0", '"1"', "2"])
def test_a_choice_of_numbers_takes_only_those(text: str) -> None:
    entry = f"{{id: f, scope: site, healthy: {text}, modbus: {{host: 127.0.0.1, coil: 1}}}}"
    result = loaded(FINE | {"field.yaml": f"{FIELD}interlock_inputs: [{entry}]\n"})
    assert error_lines(result) == {("field.yaml", 12, "interlock_inputs[0].healthy")}


def bounded() -> list[tuple[str, str]]:
    return [
        (section, name)
        for section in ("droop", "bands", "connection")
        for name, key in keys_of(inside(keys_of(Settings)[section].kind)).items()
        if key.bounds
    ]


@pytest.mark.parametrize(("section", "name"), bounded())
@given(number=st.floats(-1e6, 1e6))
@profile(max_examples=15, deadline=None)
def test_bounds_are_those_of_the_fields(section: str, name: str, number: float) -> None:
    key = find(Settings, (section, name))
    assert key is not None
    bounds = key.bounds
    inside_bounds = (
        number >= bounds.get("ge", -1e9)
        and number > bounds.get("gt", -1e9)
        and number <= bounds.get("le", 1e9)
        and number < bounds.get("lt", 1e9)
    )
    result = loaded(FINE | {"grid.yaml": f"{section}:\n  {name}: {number!r}\n"})
    refused = [each for each in result.errors if each.text.startswith(f"{number!r} is wrong")]
    assert bool(refused) is not inside_bounds


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("grid.yaml", "pmu: {hots: a}\n", "did you mean host?"),
        ("grid.yaml", "pmuu: {host: 127.0.0.1}\n", "did you mean pmu?"),
        ("grid.yaml", "units: []\n", "belongs in field.yaml"),
        ("market.yaml", "schedul: a\n", "did you mean schedule?"),
        ("vppd.yaml", VPPD + "clock: {zzz: 1}\n", "known are sync"),
        ("field.yaml", FIELD + "      soc_rate: 1\n", "did you mean soc_rate_max_pct_per_min?"),
    ],
)
def test_an_unknown_key_gets_the_nearest_word(file: str, text: str, words: str) -> None:
    assert any(words in each.text for each in loaded(FINE | {file: text}).errors)


def test_no_units_is_no_site() -> None:
    result = loaded(FINE | {"field.yaml": "units: []\n"})
    assert error_lines(result) == {("field.yaml", 1, "units")}
    assert "at least one" in result.errors[0].text


# --- credentials ---


def test_a_credential_is_read_from_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broker").write_text("hunter2\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    result = changed("vppd.yaml", "{id: here}", "{id: here, name: !credential broker}")
    assert settings_of(result).site.name == "hunter2"


@pytest.mark.parametrize("name", ["absent", "empty", "../broker", ".hidden", "a/b", "''"])
def test_a_credential_that_is_not_there_names_the_place(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / ".hidden").write_text("secret")
    (tmp_path.parent / "broker").write_text("secret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    result = changed("vppd.yaml", "{id: here}", f"\n  id: here\n  name: !credential {name}")
    assert error_lines(result) == {("vppd.yaml", 3, "site.name")}
    if name in {"absent", "empty"}:
        assert str(tmp_path) in result.errors[0].text


def test_without_a_credentials_directory_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    result = changed("vppd.yaml", "{id: here}", "{id: here, name: !credential broker}")
    assert "LoadCredential=broker" in result.errors[0].text


def test_no_message_shows_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broker").write_text("hunter2")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    result = changed("vppd.yaml", "simulation", "!credential broker")
    assert "(a credential) is wrong" in result.errors[0].text
    assert not any("hunter2" in str(each) for each in result.findings)


# --- device profiles ---


def test_a_profile_becomes_its_record(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    toy = load_profile(path)
    spec = toy.points[Point.SOC_PCT]
    assert (spec.table, spec.type, spec.group) == (Table.INPUT, Kind.U16, Group.FAST)
    assert (spec.address, spec.max_age_s, spec.scale) == (16, 1.0, 1.0)
    assert toy.writes[Writable.POWER_KW].read_back is Point.SETPOINT_KW
    assert toy.revert == Revert(kind="timeout", timeout_s=5.0, heartbeat_s=2.0)


def test_revert_none_may_be_written_short(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(TOY.split("revert:", maxsplit=1)[0] + "revert: none\n")
    assert load_profile(path).revert == Revert(kind="none")


def test_a_wrong_profile_raises_with_all_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(TOY.replace("u16, max", "u17, max").replace("test", "7") + "spare: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_profile(path)
    found = {(each.line, each.key) for each in caught.value.findings if each.level == "error"}
    assert found == {(2, "maker"), (6, "points.soc_pct.type"), (17, "spare")}


def test_shipped_profiles_are_fine(tmp_path: Path) -> None:
    from vppd.config.devices import SHIPPED_PROFILES, _profile

    for path in SHIPPED_PROFILES.glob("*.yaml"):
        if path.with_suffix(".dbc").exists():
            continue
        found, findings = _profile(path, path.name)
        assert found is not None
        assert found.name == path.stem
        assert findings == []


def test_an_own_profile_goes_before_a_shipped_one(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "vpp-bess-v2.yaml").write_text(
        TOY.replace("name: toy", "name: vpp-bess-v2")
    )
    site = settings_of(load(tmp_path))
    assert site.profiles["vpp-bess-v2"].maker == "test"
    assert set(site.profiles) == {"vpp-bess-v2", "eastron-sdm630"}


def test_a_profile_that_nobody_names_is_checked_and_left_out() -> None:
    result = loaded(FINE | {"devices/spare.yaml": TOY.replace("name: toy", "name: spare")})
    assert set(settings_of(result).profiles) == {"toy"}
    assert loaded(FINE | {"devices/spare.yaml": "name: spare\n"}).settings is None


def test_a_broken_profile_is_told_once() -> None:
    result = loaded(FINE | {"devices/toy.yaml": TOY + "spare: 1\n"})
    assert error_lines(result) == {("devices/toy.yaml", 17, "spare")}


# --- anything at all ---


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
words = st.sampled_from([*keys_of(Settings), *keys_of(UnitSettings), *keys_of(DeviceProfile), "id"])
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(words, trees, max_size=6), st.sampled_from([*FILES, "devices/toy.yaml"]))
@profile(max_examples=150, deadline=None)
def test_any_tree_is_judged_and_nothing_escapes(tree: dict[str, Any], file: str) -> None:
    result = loaded(FINE | {file: json.dumps(tree)})
    assert (result.settings is None) is any(each.level == "error" for each in result.findings)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@profile(max_examples=300, deadline=None)
def test_any_bytes_are_judged_and_nothing_escapes(raw: bytes) -> None:
    result = loaded(FINE | {"vppd.yaml": raw, "devices/toy.yaml": raw})
    assert result.settings is None


@given(st.integers(0, len(FIELD) - 1), st.sampled_from("\t\n:[]{}#&*!|>'\"%@`-,? x0\x00\x85\ufeff"))
@profile(max_examples=200, deadline=None)
def test_a_slip_of_the_pen_is_judged_and_nothing_escapes(at: int, character: str) -> None:
    result = loaded(FINE | {"field.yaml": FIELD[:at] + character + FIELD[at + 1 :]})
    assert (result.settings is None) is bool(result.errors)


# --- the reference ---


def test_explain_tells_every_key_once() -> None:
    lines = [line for line in explain() if not line.startswith("#")]
    names = [re.split(r"[: ]", line)[0] for line in lines]
    assert len(names) == len(set(names))
    assert len(names) > len(set(all_keys(Settings)) | set(all_keys(DeviceProfile)))
    assert {"droop.droop_pct", "units.safety.soc_min_pct", "market.schedule"} <= set(names)
    assert "profile.points.NAME.address" in names


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (
            "droop.droop_pct",
            "droop.droop_pct [%]: full power at this deviation of nominal"
            " (a number from 0.5 to 20; default 5.0)",
        ),
        (
            "units[0].modbus.host",
            "units.modbus.host: TCP: address or name (text, or null; default null)",
        ),
        (
            "dispatch.strategy",
            "(proportional or balanced or priority or losses; default proportional)",
        ),
        ("units.rated_power_kw", "units.rated_power_kw [kW]: never more than this, either way"),
        ("profile.points", "profile.points.NAME: NAME is one of soc_pct, soh_pct"),
    ],
)
def test_explain_one_key(key: str, line: str) -> None:
    assert any(line in each for each in explain(key))


def test_explain_finds_keys_by_their_last_word() -> None:
    lines = [line for line in explain("poll_s") if not line.startswith("#")]
    assert [line.split(" ")[0] for line in lines] == [
        "units.modbus.poll_s",
        "units.inverter.poll_s",
        "interlock_inputs.modbus.poll_s",
        "meter.poll_s",
    ]


def test_explain_of_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(KeyError, match="did you mean droop_pct"):
        list(explain("drop_pct"))


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("power_kw", "kW"),
        ("ramp_max_kw_per_s", "kW/s"),
        ("soc_rate_max_pct_per_min", "%/min"),
        ("rocof_gain_pu_per_hz_per_s", "per unit/Hz/s"),
        ("unit_id", ""),
        ("priority", ""),
    ],
)
def test_the_unit_is_the_last_word(name: str, unit: str) -> None:
    assert measure_of(name) == unit


def test_every_key_can_be_put_in_words() -> None:
    for kind, name in {*all_keys(Settings), *all_keys(DeviceProfile)}:
        key = keys_of(kind)[name]
        assert key.doc
        assert allowed(key.kind, key.bounds)
