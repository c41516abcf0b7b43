"""Everybody who may look at a site, at once: what hangs on the daemon while its ticks are counted.

A scraper asks for the metrics every second, a page is open (status, and the stream of events),
`vppctl top` draws on a terminal, a broker with TLS and client certificates takes telemetry every
second and has a listener, and reports are made one after another. All are processes of their own,
as they are on a site, on the same two cores.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.mqtt_rig import Broker, free_port

SCRAPE_S, PAGE_S, REPORT_PAUSE_S = 1.0, 5.0, 1.0
ANSWER_S, END_S = 5.0, 10.0


@dataclass
class Seen:
    """What the onlookers got, so that nobody takes a refusal for calm."""

    scrapes: int = 0
    pages: int = 0
    events: int = 0
    drawn_bytes: int = 0
    messages: int = 0
    reports: int = 0
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = (
            f"{self.scrapes} scrapes, {self.pages} page looks and {self.events} pushed events,"
            f" {self.drawn_bytes // 1000} kB drawn by top, {self.messages} MQTT messages on TLS,"
            f" {self.reports} reports"
        )
        return f"{told}; FAILED: {self.failed[0]}" if self.failed else told

    @property
    def whole(self) -> bool:
        """Whether each of them was really served."""
        counts = (self.scrapes, self.pages, self.events, self.drawn_bytes, self.messages)
        return not self.failed and all(counts) and self.reports > 0


@dataclass(frozen=True)
class Openings:
    """Where the site can be looked at, and the lines of `vppd.yaml` that open it."""

    directory: Path
    metrics_port: int = field(default_factory=free_port)
    web_port: int = field(default_factory=free_port)

    def yaml(self, broker: Broker) -> str:
        """Telemetry of every unit each second, metrics and page on ports."""
        tls = (
            f"{{ca: {broker.file('ca.pem')}, certificate: {broker.file('lab.pem')},"
            f" key: {broker.file('lab.key')}}}"
        )
        return (
            f"metrics: {{port: {self.metrics_port}}}\n"
            f"web: {{enabled: true, port: {self.web_port}}}\n"
            f"mqtt: {{url: 'mqtts://127.0.0.1:{broker.port}', tls: {tls}, telemetry_every_s: 1}}\n"
        )


@contextmanager
def broker_of(broker: Broker) -> Iterator[None]:
    """mosquitto in the foreground, ended with the block."""
    started: list[asyncio.subprocess.Process] = []

    async def start() -> None:
        await broker.start()
        assert broker.process is not None
        started.append(broker.process)

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(start())
        yield
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                process.kill()
            loop.run_until_complete(process.wait())
        loop.close()


@contextmanager
def onlookers(openings: Openings, broker: Broker, socket: Path, state: Path) -> Iterator[Seen]:
    """All of them, from now until the end of the block."""
    seen, over = Seen(), threading.Event()
    with ExitStack() as stack:
        listener = stack.enter_context(_listening(broker))
        terminal = stack.enter_context(_top(socket))
        works: list[Callable[[], None]] = [
            lambda: _scrape(openings.metrics_port, seen, over),
            lambda: _page(openings.web_port, seen, over),
            lambda: _events(openings.web_port, seen, over),
            lambda: _read(terminal, seen, over),
            lambda: _count(listener, seen),
            lambda: _report(state, seen, over),
        ]
        threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in threads:
            thread.start()
        yield seen
        over.set()
    for thread in threads:
        thread.join(END_S)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
        body: bytes = answer.read()
        return body


def _scrape(port: int, seen: Seen, over: threading.Event) -> None:
    while not over.wait(SCRAPE_S):
        try:
            body = _get(f"http://127.0.0.1:{port}/metrics")
        except OSError as error:
            seen.failed.append(f"metrics: {error}")
            continue
        seen.scrapes += b"vppd_" in body


def _page(port: int, seen: Seen, over: threading.Event) -> None:
    for path in ("/", "/v1/trail"):
        with suppress(OSError):
            _get(f"http://127.0.0.1:{port}{path}")
    while True:
        try:
            seen.pages += bool(_get(f"http://127.0.0.1:{port}/v1/status"))
        except OSError as error:
            seen.failed.append(f"page: {error}")
        if over.wait(PAGE_S):
            return


def _events(port: int, seen: Seen, over: threading.Event) -> None:
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/v1/events", timeout=ANSWER_S
        ) as stream:
            for line in stream:
                seen.events += line.startswith(b"event:")
                if over.is_set():
                    return
    except OSError as error:
        if not over.is_set():
            seen.failed.append(f"events: {error}")


@contextmanager
def _top(socket: Path) -> Iterator[int]:
    """`vppctl top` on a terminal of 80x24; where its drawing can be read."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "LINES": "24", "COLUMNS": "80"}
    command = (str(Path(sys.executable).with_name("vppctl")), "--socket", str(socket), "top")
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    )
    os.close(theirs)
    try:
        yield ours
    finally:
        process.terminate()
        process.wait(END_S)
        os.close(ours)


def _read(terminal: int, seen: Seen, over: threading.Event) -> None:
    with suppress(OSError):  # the terminal is closed at the end
        while not over.is_set():
            seen.drawn_bytes += len(os.read(terminal, 65536))


@contextmanager
def _listening(broker: Broker) -> Iterator[subprocess.Popen[bytes]]:
    files = ("--cafile", "ca.pem"), ("--cert", "fleet.pem"), ("--key", "fleet.key")
    tls = [word for name, file in files for word in (name, broker.file(file))]
    process = subprocess.Popen(
        [
            "mosquitto_sub",
            "-h",
            "127.0.0.1",
            "-p",
            str(broker.port),
            *tls,
            "-t",
            "vpp/#",
            "-q",
            "1",
        ],
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(END_S)


def _count(listener: subprocess.Popen[bytes], seen: Seen) -> None:
    assert listener.stdout is not None
    for _ in listener.stdout:
        seen.messages += 1


def _report(state: Path, seen: Seen, over: threading.Event) -> None:
    vppd = (sys.executable, "-P", "-m", "vppd")
    month = time.strftime("%Y-%m")
    kinds = (("day",), ("events",), ("frequency", "--month", month))
    turn = 0
    while not over.wait(REPORT_PAUSE_S):
        words = (*vppd, "report", *kinds[turn % len(kinds)], "--state", str(state))
        turn += 1
        made = subprocess.run(words, capture_output=True, check=False)
        if made.returncode:
            seen.failed.append(f"report: {made.stderr.decode()[-200:]}")
        else:
            seen.reports += 1
