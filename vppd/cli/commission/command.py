"""`vppd commission UNIT`: a bump of a few kW each way, watched on more than one measurement.

The daemon runs and keeps every interlock; this is a client of its socket with an operator's rights.
Anything unexpected ends the test at 0 kW at once. The daemon journals the hash of the report.
"""

import argparse
import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import click

from vppd.cli.commission.bump import BumpTest, Daemon, Refused
from vppd.cli.commission.preflight import Bump, forbids, words
from vppd.cli.commission.report import Told, prove_writable, write_report
from vppd.cli.values import duration_s
from vppd.cli.wire import DaemonAbsent, Json
from vppd.field.step_verdict import Allowed, Judgement, Verdict, judge
from vppd.spine.clock import SystemClock

PASSED, FAILED, WRONG, ABSENT = 0, 1, 2, 3
DEFAULT_KW, DEFAULT_SHARE = 5.0, 0.05  # the bump where none is given: the smaller of the two
HOLD_MIN_S, HOLD_MAX_S = 5.0, 300.0
UNKNOWN_UNIT = 404
TEXT_MAX = 200  # of the text in the journal


def seconds(option: str, text: str) -> float:
    """Seconds of an option given as 20s, 1m or plain seconds. Raises click.UsageError."""
    try:
        return duration_s(text)
    except argparse.ArgumentTypeError as error:
        raise click.UsageError(f"{option} {error}") from error


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known before anything is asked."""

    bump: Bump
    basis: Json
    view: Json
    status: Json
    unit: Json


async def prepare(daemon: Daemon, unit: str, power_kw: float | None, hold_s: float) -> Prepared:
    """Look at everything, ask for nothing. Raises Refused, DaemonAbsent."""
    target = f"/v1/units/{quote(unit, '')}"
    basis = await daemon.get(f"{target}/commission")
    if power_kw is None:
        power_kw = min(DEFAULT_KW, DEFAULT_SHARE * float(basis["rated_power_kw"]))
    return Prepared(
        Bump(unit, power_kw, hold_s),
        basis,
        await daemon.get(f"{target}/samples"),
        await daemon.get("/v1/status"),
        await daemon.get(target),
    )


async def perform(test: BumpTest, prepared: Prepared, allowed: Allowed, output: Path) -> int:
    """Bump, judge, write the report, have its hash journaled; the exit code. Raises OSError,
    DaemonAbsent."""
    begun = test.clock.utc()
    with _break_off_on_signals(test):
        await test.run()
    judgement = judge(test.recorder.recording(test.steps, test.broken_off), allowed)
    after = await test.finish(judgement.verdict)
    told = Told(
        begun=begun,
        zone=test.daemon.zone,
        bump=test.bump,
        basis=test.basis,
        unit=prepared.unit,
        status=prepared.status,
        steps=test.steps,
        broken_off=test.broken_off,
        traces=test.recorder.columns(),
        after=after,
    )
    path, sha256 = write_report(output, told, judgement)
    for line in _summary(test, judgement, after):
        test.tell(line)
    test.tell(f"report: {path}")
    test.tell(f"sha256: {sha256}")
    test.tell(await _journal(test, judgement, path, sha256))
    return PASSED if judgement.verdict is Verdict.PASS else FAILED


def _summary(test: BumpTest, judgement: Judgement, after: str) -> Iterator[str]:
    for result in judgement.results:
        for check in result.checks:
            if check.verdict is not Verdict.PASS:
                yield (
                    f"{result.step.name}: {check.what}: {check.verdict}: {check.found}"
                    f" (wanted {check.wanted})"
                )
    for cause in judgement.causes:
        yield f"probable cause: {cause}"
    yield f"{test.bump.unit}: {_word(test, judgement).upper().replace('_', ' ')}"
    yield after


def _word(test: BumpTest, judgement: Judgement) -> str:
    """The verdict as the journal knows it."""
    if test.broken_off:
        return "aborted"
    return str(judgement.verdict).replace(" ", "_")


async def _journal(test: BumpTest, judgement: Judgement, path: Path, sha256: str) -> str:
    body = {
        "verdict": _word(test, judgement),
        "sha256": sha256,
        "report": path.name,
        "text": "; ".join([test.broken_off, *judgement.causes]).strip("; ")[:TEXT_MAX],
    }
    target = f"/v1/units/{quote(test.bump.unit, '')}/commission"
    try:
        answer = await test.daemon.post(target, body)
    except (Refused, DaemonAbsent) as error:
        return f"NOT journaled: {error}"
    return "journaled: vppctl events" if answer["kept"] else "NOT journaled: look at its alarm"


@contextmanager
def _break_off_on_signals(test: BumpTest) -> Iterator[None]:
    """Ctrl-C, a closed terminal and an end of the session break the test off, in order."""
    loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupted(number: signal.Signals) -> None:
        test.stop = f"interrupted by the operator ({number.name})"

    for number in numbers:
        loop.add_signal_handler(number, interrupted, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def commission(
    socket: Path,
    unit: str,
    *,
    power_kw: float | None,
    hold_s: float,
    settling_s: float,
    output: Path,
    sure: bool,
) -> int:
    """The whole command; the exit code."""
    daemon = Daemon(str(socket))
    try:
        prepared = asyncio.run(prepare(daemon, unit, power_kw, hold_s))
        return _confirmed(daemon, prepared, Allowed(settling_s=settling_s), output, sure=sure)
    except DaemonAbsent as absent:
        click.echo(f"vppd commission: {absent}", err=True)
        return ABSENT
    except Refused as refusal:
        click.echo(f"vppd commission: {refusal}", err=True)
        return WRONG if refusal.status == UNKNOWN_UNIT else FAILED
    except OSError as error:
        click.echo(f"vppd commission: the report cannot be written: {error}", err=True)
        return FAILED


def _confirmed(
    daemon: Daemon, prepared: Prepared, allowed: Allowed, output: Path, *, sure: bool
) -> int:
    """Say what will be done, ask, do it. Raises DaemonAbsent, OSError."""
    bump, basis, view = prepared.bump, prepared.basis, prepared.view
    for line in words(bump, basis, view, prepared.status):
        click.echo(line)
    reasons = list(forbids(bump, basis, view))
    for reason in reasons:
        click.echo(f"NOT possible: {reason}")
    if reasons:
        return FAILED
    prove_writable(output)
    if not sure:
        typed = click.prompt(f"Type {bump.unit} to begin, anything else to leave", default="")
        if typed.strip() != bump.unit:
            click.echo("not confirmed: nothing was asked of the unit")
            return FAILED
    test = BumpTest(daemon, SystemClock(), bump, basis, click.echo)
    return asyncio.run(perform(test, prepared, allowed, output))
