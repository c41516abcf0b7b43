"""What a DBC must have for the model of a BMS to fit it; breaches, as in `rules`."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import cantools
from cantools.database.can import Database, Message
from cantools.database.errors import Error as DatabaseError

from vppd.config.document import KeyPath
from vppd.config.rules import Breach, broken
from vppd.core.bms import BmsProfile, signal_of
from vppd.core.settings import Settings

STANDARD_MAX, EXTENDED_MAX = 0x7FF, 0x1FFFFFFF


def dbc_rules(bms: BmsProfile) -> Iterator[Breach]:
    """Whether every frame and every signal that a model names is in its DBC."""
    try:
        dbc = _read(bms.dbc_path)
    except (DatabaseError, OSError, ValueError) as error:
        yield broken(("frames",), f"its DBC cannot be read: {error}")
        return
    messages = {message.name: message for message in dbc.messages}
    for name, frame in bms.frames.items():
        path = ("frames", name)
        message = messages.get(name)
        if message is None:
            yield broken(path, f"the DBC has no message {name}")
        elif frame.counter is not None and frame.counter not in _signals(message):
            text = f"{name} has no signal {frame.counter}"
            yield broken((*path, "counter"), text)
    known = {name: _signals(messages[name]) for name in bms.frames if name in messages}
    for place, name in _named(bms):
        try:
            signal_of(name, known)
        except ValueError as error:
            yield broken(place, str(error), ("frames",))
    yield from _keep_alive(bms, [messages[name] for name in known])


def bus_rules(settings: Settings) -> Iterator[Breach]:
    """BMSs on one bus are told apart by their identifiers alone, and those must exist."""
    units = [
        (index, unit, _identifiers(settings.bms_of(unit)))
        for index, unit in enumerate(settings.units)
        if unit.bms is not None
    ]
    for index, unit, identifiers in units:
        offset = unit.bms.id_offset if unit.bms is not None else 0
        for number, extended in sorted(identifiers):
            if number + offset > (EXTENDED_MAX if extended else STANDARD_MAX):
                text = f"identifier 0x{number + offset:X} does not exist on a CAN bus"
                yield broken(("units", index, "bms", "id_offset"), text)
                break
    for (_, first, ones), (index, second, others) in combinations(units, 2):
        a, b = first.bms, second.bms
        if a is None or b is None or (a.interface, a.channel) != (b.interface, b.channel):
            continue
        if (a.dbc, a.id_offset) == (b.dbc, b.id_offset):
            continue  # said by a rule of its own
        shared = {(n + a.id_offset, x) for n, x in ones} & {(n + b.id_offset, x) for n, x in others}
        if shared:
            base = ("units", index, "bms")
            yield broken(
                (*base, "id_offset"),
                f"{b.channel}: identifier 0x{min(shared)[0]:X} is of the BMS of {first.id} too;"
                " give each BMS on one bus an id_offset of its own",
                *((*base, name) for name in ("interface", "channel", "dbc")),
            )


def _keep_alive(bms: BmsProfile, messages: list[Message]) -> Iterator[Breach]:
    wanted = bms.keep_alive
    if wanted is None:
        return
    if not wanted.extended and wanted.id > STANDARD_MAX:
        text = f"0x{wanted.id:X} is no 11-bit identifier; say extended: true"
        yield broken(("keep_alive", "id"), text, ("keep_alive", "extended"))
    if (wanted.id, wanted.extended) in {(m.frame_id, m.is_extended_frame) for m in messages}:
        text = f"0x{wanted.id:X} is what the BMS itself sends"
        yield broken(("keep_alive", "id"), text, ("keep_alive", "extended"), ("frames",))


def _identifiers(bms: BmsProfile | None) -> set[tuple[int, bool]]:
    if bms is None:
        return set()
    messages = {message.name: message for message in _read(bms.dbc_path).messages}
    wanted = bms.keep_alive
    kept = set() if wanted is None else {(wanted.id, wanted.extended)}
    return kept | {(messages[n].frame_id, messages[n].is_extended_frame) for n in bms.frames}


def _named(bms: BmsProfile) -> Iterator[tuple[KeyPath, str]]:
    lists: Mapping[str, tuple[str, ...]] = {
        "cells": bms.cells,
        "sensors": bms.sensors,
        "balancing": bms.balancing,
    }
    for point, spec in bms.points.items():
        for index, name in enumerate(spec.signals):
            yield ("points", point, "signals", index), name
    for key, names in lists.items():
        for index, name in enumerate(names):
            yield (key, index), name


def _signals(message: Message) -> set[str]:
    return {signal.name for signal in message.signals}


def _read(path: str) -> Database:
    dbc: Any = cantools.database.load_file(path, database_format="dbc")
    if not isinstance(dbc, Database):
        raise ValueError("not a CAN database")  # noqa: TRY004  of the file
    return dbc
