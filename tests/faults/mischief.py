"""`vppd run` whose loop a signal of ours can wedge: SIGUSR1 spins for ever, SIGUSR2 waits for ever.

The product has no such hook; the campaign starts it through this file.
"""

import signal
import time

from vppd.cli.vppd import main


def _spin(*_: object) -> None:
    while True:
        pass


def _wait(*_: object) -> None:
    while True:
        time.sleep(3600.0)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _spin)
    signal.signal(signal.SIGUSR2, _wait)
    main()
