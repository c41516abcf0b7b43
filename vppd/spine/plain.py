"""Values of known classes as text, and back: exact, and nothing is run that the text says.

Only classes and enumerations handed to `Plain` are ever made, so a file from a stranger can be
opened. What JSON has no word for is a list that begins with a letter: t a tuple, l a list, f a
frozen set, d a mapping, @ a time, e a member of an enumeration, c an instance. Floats are exact:
Python writes the shortest decimal that reads back to the same bits.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, get_args, get_type_hints

CREDENTIAL = "(a credential)"
_LETTERS: Mapping[type, str] = {tuple: "t", list: "l", frozenset: "f", set: "f"}


class UnreadableError(ValueError):
    """Text that says something no class of this version can hold."""


def kinds_of(*roots: Any) -> frozenset[type]:
    """The dataclasses and enumerations that these are made of, through all annotations."""
    found: set[type] = set()
    waiting = list(roots)
    while waiting:
        kind = waiting.pop()
        waiting += get_args(kind)
        if not isinstance(kind, type) or kind in found:
            continue
        if issubclass(kind, Enum):
            found.add(kind)
        elif dataclasses.is_dataclass(kind):
            found.add(kind)
            waiting += get_type_hints(kind).values()
    return frozenset(found)


class Plain:
    """The codec of one set of classes."""

    def __init__(self, kinds: Iterable[type]) -> None:
        self._kinds = {_name(kind): kind for kind in kinds}
        self._fields: dict[type, tuple[str, ...]] = {
            kind: tuple(each.name for each in dataclasses.fields(kind) if each.init)
            for kind in self._kinds.values()
            if dataclasses.is_dataclass(kind)
        }

    def fields(self, kind: type) -> tuple[str, ...] | None:
        """What an instance of a known class is made of; None for any other."""
        return self._fields.get(kind)

    def text(self, value: object) -> str:
        """The value as text. Raises TypeError for a class that is not known."""
        return dumped(self.words(value))

    def value(self, text: str) -> Any:
        """What `text` was made of. Raises UnreadableError."""
        return self.made(parsed(text))

    def made(self, words: Any) -> Any:
        """What `words` were made of. Raises UnreadableError."""
        try:
            return self._of(words)
        except (TypeError, ValueError, KeyError, IndexError, RecursionError) as error:
            raise UnreadableError(f"not to be read by this version: {error!r}") from error

    def words(self, value: Any) -> Any:
        """The value as JSON has it. Raises TypeError for a class that is not known."""
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if (fields := self._fields.get(kind)) is not None:
            return ["c", _name(kind), {each: self.words(getattr(value, each)) for each in fields}]
        if isinstance(value, Enum) and _name(kind) in self._kinds:
            return ["e", _name(kind), value.value]
        if isinstance(value, str) and not isinstance(value, Enum):
            return CREDENTIAL  # a class of its own: nothing that anybody should read
        if kind is datetime:
            return ["@", value.isoformat()]
        if isinstance(value, Mapping):
            pairs = (each for pair in value.items() for each in pair)
            return ["d", *map(self.words, pairs)]
        letter = _LETTERS.get(kind)
        if letter is None:
            raise TypeError(f"{kind.__module__}.{kind.__name__} is not among the known classes")
        return [letter, *map(self.words, value)]

    def _of(self, words: Any) -> Any:
        if not isinstance(words, list):
            return words
        letter, rest = words[0], words[1:]
        match letter:
            case "c":
                return self._instance(*rest)
            case "e":
                return self._kinds[rest[0]](rest[1])
            case "@":
                return datetime.fromisoformat(rest[0])
            case "d":
                values = iter(map(self._of, rest))
                return dict(zip(values, values, strict=True))
            case "t":
                return tuple(map(self._of, rest))
            case "l":
                return list(map(self._of, rest))
            case "f":
                return frozenset(map(self._of, rest))
        raise ValueError(f"a list that begins with {letter!r}")

    def _instance(self, name: str, values: Mapping[str, Any]) -> Any:
        """What another version has beside the fields of this one is left out."""
        kind = self._kinds[name]
        known = self._fields[kind]
        return kind(**{each: self._of(value) for each, value in values.items() if each in known})


def _name(kind: type) -> str:
    return f"{kind.__module__.removeprefix('vppd.')}.{kind.__qualname__}"


def dumped(words: Any) -> str:
    """JSON on one line."""
    return json.dumps(words, separators=(",", ":"))


def parsed(text: str) -> Any:
    """JSON read. Raises UnreadableError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"not JSON: {error}") from error
