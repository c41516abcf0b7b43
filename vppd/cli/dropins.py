"""`vppd dropins`: systemd drop-ins that open for this site what its configuration needs, no more.

A file made here begins with a line that says so; only such files are written anew or removed.
Names are resolved now, for the kernel's allow-list knows addresses only; one that cannot be is
refused, because a device that is left out looks exactly like one that is switched off.
"""

import os
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from vppd import config as configuration
from vppd.cli.words import told
from vppd.config.openings import DROP_INS, Host, Openings, credential_names, openings_of

MADE = "# Made by `vppd dropins`"
FILES = ("serial.conf", "can.conf", "ip.conf", "users.conf", "credentials.conf")
RESOLVER = Path("/etc/resolv.conf")
SECRETS = "credentials"
USUAL_SERIALS = ("ttyUSB", "ttyACM", "ttyS")
OTHERS_BITS = 0o077

Resolve = Callable[[str], Iterable[str]]


class RefusedError(Exception):
    """The drop-ins cannot be made; a sentence for each reason."""

    def __init__(self, reasons: Iterable[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("\n".join(self.reasons))


def resolved(name: str) -> tuple[str, ...]:
    """The addresses of a name, as the system resolves it. Raises OSError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(sorted({str(each[4][0]).split("%", maxsplit=1)[0] for each in found}))


def name_servers(resolver: Path = RESOLVER) -> tuple[str, ...]:
    """Who is asked for names, as addresses."""
    try:
        text = resolver.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(re.findall(r"^nameserver\s+([0-9A-Fa-f.:]+)", text, re.MULTILINE))


def drop_ins(
    openings: Openings, directory: Path, resolve: Resolve, servers: Iterable[str]
) -> dict[str, str]:
    """The text of each drop-in by its file name. Raises RefusedError."""
    made = {"ip.conf": _addresses(openings.hosts, resolve, servers)}
    if openings.serials:
        made["serial.conf"] = _serial(openings.serials)
    if openings.can:
        made["can.conf"] = (
            "# SocketCAN is an address family: no device file and no capability.\n"
            "[Service]\nRestrictAddressFamilies=AF_CAN\n"
        )
    if not openings.people:
        made["users.conf"] = (
            "# api.viewers and api.operators are null: only root and vppd itself use the socket,\n"
            "# so nothing is lost when the service does not see who else there is.\n"
            "[Service]\nPrivateUsers=yes\n"
        )
    if openings.credentials:
        made["credentials.conf"] = _credentials(openings.credentials, directory)
    head = f"{MADE} from {directory}. After a change there: sudo vppd dropins --write\n"
    foot = "# Lines of your own go into another file of this folder.\n"
    return {name: head + foot + made[name] for name in FILES if name in made}


def _addresses(hosts: Iterable[Host], resolve: Resolve, servers: Iterable[str]) -> str:
    lines, unknown, named = [], [], False
    for host in hosts:
        if host.loopback:
            continue
        addresses: tuple[str, ...] = (host.address,) if host.address is not None else ()
        if not addresses:
            named = True
            try:
                addresses = tuple(resolve(host.name))
            except OSError as error:
                told = error.strerror or error
                unknown.append(f"{host.key}: {host.name} cannot be resolved now ({told}); give an "
                               "address, or run this again when it can be")  # fmt: skip
                continue
        shown = f"{host.key} = {host.name}" if host.address is None else host.key
        lines += [(address, shown) for address in addresses]
    if unknown:
        raise RefusedError(unknown)
    if named:
        lines += [(address, "resolves names") for address in servers]
    text = "# All else vanishes, both ways, in the kernel.\n[Service]\nIPAddressDeny=any\n"
    text += "IPAddressAllow=localhost\n"
    whys: dict[str, list[str]] = {}
    for address, why in lines:
        whys.setdefault(address, []).append(why)
    for address, reasons in whys.items():
        text += f"# {', '.join(dict.fromkeys(reasons))}\nIPAddressAllow={address}\n"
    return text


def _serial(paths: Iterable[str]) -> str:
    families = sorted({family for path in paths for family in _families(path)})
    allowed = "".join(f"DeviceAllow=char-{family} rw\n" for family in families)
    return (
        f"# {', '.join(paths)}: by kind, so that an adapter may be plugged in later.\n"
        "[Service]\nPrivateDevices=no\nDevicePolicy=closed\n"
        f"{allowed}SupplementaryGroups=dialout\n"
    )


def _families(path: str) -> tuple[str, ...]:
    """The kind of character device behind a path; the usual ones where it cannot be told."""
    for name in (path, os.path.realpath(path)):
        if found := re.fullmatch(r"/dev/(tty[A-Za-z]+)\d+", name):
            return (found[1],)
    return USUAL_SERIALS


def _credentials(names: Iterable[str], directory: Path) -> str:
    text = "# Files of root, which systemd hands to vppd alone.\n[Service]\n"
    for name in names:
        plain = directory / SECRETS / name
        sealed = plain.with_name(f"{name}.cred")
        text += (
            f"LoadCredentialEncrypted={name}:{sealed}\n"
            if sealed.exists()
            else f"LoadCredential={name}:{plain}\n"
        )
    return text


def unsafe(names: Iterable[str], directory: Path) -> Iterator[str]:
    """What is wrong with the files of these credentials; their text is not looked at."""
    for name in names:
        path = directory / SECRETS / name
        sealed = path.with_name(f"{name}.cred")
        if sealed.exists():
            continue
        try:
            mode = path.stat().st_mode
        except OSError as error:
            yield f"credential {name}: {error.strerror}: it belongs into {path} (mode 600, root's)"
            continue
        if mode & OTHERS_BITS:
            yield f"credential {name}: others may read {path}; chmod 600 {path}"


@contextmanager
def handed_over(names: Iterable[str], directory: Path) -> Iterator[None]:
    """As systemd would: every credential under its name in one folder."""
    before = os.environ.get("CREDENTIALS_DIRECTORY")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            plain = directory / SECRETS / name
            sealed = plain.with_name(f"{name}.cred")
            Path(folder, name).symlink_to(sealed if sealed.exists() else plain)
        os.environ["CREDENTIALS_DIRECTORY"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["CREDENTIALS_DIRECTORY"]
            else:
                os.environ["CREDENTIALS_DIRECTORY"] = before


def ours(path: Path) -> bool:
    """Whether a file was made here, so that it may be written anew or removed."""
    return path.read_text(encoding="utf-8", errors="replace").startswith(MADE)


def differences(wanted: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What differs in the folder: `write`, `remove`, or `keep` for a file that is not ours."""
    found: dict[str, str] = {}
    for name in FILES:
        path = folder / name
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
        if text == wanted.get(name):
            continue
        if text is not None and not ours(path):
            found[name] = "keep"
        else:
            found[name] = "write" if name in wanted else "remove"
    return found


def write(wanted: Mapping[str, str], changes: Mapping[str, str], folder: Path) -> None:
    """Make the folder so; each file whole or not at all. Raises OSError."""
    for name, what in changes.items():
        path = folder / name
        if what == "remove":
            path.unlink()
        elif what == "write":
            folder.mkdir(parents=True, exist_ok=True)
            part = folder / f".{name}.part"
            part.write_text(wanted[name], encoding="utf-8")
            part.chmod(0o644)
            part.replace(path)


_folder = click.Path(path_type=Path, file_okay=False)


@click.command("dropins", short_help="Make systemd drop-ins of the configuration.")
@click.option("--config", "config_dir", type=_folder, default="/etc/vppd", show_default=True)
@click.option("--called", type=_folder, help="where the service has it, if elsewhere than --config")
@click.option("--dir", "folder", type=_folder, default=DROP_INS, help="where they are")
@click.option("--write", "writes", is_flag=True, help="make them so; those no longer needed go")
@click.option("--check", "checks", is_flag=True, help="only tell; exit 1 when they differ")
def dropins_command(
    config_dir: Path, called: Path | None, folder: Path, writes: bool, checks: bool
) -> None:
    """Show the drop-ins that open what the configuration needs: serial lines, CAN, addresses,
    credentials, and nothing else.

    Exit 1 when they cannot be made, or with --check when those in place differ.
    """
    try:
        wanted, by_hand = _wanted(config_dir.absolute(), called)
        changes = differences(wanted, folder)
        if writes and not checks:
            write(wanted, changes, folder)
    except RefusedError as error:
        for reason in error.reasons:
            click.echo(reason, err=True)
        raise click.ClickException("no drop-in was made") from error
    except OSError as error:
        raise click.ClickException(told(error)) from error
    for text in by_hand:
        click.echo(f"not derived: {text}", err=True)
    if not (writes or checks):
        click.echo("\n".join(f"# --- {folder / name}\n{text}" for name, text in wanted.items()))
        return
    _tell(changes, folder, written=not checks)
    if checks and changes:
        sys.exit(1)


def _tell(changes: Mapping[str, str], folder: Path, *, written: bool) -> None:
    words = {
        "write": "written" if written else "is not as the configuration needs it",
        "remove": "removed" if written else "is no longer needed",
        "keep": "was not made here and is kept; compare it with `vppd dropins`",
    }
    for name, what in changes.items():
        click.echo(f"{folder / name}: {words[what]}")
    if not {"write", "remove"} & set(changes.values()):
        return
    if not written:
        click.echo("to make them so, in place of --check: --write")
    click.echo("in force after: systemctl daemon-reload && systemctl restart vppd")


def _wanted(directory: Path, called: Path | None = None) -> tuple[dict[str, str], tuple[str, ...]]:
    """The drop-ins of a configuration and what cannot be derived. Raises RefusedError."""
    names = credential_names(directory)
    missing = list(unsafe(names, directory))
    if missing:
        raise RefusedError(missing)
    with handed_over(names, directory):
        loaded = configuration.load(directory)
    if loaded.settings is None:
        raise RefusedError(str(finding) for finding in loaded.errors)
    openings = openings_of(loaded.settings, names)
    missing = list(unsafe(openings.credentials, directory))
    if missing:
        raise RefusedError(missing)
    texts = drop_ins(openings, directory, resolved, name_servers())
    if called is not None:
        texts = {name: text.replace(str(directory), str(called)) for name, text in texts.items()}
    return texts, openings.by_hand
