"""What a client sent, taken strictly: one flat JSON object with known members of the right type."""

import json
import math
import re
from collections.abc import Mapping, Sequence

from vppd.core.settings import ID
from vppd.northbound.problems import Problem

BODY_MAX_BYTES = 65536
TEXT_MAX = 256
PAIR = 2


class Body:
    """The members of a request, each read once by name; `done` refuses what nobody read."""

    def __init__(self, members: Mapping[str, object]) -> None:
        self._members = dict(members)
        self._read: set[str] = set()

    @property
    def members(self) -> Mapping[str, object]:
        """All of it, as sent."""
        return self._members

    def has(self, name: str) -> bool:
        """Whether it was given."""
        self._read.add(name)
        return name in self._members

    def is_null(self, name: str) -> bool:
        """Whether it was given as null."""
        return self.has(name) and self._members[name] is None

    def number(
        self, name: str, default: float | None = None, *, low: float, high: float
    ) -> float:  # the range is inclusive, in the unit of the name
        """A finite number in its range. Raises Problem 422."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(name, f"must be a number, is {_said(value)}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not low <= number <= high:
            raise _wrong(name, f"must be {low:g} to {high:g}, is {_said(value)}")
        return number

    def flag(self, name: str, default: bool | None = None) -> bool:
        """true or false. Raises Problem 422."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise _wrong(name, f"must be true or false, is {_said(value)}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A short text. Raises Problem 422."""
        value = self._take(name, default)
        if not isinstance(value, str) or len(value) > TEXT_MAX or not value.isprintable():
            raise _wrong(name, f"must be a text of up to {TEXT_MAX} signs, is {_said(value)}")
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of some words. Raises Problem 422."""
        value = self._take(name, None)
        if not isinstance(value, str) or value not in choices:
            raise _wrong(name, f"must be one of {', '.join(choices)}, is {_said(value)}")
        return value

    def pairs(self, name: str) -> tuple[tuple[float, float], ...]:
        """A list of [x, y]. Raises Problem 422."""
        value = self._take(name, None)
        if not isinstance(value, list):
            raise _wrong(name, f"must be a list of [x, y], is {_said(value)}")
        return tuple(_pair(name, each) for each in value)

    def rows(self, name: str, width: int) -> tuple[tuple[float, ...], ...]:
        """A list of lists of so many finite numbers. Raises Problem 422."""
        value = self._take(name, None)
        if not isinstance(value, list):
            raise _wrong(name, f"must be a list of lists, is {_said(value)}")
        return tuple(_numbers(name, each, width) for each in value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of short texts. Raises Problem 422."""
        value = self._take(name, None)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise _wrong(name, f"must be a list of texts, is {_said(value)}")
        return tuple(value)

    def id(self, name: str) -> str:
        """An id as in the configuration. Raises Problem 422."""
        value = self.text(name)
        if not re.match(ID, value):
            raise _wrong(name, "must be letters, digits, _ . - and at most 64 of them")
        return value

    def done(self) -> None:
        """Raises Problem 422 when a member is not known here."""
        unknown = [name for name in self._members if name not in self._read]
        if unknown:
            known = ", ".join(sorted(self._read)) or "no members"
            raise _wrong(_said(unknown[0]), f"is not known here; this route takes {known}")

    def _take(self, name: str, default: object) -> object:
        if self.has(name):
            return self._members[name]
        if default is None:
            raise _wrong(name, "is missing")
        return default


def parse(raw: bytes) -> Body:
    """One JSON object; nothing at all is an object without members. Raises Problem 400."""
    if not raw.strip():
        return Body({})
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except RecursionError:
        raise Problem(400, "malformed-json", "nested too deep: send one flat object") from None
    except UnicodeDecodeError:
        raise Problem(400, "malformed-json", "not UTF-8") from None
    except ValueError as error:
        text = f"not JSON: {error}"
        raise Problem(400, "malformed-json", text[:TEXT_MAX]) from None
    if not isinstance(value, dict):
        raise Problem(400, "malformed-json", f"must be one JSON object, is {_said(value)}")
    return Body(value)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is not a number")


def _wrong(name: str, what: str) -> Problem:
    return Problem(422, "unusable-value", f"{name} {what}", field=name)


def _pair(name: str, value: object) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != PAIR:
        raise _wrong(name, f"must be a list of [x, y], holds {_said(value)}")
    x, y = value
    for each in value:
        if isinstance(each, bool) or not isinstance(each, int | float):
            raise _wrong(name, f"must hold numbers, holds {_said(each)}")
    return float(x), float(y)


def _numbers(name: str, value: object, width: int) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != width:
        raise _wrong(name, f"must be lists of {width} numbers, holds {_said(value)}")
    for each in value:
        if isinstance(each, bool) or not isinstance(each, int | float) or not math.isfinite(each):
            raise _wrong(name, f"must hold numbers, holds {_said(each)}")
    return tuple(float(each) for each in value)


def _said(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    said = json.dumps(value, allow_nan=True) if not isinstance(value, str) else value
    return said if len(said) <= 64 else said[:61] + "..."  # noqa: PLR2004
