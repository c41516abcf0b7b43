"""Which settings differ between two configurations, key by key, with no secret in it. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from vppd.core.settings import Settings

HIDDEN = "(a secret)"
NONE = "(not there)"
_SECRETS = re.compile(r"(?:^|[_.])(?:password|passphrase|token|secret|private_key)$")
_LOGIN = re.compile(r"//[^/@\s]*@")
_LONG = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """One key and what it was and is, in words."""

    key: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.key}: {self.old} -> {self.new}"


def differences(old: Settings, new: Settings) -> tuple[Difference, ...]:
    """All of them, in the order of the keys. One of a list is named by its id."""
    return tuple(_between("", old, new))


def _between(key: str, old: Any, new: Any) -> Iterator[Difference]:
    if old == new:
        return
    if is_dataclass(old) and type(old) is type(new):
        for name in (each.name for each in fields(old)):
            inner = f"{key}.{name}" if key else name
            yield from _between(inner, getattr(old, name), getattr(new, name))
        return
    before, after = _named(old), _named(new)
    if before is None or after is None:
        yield Difference(key, _words(key, old), _words(key, new))
        return
    told = False
    for name in dict.fromkeys((*before, *after)):
        for each in _between(f"{key}.{name}", before.get(name), after.get(name)):
            told = True
            yield each
    if not told:
        yield Difference(key, ", ".join(before), ", ".join(after))  # another order


def _named(value: Any) -> dict[str, Any] | None:
    """A list whose members have ids, or a mapping, by name; None for anything else."""
    if isinstance(value, Mapping):
        return {str(name): each for name, each in value.items()}
    if isinstance(value, tuple) and all(hasattr(each, "id") for each in value):
        return {str(each.id): each for each in value}
    return None


def _words(key: str, value: Any) -> str:
    if value is None:
        return NONE
    if _SECRETS.search(key) or (isinstance(value, str) and type(value) is not str):
        return HIDDEN
    if is_dataclass(value):
        name = getattr(value, "id", None) or getattr(value, "name", None)
        return f"({name})" if name else "(given)"
    text = _LOGIN.sub("//(a secret)@", str(value))
    return text if len(text) <= _LONG else text[: _LONG - 3] + "..."
