"""Recordings and bundles that a stranger, a torn transfer or a wrong clock made: told, never a
crash, and never more than such a file can hold."""

import io
import struct
import tarfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.site_rig import PLAIN_DROOP, SiteRig, site_settings
from tests.virtual_time import run_virtual
from vppd.cli.replay import Difference, Ears, Played, Span, recorded_in, replay
from vppd.cli.replay_command import Lines
from vppd.cli.vppd import main as vppd
from vppd.core.settings import Settings
from vppd.core.settings_recorder import RecorderSettings
from vppd.recording import words
from vppd.spine.columns import DamagedError, Reader, Writer
from vppd.spine.plain import UnreadableError
from vppd.spine.segments import MAGIC, SegmentFile, segments
from vppd.spine.tape import Kind, TapeReader

AT = datetime(2026, 11, 22, 5, 45, tzinfo=UTC)


def ran(*arguments: object) -> Result:
    return CliRunner().invoke(vppd, ["replay", *map(str, arguments)])


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory of a site that ran a few seconds."""
    folder = tmp_path_factory.mktemp("state")

    async def main() -> None:
        settings = site_settings(droop=PLAIN_DROOP)
        rig = SiteRig(_recorded(settings))
        rig.state_dir = folder
        async with rig:
            rig.plan(40.0)
            await rig.run(6.0)
            await rig.stop()

    run_virtual(main())
    return folder


def _recorded(settings: Settings) -> Settings:
    return replace(settings, recorder=RecorderSettings(file_s=60.0))


def bundled(state: Path, file: Path) -> Path:
    with tarfile.open(file, "w:gz") as tar:
        for each in segments(state / "recorder"):
            tar.add(each.path, f"recorder/{each.path.name}")
    return file


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, len(content)
    return made


# ---- bundles ----------------------------------------------------------------------------------


def test_a_bundle_cut_anywhere_is_told(state: Path, tmp_path: Path) -> None:
    whole = bundled(state, tmp_path / "whole.tar.gz").read_bytes()
    for part in (0, 1, 30, len(whole) // 2, len(whole) * 3 // 4):
        cut = tmp_path / "cut.tar.gz"
        cut.write_bytes(whole[:part])
        told = ran(cut)
        assert told.exit_code == 1, part
        assert isinstance(told.exception, SystemExit), (part, told.exception)
        assert "not a bundle" in told.output


def test_a_bundle_that_unpacks_to_many_times_its_size_is_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.tar.gz"
    zeros = bytes(8 * 2**20)
    with tarfile.open(bomb, "w:gz") as tar:
        for number in range(1, 4):
            name = f"recorder/20261122T000000Z-{number:06d}.rec"
            tar.addfile(member(name, zeros), io.BytesIO(zeros))
    told = ran(bomb)
    assert told.exit_code == 1
    assert "many times its size" in told.output


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_what_is_no_plain_file_is_left_out(state: Path, tmp_path: Path, kind: bytes) -> None:
    bundle = tmp_path / "links.tar.gz"
    with tarfile.open(bundle, "w:gz") as tar:
        for each in segments(state / "recorder"):
            tar.add(each.path, f"../../{each.path.name}")
        link = member("recorder/20200101T000000Z-000001.rec", kind=kind)
        link.linkname = "/etc/passwd"
        tar.addfile(link)
    told = ran(bundle)
    assert (told.exit_code, told.output) == (0, ran("--state", state).output)


# ---- what a file says -------------------------------------------------------------------------


def recording(folder: Path, *parts: bytes) -> Path:
    file = SegmentFile(folder / "recorder", AT)
    for part in parts:
        file.write(part)
    file.close()
    return folder


def deep(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "head",
    [
        b"[]",
        b'["c","spine.tape.Begin",{}]',
        b'["c","spine.tape.Begin",{"version":"1","settings_hash":"","settings":1,"duty":0,'
        b'"memory":2,"gate":3,"releases":4}]',
        b'["@"]',
        b'["d",["l"],1]',
        deep(900).encode(),
        deep(100_000).encode(),
    ],
)
def test_a_beginning_that_is_none_is_told(tmp_path: Path, head: bytes) -> None:
    told = ran("--state", recording(tmp_path, head))
    assert told.exit_code == 1
    assert isinstance(told.exception, SystemExit), told.exception
    assert "lost" in told.output
    assert told.output.splitlines()[-1] == "0 ticks, 0 differences"


def test_no_word_of_a_stranger_commands_the_terminal(state: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bells.tar.gz"
    content = next(iter(segments(state / "recorder"))).path.read_bytes()[:-9]
    begun = next(iter(segments(state / "recorder"))).path.name.partition("-")[0]
    with tarfile.open(bundle, "w:gz") as tar:
        # int() takes white space and underlines, and so a name may hold what moves the cursor
        made = member(f"recorder/{begun}-1\x0b.rec", content)
        tar.addfile(made, io.BytesIO(content))
    told = ran(bundle).stderr
    assert "cut off" in told
    assert "\x0b" not in told
    lines = Lines(each=False)
    lines.take(Difference(AT, 1, "B\x1b[31m", 1.0, 2.0, "why\x07"))
    with CliRunner().isolation() as (out, *_):
        lines.end()
        assert b"\x1b" not in out.getvalue()
        assert b"B?[31m" in out.getvalue()


def columns(heads: bytes = b"", wholes: bytes = b"", texts: bytes = b"") -> bytes:
    parts = heads, wholes, b"", b"", texts
    return struct.pack("<5I", *map(len, parts)) + b"".join(parts)


def test_a_number_that_never_ends_takes_no_time() -> None:
    reader = Reader()
    reader.feed(columns(wholes=b"\xff" * 2_000_000))
    with pytest.raises(DamagedError):
        reader.whole()


def test_a_count_of_units_takes_no_memory() -> None:
    out = Writer()
    out.head(Kind.OUTCOME)
    out.whole(0)
    out.whole(2**40)
    with pytest.raises(DamagedError, match="units"):
        list(TapeReader(words()).events(out.take()))


@settings(deadline=None)
@given(text=st.text(st.sampled_from('[]{}",:#irwctel@d0'), max_size=40))
def test_words_that_nobody_wrote_are_refused(text: str) -> None:
    out = Writer()
    out.head(Kind.REPORT)
    out.text(text)
    try:
        list(TapeReader(words()).events(out.take()))
    except (DamagedError, UnreadableError):
        return


def test_words_within_words_without_end_are_refused() -> None:
    out = Writer()
    out.head(Kind.REPORT)
    out.text(deep(950))
    with pytest.raises((DamagedError, UnreadableError)):
        list(TapeReader(words()).events(out.take()))


# ---- a recorder on a full disk ----------------------------------------------------------------


def test_a_file_that_got_no_chunk_is_not_left(tmp_path: Path) -> None:
    """A full disk lets a file be made and takes nothing: one more each try would never end."""

    class Full(io.RawIOBase):
        def write(self, _: object) -> int:
            raise OSError(28, "no space left on device")

    file = SegmentFile(tmp_path, AT)
    file._file.close()
    file._file = Full()  # type: ignore[assignment]
    with pytest.raises(OSError, match="space"):
        file.write(b"much")
    file.close()
    assert not list(tmp_path.iterdir())
    kept = SegmentFile(tmp_path, AT)
    kept.write(b"much")
    kept.close()
    assert kept.path.read_bytes().startswith(MAGIC)


# ---- a wall clock that was set ----------------------------------------------------------------


def test_a_clock_that_was_set_hides_no_tick_of_a_span(tmp_path: Path) -> None:
    """It ran a day ahead for some seconds, within one file: what comes after is asked for too."""

    async def main() -> None:
        rig = SiteRig(_recorded(site_settings(droop=PLAIN_DROOP)))
        rig.state_dir = tmp_path
        async with rig:
            await rig.run(4.0)
            rig.clock.step_utc(86_400.0)
            await rig.run(4.0)
            rig.clock.step_utc(-86_400.0)
            await rig.run(4.0)
            await rig.stop()

    run_virtual(main())
    notes: list[str] = []
    with recorded_in(tmp_path) as found:
        whole = replay(found, Span(), (), Ears(lambda _: None, notes.append, lambda *_: None))
        begin = found[0].begun
        span = Span(begin - timedelta(hours=1), begin + timedelta(hours=1))
        part = replay(found, span, (), Ears(lambda _: None, notes.append, lambda *_: None))
    assert isinstance(part, Played)
    assert part.differing == 0
    assert 70 < part.ticks < whole.ticks - 30
