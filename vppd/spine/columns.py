"""Numbers as few bytes that compress well: each sort in a column of its own, written and read in
the same order.

What repeats is named by a small number, so both sides keep the same lists as they go; they last as
long as one `Writer` and the `Reader` of its chunks. Every float comes back bit for bit.
"""

import struct

REMEMBERED = 16_384  # numbers that may be named; later ones stand in full
_DOUBLE, _SINGLE, _BITS = struct.Struct("<d"), struct.Struct("<f"), struct.Struct("<q")
_LENGTHS = struct.Struct("<5I")
SHORT = 0x80  # what fits one byte
RECENT = 60  # instants that may be named: what one poll brought has one
LONGEST_BITS = 128  # of a whole number: a float's bits and a sign are half of that
NANO, CLOCK_MAX_S = 1e9, 1e9  # a clock counts nanoseconds; so long a machine is never up
_AGAIN, _CLOCK, _RAW, _SEEN = 0, 1, 2, 3  # how an instant stands, and how many ways there are
_FULL, _HALF, _NAMED = 0, 1, 2  # how a number stands: 8 bytes, 4 bytes, or by its name from 2 on


class DamagedError(ValueError):
    """Bytes that no `Writer` wrote."""


class Writer:
    """Takes numbers and words; `take` gives the bytes since the last `take`."""

    def __init__(self) -> None:
        self._heads, self._wholes, self._instants = bytearray(), bytearray(), bytearray()
        self._reals, self._texts = bytearray(), bytearray()
        self._names: dict[bytes, int] = {}
        self._words: dict[str, int] = {}
        self._seen: dict[float, int] = {}
        self._instant_ns = 0

    def head(self, value: int) -> None:
        """One byte, 0 to 255."""
        self._heads.append(value)

    def whole(self, value: int) -> None:
        """A whole number from 0 on; small ones are short."""
        _put(self._wholes, value)

    def signed(self, value: int) -> None:
        """A whole number; those near 0 are short."""
        _put(self._wholes, _zigzag(value))

    def instant(self, at_s: float) -> None:
        """A time of a clock, near the last ones given here; any other float is long."""
        seen, recent = _SEEN * self._seen.get(at_s, 0), self._instants
        if seen and at_s > 0.0:
            _put(recent, seen + _AGAIN)
            return
        at_ns = round(at_s * NANO) if 0.0 < at_s < CLOCK_MAX_S else 0
        if at_ns and at_ns / NANO == at_s:
            _put(recent, _SEEN * _zigzag(at_ns - self._instant_ns) + _CLOCK)
            self._instant_ns = at_ns
            self._seen[at_s] = len(self._seen) + 1
            if len(self._seen) > RECENT:
                self._seen.clear()
            return
        (bits,) = _BITS.unpack(_DOUBLE.pack(at_s))
        _put(recent, _SEEN * _zigzag(bits) + _RAW)

    def real(self, value: float) -> None:
        """Any float."""
        raw = _DOUBLE.pack(value)
        name = self._names.get(raw)
        if name is not None:
            if name < SHORT:  # called hundreds of times a tick
                self._wholes.append(name)
            else:
                _put(self._wholes, name)
            return
        if len(self._names) < REMEMBERED:
            self._names[raw] = len(self._names) + _NAMED
        half = _halved(value, raw)
        self._wholes.append(_FULL if half is None else _HALF)
        self._reals += raw if half is None else half

    def text(self, text: str) -> None:
        """Words; those said before are short."""
        name = self._words.get(text)
        if name is not None:
            if name + 1 < SHORT:
                self._wholes.append(name + 1)
            else:
                _put(self._wholes, name + 1)
            return
        self._words[text] = len(self._words)
        raw = text.encode("utf-8", "surrogatepass")
        self._wholes.append(0)
        _put(self._wholes, len(raw))
        self._texts += raw

    @property
    def size_bytes(self) -> int:
        """How much waits to be taken."""
        return len(self._heads) + len(self._wholes) + len(self._instants) + len(self._reals)

    def take(self) -> bytes:
        """Everything since the last time."""
        columns = self._heads, self._wholes, self._instants, self._reals, self._texts
        chunk = _LENGTHS.pack(*map(len, columns)) + b"".join(columns)
        for column in columns:
            column.clear()
        return chunk


class Reader:
    """Gives back what the chunks of one `Writer` hold, fed in their order."""

    def __init__(self) -> None:
        self._heads = self._wholes = self._instants = self._reals = self._texts = b""
        self._head_at = self._whole_at = self._instant_at = self._real_at = self._text_at = 0
        self._names: list[float] = []
        self._words: list[str] = []
        self._seen: list[float] = []
        self._instant_ns = 0

    def feed(self, chunk: bytes) -> None:
        """The next chunk; the one before was read to its end. Raises DamagedError."""
        if len(chunk) < _LENGTHS.size:
            raise DamagedError("a chunk without its lengths")
        lengths = _LENGTHS.unpack_from(chunk)
        if len(chunk) != _LENGTHS.size + sum(lengths):
            raise DamagedError("a chunk of another length than it says")
        at, columns = _LENGTHS.size, []
        for length in lengths:
            columns.append(chunk[at : at + length])
            at += length
        self._heads, self._wholes, self._instants, self._reals, self._texts = columns
        self._head_at = self._whole_at = self._instant_at = self._real_at = self._text_at = 0

    @property
    def more(self) -> bool:
        """Whether the chunk has another head."""
        return self._head_at < len(self._heads)

    @property
    def left(self) -> int:
        """How many heads the chunk has still."""
        return len(self._heads) - self._head_at

    def head(self) -> int:
        """The next byte. Raises DamagedError, as all of these do."""
        self._head_at += 1
        return _byte(self._heads, self._head_at - 1)

    def whole(self) -> int:
        """The next whole number."""
        value, self._whole_at = _get(self._wholes, self._whole_at)
        return value

    def signed(self) -> int:
        """The next whole number of either sign."""
        return _unzigzag(self.whole())

    def instant(self) -> float:
        """The next time."""
        code, self._instant_at = _get(self._instants, self._instant_at)
        value, how = divmod(code, _SEEN)
        if how == _AGAIN:
            if not 0 < value <= len(self._seen):
                raise DamagedError("an instant that never was")
            return self._seen[value - 1]
        try:
            if how != _CLOCK:
                return float(_DOUBLE.unpack(_BITS.pack(_unzigzag(value)))[0])
            self._instant_ns += _unzigzag(value)
            at_s = self._instant_ns / NANO
        except (struct.error, OverflowError) as error:
            raise DamagedError("an instant out of range") from error
        self._seen.append(at_s)
        if len(self._seen) > RECENT:
            self._seen.clear()
        return at_s

    def real(self) -> float:
        """The next float."""
        how = self.whole()
        if how >= _NAMED:
            if how - _NAMED >= len(self._names):
                raise DamagedError("a number that was never named")
            return self._names[how - _NAMED]
        form = _DOUBLE if how == _FULL else _SINGLE
        end = self._real_at + form.size
        if end > len(self._reals):
            raise DamagedError("a number is missing")
        (value,) = form.unpack(self._reals[self._real_at : end])
        self._real_at = end
        if len(self._names) < REMEMBERED:
            self._names.append(value)
        return float(value)

    def text(self) -> str:
        """The next words."""
        how = self.whole()
        if how:
            if how > len(self._words):
                raise DamagedError("words that were never said")
            return self._words[how - 1]
        begin = self._text_at
        self._text_at = begin + self.whole()
        if self._text_at > len(self._texts):
            raise DamagedError("words are missing")
        try:
            text = self._texts[begin : self._text_at].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise DamagedError("words that are none") from error
        self._words.append(text)
        return text


def _halved(value: float, raw: bytes) -> bytes | None:
    """The four bytes that hold the same number, where four do."""
    try:
        half = _SINGLE.pack(value)
    except OverflowError:
        return None
    return half if _DOUBLE.pack(_SINGLE.unpack(half)[0]) == raw else None


def _put(column: bytearray, value: int) -> None:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    while value > 0x7F:  # noqa: PLR2004  seven bits
        column.append(value & 0x7F | 0x80)
        value >>= 7
    column.append(value)


def _get(column: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := _byte(column, at)) & 0x80:
        if shift > LONGEST_BITS:
            raise DamagedError("a number longer than any")
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return value | byte << shift, at + 1


def _byte(column: bytes, at: int) -> int:
    if at >= len(column):
        raise DamagedError("a chunk ends too soon")
    return column[at]


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _unzigzag(value: int) -> int:
    return value >> 1 if not value & 1 else -(value + 1 >> 1)
