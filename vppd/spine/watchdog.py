"""What ends the process when it no longer controls, and what keeps the garbage collector short.

systemd hears WATCHDOG=1 only from `proved`, which the tick calls after a tick in which every unit
had an outcome by its deadline. A thread of its own watches the same proof: when it stays away, it
writes the stack of every thread to stderr and ends the process, so that the supervisor's restart
comes even where systemd does not watch.
"""

import faulthandler
import gc
import os
import sys
import threading
from collections.abc import Callable
from typing import Literal

from vppd.core.ports import Clock
from vppd.spine.notify import Notifier

EXIT_CODE = 70  # EX_SOFTWARE
UNWATCHED_BOUND_S = 20.0
YOUNG_OBJECTS = 20_000  # before the collector looks; a tick of some hundred units keeps fewer
_LOOKS_OVERDUE = 2  # in a row


def dump_stacks() -> None:
    """The stack of every thread, on stderr."""
    faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)


class Watchdog:
    """Fed by proof of control alone."""

    def __init__(
        self,
        clock: Clock,
        notifier: Notifier,
        period_s: float | None,
        *,
        bound_s: float | None = None,
        dump: Callable[[], None] = dump_stacks,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """`period_s` is what systemd asks (`notify.watchdog_period_s`), None when it does not.

        `bound_s` is the longest time without proof; default 0.8 of the period, or 20 s.
        """
        self._clock = clock
        self._notifier = notifier
        self._feed_s = period_s / 3.0 if period_s else None
        self.bound_s = bound_s or (0.8 * period_s if period_s else UNWATCHED_BOUND_S)
        self._dump = dump
        self._end = end
        self._proved_s = clock.now_s()
        self._fed_s: float | None = None
        self._disarmed = threading.Event()
        self._thread: threading.Thread | None = None

    def proved(self, now_s: float) -> None:
        """Control was proven at `now_s`. Tells systemd at most every third of its period."""
        self._proved_s = now_s
        if self._feed_s is None or (self._fed_s is not None and now_s - self._fed_s < self._feed_s):
            return
        if self._notifier.watchdog():
            self._fed_s = now_s

    def age_s(self) -> float:
        """Seconds since the last proof."""
        return self._clock.now_s() - self._proved_s

    def arm(self) -> None:
        """Begin to watch: from here on the bound counts."""
        self._proved_s = self._clock.now_s()
        faulthandler.enable(file=sys.__stderr__ or 2, all_threads=True)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    def disarm(self) -> None:
        """The stop has begun, and has its own bound."""
        self._disarmed.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _watch(self) -> None:
        check_s = self.bound_s / 8.0
        looked_s = self._clock.now_s()
        overdue = 0
        while not self._disarmed.wait(check_s):
            now_s = self._clock.now_s()
            # after SIGSTOP or a suspended machine the loop gets its turn before it is judged
            slept = now_s - looked_s > 2.0 * check_s + 0.5
            looked_s = now_s
            overdue = 0 if slept or self.age_s() <= self.bound_s else overdue + 1
            if overdue >= _LOOKS_OVERDUE:
                try:
                    self._dump()
                finally:
                    self._end(EXIT_CODE)
                return


class GcMeter:
    """How long the garbage collector holds everything up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_s: float | None = None
        self.count = 0
        self.last_ms = 0.0
        self.max_ms = 0.0
        self.total_ms = 0.0

    def start(self) -> None:
        """Measure from now on."""
        gc.callbacks.append(self._on_gc)

    def stop(self) -> None:
        """Measure no more."""
        gc.callbacks.remove(self._on_gc)

    def _on_gc(self, phase: Literal["start", "stop"], info: dict[str, int]) -> None:  # noqa: ARG002
        now_s = self._clock.now_s()
        if phase == "start":
            self._began_s = now_s
        elif self._began_s is not None:
            self.last_ms = 1e3 * (now_s - self._began_s)
            self.max_ms = max(self.max_ms, self.last_ms)
            self.total_ms += self.last_ms
            self.count += 1
            self._began_s = None


def freeze() -> None:
    """After start: what lives now lives on, so the collector need never look at it again.

    What a tick makes dies in the next one by itself; a young generation larger than that keeps the
    collector from looking through it several times a tick.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
