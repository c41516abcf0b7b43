"""One unit as vppctl shows it: who has it, its BMS with every cell, its inverter, its devices."""

from collections.abc import Iterable, Iterator

from vppd.cli.wire import Json
from vppd.cli.words import number, span, table, time_of

CELLS_A_LINE = 8
LOST, JUST_S = "lost", 1.0
COUNTS = ("requests", "replies", "refused", "no_reply", "bad_reply", "reconnects", "writes")


def unit_sections(view: Json) -> list[str]:
    """Only the sections that the unit has, each with an empty line after it."""
    lines: list[str] = []
    for section, words in (("bms", _bms), ("inverter", _inverter)):
        if view[section]:
            lines += [section, *(f"  {line}" for line in words(view[section])), ""]
    if view["devices"]:
        lines += [*_devices(view["devices"]), ""]
    return lines


def measured_kw(line: Json) -> float | None:
    """What a unit measures now: of one that is lost only what another device of it just showed."""
    old = line["state"] == LOST and (line.get("read_age_s") or 0.0) > JUST_S
    return None if old else line["power_kw"]


def unread(line: Json) -> str:
    """Since when nothing was read of a unit whose power is not known."""
    if measured_kw(line) is not None or "read_at" not in line:
        return ""
    if line["read_at"] is None:
        return "no reading yet"
    age_s = line["read_age_s"]
    return f"no reading since {time_of(line['read_at'], age_s)} ({span(age_s)} ago)"


def curves(kind: str | None, view: Json) -> list[str]:
    """Every curve, or one kind, point by point."""
    lines: list[str] = []
    for curve in view["curves"]:
        if kind in (None, curve["kind"]):
            x, y = curve["units"]
            lines.append(f"{curve['kind']} ({'in force' if curve['enabled'] else 'off'})")
            lines += [f"  {one:g} {x}  ->  {other:g} {y}" for one, other in curve["points"]]
    return lines or [f"{view['unit']}: the inverter has no such curve"]


def reactive_line(view: Json) -> list[str]:
    """Reactive power, where any is asked or shown."""
    asked, held = view["asked_kvar"], view["read_back_kvar"]
    if not asked and not held:
        return []
    return [
        f"  asked {number(asked)} kvar, setpoint {number(view['setpoint_kvar'])}, "
        f"read back {number(held)}"
    ]


def owner_lines(view: Json) -> list[str]:
    """Who has the device if not vppd, and what it was worn by."""
    lines = []
    if view["released"]:
        lines.append(f"  released: its own control has it; vppctl enable {view['id']} takes it")
    if view["rival_won"]:
        lines.append("  left alone: another controller commands it")
    if view["nvm_budget_left"] is not None:
        lines.append(
            f"  writes to non-volatile memory {view['nvm_writes']}, "
            f"left today {view['nvm_budget_left']}"
        )
    last = view["read_back"]
    if last and last["verdict"] == "changed":
        lines.append(f"  someone else wrote: {last['text']} ({span(last['age_s'])} ago)")
    return lines


def _bms(view: Json) -> Iterator[str]:
    yield _line(
        ("soc", view["soc_pct"], ".1f", "%"),
        ("soh", view["soh_pct"], ".1f", "%"),
        ("pack", view["pack_v"], ".2f", "V"),
        ("", view["pack_a"], "+.1f", "A"),
        ("cycles", view["cycles"], ".0f", ""),
    )
    yield "allows " + _line(
        ("discharge", view["discharge_max_a"], ".1f", "A"),
        ("charge", view["charge_max_a"], ".1f", "A"),
        ("up to", view["charge_max_v"], ".1f", "V"),
        ("down to", view["discharge_min_v"], ".1f", "V"),
    )
    yield (
        "cells "
        + _line(
            ("min", view["cell_min_v"], ".3f", "V"),
            ("max", view["cell_max_v"], ".3f", "V"),
            ("spread", view["cell_spread_v"], ".3f", "V"),
            ("min", view["cell_min_c"], ".1f", "C"),
            ("max", view["cell_max_c"], ".1f", "C"),
        )
        + (", balancing" if view["balancing"] else "")
    )
    balanced = view["cells_balancing"]
    cells = [
        number(value, ".3f") + ("*" if at < len(balanced) and balanced[at] else "")
        for at, value in enumerate(view["cells_v"])
    ]
    yield from _rows("V", cells)
    yield from _rows("C", [number(value, ".1f") for value in view["sensors_c"]])
    yield from _bits(view, ("fault_bits", "warning_bits"))
    barred = [way for way in ("discharge", "charge") if view[f"{way}_allowed"] is False]
    if barred:
        yield f"FORBIDS {', '.join(barred)}"
    if view["force_charge"]:
        yield "asks to be charged"


def _inverter(view: Json) -> Iterator[str]:
    yield f"{view['state'] or '?'}; " + _line(
        ("", view["power_kw"], "+.1f", "kW"),
        ("", view["reactive_kvar"], "+.1f", "kvar"),
        ("", view["apparent_kva"], ".1f", "kVA"),
        ("pf", view["power_factor"], ".3f", ""),
        ("", view["frequency_hz"], ".2f", "Hz"),
    )
    yield "dc " + _line(
        ("", view["dc_kw"], "+.1f", "kW"),
        ("", view["dc_v"], ".1f", "V"),
        ("", view["dc_a"], "+.1f", "A"),
        ("efficiency", view["efficiency_pct"], ".1f", "%"),
        ("", view["temperature_c"], ".1f", "C"),
    )
    limits = ("discharge_max_kw", "charge_max_kw", "apparent_max_kva")
    if any(view[name] is not None for name in limits):
        yield "allows " + _line(
            ("discharge", view["discharge_max_kw"], ".1f", "kW"),
            ("charge", view["charge_max_kw"], ".1f", "kW"),
            ("", view["apparent_max_kva"], ".1f", "kVA"),
        )
    yield from _bits(view, ("fault_bits", "alarm_bits"))


def _devices(devices: list[Json]) -> list[str]:
    counts = [name for name in COUNTS if any(name in each["counters"] for each in devices)]
    rows = [
        (
            str(each["name"]),
            {True: "up", False: "down"}.get(each["up"], "not tried"),
            *(str(each["counters"].get(name, "-")) for name in counts),
        )
        for each in devices
    ]
    heads = [name.replace("_", " ") for name in counts]
    return table(("device", "link", *heads), rows, "ll" + "r" * len(counts))


def _line(*parts: tuple[str, object, str, str]) -> str:
    """Each as name, value, unit; what is not known is left out."""
    words = (
        " ".join(filter(None, (name, number(value, form), unit)))
        for name, value, form, unit in parts
        if value is not None
    )
    return ", ".join(words) or "?"


def _rows(unit: str, values: list[str]) -> Iterable[str]:
    for at in range(0, len(values), CELLS_A_LINE):
        chunk = values[at : at + CELLS_A_LINE]
        yield (
            f"{at + 1:4}-{at + len(chunk):<3} "
            + " ".join(each.rjust(6) for each in chunk)
            + f" {unit}"
        )


def _bits(view: Json, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        if view[name]:
            yield f"{name.replace('_', ' ')} 0x{int(view[name]):04x}"
