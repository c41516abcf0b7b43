"""The journal in one sentence of `vppctl status`."""

from collections.abc import Mapping
from typing import Any

from vppd.cli.words import number

SHOWN = 12  # digits of a hash: enough to tell two apart


def journal_words(diagnostics: Mapping[str, Any]) -> str:
    """How the journal is."""
    journal = diagnostics.get("journal")
    if not isinstance(journal, dict):
        return "journal not shown"
    return f"journal FAILED: {journal['failed']}" if journal.get("failed") else "journal fine"


def journal_lines(diagnostics: Mapping[str, Any]) -> list[str]:
    """Its size, what the disk is given a day, and the anchor of its audit chain."""
    journal = diagnostics.get("journal")
    if not isinstance(journal, dict):
        return []
    lines = []
    disk = journal.get("disk")
    if isinstance(disk, dict):
        lines.append(f"journal {number(journal.get('file_mb'), '.0f')} MB; {_disk_words(disk)}")
    if journal.get("anchor"):
        seq, _, hash_ = str(journal["anchor"]).partition(":")
        lines.append(f"audit {seq}:{hash_[:SHOWN]}… (whole: vppctl --json status)")
    return lines


def _disk_words(disk: Mapping[str, Any]) -> str:
    if disk.get("written_mb") is None:
        return "what is written to disk is not counted here"
    budget = f"budget {disk['budget_mb_per_day']} MB a day"
    if disk.get("mb_per_day") is None:
        return f"written to disk {number(disk['written_mb'], '.0f')} MB since the start, {budget}"
    over = "OVER " if disk.get("over_budget") else ""
    return f"written to disk {number(disk['mb_per_day'], '.0f')} MB a day, {over}{budget}"
