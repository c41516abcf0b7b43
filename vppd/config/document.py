"""One configuration file as read: its values, the line of every key, and what is wrong with it.

Also the meaning of unquoted words: only plain numbers, true, false and null mean something; what
other YAML readers would take for something else is refused with its remedy.
"""

import functools
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vppd.core.settings import Settings

KeyPath = tuple[str | int, ...]


def dotted(path: KeyPath) -> str:
    """`units[0].modbus.host` of a path."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong (`error`: no start) or odd (`warning`), and where it stands."""

    level: Literal["error", "warning"]
    file: str
    line: int  # 0: the whole file
    key: str
    text: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        warning = "warning: " if self.level == "warning" else ""
        return where + (f"{self.key}: " if self.key else "") + warning + self.text


class Block(dict[str, Any]):
    """A mapping that keeps its path in the file, whatever is cut out around it."""

    def __init__(self, path: KeyPath) -> None:
        super().__init__()
        self.path = path


@dataclass(slots=True)
class Document:
    """One file. `doubtful` are the paths whose values are wrong and so not in `data`."""

    file: str
    data: Block
    lines: dict[KeyPath, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    doubtful: set[KeyPath] = field(default_factory=set)

    def line(self, path: KeyPath) -> int:
        """The line of a key, or of the nearest mapping around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def note(
        self,
        path: KeyPath,
        text: str,
        line: int | None = None,
        level: Literal["error", "warning"] = "error",
    ) -> None:
        """Add a finding about a key; line 0 when it is about the file."""
        where = self.line(path) if line is None else line
        self.findings.append(Finding(level, self.file, where, dotted(path), text))

    def wrong(self, path: KeyPath, text: str, line: int | None = None) -> None:
        """Add an error about a key whose value is not in the data."""
        self.note(path, text, line)
        self.doubtful.add(path)

    def unusable(self, text: str, line: int) -> None:
        """Add an error after which nothing of the file counts; line 0 when it has none."""
        self.wrong((), text, line)

    def doubts(self, path: KeyPath) -> bool:
        """Whether the value of a key, or anything in it or around it, is wrong."""
        return overlaps(path, self.doubtful)

    def in_order(self) -> list[Finding]:
        """The findings as one reads the file."""
        return sorted(self.findings, key=lambda each: each.line)

    def origin(self, place: KeyPath) -> KeyPath:
        """The path in the file of a place in the data, which may have been cut or wrapped."""
        value: Any = self.data
        path: KeyPath = ()
        for part in place:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                value = None
            path = value.path if isinstance(value, Block) else (*path, part)
        return path

    def put(self, place: KeyPath, value: Any) -> None:
        """Set a value in the data; an empty mapping is put as a block of the file."""
        path = self.origin(place)
        self._inner(place[:-1])[place[-1]] = Block(path) if value == {} else value

    def cut(self, places: Iterable[KeyPath]) -> None:
        """Take these places out of the data."""
        for place in sorted(places, reverse=True):  # deepest first, lists from their end
            del self._inner(place[:-1])[place[-1]]

    def _inner(self, place: KeyPath) -> Any:
        value: Any = self.data
        for part in place:
            value = value[part]
        return value


def overlaps(path: KeyPath, others: set[KeyPath] | frozenset[KeyPath]) -> bool:
    """Whether a path lies on, above or below one of the others."""
    return any(all(a == b for a, b in zip(path, other, strict=False)) for other in others)


class ConfigError(Exception):
    """A file that may not be used, with everything that is wrong in it."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a directory of files gives: settings only when no finding is an error."""

    settings: Settings | None
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.level == "warning")


# --- unquoted words ---


_WORDS = {"true": True, "false": False, "null": None, "": None}
_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], int | float]], ...] = (
    (re.compile(r"[-+]?(?:0|[1-9]\d{0,17})", re.ASCII), int),
    (re.compile(r"0x[0-9a-fA-F]{1,16}"), functools.partial(int, base=16)),
    (re.compile(r"[-+]?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII), float),
)
_TRAPS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i:yes|no|on|off)"), "write true or false, or quote it if it is a word"),
    (re.compile(r"(?!true|false)(?i:true|false)"), "write true or false in small letters"),
    (re.compile(r"~|(?!null)(?i:null)"), "write null"),
    (re.compile(r"[-+]?\d[\d_]*(?::[0-5]?\d)+(?:\.\d*)?", re.ASCII), "quote it"),
    (re.compile(r"[-+]?\.(?i:inf|nan)"), "a number must be finite"),
    (re.compile(r"[-+]?0[\d_]+(?:\.\d*)?", re.ASCII), "write {plain}, or quote it if it is text"),
    (re.compile(r"[-+]?\d[\d_]*_[\d_]*(?:\.[\d_]*)?", re.ASCII), "write {plain}"),
    (re.compile(r"[-+]?0(?:[bB][01_]+|[oO][0-7_]+|X[0-9a-fA-F_]+)"), "write it in decimal or 0x1F"),
    (
        re.compile(r"[-+]?(?:\.\d+|\d+\.)(?:[eE][-+]?\d+)?", re.ASCII),
        "write digits around the point",
    ),
    (re.compile(r"[-+]?\d{19,}", re.ASCII), "too long for a number; quote it if it is text"),
)


def trap(text: str) -> str | None:
    """Why an unquoted word is refused, with the remedy; None when it is not."""
    for pattern, remedy in _TRAPS:
        if pattern.fullmatch(text):
            decimal = re.sub(r"^([-+]?)0+(?=\d)", r"\1", text.replace("_", ""))
            words = remedy.format(plain=decimal)
            return f"{text} without quotes is not the same to every program; {words}"
    return None


def plain(text: str) -> Any:
    """What an unquoted word means: a number, true, false, null, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    for pattern, number in _NUMBERS:
        if pattern.fullmatch(text):
            return number(text)
    return text


# --- secrets ---


class Secret(str):
    """A credential's text, which no message shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "(a credential)"


def credential(name: str) -> Secret:
    """Read a secret. Raises ValueError that names the place where it should be."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,255}", name) or name.startswith("."):
        raise ValueError("not a name of letters, digits, _ . -")
    place = os.environ.get("CREDENTIALS_DIRECTORY")
    if not place:
        raise ValueError(
            f"$CREDENTIALS_DIRECTORY is not set; systemd sets it for LoadCredential={name}:PATH"
        )
    path = Path(place) / name
    try:
        text = path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}; see LoadCredential= of the unit") from None
    if not text:
        raise ValueError(f"{path} is empty")
    return Secret(text)
