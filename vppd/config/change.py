"""One setting changed after the files were read, to see what it would do: `droop.droop_pct=4`."""

import re
from dataclasses import is_dataclass, replace
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from vppd.config.document import plain
from vppd.config.reference import allowed, keys_of
from vppd.config.schema import annotated
from vppd.core.settings import Settings

T = TypeVar("T")
_PART = re.compile(r"\.?([A-Za-z0-9_-]+)|\[(\d+)\]")


def changed(settings: Settings, key: str, text: str) -> Settings:
    """The settings with another value at a dotted key, as YAML spells both. One of a list is named
    by its place, `units[0]`, or by its id, `units.B1`. Raises ValueError."""
    parts: list[str | int] = []
    at = 0
    while at < len(key):
        found = _PART.match(key, at)
        if found is None:
            raise ValueError(f"{key}: not a dotted key")
        parts.append(found[1] if found[2] is None else int(found[2]))
        at = found.end()
    return _put(settings, parts, key, text)


def _put(inside: T, parts: list[str | int], key: str, text: str) -> T:
    if isinstance(inside, tuple):
        place = _place(inside, parts[0], key)
        rest = _put(inside[place], parts[1:], key, text)
        return (*inside[:place], rest, *inside[place + 1 :])  # type: ignore[return-value]
    name = parts[0] if parts else ""
    if not is_dataclass(inside) or isinstance(inside, type) or name not in keys_of(type(inside)):
        raise ValueError(f"{key}: there is no {name!r} here")
    name = str(name)
    if len(parts) > 1:
        return replace(inside, **{name: _put(getattr(inside, name), parts[1:], key, text)})
    one = keys_of(type(inside))[name]
    try:
        value: Any = TypeAdapter(annotated(one.kind, one.bounds)).validate_python(plain(text))
    except ValidationError as error:
        raise ValueError(f"{key}: {text}: allowed is {allowed(one.kind, one.bounds)}") from error
    return replace(inside, **{name: value})


def _place(inside: tuple[Any, ...], part: str | int, key: str) -> int:
    places = range(len(inside)) if isinstance(part, int) else ()
    ids = [str(getattr(each, "id", "")) for each in inside]
    if part in places:
        return int(part)
    if part in ids:
        return ids.index(str(part))
    raise ValueError(f"{key}: there is no {part!r} here")
