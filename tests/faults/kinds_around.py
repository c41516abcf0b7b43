"""What befalls the rest: broker, exchange, disk, clock, memory, names, and bad clients."""

import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.faults.gateway_booted import BootedGateway
from tests.faults.ground import Clock
from tests.faults.kinds_process import HELD_S, Kind
from tests.faults.promises import AT_ONCE_S, Promise
from tests.faults.site import AFTER_S, TOLERANCE_KW, FaultSite
from tests.faults.wall_clock import WallClock
from tests.process_site import NAMES

PROVES_S = 6.5  # devices would be at 0 by their own timers: only a living tick holds them
BROKER_AWAY_S = 2.0
CUTS = 20
EXCHANGE_ASKED_S = 5.0  # in which a book leaves
EXCHANGE_FROZEN_S = 7.0  # longer than the daemon waits for an answer
CONNECTIONS = 1000
HALVES = 60
DNS_PORT = 53


def _booted(site: FaultSite) -> BootedGateway:
    assert isinstance(site.gateway, BootedGateway), "this kind needs a real systemd"
    return site.gateway


# --- broker, exchange ---


def broker_killed(site: FaultSite, promise: Promise) -> float:
    """kill -9, away for a moment, started again."""
    with site.hurt(site.ground.kill_broker, site.ground.start_broker):
        return site.held(BROKER_AWAY_S)


def broker_frozen(site: FaultSite, promise: Promise) -> float:
    """It takes bytes and answers nothing."""
    assert site.ground.broker is not None
    send = site.ground.broker.send_signal
    with site.hurt(partial(send, signal.SIGSTOP), partial(send, signal.SIGCONT)):
        return site.held(BROKER_AWAY_S)


def broker_cut(site: FaultSite, promise: Promise) -> float:
    """Its cable is out."""
    ground = site.ground

    def dark() -> None:
        ground.broker_cable.dark = True
        if site.chance.random() < 0.5:
            ground.cables.do(ground.broker_cable.cut)

    with site.hurt(dark, lambda: ground.cables.do(ground.broker_cable.heal)):
        return site.held(BROKER_AWAY_S)


def _exchange(hurt: Callable[[FaultSite], None], for_s: float = EXCHANGE_ASKED_S) -> Kind:
    """A book leaves while the exchange is like this."""

    def inflict(site: FaultSite, promise: Promise) -> float:
        ground = site.ground

        def heal() -> None:
            ground.exchange.trouble()
            ground.exchange.send(signal.SIGCONT)
            ground.cables.do(ground.exchange_cable.heal)

        with site.hurt(lambda: hurt(site), heal):
            site.offers()
            return site.held(for_s)

    return inflict


def _exchange_slow(site: FaultSite) -> None:
    site.ground.exchange_cable.delay_s = 10.0


def _exchange_down(site: FaultSite) -> None:
    site.ground.exchange.trouble(down=True)


def _exchange_wrong(site: FaultSite) -> None:
    kind = site.chance.choice(("garbage", "garbage_after", "error", "busy", "cut_after"))
    on = site.chance.choice(("submit", "results", "bids"))
    site.ground.exchange.trouble(kind=kind, on=on, count=3)


def _exchange_frozen(site: FaultSite) -> None:
    site.ground.exchange.send(signal.SIGSTOP)


def exchange_killed(site: FaultSite, promise: Promise) -> float:
    """kill -9 while a book is on its way, and started again with what it had taken."""
    exchange = site.ground.exchange
    site.offers()
    site.held(site.chance.uniform(0.0, EXCHANGE_ASKED_S / 2.0), asks=False)
    with site.hurt(exchange.kill, exchange.start):
        return site.held(EXCHANGE_ASKED_S / 2.0)


def exchange_cut(site: FaultSite, promise: Promise) -> float:
    """The cable is cut again and again while a book is on its way."""
    cables, cable = site.ground.cables, site.ground.exchange_cable
    site.offers()
    for _ in range(CUTS):
        site.held(site.chance.uniform(0.0, 2.0 * EXCHANGE_ASKED_S / CUTS), asks=False)
        cables.do(cable.cut)
    return site.held(HELD_S)


# --- disk ---


def disk_full(site: FaultSite, promise: Promise) -> float:
    """Not a byte is left; what was kept in memory is written when there is room."""
    filler = site.gateway.state / "filler"

    def fill() -> None:
        free = os.statvfs(site.gateway.state)
        with filler.open("wb") as file, suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, free.f_bfree * free.f_bsize)
        with filler.open("ab") as file, suppress(OSError):
            while True:
                file.write(b"0" * 4096)
                file.flush()

    # a write-ahead log that has room in itself is written on: the alarm comes when it is full too
    def free() -> None:
        filler.unlink(missing_ok=True)
        folder = os.open(filler.parent, os.O_RDONLY)
        os.fsync(folder)  # or the next power cut brings it back
        os.close(folder)

    with site.hurt(fill, free):
        site.held(PROVES_S)
    site.until(lambda: "journal_failed" not in site.alarms(), promise.back_s, "it writes again")
    return 0.0


def disk_hung(site: FaultSite, promise: Promise) -> float:
    """A write does not come back, and no error either."""
    state = str(site.gateway.state)

    def freeze(word: str) -> None:
        subprocess.run(["fsfreeze", word, state], check=True, capture_output=True, timeout=30.0)

    with site.hurt(partial(freeze, "--freeze"), partial(freeze, "--unfreeze")):
        return site.held(PROVES_S)


def disk_errors(site: FaultSite, promise: Promise) -> float:
    """The file system has seen an error and takes no more writes; then the gateway is started
    anew, as a person would."""
    gateway = _booted(site)
    with site.hurt(partial(_fail_disk, gateway.state), lambda: None):
        site.held(PROVES_S)
        site.until(lambda: "journal_failed" in site.alarms(), AT_ONCE_S, "journal_failed")
    gateway.stop()
    gateway.power_off()
    gateway.boot()
    gateway.start()
    return 0.0


def _fail_disk(state: Path) -> None:
    source = subprocess.run(
        ["findmnt", "-n", "-o", "SOURCE", str(state)], check=True, capture_output=True, text=True
    ).stdout.strip()
    Path(f"/sys/fs/ext4/{Path(source).name}/trigger_fs_error").write_text("the campaign")


def power_cut(site: FaultSite, promise: Promise) -> float:
    """Nothing more reaches the disk; then the power is back."""
    gateway = _booted(site)
    gateway.power_off()
    took_s = site.zero(promise.within_s)
    gateway.boot()
    gateway.start()
    return took_s


# --- clock ---


def _clock(move: Callable[[FaultSite, WallClock], None]) -> Kind:
    """The wall clock goes wrong; leases, ages and ticks do not notice."""

    def inflict(site: FaultSite, promise: Promise) -> float:
        clock = site.wall_clock()
        with site.hurt(lambda: move(site, clock), clock.set):
            return site.held(PROVES_S)

    return inflict


def _ahead(site: FaultSite, clock: WallClock) -> None:
    clock.set(site.chance.uniform(30.0, 90_000.0))


def _behind(site: FaultSite, clock: WallClock) -> None:
    clock.set(-site.chance.uniform(30.0, 90_000.0))


def _drifting(site: FaultSite, clock: WallClock) -> None:
    clock.set(drift_s_per_s=site.chance.choice((-0.5, 0.5)))


# --- what the machine has too little of ---


@contextmanager
def _limited(site: FaultSite, what: str, soft: int) -> Iterator[None]:
    before = site.gateway.soft(what)
    site.gateway.squeeze(what, soft)
    try:
        assert site.gateway.soft(what) == soft, f"the limit of {what} was not taken"
        yield
    finally:
        site.gateway.squeeze(what, before)


def descriptors_short(site: FaultSite, promise: Promise) -> float:
    """What is open stays open; nothing can be opened."""
    pid = site.gateway.pid()
    assert pid is not None
    most = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()) + 1
    with _limited(site, "nofile", most), ExitStack() as crowd:
        for _ in range(20):  # what is free below the limit
            crowd.enter_context(_connected(site))
        return site.held(PROVES_S, asks=False)


def memory_short(site: FaultSite, promise: Promise) -> float:
    """It goes on, or it ends at 0 and starts again; nothing in between."""
    pid = site.gateway.pid()
    assert pid is not None
    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    with _limited(site, "as", size + (site.chance.randrange(8) << 18)):
        site.ledger.post("/v1/events", name=f"short{site.chance.randrange(10**9)}")
        clock = Clock()
        while clock.s < PROVES_S:
            off_kw = abs(site.ground.sum_kw() - site.wanted_kw)
            if site.gateway.pid() != pid:
                return site.zero(promise.within_s)
            if off_kw > TOLERANCE_KW:
                site.until(lambda: site.gateway.pid() != pid, AFTER_S, "it ends or it controls")
    return 0.0


def _property(name: str, value: str, back: str) -> Kind:
    def inflict(site: FaultSite, promise: Promise) -> float:
        gateway = _booted(site)
        with site.hurt(lambda: gateway.limit(name, value), lambda: gateway.limit(name, back)):
            return site.held(PROVES_S)

    return inflict


def journald_stopped(site: FaultSite, promise: Promise) -> float:
    """Its socket fills up; nobody waits for it."""
    gateway = _booted(site)

    def send(name: str) -> None:
        gateway.inside("systemctl", "kill", "-s", name, "systemd-journald")

    with site.hurt(partial(send, "SIGSTOP"), partial(send, "SIGCONT")):
        for _ in range(40):  # each is a line in the log
            site.ledger.post("/v1/units/none/control", command="reset")
        return site.held(HELD_S * 2.0)


def names_hang(site: FaultSite, promise: Promise) -> float:
    """The broker and one unit are configured by name, and reconnect while no answer comes."""
    gateway, ground = _booted(site), site.ground
    site.unit = NAMES[-1]
    cable = ground.units[site.unit]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", DNS_PORT))

        def hurt() -> None:
            gateway.named(known=False)
            for each in (cable, ground.broker_cable):
                ground.cables.do(each.cut)

        with site.hurt(hurt, lambda: gateway.named(known=True)):
            return site.unit_zero(promise.within_s)


# --- clients ---


@contextmanager
def _connected(site: FaultSite) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.2)
        with suppress(OSError):
            client.connect(str(site.gateway.socket))
        yield client


def thousand_connections(site: FaultSite, promise: Promise) -> float:
    """All are left open and say nothing."""
    with ExitStack() as crowd:
        for _ in range(CONNECTIONS):
            crowd.enter_context(_connected(site))
        return site.held(HELD_S, asks=False)


def half_requests(site: FaultSite, promise: Promise) -> float:
    """They begin and do not finish, or say what is no request."""
    halves = (
        b"POST /v1/dispatch HTTP/1.1\r\nContent-Length: 400\r\n\r\n{",
        b"GET /v1/status HTT",
        b"POST /v1/units/A/power HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n",
        os.urandom(200),
    )
    with ExitStack() as crowd:
        for _ in range(HALVES):
            client = crowd.enter_context(_connected(site))
            with suppress(OSError):
                client.sendall(site.chance.choice(halves))
        return site.held(HELD_S)


KINDS: Mapping[str, Kind] = {
    "broker_killed": broker_killed,
    "broker_frozen": broker_frozen,
    "broker_cut": broker_cut,
    "exchange_down": _exchange(_exchange_down),
    "exchange_slow": _exchange(_exchange_slow),
    "exchange_wrong": _exchange(_exchange_wrong),
    "exchange_killed": exchange_killed,
    "exchange_frozen": _exchange(_exchange_frozen, EXCHANGE_FROZEN_S),
    "exchange_cut": exchange_cut,
    "disk_full": disk_full,
    "disk_hung": disk_hung,
    "disk_errors": disk_errors,
    "power_cut": power_cut,
    "clock_forward": _clock(_ahead),
    "clock_back": _clock(_behind),
    "clock_drift": _clock(_drifting),
    "descriptors_short": descriptors_short,
    "memory_short": memory_short,
    "tasks_short": _property("TasksMax", "1", "64"),
    "cpu_short": _property("CPUQuota", "33%", ""),
    "journald_stopped": journald_stopped,
    "names_hang": names_hang,
    "thousand_connections": thousand_connections,
    "half_requests": half_requests,
}
