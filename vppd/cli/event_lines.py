"""What vppctl shows of an event that was named."""

from vppd.cli.wire import Json


def named(view: Json) -> list[str]:
    """What is kept, from when on, and how to read it."""
    lines = [
        f"event {view['event']}: {view['begin']} to {view['end']}",
        f"rows of 100 ms from {view['rows_from']}",
    ]
    if "note" in view:
        lines.append(str(view["note"]))
    return [*lines, f"when it is over: vppd report event {view['event']}"]
