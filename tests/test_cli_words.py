"""What the commands say when something is not there or not done: what, where, and the remedy; no
error number, nothing twice."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.config_site import FINE, loaded
from vppd.cli import tables, vppctl
from vppd.cli.parser import OF_VPPD
from vppd.cli.vppd import main
from vppd.cli.words import told

EXAMPLE = Path(__file__).parents[1] / "etc" / "vppd"
NUMBERED = re.compile(r"\[Errno|Traceback")


def vppd(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False)


@pytest.fixture
def signals() -> Iterator[None]:
    """A command sets them for its whole process; this one goes on."""
    before = {each: signal.getsignal(each) for each in (signal.SIGPIPE, signal.SIGINT)}
    yield
    for each, done in before.items():
        signal.signal(each, done)


# ---- what is not there ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("replay --state {0}/none", 1, "there is no {0}/none: `--state DIR` says where"),
        ("replay --state {0}", 1, "{0}: nothing is recorded there: `--state DIR` says where"),
        ("replay {0}/none", 2, "there is no file {0}/none, and a time is 2026-11-22T18:30:00Z"),
        ("backtest {0}/nope.csv", 1, "{0}/nope.csv: no such file or directory; PRICES"),
        ("market import {0}/nope.csv", 1, "{0}/nope.csv: no such file or directory; PRICES"),
        ("settle {0}/nope.csv", 1, "{0}/nope.csv: no such file or directory"),
        ("fault --plant {0}/nope list", 1, "{0}/nope: nobody takes faults there: it is what"),
        ("report events --state {0}", 1, "there is no {0}/journal.db: `--state DIR` says where"),
        ("report day --state {0}", 1, "there is no {0}/journal.db: `--state DIR` says where"),
        ("export --csv {0}/x --state {0}", 1, "there is no {0}/journal.db: `--state DIR` says"),
        ("backup {0}/x --state {0}", 1, "there is no {0}/journal.db: `--state DIR` says"),
        ("audit verify --state {0}", 1, "Error: there is no {0}/journal.db: `--state DIR` says"),
        ("report audit --verify {0}/x", 1, "{0}/x: no such file or directory"),
        ("init /proc/none", 1, "/proc/none: no such file or directory"),
    ],
)
def test_what_is_not_there_is_named_with_a_remedy(
    tmp_path: Path, words: str, code: int, says: str
) -> None:
    result = vppd(*words.format(tmp_path).split())
    assert result.exit_code == code
    assert says.format(tmp_path) in result.output
    assert not NUMBERED.search(result.output)


def test_prices_that_are_no_text_are_said_so(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(b"\xff")
    for words in ("backtest", "market import"):
        result = vppd(*words.split(), str(tmp_path / "p.csv"))
        assert result.exit_code == 1
        assert f"{tmp_path / 'p.csv'}: not UTF-8 text" in result.output


def test_an_error_is_told_without_its_number() -> None:
    assert told(OSError(2, os.strerror(2), "x")) == "x: no such file or directory"
    assert told(OSError(5, os.strerror(5))) == "input/output error"
    assert told(OSError("there is no x")) == "there is no x"
    assert told(LookupError("no event x")) == "no event x"
    assert told(ValueError("bad")) == "bad"


def test_a_key_that_is_not_known_says_how_to_list_them() -> None:
    result = vppd("explain", "wat")
    assert result.exit_code == 2
    assert "no key wat; `vppd explain` lists them all" in result.output


def test_the_words_of_the_other_command_are_all_known() -> None:
    assert {*main.commands} - {"market"} == OF_VPPD  # market is a word of both


@pytest.mark.parametrize("word", ["explain", "check", "replay"])
def test_a_word_of_the_other_command_is_said_so(
    word: str, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    with pytest.raises(SystemExit) as ended:
        vppctl.main([word, "wat"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith(f"it is `vppd {word}`")


def test_a_bundle_of_nothing_promises_no_replay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    words = ["--socket", str(tmp_path / "none"), "--state", str(tmp_path), "bundle"]
    with pytest.raises(SystemExit) as ended:
        vppctl.main([*words, str(tmp_path / "b.tgz"), "--config", str(tmp_path)])
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert f"written, without recorded decisions: {tmp_path} has none" in said.out
    assert f"there is no {tmp_path}/journal.db" in said.err


# ---- files of the configuration -------------------------------------------------------------


def test_of_a_file_that_is_missing_nothing_else_follows() -> None:
    example = {path.name: path.read_bytes() for path in EXAMPLE.iterdir()}
    assert loaded(example).findings == ()
    for file in ("field.yaml", "vppd.yaml"):
        rest = {name: text for name, text in example.items() if name != file}
        (only,) = loaded(rest).findings
        assert str(only) == (
            f"{file}: not there, and it is required; `vppd init DIR` writes an example"
        )


def test_nothing_is_said_of_units_and_meter_that_could_not_be_read() -> None:
    trading = "enabled: true\nexchange: {kind: iex, url: 'http://x', user: u, participant: p,"
    trading += " token: t}\nforecast: {load: {}}\n"
    fine = {name: text for name, text in FINE.items() if name != "field.yaml"}
    site = {**fine, "market.yaml": trading, "vppd.yaml": "site: {id: a}\nmode: hardware\n"}
    said = [str(each) for each in loaded(site).findings]
    assert not [each for each in said if "meter" in each or "least bid" in each], said
    without = {name: text for name, text in site.items() if name not in ("vppd.yaml", "grid.yaml")}
    assert not [each for each in map(str, loaded(without).findings) if each.startswith("grid.yaml:")
                and "defaults" in each]  # fmt: skip


# ---- what was asked for ---------------------------------------------------------------------


def test_a_refusal_is_printed_once() -> None:
    one = "field.yaml:2: units[0].id: is missing"
    view = {"detail": f"refused, the old configuration stays: {one}", "errors": [one]}
    assert tables.problem(view) == [view["detail"]]
    more = {"detail": f"refused: {one}; {one}2", "errors": [one, f"{one}2"]}
    assert tables.problem(more) == ["refused:", f"  {one}", f"  {one}2"]
    others = {"detail": "refused", "errors": [one]}
    assert tables.problem(others) == ["refused", f"  {one}"]


def test_what_was_disabled_is_not_called_latched() -> None:
    latch = {"scope": "B1", "code": "disabled", "text": "by me", "since": "now"}
    view = {"command": "disable", "unit": "B1", "latched": [latch]}
    assert tables.acted(view) == [
        "disable B1: done",
        "disabled: B1 by me since now, over restarts too, until `vppctl enable B1`",
    ]
    tripped = {**latch, "code": "temperature_critical", "text": "61 C"}
    lines = tables.acted({**view, "latched": [latch, tripped]})
    assert lines[-1] == "latched: B1: temperature_critical 61 C since now"
