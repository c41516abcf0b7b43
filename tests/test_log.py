"""Log lines: the native protocol, JSON, and never blocking."""

import contextlib
import fcntl
import json
import logging
import os
import select
import socket
import struct
import tempfile
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from vppd.core.alarms import Code, Level
from vppd.core.model import UnitId
from vppd.spine.alarms import AlarmBoard
from vppd.spine.clock import SystemClock
from vppd.spine.log import (
    Journald,
    Outlet,
    Stderr,
    configure,
    encode_journald,
    encode_json,
    field_name,
    message,
    message_id,
    stderr_is_journal,
)

AT = datetime(2026, 11, 22, 5, 45, 0, 123456, tzinfo=UTC)


def decode_journald(data: bytes) -> dict[bytes, bytes]:
    """As journald reads it (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    fields: dict[bytes, bytes] = {}
    while data:
        line, rest = data.split(b"\n", 1)
        if b"=" in line:
            name, value = line.split(b"=", 1)
            data = rest
        else:
            name = line
            (length,) = struct.unpack_from("<Q", rest)
            value, end, data = (
                rest[8 : 8 + length],
                rest[8 + length : 9 + length],
                rest[9 + length :],
            )
            assert end == b"\n"
        fields[name] = value
    return fields


def test_the_datagram_is_as_the_protocol_says() -> None:
    fields = {"MESSAGE": "Hello", "PRIORITY": "6", "TRACE": "a\nb"}
    golden = b"MESSAGE=Hello\nPRIORITY=6\nTRACE\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\n"
    assert encode_journald(fields) == golden


NAME = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789", min_size=1)


@given(st.dictionaries(NAME, st.text(st.characters(codec=None), max_size=200)))
def test_no_value_can_make_another_field(fields: dict[str, str]) -> None:
    expected = {k.encode(): v.encode("utf-8", "backslashreplace") for k, v in fields.items()}
    assert decode_journald(encode_journald(fields)) == expected


@given(st.text(min_size=0, max_size=200))
def test_field_names_are_taken_by_journald(key: str) -> None:
    name = field_name(key)
    assert name.isascii()
    assert len(name) <= 64
    assert not set(name) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")
    assert name[0].isupper()


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.just(Unprintable()) | st.just(AT),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=5,
)  # fmt: skip


@given(st.text(), st.dictionaries(st.text(), ANYTHING))
def test_every_event_is_one_line_of_json(event: str, fields: dict[str, object]) -> None:
    data = encode_json(AT, "info", event, fields)
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    decoded = json.loads(data)
    assert decoded["event"] == event
    assert (decoded["at"], decoded["level"]) == ("2026-11-22T05:45:00.123Z", "info")


@given(st.dictionaries(st.text(), ANYTHING))
def test_every_event_has_a_message(fields: dict[str, object]) -> None:
    assert message("link_lost", fields).startswith("link_lost")


def test_the_message_reads_like_a_sentence() -> None:
    fields = {"unit": "B1", "text": "no answer", "source": None, "exception": "Trace\n  line"}
    assert message("link_lost", fields) == "link_lost: no answer unit=B1\nTrace\n  line"


# --- journald --------------------------------------------------------------------------------


@pytest.fixture
def journald() -> Iterator[tuple[socket.socket, str]]:
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server,
    ):
        path = f"{directory}/socket"
        server.bind(path)
        server.settimeout(10)
        yield server, path


def outlet(path: str) -> Outlet:
    return Outlet(Journald(path), SystemClock())


def test_journald_gets_fields_it_can_be_asked_for(journald: tuple[socket.socket, str]) -> None:
    server, path = journald
    fields = {"unit": "B1", "source": "gate", "code": "link_lost", "lines": "a\nMESSAGE=forged"}
    outlet(path).emit("warning", "link_lost", fields)
    got = decode_journald(server.recv(65536))
    assert got[b"PRIORITY"] == b"4"
    assert got[b"SYSLOG_IDENTIFIER"] == b"vppd"
    assert got[b"VPPD_EVENT"] == b"link_lost"
    assert got[b"VPPD_UNIT"] == b"B1"
    assert got[b"VPPD_SOURCE"] == b"gate"
    assert got[b"VPPD_CODE"] == b"link_lost"
    assert got[b"MESSAGE_ID"] == message_id("link_lost").encode()
    assert got[b"VPPD_LINES"] == b"a\nMESSAGE=forged"
    assert got[b"MESSAGE"].startswith(b"link_lost unit=B1")


def test_who_asks_for_a_unit_finds_its_devices_too(journald: tuple[socket.socket, str]) -> None:
    server, path = journald
    for unit, found in (("B1/bms", {b"B1/bms", b"B1"}), ("B1", {b"B1"}), ("site", {b"site"})):
        outlet(path).emit("warning", "link_lost", {"unit": unit})
        lines = server.recv(65536).split(b"\n")
        assert {line[10:] for line in lines if line.startswith(b"VPPD_UNIT=")} == found


def test_a_message_too_large_for_a_datagram_goes_as_a_file(
    journald: tuple[socket.socket, str],
) -> None:
    server, path = journald
    out = outlet(path)
    out.emit("error", "long", {"text": "x" * 10_000_000})
    assert out.dropped_total == 0
    data, ancillary, _, _ = server.recvmsg(100, 100)
    assert data == b""
    ((_, _, rights),) = ancillary
    (fd,) = struct.unpack("i", rights)
    try:
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
        size = os.fstat(fd).st_size
        assert decode_journald(os.pread(fd, size, 0))[b"VPPD_TEXT"] == b"x" * 10_000_000
    finally:
        os.close(fd)


def test_a_stopped_journald_costs_lines_not_time(journald: tuple[socket.socket, str]) -> None:
    server, path = journald
    out = outlet(path)
    for n in range(5000):  # nobody reads: a blocking socket would hang here
        out.emit("info", "tick", {"n": n})
    lost = out.dropped_total
    assert 0 < lost < 5000
    got = []
    server.setblocking(False)
    for text in ("working again", "and so on"):
        with contextlib.suppress(BlockingIOError):
            while True:
                got.append(decode_journald(server.recv(65536)))
        out.emit("info", "tick", {"text": text})
    with contextlib.suppress(BlockingIOError):
        while True:
            got.append(decode_journald(server.recv(65536)))
    told = [each for each in got if each[b"VPPD_EVENT"] == b"log_lines_dropped"]
    assert [each[b"VPPD_COUNT"] for each in told] == [str(lost).encode()]
    assert [each[b"VPPD_TEXT"] for each in got[-2:]] == [b"working again", b"and so on"]


def test_no_journald_at_all_costs_lines(tmp_path: Path) -> None:
    out = outlet(str(tmp_path / "nowhere"))
    out.emit("info", "tick", {})
    assert out.dropped_total == 1


# --- stderr ----------------------------------------------------------------------------------


def lines_of(fd: int) -> list[dict[str, object]]:
    """All that is in the pipe now, as complete lines."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    data = b""
    while any(event & select.POLLIN for _, event in poll.poll(0)):
        data += os.read(fd, 1 << 16)
    assert data.endswith(b"\n") or not data
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.parametrize("sizes", [9_000, 70_001])
def test_a_full_pipe_costs_whole_lines_not_time(sizes: int) -> None:
    read_fd, write_fd = os.pipe()
    try:
        out = Outlet(Stderr(write_fd), SystemClock())
        for n in range(3000):
            out.emit("info", "tick", {"n": n, "text": "x" * ((n + sizes) % sizes or sizes - 1)})
        assert 0 < out.dropped_total < 3000
        assert not fcntl.fcntl(write_fd, fcntl.F_GETFL) & os.O_NONBLOCK  # it is not only ours
        data = os.read(read_fd, 1 << 20)
        lost = out.dropped_total
        out.emit("info", "tick", {"text": "working again"})
        data += os.read(read_fd, 1 << 20)
        lines = [json.loads(line) for line in data.splitlines()]
    finally:
        os.close(read_fd)
        os.close(write_fd)
    assert lines[-1]["text"] == "working again"
    assert (lines[-2]["event"], lines[-2]["count"]) == ("log_lines_dropped", lost)
    assert [line["n"] for line in lines[:-2]] == list(range(len(lines) - 2))


def test_nobody_reading_costs_lines() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    try:
        out = Outlet(Stderr(write_fd), SystemClock())
        out.emit("info", "tick", {})
        assert out.dropped_total == 1
    finally:
        os.close(write_fd)


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        out = Outlet(Stderr(file.fileno()), SystemClock())

        def talk(name: str) -> None:
            for n in range(200):
                out.emit("info", "tick", {"thread": name, "n": n, "text": "x" * 5000})

        threads = [threading.Thread(target=talk, args=(str(n),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert len(lines) == 800


# --- the process -----------------------------------------------------------------------------


class Kept:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, object]]] = []

    def send(self, at: datetime, level: str, event: str, fields: object) -> bool:
        assert at.tzinfo is UTC
        assert isinstance(fields, dict)
        self.events.append((level, event, dict(fields)))
        return True


@pytest.fixture
def kept() -> Iterator[Kept]:
    handlers, level = logging.root.handlers[:], logging.root.level
    sink = Kept()
    yield sink
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_events_come_out_with_their_fields(kept: Kept) -> None:
    configure("info", SystemClock(), kept)
    log = structlog.get_logger()
    structlog.contextvars.bind_contextvars(source="gate")
    log.warning("link_lost", unit="B1")
    log.debug("not shown")
    try:
        int("broken")
    except ValueError:
        log.exception("task_failed")
    assert kept.events[0] == ("warning", "link_lost", {"source": "gate", "unit": "B1"})
    level, event, fields = kept.events[1]
    assert (level, event) == ("error", "task_failed")
    assert "ValueError: invalid literal" in str(fields["exception"])
    assert len(kept.events) == 2


class Nowhere:
    """A journal of which nobody asks anything here."""

    def append(self, row: object) -> None:
        pass


def board() -> AlarmBoard:
    return AlarmBoard(SystemClock(), Nowhere())  # type: ignore[arg-type]


B1 = UnitId("B1")


def test_a_loss_and_its_end_are_told_once_each_as_the_same_event(
    journald: tuple[socket.socket, str], kept: Kept
) -> None:
    server, path = journald
    configure("info", SystemClock(), Journald(path))
    alarms = board()
    for active, text in ((False, ""), *[(True, "no answer")] * 3, *[(False, "")] * 3):
        alarms.set(Code.LINK_LOST, B1, active, text)
    got = [decode_journald(server.recv(65536)) for _ in range(2)]
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.recv(65536)
    assert [each[b"VPPD_EVENT"] for each in got] == [b"link_lost"] * 2
    assert [each[b"VPPD_UNIT"] for each in got] == [b"B1"] * 2
    assert [each[b"VPPD_SOURCE"] for each in got] == [b"alarms"] * 2
    assert [each[b"VPPD_ALARM"] for each in got] == [b"raised", b"over"]
    assert [each[b"PRIORITY"] for each in got] == [b"3", b"6"]
    ids = [message_id(event).encode() for event in ("link_lost", "alarm_over")]
    assert [each[b"MESSAGE_ID"] for each in got] == ids
    texts = [b"link_lost: no answer unit=B1", b"link_lost: over: no answer unit=B1"]
    assert [each[b"MESSAGE"] for each in got] == texts


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (Level.INFO, "info"),
        (Level.WARNING, "warning"),
        (Level.CRITICAL, "error"),
        (Level.EMERGENCY, "critical"),
    ],
)
def test_how_bad_an_alarm_is_decides_its_priority(kept: Kept, level: Level, priority: str) -> None:
    configure("info", SystemClock(), kept)
    board().set(Code.LINK_LOST, B1, True, "x", level)
    assert [level for level, _, _ in kept.events] == [priority]


def test_the_level_can_be_changed(kept: Kept) -> None:
    log = structlog.get_logger()
    configure("error", SystemClock(), kept)
    log.info("one")
    configure("debug", SystemClock(), kept)
    log.debug("two")
    assert [event for _, event, _ in kept.events] == ["two"]


def test_libraries_come_out_the_same_way_from_warning_up(kept: Kept) -> None:
    configure("debug", SystemClock(), kept)
    library = logging.getLogger("somelib")
    library.info("chatter")
    library.warning("frame %s", "lost")
    library.error("wrong format %d", "x")
    try:
        os.close(-1)
    except OSError:
        library.exception("gone")
    warnings.warn("old", DeprecationWarning, stacklevel=1)
    texts = [(level, fields["logger"], fields["text"]) for level, _, fields in kept.events]
    assert texts[0] == ("warning", "somelib", "frame lost")
    assert texts[1] == ("error", "somelib", "wrong format %d")
    assert texts[2] == ("error", "somelib", "gone")
    assert "[Errno 9]" in str(kept.events[2][2]["exception"])
    assert texts[3][1] == "py.warnings"
    assert str(kept.events[0][2]["code_file"]).endswith("test_log.py")


def test_stderr_is_journald_only_when_it_is_the_stream_systemd_gave() -> None:
    read_fd, write_fd = os.pipe()
    try:
        stat = os.fstat(write_fd)
        stream = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        assert stderr_is_journal(stream, write_fd)
        assert not stderr_is_journal({"JOURNAL_STREAM": "1:2"}, write_fd)
        assert not stderr_is_journal({}, write_fd)
    finally:
        os.close(read_fd)
        os.close(write_fd)
    assert not stderr_is_journal(stream, write_fd)
