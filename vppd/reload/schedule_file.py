"""The schedule file beside the configuration: rows that cannot be read are errors of `vppd check`
and refuse a reload, as in any other file. A start goes on without a schedule all the same, and says
so by an alarm: frequency has to be answered, and whoever writes the file may write it again.
"""

from collections.abc import Iterator
from pathlib import Path

from vppd.config import Finding, Loaded
from vppd.market import schedule

NO_PLAN = "0 kW but for orders, operators and droop"
ABSENT = (
    f"not there, so nothing is scheduled: units give {NO_PLAN}, until it is there; a vppd that runs"
    " keeps the schedule that it has read"
)
NOT_USED = (
    "not used as it is: a vppd that runs keeps the schedule that it has read and refuses to reload;"
    f" one that starts has none, so units give {NO_PLAN}, until the file is mended"
)


def with_schedule(directory: Path, loaded: Loaded) -> Loaded:
    """A configuration with what is wrong in the schedule that it follows. Raises nothing."""
    if loaded.settings is None:
        return loaded
    market = loaded.settings.market
    if market.enabled or market.schedule is None:  # who trades follows no file
        return loaded
    found = tuple(_findings(directory / market.schedule, market.schedule))
    return Loaded(loaded.settings, (*loaded.findings, *found))


def _findings(path: Path, name: str) -> Iterator[Finding]:
    faults: tuple[tuple[int, str], ...] = ()
    try:
        schedule.parse(path.read_text(encoding="utf-8"), name)
    except FileNotFoundError:
        yield Finding("warning", name, 0, "", ABSENT)
    except schedule.ScheduleError as wrong:
        faults = wrong.faults
    except UnicodeDecodeError:
        faults = ((0, "cannot be read: not UTF-8 text"),)
    except OSError as error:
        faults = ((0, f"cannot be read: {error.strerror or error}"),)
    for line, text in faults:
        yield Finding("error", name, line, "", text)
    if faults:
        yield Finding("warning", name, 0, "", NOT_USED)
