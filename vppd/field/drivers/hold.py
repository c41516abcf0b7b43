"""A serial line is held by whoever uses it: the lock that keeps a second program of ours off it.

A tty may be opened by anyone, and then each takes the other's bytes, and what one of them says on
leaving closes the other's adapter. So the line is locked (flock) before anything is written, as
pyserial does where it is asked to and pymodbus asks it; other serial programs look at the same
lock. It goes with its holder, however that ends, and no child that is executed inherits it.
TIOCEXCL is not used: root does not heed it, and on a pty it outlives its holder.
"""

import errno
import fcntl
import os

IN_USE = "in use by another program (a running vppd?)"
STOP_IT = "stop it"  # what a daemon can advise; a survey may ask the other instead
HELD = frozenset({errno.EAGAIN, errno.EBUSY})  # locked, or opened by somebody for itself alone


class HeldError(OSError):
    """The line is another program's."""


def hold(path: str) -> int:
    """Open the line and lock it: the file that holds it until it is closed. Nothing is written.

    Raises HeldError, or OSError where it cannot be opened at all.
    """
    file = -1
    try:
        file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if file >= 0:
            os.close(file)
        if error.errno in HELD:
            raise HeldError(error.errno, IN_USE, path) from error
        raise
    return file
