"""Values as people type them on vppctl's command line; each raises ArgumentTypeError in words."""

import argparse
import re

SWITCHES = ("on", "off")
SIZES_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_s(text: str) -> float:
    """Seconds of 90s, 15m, 2h, 1h30m or plain seconds. Raises ArgumentTypeError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * SIZES_S[unit] for number, unit in parts)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    raise argparse.ArgumentTypeError(f"{text}: a time is 90s, 15m, 2h or 1h30m")


def power_kw(text: str) -> float:
    """kW, plus is discharge. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: power is a number of kW, minus is charging")
    return value


def curve_points(text: str) -> list[list[float]]:
    """Points of a curve as x:y,x:y. Raises ArgumentTypeError."""
    try:
        points = [[float(each) for each in pair.split(":")] for pair in text.split(",")]
    except ValueError:
        points = [[]]
    if any(len(point) != 2 for point in points):  # noqa: PLR2004  x and y
        raise argparse.ArgumentTypeError(f"{text}: points are X:Y,X:Y,...")
    return points


def power_factor(text: str) -> float:
    """Above 0 to 1. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text}: a power factor is above 0 and up to 1")
    return value


def power_or_switch(text: str) -> float | str | None:
    """kW, one of SWITCHES, or None for the word release. Raises ArgumentTypeError."""
    return text if text in SWITCHES else power_or_release(text)


def power_or_release(text: str) -> float | None:
    """kW, or None for the word release. Raises ArgumentTypeError."""
    return None if text == "release" else power_kw(text)
