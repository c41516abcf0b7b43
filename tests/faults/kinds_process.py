"""What befalls the process: signals at random instants, a wedged loop, a reload.

A kind is a function of the site and its promise; it inflicts, watches for the promised state at the
devices, ends the fault, and returns after how many seconds the state was there. Raises Broken.
"""

import signal
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tests.faults.gateway import ABORT_S, WATCHDOG_S
from tests.faults.ground import Clock
from tests.faults.promises import Promise
from tests.faults.site import FaultSite

Kind = Callable[[FaultSite, Promise], float]
STOPPED_S = 6.0
HICCUP_S = 1.0
HELD_S = 1.5


def killed(site: FaultSite, promise: Promise) -> float:
    """It comes back by itself, with another pid."""
    was = site.gateway.pid()
    site.gateway.send(signal.SIGKILL)
    took_s = site.zero(promise.within_s)
    site.until(lambda: site.gateway.pid() not in (None, was), promise.back_s, "it is started again")
    return took_s


def terminated(site: FaultSite, promise: Promise) -> float:
    """0 kW comes from vppd, not from the devices' own timers."""
    stopping = threading.Thread(target=site.gateway.stop)
    stopping.start()
    try:
        took_s = site.zero(promise.within_s)
    finally:
        stopping.join()
    for unit in site.ground.units:
        last = site.ground.plant.state(unit)["setpoints"][-1]
        if (last["power_kw"], last["source"]) != (0.0, "modbus"):
            raise AssertionError(f"{unit} was not told 0 kW by vppd, but {last}")
    site.gateway.start()
    return took_s


def _stopped(site: FaultSite, promise: Promise) -> float:
    with site.hurt(partial(site.gateway.send, signal.SIGSTOP), site.cont):
        return site.zero(min(promise.within_s, STOPPED_S))


def hiccup(site: FaultSite, promise: Promise) -> float:
    """Longer than the dead man waits for a tick: it may ask 0 first, then goes on as before."""
    clock = Clock()
    with site.hurt(partial(site.gateway.send, signal.SIGSTOP), site.cont):
        site.until(lambda: clock.s >= HICCUP_S, HICCUP_S + 1.0, "time passes")
    took_s = site.owed(promise.within_s)
    site.held(HELD_S)
    return took_s


def _replaced(site: FaultSite, promise: Promise, number: int) -> float:
    """Whoever watches it ends it, and it comes back."""
    was = site.gateway.pid()
    site.gateway.send(number)
    took_s = site.zero(promise.within_s)
    within_s = WATCHDOG_S + ABORT_S + promise.back_s
    site.until(lambda: site.gateway.pid() not in (None, was), within_s, "it is replaced")
    return took_s


def reload_broken(site: FaultSite, _: Promise) -> float:
    """Refused whole, told in the journal, nothing moves."""
    path = site.ground.config / "grid.yaml"
    text = path.read_text()
    broken = site.chance.choice(
        (text.replace("droop_pct: 5", "droop_pct: 500"), text + "surprise: 1\n", "{", "")
    )

    def spoil() -> None:
        path.write_text(broken or text.replace("droop:", "doop:"))
        site.gateway.send(signal.SIGHUP)

    with site.hurt(spoil, partial(path.write_text, text)):
        return site.held(HELD_S)


def reload_good(site: FaultSite, _: Promise) -> float:
    """Another droop, without a bump."""
    path = Path(site.ground.config / "grid.yaml")
    text = path.read_text()
    pct = site.chance.choice((4, 5, 6))
    path.write_text("\n".join(_with_droop(line, pct) for line in text.splitlines()) + "\n")
    site.gateway.send(signal.SIGHUP)
    return site.held(HELD_S)


def _with_droop(line: str, pct: int) -> str:
    return (
        f"droop: {{droop_pct: {pct}, rocof_gain_pu_per_hz_per_s: 0}}"
        if line.startswith("droop:")
        else line
    )


KINDS: Mapping[str, Kind] = {
    "killed": killed,
    "terminated": terminated,
    "stopped": _stopped,
    "hiccup": hiccup,
    "frozen": partial(_replaced, number=signal.SIGSTOP),
    "spinning": partial(_replaced, number=signal.SIGUSR1),
    "waiting": partial(_replaced, number=signal.SIGUSR2),
    "reload_broken": reload_broken,
    "reload": reload_good,
}
