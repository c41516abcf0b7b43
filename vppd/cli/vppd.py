"""`vppd`: run the daemon, check and explain its configuration, write an example, simulate."""

import importlib.metadata
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from vppd import config as configuration
from vppd.config import Finding, Loaded
from vppd.core.settings import Settings
from vppd.market import schedule

CHECKOUT = Path(__file__).parents[2]
CONFIG_DIR = "/etc/vppd"
STATE_DIR = "/var/lib/vppd"
SOCKET = "/run/vppd/vppd.sock"

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


@main.command()
@_config
@click.option("--trace", type=_file, help="frequency to play: CSV with t_s,freq_hz")
@click.option("--seed", type=int, help="of everything random; default: as configured")
@click.option("--fps", type=click.IntRange(1, 50), default=10, help="frames a second of each PMU")
@click.option("--faults", type=_file, help="Unix socket that takes faults while it runs")
@click.option("--with-parent", is_flag=True, help="end when standard input ends")
def sim(
    config_dir: Path,
    trace: Path | None,
    seed: int | None,
    fps: int,
    faults: Path | None,
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
        serve_plant(settings, trace, seed, fps, faults, words, with_parent=with_parent)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.option("--plant", type=_file, required=True, help="the socket given to sim --faults")
@click.option("--clear", is_flag=True, help="end the fault instead (NAME all: every one)")
@click.argument("name")
@click.argument("target", default="")
@click.argument("parameters", nargs=-1)
def fault(plant: Path, clear: bool, name: str, target: str, parameters: tuple[str, ...]) -> None:
    """Inject fault NAME into the simulated TARGET (unit, input or pmu); PARAMETERS as key=value.

    NAME `list` shows every fault with its parameters, `state` what the plant knows of TARGET.
    """
    from vppd.cli.plant import ask_plant  # noqa: PLC0415

    try:
        answer = ask_plant(plant, name, target, parameters, clear=clear)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{plant}: {error}") from error
    click.echo(json.dumps(answer, indent=1))
    if "error" in answer:
        sys.exit(1)


@main.command()
@_config
def check(config_dir: Path) -> None:
    """Show everything that is wrong or odd in the configuration; exit 1 when it cannot start."""
    loaded = configuration.load(config_dir)
    findings = (*loaded.findings, *_schedule_findings(config_dir, loaded))
    _print(findings)
    click.echo(f"{config_dir}: {_verdict(loaded.settings, findings)}")
    if loaded.settings is None:
        sys.exit(1)


@main.command()
@click.argument("key", required=False)
def explain(key: str | None) -> None:
    """Show what a configuration KEY means, or all; `profile` shows the keys of a device profile."""
    try:
        for line in configuration.explain(key):
            click.echo(line)
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from error


@main.command()
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
        raise click.ClickException(str(error)) from error
    click.echo(f"next: edit them, then `vppd check --config {directory}`")


def _usable(config_dir: Path) -> Settings:
    """Settings without an error; otherwise says what is wrong and ends with 1."""
    loaded = configuration.load(config_dir)
    if loaded.settings is None:
        _print(loaded.errors)
        raise click.ClickException(f"{config_dir}: {_verdict(None, loaded.findings)}")
    return loaded.settings


def _print(findings: Iterable[Finding]) -> None:
    for finding in findings:
        click.echo(str(finding))


def _verdict(settings: Settings | None, findings: Iterable[Finding]) -> str:
    levels = [finding.level for finding in findings]
    counts = {"error": levels.count("error"), "warning": levels.count("warning")}
    told = [_count(number, word) for word, number in counts.items() if number]
    if settings is not None:
        told = [_size(settings), f"mode {settings.mode}: fine", *told]
    return ", ".join(told)


def _size(settings: Settings) -> str:
    return f"{_count(len(settings.units), 'unit')}, {_count(len(settings.pmu), 'PMU')}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _schedule_findings(config_dir: Path, loaded: Loaded) -> Iterator[Finding]:
    """What is wrong with the schedule file: warnings, for the site runs without it."""
    if loaded.settings is None or loaded.settings.market.schedule is None:
        return
    name = loaded.settings.market.schedule
    try:
        schedule.parse((config_dir / name).read_text(encoding="utf-8"), name)
    except schedule.ScheduleError as wrong:
        for line, text in wrong.faults:
            yield Finding("warning", name, line, "", text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        yield Finding("warning", name, 0, "", f"schedule cannot be read: {reason}")


def _examples() -> list[Path]:
    """The example files: of the checkout this runs from, or of the installed distribution."""
    checkout = CHECKOUT / "etc" / "vppd"
    if (CHECKOUT / "pyproject.toml").is_file() and checkout.is_dir():
        return sorted(path for path in checkout.iterdir() if path.is_file())
    files = importlib.metadata.files("vppd") or []
    return sorted(
        Path(str(file.locate())) for file in files if file.parts[-4:-1] == ("share", "vppd", "etc")
    )
