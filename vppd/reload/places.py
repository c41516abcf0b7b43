"""Where in the configuration something stands, as errors name it: `field.yaml: units.A`.

Pure: names in, words out.
"""

from collections.abc import Iterable

from vppd.config.reference import FILES
from vppd.core.model import METER

SHOWN = 3  # of a file; the rest is counted
_SECTIONS = {section: file for file, sections in FILES.items() for section in sections}
_PARTS = {"schedule": "market.schedule", "region": "aggregator"}  # else named as their section
_LISTS = {"input": "interlock_inputs", "pmu": "pmu"}  # as in `input:fire`, `pmu one`


def key_of_owner(owner: str) -> str:
    """The key of who owns devices: a unit, the meter, an interlock input, a PMU."""
    if owner == METER:
        return owner
    kind, _, id_ = owner.partition(":")
    return f"{_LISTS[kind]}.{id_}" if id_ and kind in _LISTS else f"units.{owner}"


def key_of_part(name: str) -> str:
    """The key of a part that can be exchanged."""
    kind, _, id_ = name.partition(" ")
    return f"{_LISTS[kind]}.{id_}" if id_ and kind in _LISTS else _PARTS.get(name, name)


def placed(keys: Iterable[str]) -> str:
    """The files, and in each the keys that are meant; a key of no file stays alone."""
    files: dict[str, list[str]] = {}
    for key in keys:
        files.setdefault(_SECTIONS.get(key.partition(".")[0], ""), []).append(key)
    some = ((file, _some(found)) for file, found in files.items())
    return ", ".join(f"{file}: {words}" if file else words for file, words in some)


def _some(keys: list[str]) -> str:
    more = len(keys) - SHOWN
    return ", ".join(keys[:SHOWN]) + (f" and {more} more" if more > 0 else "")
