"""Debian's Chromium without a window, driven by its own protocol: what a page does in a browser."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-extensions", "--disable-background-networking"),
    "--remote-debugging-port=0",
)


class Tab:
    """One page; what it complained of is kept."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._asked = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.complaints: list[str] = []

    async def listen(self) -> None:
        """For ever."""
        async for message in self._socket:
            told = json.loads(message.data)
            waiting = self._answers.pop(told.get("id", 0), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(told)
            self._complained(told.get("method"), told.get("params", {}))

    def _complained(self, method: str | None, told: Any) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(str(told["entry"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in {"error", "assert"}:
            self.complaints.append(str(told["args"]))

    async def ask(self, method: str, **parameters: object) -> Any:
        """One command of the protocol."""
        self._asked += 1
        answer = self._answers[self._asked] = asyncio.get_running_loop().create_future()
        await self._socket.send_json(
            {"id": self._asked, "method": method, "params": dict(parameters)}
        )
        async with asyncio.timeout(10.0):
            told = await answer
        assert "error" not in told, told
        return told["result"]

    async def value(self, expression: str) -> Any:
        """What an expression is in the page."""
        told = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, expression: str, within_s: float = 30.0) -> None:
        """Return as soon as it is true in the page; fail when it does not become so in time."""
        async with asyncio.timeout(within_s):
            while not await self.value(f"Boolean({expression})"):
                await asyncio.sleep(0.05)

    async def open(self, address: str, width: int, height: int = 900) -> None:
        """Show an address in a window of this size."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 700,
        )
        await self.ask("Page.navigate", url=address)


@contextlib.asynccontextmanager
async def chromium(profile: Path) -> AsyncIterator[Tab]:
    """A browser with one tab, for as long as it is needed."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        *(CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port = await _port(profile / "DevToolsActivePort")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = [each for each in await answer.json() if each["type"] == "page"]
            address = pages[0]["webSocketDebuggerUrl"]
            async with (
                session.ws_connect(address, max_msg_size=0) as socket,
                asyncio.TaskGroup() as tasks,
            ):
                tab = Tab(socket)
                listening = tasks.create_task(tab.listen())
                for domain in ("Runtime", "Log", "Page"):
                    await tab.ask(f"{domain}.enable")
                yield tab
                listening.cancel()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _port(path: Path) -> int:
    async with asyncio.timeout(20.0):
        while True:
            with contextlib.suppress(OSError, ValueError, IndexError):
                return int(path.read_text().splitlines()[0])
            await asyncio.sleep(0.05)
