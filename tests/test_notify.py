"""systemd is told, the watchdog is fed by proof alone, and a wedged process ends itself."""

import contextlib
import gc
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.spine.clock import SystemClock
from vppd.spine.notify import Notifier, watchdog_period_s
from vppd.spine.watchdog import EXIT_CODE, UNWATCHED_BOUND_S, GcMeter, Watchdog, freeze


@dataclass
class HandClock:
    """Monotonic time set by the test."""

    s: float = 100.0
    utc0: datetime = field(default_factory=lambda: datetime(2026, 11, 22, tzinfo=UTC))

    def now_s(self) -> float:
        return self.s

    def utc(self) -> datetime:
        return self.utc0

    async def sleep_until(self, deadline_s: float) -> None:
        self.s = max(self.s, deadline_s)


@contextlib.contextmanager
def supervisor(name: str) -> Iterator[tuple[Notifier, socket.socket]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0" + name[1:] if name.startswith("@") else name)
        server.setblocking(False)
        yield Notifier({"NOTIFY_SOCKET": name}), server


@pytest.fixture(params=["path", "abstract"])
def systemd(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Notifier, socket.socket]]:
    names = {"path": str(tmp_path / "notify"), "abstract": f"@vppd-test-{os.getpid()}"}
    with supervisor(names[request.param]) as pair:
        yield pair


def received(server: socket.socket) -> list[bytes]:
    got = []
    with contextlib.suppress(BlockingIOError):
        while True:
            got.append(server.recv(4096))
    return got


def test_the_words_of_the_protocol(systemd: tuple[Notifier, socket.socket]) -> None:
    notifier, server = systemd
    assert notifier.ready("owe +96 kW")
    assert notifier.watchdog()
    assert notifier.status("B2 bound by\nsoc 9.8 %")
    assert notifier.reloading(12.5)
    assert notifier.ready()
    assert notifier.extend_timeout(30.0)
    assert notifier.stopping("0 kW to 4 units")
    assert received(server) == [
        b"READY=1\nSTATUS=owe +96 kW",
        b"WATCHDOG=1",
        b"STATUS=B2 bound by soc 9.8 %",
        b"RELOADING=1\nMONOTONIC_USEC=12500000",
        b"READY=1",
        b"EXTEND_TIMEOUT_USEC=30000000",
        b"STOPPING=1\nSTATUS=0 kW to 4 units",
    ]


@given(st.text())
def test_no_status_can_say_anything_else(text: str) -> None:
    with supervisor(f"@vppd-test-status-{os.getpid()}") as (notifier, server):
        if notifier.status(text):
            (data,) = received(server)
            assert data.startswith(b"STATUS=")
            assert b"\n" not in data


def test_without_systemd_nothing_is_sent() -> None:
    notifier = Notifier({})
    assert not notifier.active
    assert not notifier.ready()


@pytest.mark.parametrize("name", ["/nowhere/notify", "@" + "x" * 300, "no\0name", "@gone"])
def test_a_socket_that_takes_nothing_raises_nothing(name: str) -> None:
    assert not Notifier({"NOTIFY_SOCKET": name}).ready()


def test_a_systemd_that_does_not_read_blocks_nothing(
    systemd: tuple[Notifier, socket.socket],
) -> None:
    notifier, _ = systemd
    sent = [notifier.status(str(n)) for n in range(5000)]  # a blocking socket would hang here
    assert sent[0]
    assert not sent[-1]


@pytest.mark.parametrize(
    ("environ", "period_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_period_systemd_asks_for(environ: dict[str, str], period_s: float | None) -> None:
    assert watchdog_period_s(environ) == period_s


# --- the watchdog ----------------------------------------------------------------------------


def test_systemd_hears_of_proof_at_most_every_third_of_its_period(
    systemd: tuple[Notifier, socket.socket],
) -> None:
    notifier, server = systemd
    clock = HandClock()
    watchdog = Watchdog(clock, notifier, 30.0)
    fed_at_s = []
    for tick in range(601):
        clock.s = 100.0 + tick / 10
        watchdog.proved(clock.s)
        if received(server):
            fed_at_s.append(clock.s)
    assert fed_at_s == pytest.approx([100.0, 110.0, 120.0, 130.0, 140.0, 150.0, 160.0])
    assert received(server) == []
    clock.s += 7.0
    assert watchdog.age_s() == pytest.approx(7.0)


def test_a_feed_that_was_not_taken_is_tried_with_the_next_proof(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    watchdog = Watchdog(HandClock(), Notifier({"NOTIFY_SOCKET": name}), 30.0)
    watchdog.proved(100.0)
    with supervisor(name) as (_, server):
        watchdog.proved(100.1)
        assert received(server) == [b"WATCHDOG=1"]


def test_the_bound_of_the_backstop() -> None:
    assert Watchdog(HandClock(), Notifier({}), None).bound_s == UNWATCHED_BOUND_S
    assert Watchdog(HandClock(), Notifier({}), 30.0).bound_s == pytest.approx(24.0)
    assert Watchdog(HandClock(), Notifier({}), 30.0, bound_s=5.0).bound_s == 5.0


@dataclass
class Ended:
    acts: list[object] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def dump(self) -> None:
        self.acts.append("dump")

    def end(self, code: int) -> None:
        self.acts.append(code)
        self.done.set()


def backstop(ended: Ended, bound_s: float = 0.4) -> Watchdog:
    return Watchdog(
        SystemClock(), Notifier({}), None, bound_s=bound_s, dump=ended.dump, end=ended.end
    )


def test_without_proof_the_process_ends() -> None:
    ended = Ended()
    watchdog = backstop(ended)
    watchdog.arm()
    assert ended.done.wait(20)
    assert ended.acts == ["dump", EXIT_CODE]
    watchdog.disarm()


def test_with_proof_it_lives_and_disarmed_too() -> None:
    ended = Ended()
    watchdog = backstop(ended, bound_s=5.0)
    watchdog.arm()
    for _ in range(20):
        watchdog.proved(SystemClock().now_s())
        assert not ended.done.wait(0.01)
    watchdog.disarm()
    assert ended.acts == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dump_that_fails_does_not_save_the_process() -> None:
    ended = Ended()

    def broken() -> None:
        ended.end(EXIT_CODE)
        raise OSError("stderr is gone")

    watchdog = Watchdog(SystemClock(), Notifier({}), None, bound_s=0.2, dump=broken, end=ended.end)
    watchdog.arm()
    assert ended.done.wait(20)
    watchdog.disarm()
    assert ended.acts == [EXIT_CODE, EXIT_CODE]


WEDGED = """
import time
from vppd.spine.clock import SystemClock
from vppd.spine.notify import Notifier
from vppd.spine.watchdog import Watchdog

def wedged_loop():
    time.sleep(60)

Watchdog(SystemClock(), Notifier({}), None, bound_s=0.3).arm()
wedged_loop()
"""


def test_a_wedged_process_shows_where_and_exits_70() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WEDGED],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == EXIT_CODE == 70
    assert "in wedged_loop" in done.stderr


# --- the garbage collector -------------------------------------------------------------------


def test_collections_are_counted_and_timed() -> None:
    clock = HandClock()
    meter = GcMeter(clock)

    def slow(phase: str, info: dict[str, int]) -> None:
        clock.s += 0.007 if phase == "start" else 0.0

    meter.start()
    gc.callbacks.append(slow)
    try:
        gc.collect()
        gc.collect()
    finally:
        gc.callbacks.remove(slow)
        meter.stop()
    gc.collect()
    assert meter.count == 2
    assert meter.last_ms == pytest.approx(7.0)
    assert meter.max_ms == pytest.approx(7.0)
    assert meter.total_ms == pytest.approx(14.0)


def test_freezing_takes_what_lives_out_of_the_collector() -> None:
    before, thresholds = gc.get_freeze_count(), gc.get_threshold()
    try:
        freeze()
        assert gc.get_freeze_count() > before + 1000
        assert gc.get_threshold()[0] > thresholds[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
