"""`vppd replay`: its words, and how differences are shown."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from vppd.cli.replay import Difference, Ears, Span, recorded_in, replay
from vppd.cli.words import told
from vppd.spine.clock import SystemClock

PROGRESS_S = 2.0
WHERE_ELSE = "`--state DIR` says where vppd records, or give a BUNDLE of `vppctl bundle`"


def run(words: Sequence[str], state: Path, changes: Sequence[str], *, each: bool) -> int:
    """Replay and print; the exit code. Raises click's errors."""
    place, moments = state, list(words)
    if moments and Path(moments[0]).is_file():
        place = Path(moments.pop(0))
    elif moments and Path(moments[0]).is_dir():
        raise click.UsageError(f"{moments[0]} is a directory: --state {moments[0]}")
    if len(moments) > 2:  # noqa: PLR2004  FROM and TO
        raise click.UsageError(f"{moments[2]}: after FROM and TO nothing more is known")
    begin, end = (*map(_moment, moments), None, None)[:2]
    if not place.exists():
        raise click.ClickException(f"there is no {place}: {WHERE_ELSE}")
    lines, pace = Lines(each=each), Pace(SystemClock().now_s)
    ears = Ears(lines.take, lambda text: click.echo(_shown(text), err=True), pace.tell)
    try:
        with recorded_in(place) as found:
            recorded = bool(found)
            played = replay(found, Span(begin, end), [_change(text) for text in changes], ears)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.ClickException(told(error)) from error
    if not recorded:
        raise click.ClickException(f"{place}: nothing is recorded there: {WHERE_ELSE}")
    lines.end()
    if not played.ticks:
        click.echo(f"{place}: no tick was recorded then", err=True)
    click.echo(f"{played.ticks} ticks, {played.differing} differences")
    return int(bool(played.differing or played.damaged or not played.ticks))


class Lines:
    """Differences as lines: one for each tick and unit, or one for ticks in a row that differ for
    the same reason."""

    def __init__(self, *, each: bool) -> None:
        self._each = each
        self._runs: dict[str, list[Difference]] = {}

    def take(self, difference: Difference) -> None:
        """One more."""
        if self._each:
            click.echo(_shown(_line([difference])))
            return
        for unit in [unit for unit, run in self._runs.items() if not _follows(run, difference)]:
            click.echo(_shown(_line(self._runs.pop(unit))))
        self._runs.setdefault(difference.unit, []).append(difference)

    def end(self) -> None:
        """No more come."""
        for run in self._runs.values():
            click.echo(_shown(_line(run)))


class Pace:
    """Says now and then how far it is."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._due_s = now_s() + PROGRESS_S

    def tell(self, at: datetime, ticks: int) -> None:
        """How far it is."""
        if self._now_s() >= self._due_s:
            self._due_s = self._now_s() + PROGRESS_S
            click.echo(f"at {_time(at)}, {ticks} ticks", err=True)


def _shown(text: str) -> str:
    """Without what a terminal would take for a command: a stranger may have chosen the words."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _follows(run: Sequence[Difference], new: Difference) -> bool:
    """Whether a run may go on: the next tick, and where it is of this unit, for the same reason."""
    last = run[-1]
    if last.unit != new.unit:
        return last.number >= new.number - 1
    return last.number == new.number - 1 and _kind(last) == _kind(new)


def _kind(difference: Difference) -> str:
    """A reason without its numbers."""
    return "".join(each for each in difference.why if not each.isdigit() and each not in "+-.")


def _line(run: Sequence[Difference]) -> str:
    first, last = run[0], run[-1]
    worst = max(run, key=lambda each: abs(each.recomputed_kw - each.recorded_kw))
    powers = f"recorded {worst.recorded_kw:+.2f} kW, recomputed {worst.recomputed_kw:+.2f} kW"
    if len(run) == 1:
        return f"{_time(first.utc)}  {first.unit}  {powers}: {first.why}"
    span = f"{_time(first.utc)} to {_time(last.utc)}"
    return f"{span}  {first.unit}  {len(run)} ticks, at most: {powers}: {worst.why}"


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        hint = "and a time is 2026-11-22T18:30:00Z"
        raise click.UsageError(f"there is no file {text}, {hint}") from error
    if moment.tzinfo is None:
        raise click.UsageError(f"{text}: of which zone? 2026-11-22T18:30:00Z or +05:30")
    return moment


def _change(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--what-if {text}: KEY=VALUE, as droop.droop_pct=4")
    return key.strip(), value.strip()
