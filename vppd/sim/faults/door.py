"""The plant's own Unix socket: one JSON object a line asks, one answers.

    {"inject": "silence", "unit": "B1", "for_s": 5}
    {"inject": "soc", "unit": "B1", "soc_pct": 9}
    {"clear": "silence", "unit": "B1"}   {"clear": "all"}   {"list": true}   {"state": "B1"}

An answer has `"ok": true`, or `"ok": false` with `"error"` and, where a word was unknown, what is
valid. `unit` names a unit (its controller and its BMS), "UNIT/inverter", the "meter", a PMU or an
interlock input (`target`, `pmu` and `input` mean the same).
"""

import asyncio
import json
from pathlib import Path
from typing import Any, Protocol

from vppd.sim.faults.registry import KINDS

TARGET_KEYS = ("unit", "target", "pmu", "input")
LINE_BYTES = 65536


class Subject(Protocol):
    """The part of a plant that the socket reaches."""

    @property
    def active(self) -> list[Any]:
        """The faults that act now."""

    def inject(self, name: str, target: str = "", **parameters: Any) -> None:
        """Begin a fault."""

    def clear(self, name: str = "all", target: str = "") -> int:
        """End faults."""

    def state(self, name: str) -> dict[str, Any]:
        """A unit or the meter in plain values."""


def obey(plant: Subject, line: bytes) -> dict[str, Any]:
    """Do what one line asks and say what came of it."""
    try:
        return {"ok": True, **_obey(plant, dict(json.loads(line)))}
    except (ValueError, TypeError, RecursionError) as error:
        return {"ok": False, "error": str(error), "valid": sorted(KINDS)}


def _obey(plant: Subject, asked: dict[str, Any]) -> dict[str, Any]:
    target = next((str(asked.pop(key)) for key in TARGET_KEYS if key in asked), "")
    if "inject" in asked:
        plant.inject(str(asked.pop("inject")), target, **asked)
        return {}
    if "clear" in asked:
        return {"cleared": plant.clear(str(asked["clear"]), target)}
    if "list" in asked:
        active = [
            {"name": one.name, "target": one.target, **one.parameters} for one in plant.active
        ]
        return {
            "active": active,
            "valid": {
                name: {"target": kind.target, **kind.parameters} for name, kind in KINDS.items()
            },
        }
    if "state" in asked:
        return {"state": plant.state(str(asked["state"]))}
    raise ValueError("wanted inject, clear, list or state")


class FaultSocket:
    """The listening end."""

    def __init__(self, path: Path, plant: Subject) -> None:
        self._path, self._plant = path, plant

    async def __aenter__(self) -> "FaultSocket":
        """Listen. Raises OSError."""
        if self._path.is_socket():
            self._path.unlink()
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_BYTES)
        self._path.chmod(0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(obey(self._plant, line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):  # gone, or a line without end: hang up
            writer.transport.abort()
        finally:
            writer.close()


async def request(socket: Path | str, payload: dict[str, Any]) -> dict[str, Any]:
    """Ask a running plant one thing. Raises OSError when it is not there."""
    reader, writer = await asyncio.open_unix_connection(str(socket), limit=1 << 20)
    try:
        writer.write(json.dumps(payload).encode() + b"\n")
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ConnectionResetError(f"{socket}: hung up without an answer")
    answer: dict[str, Any] = json.loads(line)
    return answer
