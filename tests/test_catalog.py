"""The message catalog: every event that can be logged has its entry, and every entry its event."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vppd.core.alarms import Code
from vppd.spine.log import message_id

TOP = Path(__file__).parents[1]
CATALOG = TOP / "systemd/vppd.catalog"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}
# Events that no call names in plain words: every code, and what the log says of itself.
BY_NAME = {*map(str, Code), "alarm_over", "library", "log_lines_dropped"}
# Calls that hand on an event which is named elsewhere: (file, what they say).
HANDED_ON = {("spine/alarms.py", "str(code)"), ("northbound/server.py", "event")}


def calls(path: Path) -> Iterator[tuple[ast.Call, int]]:
    """Calls that log, and which of their arguments is the event."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)) if "get_logger" in text else ():
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        owner, _, verb = called.rpartition(".")
        if owner == "log" and verb in LEVELS:
            yield node, int(verb == "log")
        elif called == "tell" and "tell = log." in text:
            yield node, 0
        elif called == "self._tell" and path.name == "server.py":
            yield node, 1


def logged() -> set[str]:
    """Every event that the sources name, with the codes."""
    found = set(BY_NAME)
    for path in (TOP / "vppd").rglob("*.py"):
        name = path.relative_to(TOP / "vppd").as_posix()
        for call, at in calls(path):
            event = call.args[at]
            if isinstance(event, ast.Constant):
                found.add(str(event.value))
            else:
                said = ast.unparse(event)
                assert (name, said) in HANDED_ON, f"{name}:{call.lineno}: event is {said}"
    return found


def entries() -> dict[str, tuple[str, str]]:
    """Event: its id and the text of its entry."""
    found: dict[str, tuple[str, str]] = {}
    for each in CATALOG.read_text(encoding="utf-8").split("\n-- ")[1:]:
        id_, subject, *rest = each.splitlines()
        event = subject.removeprefix("Subject: ").split(":")[0]
        assert event not in found, event
        found[event] = id_, "\n".join(rest)
    return found


def test_every_event_has_its_entry_and_every_entry_its_event() -> None:
    events, known = logged(), entries()
    missing = "\n".join(
        f"-- {message_id(e)}\nSubject: {e}: ..." for e in sorted(events - set(known))
    )
    assert not missing, f"systemd/vppd.catalog lacks\n{missing}"
    assert not set(known) - events, "systemd/vppd.catalog tells of events that nobody logs"


def test_ids_are_those_of_the_events_and_never_change() -> None:
    assert message_id("link_lost") == "40f818ea58e0521495a7fc69d84b6d90"
    known = entries()
    assert {event: id_ for event, (id_, _) in known.items()} == {e: message_id(e) for e in known}


@pytest.mark.parametrize("part", ["What happened", "By itself: ", "To do: "])
def test_each_entry_says_what_happened_what_vppd_does_and_what_is_left_to_do(part: str) -> None:
    for event, (_, text) in entries().items():
        (said,) = [line for line in text.splitlines() if line.startswith(part)]
        assert re.search(r"\S[.?]$", said), f"{event}: {said}"


def test_journalctl_takes_it_all(tmp_path: Path) -> None:
    folder = tmp_path / "usr/local/lib/systemd/catalog"
    folder.mkdir(parents=True)
    (folder / "vppd.catalog").write_bytes(CATALOG.read_bytes())
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    made = ["journalctl", f"--root={tmp_path}", "--update-catalog"]
    done = subprocess.run(made, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told = subprocess.run(
        ["journalctl", f"--root={tmp_path}", "--list-catalog"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert {line.split()[0] for line in told.splitlines()} == {id_ for id_, _ in entries().values()}
