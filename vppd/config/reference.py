"""What each key of the configuration means, read from the same fields that validate it.

Nothing here reads a file: it turns the dataclasses of `vppd/core/settings.py` and
`vppd/core/profile.py` into words, for error messages and for `vppd explain`.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from difflib import get_close_matches
from enum import EnumType
from types import NoneType, UnionType
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

from vppd.config.document import KeyPath, plain
from vppd.core.bms import BmsProfile
from vppd.core.profile import DeviceProfile
from vppd.core.settings import ID, Settings
from vppd.core.settings_market import DAY, HHMM

FILES: Mapping[str, tuple[str, ...]] = {
    "vppd.yaml": (
        *("site", "mode", "role", "aggregator", "journal", "recorder", "api", "clock"),
        *("simulation", "mqtt", "metrics", "web"),
    ),
    "field.yaml": ("units", "interlock_inputs", "meter"),
    "campus.yaml": ("country", "dispatch", "rules"),
    "grid.yaml": (
        *("connection", "pmu", "sources", "bands", "droop", "ffr", "headroom", "ride_through"),
        *("orders", "scada", "evidence"),
    ),
    "market.yaml": ("market",),
}
UNWRAPPED = {"market.yaml": ("market",)}  # the file's top level is that section itself
PROFILE_FILE = "devices/NAME.yaml"
BMS_FILE = "devices/NAME.yaml beside devices/NAME.dbc"

MEASURES: Mapping[str, str] = {
    "kw": "kW",
    "kva": "kVA",
    "kvar": "kvar",
    "kwh": "kWh",
    "pct": "%",
    "pu": "per unit",
    "hz": "Hz",
    "s": "s",
    "min": "min",
    "v": "V",
    "a": "A",
    "c": "°C",
    "mb": "MB",
    "mw": "MW",
    "mwh": "MWh",
    "h": "h",
    "rs": "Rs",
    "days": "days",
    "latitude": "degrees",
    "longitude": "degrees",
}
LONGEST = 60  # longer values are cut in a message
SHORT = 10  # longer lists of words are cut in a sentence
PATTERNS = {
    ID: "letters, digits, _ . - (at most 64, the first a letter or a digit)",
    DAY: "a day YYYY-MM-DD",
    HHMM: "a time HH:MM",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its type, the sentence that documents it, its bounds and its default."""

    name: str
    kind: Any
    doc: str
    bounds: Mapping[str, Any]
    default: Any

    @property
    def required(self) -> bool:
        return self.default is MISSING


@functools.cache
def keys_of(kind: type) -> Mapping[str, Key]:
    """The keys of a settings class that a file may give, in order."""
    hints = get_type_hints(kind)
    return {
        field.name: Key(
            field.name,
            hints[field.name],
            field.metadata["doc"],
            {name: bound for name, bound in field.metadata.items() if name != "doc"},
            field.default_factory() if field.default_factory is not MISSING else field.default,
        )
        for field in dataclasses.fields(kind)
        if "doc" in field.metadata
    }


def is_block(kind: Any) -> TypeGuard[type]:
    """Whether a type is a mapping of documented keys."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def without_none(kind: Any) -> Any:
    """X of `X | None`; any other type as it is."""
    if get_origin(kind) not in {UnionType, Union}:
        return kind
    (inner,) = (each for each in get_args(kind) if each is not NoneType)
    return inner


def inside(kind: Any) -> Any:
    """What the items of a list or the values of a mapping are; other types as they are."""
    kind = without_none(kind)
    if get_origin(kind) is tuple:
        return without_none(get_args(kind)[0])
    if isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping):
        return get_args(kind)[1]
    return kind


def find(root: type, path: KeyPath) -> Key | None:
    """The key at a path of names and list positions, None where there is none."""
    kind: Any = root
    key: Key | None = None
    for part in path:
        if isinstance(part, str) and get_origin(kind) is tuple:
            kind = inside(kind)  # one mapping stands for a list of one
        if is_block(kind):
            if part not in keys_of(kind):
                return None
            key = keys_of(kind)[str(part)]
            kind = without_none(key.kind)
        elif inside(kind) is not kind and key is not None:
            kind = inside(kind)
            key = dataclasses.replace(key, kind=kind, bounds={})
        else:
            return None
    return key


def names_at(root: type, path: KeyPath) -> tuple[str, ...]:
    """The names that a mapping at this path may hold."""
    kind = root
    if path:
        key = find(root, path)
        kind = without_none(key.kind) if key else NoneType
        kind = inside(kind) if get_origin(kind) is tuple else kind
    return tuple(keys_of(kind)) if is_block(kind) else _listed(kind)


def _listed(kind: Any) -> tuple[str, ...]:
    """The names a mapping takes, where they come from a list of words."""
    names = get_args(without_none(kind))[:1]
    return tuple(names[0]) if names and isinstance(names[0], EnumType) else ()


def nearest(word: str, names: tuple[str, ...]) -> str:
    """`; did you mean ...` or `; known are ...`."""
    begun = [name for name in names if name.startswith(word)]
    close = begun or get_close_matches(word, names, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(sorted(names))}" if names else ""


def measure_of(name: str) -> str:
    """The unit in the last words of a name: `kW/s` of `ramp_max_kw_per_s`; empty when none."""
    head, *per = name.split("_per_")
    words = [head.rsplit("_", 1)[-1], *per]
    if any(word not in MEASURES for word in words):
        return ""
    return "/".join(MEASURES[word] for word in words)


def shown(value: Any) -> str:
    """A default as it would stand in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return str(value) or '""'
    if isinstance(value, tuple):
        return "[" + ", ".join(shown(each) for each in value) + "]"
    return str(value)


def allowed(kind: Any, bounds: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    inner = without_none(kind)
    if inner is not kind:
        return f"{allowed(inner, bounds)}, or null"
    if get_origin(kind) is Literal:
        return " or ".join(shown(each) for each in get_args(kind))
    if isinstance(kind, EnumType):
        words = [str(each) for each in tuple[Any, ...](kind)]
        return "one of " + ", ".join(words if len(words) <= SHORT else [*words[:3], "…"])
    if get_origin(kind) is tuple:
        least = ", at least one" if bounds.get("min_length") else ""
        return f"a list of {_plural(inside(kind))}{least}"
    if is_block(kind) or inside(kind) is not kind:
        return "a mapping"
    if kind is str:
        pattern = bounds.get("pattern")
        return f"text: {PATTERNS.get(pattern, pattern)}" if pattern else "text"
    if kind is bool:
        return "true or false"
    return ("a whole number" if kind is int else "a number") + _range(bounds)


def _plural(kind: Any) -> str:
    return "mappings" if is_block(kind) else {int: "whole numbers", str: "texts"}.get(kind, "items")


def _range(bounds: Mapping[str, Any]) -> str:
    if {"ge", "le"} <= bounds.keys():
        return f" from {bounds['ge']} to {bounds['le']}"
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    given = [f"{words[name]} {bound}" for name, bound in bounds.items() if name in words]
    return " " + " and ".join(given) if given else ""


# --- what is wrong with a value ---


def unknown(root: type, path: KeyPath, file: str) -> str:
    """What to say of a key that is not known there."""
    name = str(path[-1])
    if len(path) > 1 or file not in FILES:
        return "unknown key" + nearest(name, names_at(root, path[:-1]))
    home = next((each for each, names in FILES.items() if name in names), None)
    return f"belongs in {home}" if home else "unknown key" + nearest(name, FILES[file])


def missing(key: Key) -> str:
    """What to say of a required key that is not there."""
    return f"missing: {key.doc}; allowed: {allowed(key.kind, key.bounds)}"


def stand_in(key: Key) -> Any:
    """Some value that a key takes, to judge the rest of a file where it is missing or wrong."""
    kind, bounds = without_none(key.kind), key.bounds
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if isinstance(kind, EnumType):
        return next(iter(kind))
    if get_origin(kind) is tuple:
        return [stand_in(dataclasses.replace(key, kind=inside(kind), bounds={}))]
    if is_block(kind) or inside(kind) is not kind:
        return {}
    if kind in {str, bool}:
        return kind("x")
    return kind(bounds.get("ge", bounds.get("gt", 0) + 1))


def unfit(key: Key, value: Any) -> str:
    """What to say of a value that a key does not take."""
    kind = without_none(key.kind)
    if value is None:
        return f"has no value; allowed: {allowed(key.kind, key.bounds)}"
    return (
        f"{_worded(value)} is wrong; allowed: {allowed(key.kind, key.bounds)}{_hint(kind, value)}"
    )


def _worded(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _hint(kind: Any, value: Any) -> str:
    if kind is str and isinstance(value, bool | int | float):
        return " (quote it)"
    if kind in {int, float} and isinstance(value, str) and isinstance(plain(value), int | float):
        return " (write it without quotes)"
    if kind is int and isinstance(value, float) and value.is_integer():
        return f" (write {value:.0f})"
    if isinstance(kind, EnumType) and isinstance(value, str):
        return nearest(value, tuple(kind))
    return ""


# --- the reference ---


def explain(key: str | None = None) -> Iterator[str]:
    """The reference: one line a key, as `name [unit]: doc. What is allowed; default`.

    `key` is a dotted name or a part of one (`droop`, `safety.soc_min_pct`, `poll_s`), or `profile`
    or `bms_profile` for the keys of a device's model; None gives everything. Raises KeyError with
    the nearest name when there is no such key.
    """
    settings = [(file, line) for file in FILES for line in _file(file)]
    profile = [(PROFILE_FILE, line) for line in _lines(DeviceProfile, "profile")]
    profile += [(BMS_FILE, line) for line in _lines(BmsProfile, "bms_profile")]
    wanted = re.sub(r"\[\d*\]", "", key or "").strip(".")
    if wanted.split(".")[0] in {"profile", "bms_profile"}:
        found = [line for line in profile if _matches(line[1][0], wanted)]
    else:
        found = [line for line in settings + profile if _matches(line[1][0], wanted)]
    if not found:
        names = {name for _, (name, _) in settings + profile}
        words = tuple(names | {name.rsplit(".", 1)[-1] for name in names})
        close = get_close_matches(wanted, words, n=1)
        more = f"did you mean {close[0]}?" if close else "`vppd explain` lists them all"
        raise KeyError(f"no key {key}; {more}")
    file = ""
    for where, (_, text) in found:
        if where != file:
            yield f"# {where}"
            file = where
        yield text


def _matches(name: str, wanted: str) -> bool:
    return not wanted or f".{wanted}." in f".{name}."


def _file(file: str) -> Iterator[tuple[str, str]]:
    keys = keys_of(Settings)
    for name in FILES[file]:
        yield from _entry(keys[name], name)


def _lines(kind: type, prefix: str) -> Iterator[tuple[str, str]]:
    for key in keys_of(kind).values():
        yield from _entry(key, f"{prefix}.{key.name}")


def _entry(key: Key, name: str) -> Iterator[tuple[str, str]]:
    measure = measure_of(key.name)
    unit = f" [{measure}]" if measure else ""
    yield name, f"{name}{unit}: {key.doc} ({allowed(key.kind, key.bounds)}{_default(key)})"
    inner = inside(key.kind)
    if listed := _listed(key.kind):
        name = f"{name}.NAME"
        yield name, f"{name}: NAME is one of {', '.join(listed)}"
    if is_block(inner):
        yield from _lines(inner, name)


def _default(key: Key) -> str:
    if key.required:
        return "; required"
    return "" if is_block(type(key.default)) else f"; default {shown(key.default)}"
