"""Replay: every decision of a recorded site computed again from the recording alone, on another
gate, bit for bit; another setting's differences named; damage told; one file for a bug report.

The suite records a minute under faults; an hour of it, recorded and replayed:
`REPLAY_S=3600 pytest -s --timeout=0 tests/test_replay.py -k under_faults`.
"""

import json
import os
import random
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.site_rig import PLAIN_DROOP, SiteRig, fire_input, site_settings
from tests.test_site_campaign import acts, campaign_site
from tests.virtual_time import run_virtual
from vppd import recording
from vppd.cli import bundle
from vppd.cli.replay import Difference, Ears, Played, Span, _Site, recorded_in, replay
from vppd.cli.vppctl import main as vppctl
from vppd.cli.vppd import main as vppd
from vppd.core.alarms import Code
from vppd.core.model import UnitId
from vppd.core.settings import Settings
from vppd.core.settings_mqtt import MqttSettings
from vppd.core.settings_recorder import RecorderSettings
from vppd.recording import code_of, version, words
from vppd.spine.segments import chunks, segments
from vppd.spine.tape import Begin, Ended, TapeReader, Tick

PLAYED_S = float(os.environ.get("REPLAY_S", "45"))
FILE_S = 10.0 if PLAYED_S < 600.0 else 600.0
SECRET = "correct-horse-7"  # noqa: S105  that must never be found anywhere
LOW_HZ = 49.7
FULL_SPAN = Span()


async def play_faults(rig: SiteRig, for_s: float) -> None:
    """Random faults and acts, and once each what those do not bring."""
    dice = random.Random(rig.names[0] + str(for_s))
    deeds, gate = acts(rig, dice), rig.house.gate
    rare = iter(
        (
            lambda: gate.trip("site", Code.EMERGENCY_STOP, "pressed", "tester"),
            lambda: gate.reset("site", "tester"),
            lambda: gate.disable(UnitId("C"), "tester"),
            lambda: setattr(rig.house.tick, "duty", rig.house.tick.duty.switched(False, "order")),
            lambda: gate.enable(UnitId("C"), "tester"),
            lambda: setattr(rig.house.tick, "duty", rig.house.tick.duty.switched(True, "order")),
            lambda: gate.release(UnitId("C"), "tester"),
            lambda: rig.house.adopt(steeper(rig.settings)),
            lambda: gate.enable(UnitId("C"), "tester"),
            lambda: gate.room(rig.house.bus.snapshot()),
        )
    )
    rare_s, act_s, end_s = rig.now_s + 3.0, rig.now_s + 1.0, rig.now_s + for_s
    while rig.now_s < end_s:
        if rig.now_s >= act_s:
            next(deeds)
            act_s = rig.now_s + dice.uniform(0.2, 2.5)
        if rig.now_s >= rare_s and (rarity := next(rare, None)) is not None:
            rarity()
            rare_s = rig.now_s + 3.0
        await rig.run(0.1)


def steeper(settings: Settings) -> Settings:
    return replace(settings, droop=replace(settings.droop, droop_pct=3.0))


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory of a site that had a bad time, and at last a tick that stopped."""
    state = tmp_path_factory.mktemp("hurt")

    async def main() -> None:
        site = replace(campaign_site(), recorder=RecorderSettings(file_s=FILE_S))
        rig = SiteRig(site, seed=4)
        rig.state_dir = state
        async with rig:
            await play_faults(rig, PLAYED_S)
            await rig.end("tick")  # the dead man finds out
            await rig.run(1.5)
            await rig.house.rest()

    run_virtual(main())
    return state


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory of a site that answered one dip of the frequency."""
    state = tmp_path_factory.mktemp("answered")

    async def main() -> None:
        settings = site_settings(droop=PLAIN_DROOP, interlock_inputs=(fire_input(),))
        secret = MqttSettings(url=f"mqtts://me:{SECRET}@broker", password=SECRET)
        rig = SiteRig(replace(settings, mqtt=secret, recorder=RecorderSettings(file_s=10.0)))
        rig.state_dir = state
        async with rig:
            rig.plan(40.0)
            await rig.run(6.0)
            rig.step(LOW_HZ)
            await rig.run(5.0)
            rig.step(50.0)
            await rig.run(6.0)
            await rig.stop()

    run_virtual(main())
    return state


def again(
    place: Path, *change: tuple[str, str], span: Span = FULL_SPAN
) -> tuple[Played, list[Difference], list[str]]:
    found: list[Difference] = []
    notes: list[str] = []
    with recorded_in(place) as files:
        ears = Ears(found.append, notes.append, lambda *_: None)
        return replay(files, span, change, ears), found, notes


def ticks_of(state: Path) -> Iterator[tuple[Tick, Ended]]:
    for segment in segments(state / "recorder"):
        source, tape, tick = chunks(segment.path), TapeReader(words()), None
        assert isinstance(words().value(next(source).decode()), Begin)
        for chunk in source:
            for event in tape.events(chunk):
                tick = event if isinstance(event, Tick) else tick
                if isinstance(event, Ended) and tick is not None:
                    yield tick, event


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(vppd, ["replay", *arguments])


# ---- the same again ---------------------------------------------------------------------------


def test_a_site_under_faults_decides_the_same_again_bit_for_bit(hurt: Path) -> None:
    played, found, notes = again(hurt)
    print(f"{played.ticks} ticks in {played.files} files, {len(found)} differences")
    assert (found, notes, played.damaged) == ([], [], 0)
    assert played.ticks > 9 * PLAYED_S
    assert played.files > 3
    whys = {unit.why for _, ended in ticks_of(hurt) for unit in ended.outcome.units}
    words_seen = {code for why in whys for code in why.split()}
    assert {Code.EMERGENCY_STOP, Code.DISABLED, Code.RELEASED, Code.RAMP} <= words_seen


def test_every_kind_of_act_was_recorded(hurt: Path) -> None:
    kinds: set[str] = set()
    for segment in segments(hurt / "recorder"):
        source, tape = chunks(segment.path), TapeReader(words())
        next(source)
        for chunk in source:
            kinds |= {getattr(each, "name", type(each).__name__) for each in tape.events(chunk)}
    acted = {"trip", "reset", "disable", "enable", "release", "watch", "stop"}
    assert acted | {"Look", "Exchanged", "LinkChange", "WriteResult"} <= kinds


def test_a_gate_that_decides_otherwise_is_found_out(
    hurt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vppd.rerun.outcome_of", lambda *_: 0)
    played, found, _ = again(hurt)
    assert played.differing == played.ticks == len(found) > 0
    assert all(each.unit == "site" for each in found)


def test_the_command_says_so_and_ends_with_0_or_1(hurt: Path, answered: Path) -> None:
    fine = ran("--state", str(hurt))
    assert fine.exit_code == 0
    assert fine.output.splitlines()[-1].endswith(" ticks, 0 differences")
    other = ran("--state", str(answered), "--what-if", "droop.droop_pct=4")
    assert other.exit_code == 1
    *lines, last = other.output.splitlines()
    assert last.endswith(" differences")
    assert len(lines) == 4
    assert all("frequency response asked +" in line for line in lines)
    begin = next(tick.now.utc for tick, _ in ticks_of(answered))
    part = ran("--state", str(answered), begin.isoformat(), f"{begin:%Y-%m-%dT%H:%M}:10Z")
    assert part.exit_code == 0
    assert 50 < int(part.output.split()[0]) < 110
    nothing = ran("--state", str(answered), "2030-01-01T00:00:00Z")
    assert nothing.exit_code == 1
    assert nothing.output.splitlines()[-1] == "0 ticks, 0 differences"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("droop.droop_pct=40", "0.5 to 20"),
        ("droop.droop=4", "no 'droop'"),
        ("units.Z.priority=4", "no 'Z'"),
        ("droop.enabled=maybe", "true or false"),
        ("droop", "KEY=VALUE"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(answered: Path, change: str, says: str) -> None:
    refused = ran("--state", str(answered), "--what-if", change)
    assert refused.exit_code == 2
    assert says in refused.output


# ---- another setting --------------------------------------------------------------------------


def test_another_droop_changes_the_ticks_that_were_answered_and_no_other(answered: Path) -> None:
    played, found, _ = again(answered, ("droop.droop_pct", "4"))
    recorded = list(ticks_of(answered))
    expected = {
        (tick.now.utc, unit)
        for tick, ended in recorded
        for unit, got in zip("ABCD", ended.outcome.units, strict=True)
        if got.frequency
    }
    assert {(each.utc, each.unit) for each in found} == expected
    assert 40 * 4 < len(expected) < 60 * 4
    assert played.ticks == len(recorded)
    assert played.differing == len(expected) // 4
    settled = max(found, key=lambda each: abs(each.recomputed_kw))
    assert settled.recorded_kw == pytest.approx(10.0 + 100.0 * 0.3 / 50.0 / 0.05, abs=0.1)
    assert settled.recomputed_kw == pytest.approx(10.0 + 100.0 * 0.3 / 50.0 / 0.04, abs=0.1)
    assert "frequency response asked" in settled.why


def test_another_setting_goes_on_from_file_to_file(hurt: Path) -> None:
    """Not begun again from each head, which knows only what was recorded."""
    with recorded_in(hurt) as files:
        site = _Site([("recorder.flush_s", "6")])
        reruns = []
        for segment in files[:3]:
            source, tape = chunks(segment.path), TapeReader(words())
            begin = words().value(next(source).decode())
            reruns.append(site.begin(begin))
            for chunk in source:
                for event in tape.events(chunk):
                    reruns[-1].take(event)
        assert reruns[0] is reruns[1] is reruns[2]


def test_the_same_setting_changes_nothing_from_file_to_file(answered: Path) -> None:
    played, found, _ = again(answered, ("droop.droop_pct", "5.0"))
    assert (found, played.files > 1) == ([], True)


def test_a_units_own_limit_is_named_as_the_reason(answered: Path) -> None:
    _, found, _ = again(answered, ("units.B.rated_power_kw", "9"))
    assert {each.unit for each in found} >= {"B"}
    assert any("rating" in each.why or "base asked" in each.why for each in found)


# ---- damage -----------------------------------------------------------------------------------


def damaged(state: Path, folder: Path, *, cut: bool) -> Path:
    (folder / "recorder").mkdir()
    first, second, *_ = files = [each.path for each in segments(state / "recorder")]
    for path in files:
        (folder / "recorder" / path.name).write_bytes(path.read_bytes())
    target = folder / "recorder" / second.name
    raw = bytearray(target.read_bytes())
    assert first != second
    middle = len(raw) * 3 // 4
    if cut:
        del raw[middle:]
    else:
        raw[middle] ^= 0xFF
    target.write_bytes(raw)
    return folder


@pytest.mark.parametrize("cut", [True, False])
def test_damage_is_told_and_the_rest_is_replayed(answered: Path, tmp_path: Path, cut: bool) -> None:
    whole, _, _ = again(answered)
    played, found, notes = again(damaged(answered, tmp_path, cut=cut))
    assert found == []
    assert len(notes) == 1
    assert whole.files == played.files
    assert whole.ticks - 110 < played.ticks < whole.ticks
    assert played.damaged == int(not cut)
    assert ran("--state", str(tmp_path)).exit_code == int(not cut)


@pytest.mark.parametrize("left", [0, 3, 8])
def test_what_a_power_cut_left_is_no_difference_and_told(
    hurt: Path, tmp_path: Path, left: int
) -> None:
    """A file of which nothing or only its first word reached the disk: all of its ticks are gone,
    replay says from when to when, and what there is is the same."""
    whole, _, before = again(hurt)
    assert before == []
    place = damaged(hurt, tmp_path, cut=True)
    second = segments(place / "recorder")[1].path
    second.write_bytes((hurt / "recorder" / second.name).read_bytes()[:left])
    played, found, notes = again(place)
    assert (found, played.damaged, played.files) == ([], 0, whole.files)
    assert 0 < played.ticks < whole.ticks
    assert [text.count("cut off") for text in notes] == [1, 0]
    assert second.name in notes[0]
    assert "no tick is recorded" in notes[1]
    ended = ran("--state", str(place))
    assert ended.exit_code == 0
    assert ended.output.splitlines()[-1] == f"{played.ticks} ticks, 0 differences"


def test_another_setting_is_played_on_only_where_nothing_is_missing(
    hurt: Path, tmp_path: Path
) -> None:
    """A recorder that gave a file up leaves a gap in the life of one process: what happened in it
    is not known, so the next file is begun from its own head, and no difference is made up."""
    files = [each.path for each in segments(hurt / "recorder")]
    assert len(files) > 3
    (tmp_path / "recorder").mkdir()
    for path in (files[0], *files[2:]):
        (tmp_path / "recorder" / path.name).write_bytes(path.read_bytes())
    played, found, notes = again(tmp_path, ("recorder.flush_s", "6"))
    assert (found, played.differing) == ([], 0)
    assert [text.count("no tick is recorded") for text in notes] == [1]


def test_a_file_of_another_version_is_told(answered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vppd.cli.replay.version", lambda: "99")
    played, found, notes = again(answered)
    assert len(notes) == played.files
    assert f"recorded by vppd {version()}; this is 99" in notes[0]
    assert found == []


def test_two_versions_of_one_number_are_told_apart_by_the_code_that_decides(tmp_path: Path) -> None:
    for name in ("field/drivers/line.py", "cli/words.py", "duty.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one\n")
    marks = [code_of(tmp_path)]
    for name in ("cli/words.py", "field/drivers/line.py", "duty.py"):
        (tmp_path / name).write_text("two\n")
        marks.append(code_of(tmp_path))
    assert marks[0] == marks[1]
    assert len(set(marks[1:])) == 3
    assert version().endswith(code_of(Path(recording.__file__).parent))


# ---- one file for a bug report ----------------------------------------------------------------

YAML = f"""# the daemon
mqtt:
  url: "mqtts://me:{SECRET}@broker:8883"
  password: {SECRET}            # in the open
  tls: {{key: a.pem, token: "{SECRET}"}}
  #api_token: 'abc def, ghi'
  passphrase: |
    many words
    on lines
  keepalive_s: 30
other: {{password: !credential mqtt-password}}
"""


def test_a_bundle_is_replayed_and_no_credential_is_in_it(
    answered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, secrets = tmp_path / "etc", tmp_path / "credentials"
    (config / "devices").mkdir(parents=True)
    (config / "credentials").mkdir()
    (config / "vppd.yaml").write_text(YAML)
    (config / "devices" / "toy.yaml").write_text(f"# {SECRET}\nname: toy\n")
    (config / "credentials" / "mqtt-password").write_text(SECRET + "\n")
    secrets.mkdir()
    (secrets / "other").write_text('a "quoted" one')
    (config / "grid.yaml").write_text('# a \\"quoted\\" one, and a "quoted" one\n')
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secrets))
    file = tmp_path / "report.tar.gz"
    with pytest.raises(SystemExit) as ended:
        vppctl(
            [
                *("--state", str(answered), "--socket", str(tmp_path / "none.sock")),
                *("bundle", str(file), "--config", str(config), "--last", "9999d"),
            ]
        )
    assert ended.value.code == 0
    kept = {}
    with tarfile.open(file) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            kept[member.name] = content.read()
    assert {"about.json", "daemon.json", "config/vppd.yaml", "config/devices/toy.yaml"} <= set(kept)
    assert json.loads(kept["about.json"])["vppd"]
    unpacked = [*kept.values()]
    for segment in segments(answered / "recorder"):
        unpacked += chunks(segment.path)
    for raw in unpacked:
        assert SECRET.encode() not in raw
        assert b'"quoted" one' not in raw
    shown = kept["config/vppd.yaml"].decode()
    assert shown.count("(a credential)") == 5
    assert "keepalive_s: 30" in shown
    for secret in ("abc", "ghi", "many", "lines"):
        assert secret not in shown
    assert "{password: !credential mqtt-password}" in shown
    done = ran(str(file))
    assert (done.exit_code, done.output) == (0, ran("--state", str(answered)).output)
    with pytest.raises(FileExistsError):
        bundle.bundle(file, bundle.places_of(config, answered, ""), 1.0, print)
