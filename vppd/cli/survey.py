"""`vppd check --live` and `vppd discover`: shells around the read-only surveys, and their words."""

import asyncio
import json
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vppd.cli.survey_pmu import WITHIN_S as PMU_WITHIN_S
from vppd.cli.survey_pmu import ask_pmu
from vppd.core.ports import Clock
from vppd.core.settings import Settings
from vppd.field.survey.can import can_within_s, survey_can
from vppd.field.survey.remarks import Sheet, Verdict, worst
from vppd.field.survey.whole import cross_checked, survey, within_s
from vppd.spine.clock import SystemClock

MARKS = {Verdict.OK: "ok   ", Verdict.ODD: "ODD  ", Verdict.WRONG: "WRONG"}


def bound_s(settings: Settings) -> float:
    """The live check ends within this."""
    pmu_s = PMU_WITHIN_S if settings.pmu else 0.0
    return max(within_s(settings), can_within_s(settings), pmu_s)


def vppd_runs(path: Path) -> bool:
    """Whether a daemon listens on this socket."""
    with socket.socket(socket.AF_UNIX) as ours:
        try:
            ours.connect(str(path))
        except OSError:
            return False
    return True


def live_sheets(settings: Settings, *, running: bool) -> list[Sheet]:
    """Every device of the site, asked read-only."""
    return asyncio.run(_live(settings, SystemClock(), running=running))


async def _live(settings: Settings, clock: Clock, *, running: bool) -> list[Sheet]:
    async with asyncio.TaskGroup() as group:
        field = group.create_task(survey(settings, clock, vppd_runs=running))
        buses = group.create_task(survey_can(settings, clock, vppd_runs=running))
        pmus = [group.create_task(ask_pmu(pmu, clock)) for pmu in settings.pmu]
    sheets = cross_checked([*field.result(), *buses.result()], settings)
    return [*sheets, *(task.result() for task in pmus)]


def sheet_lines(sheets: Iterable[Sheet]) -> Iterator[str]:
    """One paragraph a device: a head, then one line a remark with its remedy."""
    for sheet in sheets:
        yield f"{sheet.device}  {sheet.what}  {sheet.where}"
        width = max(len(remark.about) for remark in sheet.remarks) if sheet.remarks else 0
        for remark in sheet.remarks:
            yield f"  {MARKS[remark.verdict]}  {remark.about.ljust(width)}  {remark.text}"
            if remark.remedy and remark.verdict is not Verdict.OK:
                yield f"         {' ' * width}  -> {remark.remedy}"
        yield ""


def summary(sheets: Sequence[Sheet]) -> str:
    """How many devices are ok, odd, wrong."""
    counts = [(verdict, sum(sheet.verdict is verdict for sheet in sheets)) for verdict in Verdict]
    told = ", ".join(f"{number} {verdict}" for verdict, number in counts if number)
    return f"{len(sheets)} device{'' if len(sheets) == 1 else 's'}: {told}"


def sheets_json(sheets: Sequence[Sheet]) -> str:
    """The same as one JSON document."""
    body: dict[str, Any] = {
        "verdict": worst(sheet.verdict for sheet in sheets),
        "devices": [
            {
                "device": sheet.device,
                "what": sheet.what,
                "where": sheet.where,
                "verdict": sheet.verdict,
                "remarks": [
                    {"verdict": r.verdict, "about": r.about, "text": r.text, "remedy": r.remedy}
                    for r in sheet.remarks
                ],
                "values": dict(sheet.values),
            }
            for sheet in sheets
        ],
    }
    return json.dumps(body, indent=1)
