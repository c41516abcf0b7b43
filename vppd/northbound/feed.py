"""What happens, as it happens: frames for the readers of /v1/events.

Every reader has a short queue of its own. One that does not keep up, or is gone, is cut off; the
site never waits for it.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from vppd.northbound.problems import encode

QUEUE_MAX = 32


class Reader:
    """One reader's queue. `cut` ends its connection at once."""

    def __init__(self, cut: Callable[[], None]) -> None:
        self._cut = cut
        self._frames: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, frame: bytes) -> None:
        """Hand over one frame; a full queue ends the reader."""
        if self._closed:
            return
        if len(self._frames) >= QUEUE_MAX:
            self._cut()
            self.close()
            return
        self._frames.append(frame)
        self._wake.set()

    async def next(self) -> bytes | None:
        """All frames that wait, as one; None when there will be no more."""
        await self._wake.wait()
        self._wake.clear()
        if self._closed:
            return None
        data = b"".join(self._frames)
        self._frames.clear()
        return data

    def close(self) -> None:
        """No more frames."""
        self._closed = True
        self._frames.clear()
        self._wake.set()


class Feed:
    """All readers of one site."""

    def __init__(self) -> None:
        self.readers: set[Reader] = set()
        self.cuts = 0

    def tell(self, event: str, data: object) -> None:
        """One event for everybody."""
        if self.readers:
            frame = framed(event, data)
            for reader in tuple(self.readers):
                reader.put(frame)

    def join(self, cut: Callable[[], None]) -> Reader:
        """A new reader."""

        def cut_and_count() -> None:
            self.cuts += 1
            cut()

        reader = Reader(cut_and_count)
        self.readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """The reader is gone."""
        self.readers.discard(reader)

    def close(self) -> None:
        """The end for everybody."""
        for reader in tuple(self.readers):
            reader.close()


def framed(event: str, data: object) -> bytes:
    """One server-sent event."""
    return b"event: " + event.encode() + b"\ndata: " + encode(data) + b"\n\n"
