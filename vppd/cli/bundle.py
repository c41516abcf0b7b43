"""`vppctl bundle`: one file for a bug report, which `vppd replay` opens. No credential is in it.

A tar.gz: `about.json` (versions), `config/` as it stands, but for what follows a key that names a
secret; `daemon.json`, what the running daemon says of itself; `journal/` the last rows of each
kind, one JSON object a line; `recorder/` the files with the inputs of every tick, which are written
without anything that no decision needs. What the credentials of the service say is blotted out
wherever it stands in words.
"""

import contextlib
import io
import json
import os
import platform
import re
import sqlite3
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

from vppd.cli.last_rows import open_read_only
from vppd.cli.wire import DaemonAbsent, fetch
from vppd.cli.words import told

BLOTTED = "(a credential)"
_KEY = r"""["']?[\w-]*(?:password|passphrase|token|secret|api_key)[\w-]*["']?[ ]*:"""
_NAMES_ONE = r"""(?![ ]*(?:!credential[ ]|null\b|~|""|''|[#\n]|$))"""  # or has none
# A key that names a secret: on a line, with the lines that go on further in, or within braces.
ON_A_LINE = re.compile(
    rf"^(?P<in>[ ]*)(?P<head>[#]?[ ]?-?[ ]*{_KEY}){_NAMES_ONE}(?P<value>.*(?:\n(?P=in)[ ]+.*)*)",
    re.IGNORECASE | re.MULTILINE,
)
IN_BRACES = re.compile(rf"(?P<in>)(?P<head>{_KEY}){_NAMES_ONE}(?P<value>[^,}}\n]+)", re.IGNORECASE)
# Who logs in by an address: to the last @, as what people type there may hold any other mark.
IN_URL = re.compile(r"(?P<scheme>\w+://)(?P<who>[^\s\"'<>]+)@")
SHORT = 4  # a secret as short as that would blot out half of the words there are
VIEWS = ("event", "command", "trip", "violation", "setpoint", "site")
ROWS_MAX = 50_000
ROWS_AHEAD_MAX = 2_000
AHEAD = timedelta(hours=1)  # clocks of two that ask differ
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
TARGETS = ("status", "units", "alarms", "frequency", "campus")
KEPT_OUT = "credentials"
UNREADABLE = "unreadable"
CONFIG = (".yaml", ".yml", ".dbc", ".csv")


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is."""

    config: Path
    state: Path
    socket: str
    credentials: Sequence[Path]  # folders: what their files say is blotted out everywhere


def bundle(file: Path, places: Places, last_s: float, tell: Callable[[str], None]) -> int:
    """Write the bundle with so much of the past; no existing file is touched. How many files of
    recorded decisions are in it. Raises OSError."""
    blot, recordings = blotter(places), 0
    with _whole(file) as raw, tarfile.open(fileobj=raw, mode="w:gz") as tar:
        now = datetime.fromtimestamp(os.fstat(raw.fileno()).st_mtime, UTC)
        begin = now - timedelta(seconds=last_s)

        def add(name: str, text: str) -> None:
            _add(tar, name, blot(text).encode(), now)

        add("about.json", json.dumps(about(now), indent=1))
        for name, text in configuration(places.config):
            add(f"config/{name}", text)
        add("daemon.json", json.dumps(daemon(places.socket), indent=1))
        for name, lines in journal(places.state / "journal.db", begin, now + AHEAD):
            tell(f"journal: {json.loads(lines)['error'] if name == UNREADABLE else name}")
            add(f"journal/{name}.jsonl", lines)
        for path in recorded(places.state / "recorder", begin):
            tell(f"recorder: {path.name}")
            with contextlib.suppress(FileNotFoundError):  # the oldest may go at any moment
                _add(tar, f"recorder/{path.name}", path.read_bytes(), now)
                recordings += 1
    return recordings


@contextlib.contextmanager
def _whole(file: Path) -> Iterator[BinaryIO]:
    """A new file that is not left when it does not become whole."""
    with file.open("xb") as raw:
        try:
            yield raw
        except BaseException:
            file.unlink(missing_ok=True)
            raise


def about(now: datetime) -> dict[str, object]:
    """Versions: of vppd, of Python, and of what vppd stands on."""
    needed = (re.split(r"[^\w.-]", text)[0] for text in metadata.requires("vppd") or ())
    libraries = {}
    for name in sorted(set(needed)):
        with contextlib.suppress(metadata.PackageNotFoundError):
            libraries[name] = metadata.version(name)
    return {
        "made": now.isoformat(),
        "vppd": metadata.version("vppd"),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "libraries": libraries,
    }


def configuration(folder: Path) -> Iterator[tuple[str, str]]:
    """The configuration's files, with what looks like a secret blotted out."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file() and path.suffix in CONFIG and KEPT_OUT not in path.parts:
            text = path.read_text(encoding="utf-8", errors="replace")
            yield path.relative_to(folder).as_posix(), without_secrets(text)


def without_secrets(text: str) -> str:
    """YAML with the values of keys that name a secret blotted out, and who logs in by a URL."""
    for pattern in (ON_A_LINE, IN_BRACES):
        text = pattern.sub(rf"\g<in>\g<head> {BLOTTED}", text)
    return _without_logins(text)


def _without_logins(text: str) -> str:
    return IN_URL.sub(rf"\g<scheme>{BLOTTED}@", text)


def blotter(places: Places) -> Callable[[str], str]:
    """Takes out of any text what the service's credentials, and secrets of the files, say. Raises
    OSError for a credential that may not be read: what is not known cannot be kept out."""
    secrets: set[str] = set()
    for folder in places.credentials:
        secrets.update(line.strip() for text in _files_of(folder) for line in text.splitlines())
    for path in places.config.rglob("*.y*ml") if places.config.is_dir() else ():
        text = path.read_text(encoding="utf-8", errors="replace")
        for pattern in (ON_A_LINE, IN_BRACES):
            values = (each["value"].partition(" #")[0].strip() for each in pattern.finditer(text))
            secrets.update(each.strip("\"'") for each in values)
        for each in IN_URL.finditer(text):
            secrets.add(each["who"].partition(":")[2])
    ordered = sorted((each for each in secrets if len(each) > SHORT), key=len, reverse=True)

    def blot(text: str) -> str:
        for secret in ordered:
            for form in {secret, json.dumps(secret)[1:-1]}:
                text = text.replace(form, BLOTTED)
        return _without_logins(text)

    return blot


def _files_of(folder: Path) -> Iterator[str]:
    """What the files of a folder of credentials say."""
    try:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_file():
                yield path.read_bytes().decode("utf-8", "replace")
    except PermissionError as error:
        raise OSError(f"{told(error)}: it must be known to be kept out; run it as root") from error


def daemon(socket: str) -> dict[str, object]:
    """What the running daemon says of its loop, its tasks and its site; or why it says nothing."""
    said: dict[str, object] = {}
    for target in TARGETS:
        try:
            said[target] = fetch(socket, f"/v1/{target}")
        except (DaemonAbsent, OSError, ValueError) as error:
            said[target] = {"error": str(error)}
    return said


def journal(path: Path, begin: datetime, end: datetime) -> Iterator[tuple[str, str]]:
    """The newest rows of each kind of that time, oldest first, as JSON lines; and apart from them,
    as they would leave no room, some of a time to come: a clock that ran ahead wrote them."""
    try:
        with contextlib.closing(open_read_only(path)) as rows:
            for view in VIEWS:
                yield view, _rows(rows, view, (begin, end), ROWS_MAX)
                if ahead := _rows(rows, view, (end, NEVER), ROWS_AHEAD_MAX).strip():
                    yield f"{view}-of-a-time-to-come", f"{ahead}\n"
    except sqlite3.Error as error:
        yield UNREADABLE, json.dumps({"error": f"{path}: {error}"})
    except OSError as error:
        yield UNREADABLE, json.dumps({"error": told(error)})


def recorded(folder: Path, begin: datetime) -> Iterable[Path]:
    """The recorded files that hold anything since then."""
    found = sorted(folder.glob("*.rec"), key=lambda path: path.stem.rpartition("-")[2])
    stamps = [path.stem.partition("-")[0] for path in found]
    since = f"{begin:%Y%m%dT%H%M%SZ}"
    first = max((place for place, stamp in enumerate(stamps) if stamp <= since), default=0)
    return found[first:]


def _rows(rows: sqlite3.Connection, view: str, span: tuple[datetime, datetime], most: int) -> str:
    since, until = (int(each.timestamp() * 1e6) for each in span)
    cursor = rows.execute(
        f"SELECT * FROM {view} WHERE at >= ? AND at < ? ORDER BY at DESC LIMIT ?",  # noqa: S608
        (since, until, most),
    )
    names = [each[0] for each in cursor.description]
    lines = [json.dumps(dict(zip(names, row, strict=True))) for row in cursor]
    return "\n".join(reversed(lines)) + "\n"


def _add(tar: tarfile.TarFile, name: str, content: bytes, now: datetime) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(content), int(now.timestamp())
    tar.addfile(member, io.BytesIO(content))


def places_of(config: Path, state: Path, socket: str) -> Places:
    """With the folders in which a service's credentials may lie."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    folders = [config / KEPT_OUT, Path("/run/credentials/vppd.service")]
    return Places(config, state, socket, [*folders, *([Path(given)] if given else [])])
