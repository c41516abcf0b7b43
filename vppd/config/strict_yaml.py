"""YAML, strictly: one plain document of mappings, lists and unambiguous words, with its lines.

What is not plain is refused with its line and what to write instead; nothing is repaired.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from vppd.config.document import Block, Document, KeyPath, credential, plain, trap

DEEPEST = 24
_Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
REFUSED = object()  # stands where a value was refused; validates as nothing
_TAB = re.compile(r"^ *\t", re.MULTILINE)


class _Builder:
    """Turns the events of one YAML document into values with lines, refusing what is not plain."""

    def __init__(self, document: Document, events: list[Any]) -> None:
        self._document = document
        self._events = events
        self._at = 0

    def build(self, path: KeyPath) -> Any:
        """The value of the node that begins here."""
        event = self._next()
        line = event.start_mark.line + 1
        self._document.lines.setdefault(path, line)
        refused = self._refusal(event)
        if len(path) > DEEPEST:
            refused = f"nested deeper than {DEEPEST} levels"
        if refused:
            self._document.wrong(path, refused, line)
            self._skip_rest(event)
            return REFUSED
        if event.anchor is not None:
            text = f"anchor &{event.anchor} is not allowed; write the value where it is used"
            self._document.note(path, text, line)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path, line)
        return (
            self._mapping(path) if isinstance(event, yaml.MappingStartEvent) else self._list(path)
        )

    def more(self, end: type) -> bool:
        """Whether the collection goes on; its end is consumed."""
        if isinstance(self._events[self._at], end):
            self._at += 1
            return False
        return True

    def _next(self) -> Any:
        self._at += 1
        return self._events[self._at - 1]

    def _refusal(self, event: Any) -> str | None:
        if isinstance(event, yaml.AliasEvent):
            return f"alias *{event.anchor} is not allowed; write the value out"
        scalar = isinstance(event, yaml.ScalarEvent)
        if event.tag is not None and not (scalar and event.tag == "!credential"):
            return f"tag {event.tag} is not allowed; only !credential NAME is"
        return None

    def _skip_rest(self, event: Any) -> None:
        depth = int(isinstance(event, yaml.CollectionStartEvent))
        while depth:
            event = self._next()
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)

    def _scalar(self, event: Any, path: KeyPath, line: int) -> Any:
        if event.tag is not None:
            return self._credential(event.value, path, line)
        if not event.implicit[0]:
            return event.value
        trapped = trap(event.value)
        if trapped:
            self._document.wrong(path, trapped, line)
            return REFUSED
        return plain(event.value)

    def _credential(self, name: str, path: KeyPath, line: int) -> Any:
        try:
            return credential(name)
        except ValueError as error:
            self._document.wrong(path, f"credential {name}: {error}", line)
            return REFUSED

    def _list(self, path: KeyPath) -> list[Any]:
        values: list[Any] = []
        while self.more(yaml.SequenceEndEvent):
            values.append(self.build((*path, len(values))))
        return values

    def _mapping(self, path: KeyPath) -> Block:
        block = Block(path)
        lines: dict[str, int] = {}
        while self.more(yaml.MappingEndEvent):
            name, line = self._key(path)
            if name is None:
                self._skip_rest(self._next())
            elif name in lines:
                text = f"given twice; the first stands in line {lines[name]}"
                self._document.note((*path, name), text, line)
                self._skip_rest(self._next())
            else:
                lines[name] = line
                self._document.lines[*path, name] = line
                block[name] = self.build((*path, name))
        return block

    def _key(self, path: KeyPath) -> tuple[str | None, int]:
        event = self._next()
        line = event.start_mark.line + 1
        refused = self._refusal(event)
        if not refused and isinstance(event, yaml.ScalarEvent):
            value = event.value
            if event.tag is None and event.implicit[0]:
                refused = trap(event.value)
                value = plain(event.value)
            if not refused and event.tag is event.anchor is None and isinstance(value, str):
                return value, line
        self._document.note(path, refused or "a key must be text", line)
        self._skip_rest(event)
        return None, line


def read(file: str, path: Path, root: KeyPath = ()) -> Document:
    """Read one file; what is wrong stands in the document's findings."""
    document = Document(file, Block(root))
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        text = "not there, and it is required; `vppd init DIR` writes an example"
        document.unusable(text, 0)
        return document
    except OSError as error:
        document.unusable(f"cannot be read: {error.strerror or error}", 0)
        return document
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        document.unusable("not UTF-8 text", raw[: error.start].count(b"\n") + 1)
        return document
    tabs = [text.count("\n", 0, match.start()) + 1 for match in _TAB.finditer(text)]
    for line in tabs:
        document.unusable("a tab in the indentation; use spaces", line)
    if not tabs:
        _build(document, text, root)
    return document


def _build(document: Document, text: str, root: KeyPath) -> None:
    try:
        events: list[Any] = list(yaml.parse(text, Loader=_Parser))
    except yaml.YAMLError as error:
        mark: Any = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else text.count("\n", 0, getattr(error, "position", 0)) + 1
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        document.unusable(f"not YAML: {problem}", line)
        return
    starts = [at for at, event in enumerate(events) if isinstance(event, yaml.DocumentStartEvent)]
    for at in starts[1:]:
        line = events[at].start_mark.line + 1
        document.note((), "a second YAML document; one file holds one", line)
    if not starts:
        return
    value = _Builder(document, events[starts[0] + 1 :]).build(root)
    if isinstance(value, Block):
        document.data = value
    elif value is not REFUSED and value is not None:
        document.unusable("must be a mapping of keys", document.line(root))
