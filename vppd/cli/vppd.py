"""`vppd`: run the daemon, check and explain its configuration, write an example, simulate."""

import importlib.metadata
import json
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from vppd import config as configuration
from vppd.cli.backtest_command import backtest_command
from vppd.cli.day_command import day_command
from vppd.cli.dropins import dropins_command
from vppd.cli.journal_commands import audit_group, backup_command, export_command
from vppd.cli.market_commands import market_group
from vppd.cli.money_commands import audit_command, cerc_command, market_command, settle_command
from vppd.cli.report.options import (
    STATE_DIR,
    format_option,
    give,
    output_option,
    state_option,
    zone_option,
)
from vppd.cli.words import told
from vppd.config import Finding, Loaded
from vppd.core.settings import Settings
from vppd.reload.schedule_file import with_schedule

CHECKOUT = Path(__file__).parents[2]
CONFIG_DIR = "/etc/vppd"
SOCKET = "/run/vppd/vppd.sock"
NO_PLANT = (
    "nobody takes faults there: it is what `vppd sim --faults` was given, or plant.sock beside the"
    " socket of a vppd that simulates"
)

_directory = click.Path(path_type=Path, file_okay=False)
_file = click.Path(path_type=Path, dir_okay=False)
_config = click.option(
    "--config", "config_dir", type=_directory, default=CONFIG_DIR, show_default=True
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="vppd")
def main() -> None:
    """The edge controller of a battery site."""


@main.command()
@_config
@click.option("--state", type=_directory, default=STATE_DIR, help="journal and latched trips")
@click.option("--socket", type=_file, default=SOCKET, help="where vppctl asks")
def run(config_dir: Path, state: Path, socket: Path) -> None:
    """Control the site until stopped."""
    from vppd.daemon import run_daemon  # noqa: PLC0415 - check and explain must not load the daemon

    sys.exit(run_daemon(config_dir, state, socket))


@main.command(short_help="Serve a simulated plant by the real protocols.")
@_config
@click.option("--trace", type=_file, help="frequency to play: CSV with t_s,freq_hz")
@click.option("--seed", type=int, help="of everything random; default: as configured")
@click.option("--fps", type=click.IntRange(1, 50), default=10, help="frames a second of each PMU")
@click.option("--faults", type=_file, help="Unix socket that takes faults while it runs")
@click.option("--exchange", type=_file, help="Unix socket on which an exchange is simulated too")
@click.option("--with-parent", is_flag=True, help="end when standard input ends")
def sim(
    config_dir: Path,
    trace: Path | None,
    seed: int | None,
    fps: int,
    faults: Path | None,
    exchange: Path | None,
    with_parent: bool,
) -> None:
    """Serve a simulated plant at the configured addresses, by the real protocols."""
    from vppd.cli.plant import serve_plant  # noqa: PLC0415 - only this command simulates

    settings = _usable(config_dir)
    if trace is None and settings.simulation.trace is not None:
        trace = config_dir / settings.simulation.trace
    seed = settings.simulation.seed if seed is None else seed
    words = f"{settings.site.id}: serving {_size(settings)}"
    try:
        serve_plant(
            settings, trace, seed, fps, faults, words, exchange=exchange, with_parent=with_parent
        )
    except (OSError, ValueError) as error:
        raise click.ClickException(told(error)) from error


@main.command(short_help="Hurt a simulated plant while it runs.")
@click.option("--plant", type=_file, required=True, help="the socket given to sim --faults")
@click.option("--clear", is_flag=True, help="end the fault instead (NAME all: every one)")
@click.argument("name")
@click.argument("target", default="")
@click.argument("parameters", nargs=-1)
def fault(plant: Path, clear: bool, name: str, target: str, parameters: tuple[str, ...]) -> None:
    """Inject fault NAME into the simulated TARGET; PARAMETERS as key=value, for_s=10 ends it.

    NAME `list` shows every fault with its parameters, `state` what the plant knows of TARGET.
    """
    from vppd.cli.plant import ask_plant, fault_lines  # noqa: PLC0415

    try:
        answer = ask_plant(plant, name, target, parameters, clear=clear)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise click.ClickException(f"{plant}: {NO_PLANT}") from error
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{plant}: {told(error)}") from error
    if "error" in answer:
        raise click.ClickException(str(answer["error"]))
    if name == "list":
        click.echo("\n".join(fault_lines(answer)))
    else:
        click.echo(json.dumps(answer, indent=1))


@main.command(short_help="Judge the configuration; --live: the devices too.")
@_config
@click.option("--live", is_flag=True, help="then ask every configured device, read-only")
@click.option("--reload", "reloads", is_flag=True, help="then list what a reload cannot change")
@click.option("--json", "as_json", is_flag=True, help="with --live: the devices as JSON")
@click.option("--socket", type=_file, default=SOCKET, help="with --live: where a daemon listens")
def check(config_dir: Path, live: bool, reloads: bool, as_json: bool, socket: Path) -> None:
    """Show everything that is wrong or odd in the configuration; exit 1 when anything is wrong.

    With --live every configured device is asked too, without writing anything; exit 1 when one of
    them is wrong. With --reload it says what `vppctl reload` and `systemctl reload` cannot change,
    and why; `vppctl reload --dry-run` asks the running daemon.
    """
    loaded = with_schedule(config_dir, configuration.load(config_dir))
    _print(loaded.findings, err=as_json)
    click.echo(f"{config_dir}: {_verdict(loaded)}", err=as_json)
    if loaded.settings is None or loaded.errors:
        sys.exit(1)
    if reloads:
        from vppd.reload.rules import RESTART_ONLY  # noqa: PLC0415 - check alone loads no layer

        click.echo("all can be reloaded but:")
        click.echo("\n".join(f"  {each}" for each in RESTART_ONLY))
    if live:
        sys.exit(_check_live(loaded.settings, as_json, socket))


@main.command(short_help="Bump a unit a few kW each way and judge it.")
@click.argument("unit")
@click.option("--socket", type=_file, default=SOCKET, help="where the running daemon listens")
@click.option("--power-kw", type=click.FloatRange(0, min_open=True), help="bump; default: 5 or 5 %")
@click.option("--hold", default="20s", help="how long each step is held: 20s, 1m; 5s to 5m")
@click.option("--settle", default="10s", help="within what time the power has to settle")
@click.option("--output", type=_directory, default=".", help="where the report goes")
@click.option("--yes", is_flag=True, help="do not ask; for automation")
def commission(
    unit: str, socket: Path, power_kw: float | None, hold: str, settle: str, output: Path, yes: bool
) -> None:
    """Bump UNIT a few kW each way and judge sign, scale and response; writes a report.

    Exit 0 when it passed, 1 when it failed or was broken off, 3 when the daemon is not there.
    """
    from vppd.cli.commission import command as bump  # noqa: PLC0415 - check and explain need none of it

    hold_s, settling_s = bump.seconds("--hold", hold), bump.seconds("--settle", settle)
    if not bump.HOLD_MIN_S <= hold_s <= bump.HOLD_MAX_S:
        raise click.UsageError(f"--hold {hold}: a step is held for 5s to 5m")
    sys.exit(
        bump.commission(
            socket,
            unit,
            power_kw=power_kw,
            hold_s=hold_s,
            settling_s=settling_s,
            output=output,
            sure=yes,
        )
    )


@main.command(short_help="Look for devices and draft a field.yaml.")
@click.argument("target", required=False)
@click.option("--serial", help="a serial line instead: /dev/ttyUSB0")
@click.option("--baudrate", type=click.IntRange(300, 1_000_000), default=9600)
@click.option("--parity", type=click.Choice(["N", "E", "O"]), default="N")
@click.option("--stopbits", type=click.IntRange(1, 2), default=1)
@click.option("--can", help="a CAN bus too or instead: INTERFACE:CHANNEL, socketcan:can0")
@click.option("--bitrate", type=click.IntRange(10_000, 1_000_000), default=500_000)
@click.option("--port", type=click.IntRange(1, 65535), default=502, help="TCP")
@click.option("--all-ids", is_flag=True, help="unit ids 1-247 and 255, not the usual ones alone")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.05, 5.0), default=0.5, help="of a request, s"
)
@click.option("--output", type=_file, help="write the draft there; a file is never overwritten")
@_config
def discover(target: str | None, serial: str | None, output: Path | None, **how: Any) -> None:
    """Look, read-only, for devices at TARGET and draft a field.yaml of them.

    TARGET is HOST, HOST:PORT, 192.168.1.0/28 or 192.168.1.10-20. What is seen goes to standard
    error, the draft to standard output or --output.
    """
    from vppd.cli.discover import discovered  # noqa: PLC0415 - only this loads the drivers

    try:
        sys.exit(discovered(target, serial, output, **how))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.ClickException(told(error)) from error


@main.group(invoke_without_command=True)
@click.option("--sql", is_flag=True, help="print the published queries and their numbers")
@click.pass_context
def report(context: click.Context, sql: bool) -> None:
    """What the journal proves: frequency events and months, from its rows alone."""
    if sql:
        from vppd.cli.report.sql import published  # noqa: PLC0415 - only reports need it
        from vppd.core.response_rules import TABLES  # noqa: PLC0415

        click.echo(published(TABLES[-1]))
    elif context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (day_command, market_command, cerc_command, audit_command):
    report.add_command(_command)
main.add_command(settle_command)
main.add_command(backtest_command)
main.add_command(market_group)
main.add_command(dropins_command)
for _command in (audit_group, backup_command, export_command):
    main.add_command(_command)


@report.command("event")
@click.argument("id_", metavar="ID")
@state_option
@zone_option
@format_option
@output_option
def report_event(id_: str, state: Path, timezone: str, form: str, output: Path | None) -> None:
    """Figures and verdicts of event ID; csv gives its 100 ms rows."""
    from vppd.cli.report.command import event_report  # noqa: PLC0415

    try:
        give(event_report(state, id_, _zone_of(timezone), form), output)
    except (OSError, LookupError) as error:
        raise click.ClickException(told(error)) from error


@report.command("frequency")
@click.option("--month", type=click.DateTime(["%Y-%m"]), required=True, help="YYYY-MM")
@state_option
@zone_option
@format_option
@output_option
def report_frequency(
    month: datetime, state: Path, timezone: str, form: str, output: Path | None
) -> None:
    """Each day's time in, below and above the band, and the month's events."""
    from vppd.cli.report.command import frequency_report  # noqa: PLC0415

    try:
        give(frequency_report(state, month.date(), _zone_of(timezone), form), output)
    except OSError as error:
        raise click.ClickException(told(error)) from error


@report.command("events")
@state_option
@zone_option
def report_events(state: Path, timezone: str) -> None:
    """Every frequency event of the journal, oldest first."""
    from vppd.cli.report.command import events_report  # noqa: PLC0415

    try:
        lines = events_report(state, _zone_of(timezone))
    except OSError as error:
        raise click.ClickException(told(error)) from error
    for line in lines or ["no frequency events"]:
        click.echo(line)


@main.command(short_help="Compute recorded decisions again.")
@click.argument("words", nargs=-1, metavar="[BUNDLE] [FROM [TO]]")
@click.option("--state", type=_directory, default=STATE_DIR, help="where it is recorded")
@click.option("--what-if", "changes", multiple=True, metavar="KEY=VALUE", help="another setting")
@click.option("--each", is_flag=True, help="a line for each tick that differs, not for each run")
def replay(words: tuple[str, ...], state: Path, changes: tuple[str, ...], each: bool) -> None:
    """Compute every recorded decision again, of a state directory or of a BUNDLE.

    FROM and TO are times as 2026-11-22T18:30:00Z. Exit 0 when every decision is bit for bit what it
    was, 1 when not. --what-if shows which ticks another setting would have changed, and why, as
    droop.droop_pct=4 or units.B1.safety.soc_min_pct=20; what was measured stays as recorded.
    """
    from vppd.cli import replay_command  # noqa: PLC0415 - it loads the daemon

    sys.exit(replay_command.run(words, state, changes, each=each))


@main.command(short_help="Show what a configuration key means.")
@click.argument("key", required=False)
def explain(key: str | None) -> None:
    """Show what a configuration KEY means, or all; `profile` and `bms_profile` show a device's."""
    try:
        for line in configuration.explain(key):
            click.echo(line)
    except KeyError as error:
        raise click.UsageError(told(error)) from error


@main.command(short_help="Write the commented example configuration.")
@click.argument("directory", type=_directory)
def init(directory: Path) -> None:
    """Write the commented example configuration into DIRECTORY; existing files are kept."""
    try:
        (directory / "devices").mkdir(parents=True, exist_ok=True)
        for example in _examples():
            target = directory / example.name
            if target.exists():
                click.echo(f"{target}: kept")
                continue
            with target.open("xb") as file:
                file.write(example.read_bytes())
            click.echo(f"{target}: written")
    except OSError as error:
        raise click.ClickException(told(error)) from error
    click.echo(f"next: edit them, then `vppd check --config {directory}`")


def _zone_of(name: str) -> ZoneInfo:
    """An IANA zone; anything else ends with 2."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise click.UsageError(f"--timezone {name}: no such zone") from error


def _usable(config_dir: Path) -> Settings:
    """Settings without an error; otherwise says what is wrong and ends with 1."""
    loaded = configuration.load(config_dir)
    if loaded.settings is None:
        _print(loaded.errors)
        raise click.ClickException(f"{config_dir}: {_verdict(loaded)}")
    return loaded.settings


def _print(findings: Iterable[Finding], *, err: bool = False) -> None:
    for finding in findings:
        click.echo(str(finding), err=err)


def _check_live(settings: Settings, as_json: bool, socket: Path) -> int:
    """Ask the devices and print what they showed; the exit code."""
    from vppd.cli import survey  # noqa: PLC0415 - only this loads the drivers

    running = survey.vppd_runs(socket)
    if running:
        click.echo("vppd runs: a device that serves one client only is left to it", err=True)
    click.echo(f"asking, read-only; done within {survey.bound_s(settings):.0f} s", err=True)
    sheets = survey.live_sheets(settings, running=running)
    if as_json:
        click.echo(survey.sheets_json(sheets))
    else:
        for line in (*survey.sheet_lines(sheets), survey.summary(sheets)):
            click.echo(line)
    return int(any(sheet.verdict == "wrong" for sheet in sheets))


def _verdict(loaded: Loaded) -> str:
    counts = {"error": len(loaded.errors), "warning": len(loaded.warnings)}
    told = ", ".join(_count(number, word) for word, number in counts.items() if number)
    if loaded.settings is None:
        return told
    about = f"{_size(loaded.settings)}, mode {loaded.settings.mode}"
    if loaded.errors:
        return f"{about}: {told}"
    return f"{about}: fine" + (f", {told}" if told else "")


def _size(settings: Settings) -> str:
    return f"{_count(len(settings.units), 'unit')}, {_count(len(settings.pmu), 'PMU')}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _examples() -> list[Path]:
    """The example files: of the checkout this runs from, or of the installed distribution."""
    checkout = CHECKOUT / "etc" / "vppd"
    if (CHECKOUT / "pyproject.toml").is_file() and checkout.is_dir():
        return sorted(path for path in checkout.iterdir() if path.is_file())
    files = importlib.metadata.files("vppd") or []
    return sorted(
        Path(str(file.locate())) for file in files if file.parts[-4:-1] == ("share", "vppd", "etc")
    )
