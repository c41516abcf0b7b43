"""Structured logging: to journald in its own protocol, else one JSON line on stderr; never blocks.

`structlog.get_logger(source="poll")` everywhere: `log.warning("link_lost", unit="B1", text="no
answer")`. The first word is the event; under systemd `journalctl VPPD_EVENT=link_lost VPPD_UNIT=B1`
finds it, and `journalctl -x` adds what systemd/vppd.catalog says of it, by its MESSAGE_ID.
Lines that cannot be sent at once are dropped and counted; the count is told with the next that can.
"""

import errno
import fcntl
import functools
import json
import logging
import math
import os
import re
import select
import socket
import struct
import threading
import traceback
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Protocol

import structlog
from structlog.typing import EventDict, WrappedLogger

from vppd.core.ports import Clock

IDENTIFIER = "vppd"
ALARM_OVER = "alarm_over"  # the one entry of the catalog for whatever is over again
JOURNAL_SOCKET = "/run/systemd/journal/socket"
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
Fields = Mapping[str, object]

MESSAGES = uuid.UUID("7b3d4a2e-0c5f-4f19-9d61-5a5e0f6c1b88")  # never changed: ids are made of it

_TELL_EVERY_S = 1.0
_SEND_BUFFER_BYTES = 8 * 1024 * 1024  # as libsystemd asks; the kernel gives what it allows
_PIPE_BUF = 4096  # bytes that a pipe takes at once when poll calls it writable
_NOT_IN_A_NAME = re.compile(r"[^A-Z0-9_]")
_OWN_NAMES = {"code_file": "CODE_FILE", "code_line": "CODE_LINE", "code_func": "CODE_FUNC"}
_NOT_SAID = {"text", "exception", "source", "alarm", *_OWN_NAMES}
_ALL_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class Sink(Protocol):
    """Where log events go."""

    def send(self, at: datetime, level: str, event: str, fields: Fields) -> bool:
        """Hand over one event; never blocks, never raises. False: it was dropped."""


def shown(value: object) -> str:
    """The value as text, whatever it is."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  (a log line must not stop what it tells of)
        return f"<{type(value).__name__} without text: {type(error).__name__}>"


def message(event: str, fields: Fields) -> str:
    """What a person reads: the event, its text, then the rest; a traceback last."""
    words = [
        f"{key}={shown(value)}"
        for key, value in fields.items()
        if key not in _NOT_SAID and value is not None
    ]
    text, trace = fields.get("text"), fields.get("exception")
    line = " ".join([f"{event}: {shown(text)}" if text else event, *words])
    return f"{line}\n{shown(trace)}" if trace else line


@functools.lru_cache(maxsize=1024)
def message_id(event: str) -> str:
    """Journald's MESSAGE_ID of an event: the same for ever, wherever it is logged."""
    return uuid.uuid5(MESSAGES, event).hex


def field_name(key: str) -> str:
    """A key as journald takes it: VPPD_ and upper case letters, digits and `_`, at most 64."""
    return _OWN_NAMES.get(key) or "VPPD_" + _NOT_IN_A_NAME.sub("_", key.upper())[:59]


def encode_journald(fields: Mapping[str, str]) -> bytes:
    """A datagram of journald's native protocol: `NAME=value`, or, when the value has more than one
    line, the name, its length in eight bytes and the value.
    https://systemd.io/JOURNAL_NATIVE_PROTOCOL"""
    parts: list[bytes] = []
    for name, text in fields.items():
        value = text.encode("utf-8", "backslashreplace")
        if b"\n" in value:
            parts += (name.encode(), b"\n", struct.pack("<Q", len(value)), value, b"\n")
        else:
            parts += (name.encode(), b"=", value, b"\n")
    return b"".join(parts)


def encode_json(at: datetime, level: str, event: str, fields: Fields) -> bytes:
    """One line of JSON; what JSON has no word for is text."""
    at_text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    own = {"at": at_text, "level": level, "event": event}
    line = own | dict(fields) | own  # first in the line, and no field passes for them
    try:
        text = json.dumps(line, default=shown, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps({key: shown(value) for key, value in line.items()})
    return text.encode() + b"\n"


class Journald:
    """Datagrams to journald, which stamps the time itself."""

    def __init__(self, path: str = JOURNAL_SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    def send(self, at: datetime, level: str, event: str, fields: Fields) -> bool:  # noqa: ARG002
        """One event, one datagram."""
        named = {field_name(key): shown(value) for key, value in fields.items()}
        data = encode_journald(
            named
            | {
                "MESSAGE": message(event, fields),
                "PRIORITY": str(PRIORITIES.get(level, 6)),
                "SYSLOG_IDENTIFIER": IDENTIFIER,
                "MESSAGE_ID": message_id(ALARM_OVER if fields.get("alarm") == "over" else event),
                "VPPD_EVENT": shown(event),
            }
        )
        unit, _, device = named.get("VPPD_UNIT", "").partition("/")
        if unit and device:  # a field may be given twice: who asks for A finds A/bms too
            data += encode_journald({"VPPD_UNIT": unit})
        try:
            self._socket.sendto(data, self._path)
        except OSError as error:
            large = error.errno in {errno.EMSGSIZE, errno.ENOBUFS}
            return large and self._send_as_file(data)
        return True

    def _send_as_file(self, data: bytes) -> bool:
        """What no datagram takes goes as a sealed file in memory."""
        try:
            fd = os.memfd_create("vppd-log", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        except OSError:
            return False
        try:
            os.write(fd, data)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _ALL_SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))
            self._socket.sendmsg([b""], [rights], 0, self._path)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True


class Stderr:
    """JSON lines on a file descriptor that may be shared and must stay as it is (no O_NONBLOCK).

    It is asked whether it would take a piece before each piece is written. When it stops taking in
    mid-line, the rest of that line goes first next time, so that lines are never mixed.
    """

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._rest = b""

    def send(self, at: datetime, level: str, event: str, fields: Fields) -> bool:
        """One event, one line."""
        if not self._write_rest():
            return False
        self._rest = encode_json(at, level, event, fields)
        if not self._would_take():
            self._rest = b""
            return False
        return self._write_rest() or bool(self._rest)  # a rest goes first next time

    def _write_rest(self) -> bool:
        while self._rest:
            if not self._would_take():
                return False
            try:
                written = os.write(self._fd, self._rest[:_PIPE_BUF])
            except BlockingIOError:
                return False
            except OSError:  # nobody reads any more
                self._rest = b""
                return False
            self._rest = self._rest[written:]
        return True

    def _would_take(self) -> bool:
        return any(event & select.POLLOUT for _, event in self._poll.poll(0))


class Outlet:
    """All log lines of the process, from any thread, to one sink."""

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._lock = threading.RLock()
        self._untold = 0
        self._told_s = -math.inf
        self.dropped_total = 0

    def emit(self, level: str, event: str, fields: Fields) -> None:
        """Send one event, and before it, at most once a second, how many could not be sent."""
        at, now_s = self._clock.utc(), self._clock.now_s()
        with self._lock:
            if self._untold and now_s - self._told_s >= _TELL_EVERY_S:
                dropped = {"count": self._untold}
                if self._sink.send(at, "warning", "log_lines_dropped", dropped):
                    self._untold = 0
                    self._told_s = now_s
            if not self._sink.send(at, level, event, fields):
                self._untold += 1
                self.dropped_total += 1


class _Logger:
    """What structlog calls at the end of its chain."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def _emit(self, *, level: str, event: str, fields: Fields) -> None:
        self._outlet.emit(level, event, fields)

    debug = info = warning = warn = error = critical = exception = msg = log = _emit


class _Bridge(logging.Handler):
    """Libraries that log by the standard library come out the same way."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {
            "source": "library",
            "logger": record.name,
            "text": _text_of(record),
            "code_file": record.pathname,
            "code_line": record.lineno,
            "code_func": record.funcName,
        }
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        self._outlet.emit(record.levelname.lower(), "library", fields)


def _text_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  (a library's wrong format is its own affair)
        return shown(record.msg)


def _for_logger(
    logger: WrappedLogger,  # noqa: ARG001
    name: str,  # noqa: ARG001
    event: EventDict,
) -> tuple[tuple[()], dict[str, object]]:
    level, words = event.pop("level", "info"), shown(event.pop("event", ""))
    return (), {"level": level, "event": words, "fields": event}


def stderr_is_journal(environ: Mapping[str, str] = os.environ, fd: int = 2) -> bool:
    """Whether systemd connected our stderr to journald, and nobody redirected it since."""
    with suppress(OSError):
        stat = os.fstat(fd)
        return environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"
    return False


def configure(level: str, clock: Clock, sink: Sink | None = None) -> Outlet:
    """Set up logging for the process; `level` is debug, info, warning, error or critical.

    Libraries speak from WARNING up whatever the level. Raises KeyError for another level.
    """
    outlet = Outlet(sink or (Journald() if stderr_is_journal() else Stderr()), clock)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _for_logger,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=lambda *_: _Logger(outlet),
        cache_logger_on_first_use=False,  # so that a reload may change the level
    )
    logging.root.handlers[:] = [_Bridge(outlet)]
    logging.root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    return outlet
