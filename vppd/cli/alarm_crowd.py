"""One cause as one alarm, for the screen: a silent device leaves every rule of its unit without a
value, and each of them raises its own alarm. `vppctl alarms` shows them one by one."""

from vppd.cli.wire import Json

# Why a value may not be believed (core.model.Quality); an alarm's text then ends with the word.
BLIND = frozenset({"missing", "stale", "frozen", "implausible", "dead_bus"})
FEW = 3


def gathered(alarms: list[Json]) -> list[Json]:
    """The alarms with those that only miss values as one of each unit, level and quality, in the
    place of the first of them. Up to two stay as they are."""
    groups: dict[tuple[str, str, str], list[Json]] = {}
    for each in alarms:
        if (why := _blind(each)) is not None:
            groups.setdefault((each["unit"], each["level"], why), []).append(each)
    lines: list[Json] = []
    for each in alarms:
        group = groups.get((each["unit"], each["level"], _blind(each) or ""), [])
        if len(group) < FEW:
            lines.append(each)
        elif each is group[0]:
            lines.append(_one(group, str(_blind(each))))
    return lines


def _blind(alarm: Json) -> str | None:
    """The quality that is all an alarm tells, as in `pack_v stale`; None: it tells of a value."""
    words = str(alarm["text"]).split()
    return words[1] if len(words) == 2 and words[1] in BLIND else None  # noqa: PLR2004


def _one(group: list[Json], why: str) -> Json:
    points = dict.fromkeys(str(each["text"]).split()[0] for each in group)
    oldest = max(group, key=lambda each: float(each["age_s"]))
    return {
        **oldest,
        "code": f"reading_{why}",
        "text": f"{len(group)} rules have no value: {', '.join(points)}",
        "remedy": None,
    }
