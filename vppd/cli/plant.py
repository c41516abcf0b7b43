"""The simulated plant as a process, and the words to its fault socket."""

import asyncio
import json
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from vppd.cli.words import table
from vppd.core.ports import Clock
from vppd.core.settings import Settings
from vppd.sim.exchange import SimulatedExchange, exchange_at
from vppd.sim.faults.door import request
from vppd.sim.plant import serve
from vppd.spine.clock import SystemClock

# How the targets of the plant's faults are named.
TARGETS = {
    "slave": "UNIT, UNIT/inverter, meter",
    "bms": "UNIT",
    "unit": "UNIT",
    "inverter": "UNIT",
    "meter": "meter",
    "input": "INPUT",
    "pmu": "PMU",
    "grid": "grid",
    "exchange": "exchange",
}


class _Ended(Exception):  # noqa: N818
    """Told to end."""


def serve_plant(
    settings: Settings,
    trace: Path | None,
    seed: int,
    fps: int,
    faults: Path | None,
    words: str,
    *,
    exchange: Path | None = None,
    with_parent: bool,
) -> None:
    """Serve until a signal, or with the parent until it is gone. `words` are printed once every
    address is open. `exchange` is a socket on which an exchange is simulated too; its books are
    kept beside it. Raises OSError and ValueError as the plant does."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        if with_parent:
            # nothing is ever written to it: its end is the end of the parent, however that came
            loop.add_reader(sys.stdin.fileno(), ended.set)
        clock = SystemClock()
        with suppress(_Ended):
            try:
                async with AsyncExitStack() as open_now, asyncio.TaskGroup() as tasks:
                    hall: SimulatedExchange | None = None
                    if exchange is not None:
                        hall = exchange_for(settings, clock, exchange, seed)
                        await open_now.enter_async_context(hall)
                    tasks.create_task(_until(ended))
                    tasks.create_task(
                        serve(
                            settings,
                            trace=trace,
                            seed=seed,
                            clock=clock,
                            faults_socket=faults,
                            ready=lambda: print(words, flush=True),
                            fps=fps,
                            exchange=hall,
                        )
                    )
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None

    asyncio.run(run())


def exchange_for(settings: Settings, clock: Clock, path: Path, seed: int) -> SimulatedExchange:
    """An exchange with this site's gates and terms on a Unix socket."""
    return exchange_at(path, settings.market, clock, seed, path.with_suffix(".books.json"))


async def _until(ended: asyncio.Event) -> None:
    await ended.wait()
    raise _Ended


def ask_plant(
    socket: Path, name: str, target: str, parameters: Iterable[str], *, clear: bool
) -> dict[str, Any]:
    """One word to the fault socket; the target may be left out before the parameters, as no name
    has a `=`. Raises ValueError for a parameter without one."""
    if "=" in target:
        target, parameters = "", (target, *parameters)
    if name == "list":
        payload: dict[str, Any] = {"list": True}
    elif name == "state":
        payload = {"state": target}
    else:
        payload = {"clear" if clear else "inject": name, "target": target}
        payload |= dict(_parameter(each) for each in parameters)
    return asyncio.run(request(socket, payload))


def fault_lines(answer: Mapping[str, Any]) -> list[str]:
    """What `list` answered: every fault with its target and parameters, then those that act."""
    lines = table(
        ("fault", "target", "parameters"),
        [
            (name, TARGETS.get(each["target"], each["target"]), _parameters(each, "target"))
            for name, each in answer["valid"].items()
        ],
    )
    acting = [
        f"acting: {each['name']} {each['target']} {_parameters(each, 'name', 'target')}".rstrip()
        for each in answer["active"]
    ]
    return [*lines, "", *(acting or ["none acts"])]


def _parameters(words: Mapping[str, Any], *but: str) -> str:
    given = ((key, value) for key, value in words.items() if key not in but)
    return " ".join(f"{key}={json.dumps(value)}" for key, value in given)


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not key=value")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
