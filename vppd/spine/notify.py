"""Telling systemd how we are: a datagram each, by the sd_notify protocol; never blocks or raises.

https://www.freedesktop.org/software/systemd/man/sd_notify.html
"""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """What to tell and where; without `$NOTIFY_SOCKET` nothing is sent.

    Every call returns whether systemd's socket took it.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._socket = (
            socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            )
            if name
            else None
        )

    @property
    def active(self) -> bool:
        """Whether there is anyone to tell."""
        return self._socket is not None

    def ready(self, status: str = "") -> bool:
        """Start or reload has ended well."""
        return self._send("READY=1", *([_status(status)] if status else []))

    def watchdog(self) -> bool:
        """Control is proven; see `vppd.spine.watchdog`."""
        return self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """The decision as a sentence, for `systemctl status`."""
        return self._send(_status(text))

    def stopping(self, text: str = "") -> bool:
        """The stop has begun."""
        return self._send("STOPPING=1", *([_status(text)] if text else []))

    def reloading(self, now_s: float) -> bool:
        """The reload has begun at `now_s` of the monotonic clock; `ready` ends it."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={round(now_s * 1e6)}")

    def extend_timeout(self, by_s: float) -> bool:
        """Start, stop or watchdog may take this much longer from now."""
        return self._send(f"EXTEND_TIMEOUT_USEC={round(by_s * 1e6)}")

    def _send(self, *lines: str) -> bool:
        if self._socket is None:
            return False
        data = "\n".join(lines).encode("utf-8", "backslashreplace")
        try:
            self._socket.sendto(data, self._address)
        except (OSError, ValueError):  # ValueError: a name that no socket can have
            return False
        return True


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())


def watchdog_period_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds within which systemd wants to hear from us, or None when it does not."""
    try:
        period_us = int(environ["WATCHDOG_USEC"])
        pid = int(environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return period_us / 1e6 if period_us > 0 and pid == os.getpid() else None
