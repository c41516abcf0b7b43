"""Parts beside the control path: exchanged all together or not at all, on real ports."""

import asyncio
from collections.abc import Iterable, Mapping

import pytest

from tests.site_rig import site_settings
from vppd.cli.scene import free_ports
from vppd.core.settings import Settings
from vppd.core.settings_web import MetricsSettings, WebSettings
from vppd.parts import Part, Parts, Wanted
from vppd.spine.clock import SystemClock
from vppd.spine.supervise import Supervisor

FIRST, SECOND, TAKEN = free_ports(3)


class Greeter:
    """Says its name to whoever connects, from `open` on."""

    def __init__(self, name: str, port: int) -> None:
        self._name, self._port = name, port
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._greet, "127.0.0.1", self._port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def run(self) -> None:
        if self._server is None:
            await self.open()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self.close()

    async def _greet(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._name.encode())
        writer.close()


def wants(settings: Settings) -> Iterable[Wanted]:
    """Two ports, and one part without that counts its starts."""
    ports = {"metrics": settings.metrics.port, "web": settings.web.port}
    for name, port in ports.items():
        if port is not None:
            yield Wanted(name, port, lambda n=name, p=port: greeting(n, p), port)  # type: ignore[misc]
    if settings.site.name == "broken":
        yield Wanted("plain", "broken", broken)
    else:
        yield Wanted("plain", settings.site.name, lambda: Part({"plain": forever}))


def greeting(name: str, port: int) -> Part:
    greeter = Greeter(name, port)
    return Part({name: greeter.run}, open=greeter.open, close=greeter.close)


def broken() -> Part:
    raise ValueError("it cannot be")


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def settings(metrics: int | None, web: int | None, name: str = "") -> Settings:
    made = site_settings(metrics=MetricsSettings(port=metrics), web=WebSettings(port=web))
    return Settings(**{**{f: getattr(made, f) for f in made.__slots__}, "site": named(made, name)})


def named(made: Settings, name: str) -> object:
    return type(made.site)(id=made.site.id, name=name)


async def heard(port: int) -> str | None:
    """Who greets at a port; None: nobody."""
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                return (await reader.read()).decode()
            finally:
                writer.close()
    except OSError:
        return None


async def until(ports: Mapping[int, str | None]) -> None:
    """These are heard, soon."""
    async with asyncio.timeout(5.0):
        while {port: await heard(port) for port in ports} != ports:
            await asyncio.sleep(0)


@pytest.fixture
def parts() -> Parts:
    return Parts(wants)


async def exchange(parts: Parts, new: Settings) -> list[str]:
    """As a reload does."""
    wrong = parts.prepare(new) or await parts.open()
    await (parts.undo() if wrong else parts.finish())
    return wrong


async def test_ports_are_exchanged_even_for_one_another(parts: Parts) -> None:
    supervisor = Supervisor(SystemClock(), lambda *_: None)
    async with asyncio.TaskGroup() as tasks:
        life = tasks.create_task(supervisor.run())
        parts.make(settings(FIRST, SECOND))
        parts.employ(supervisor)
        await until({FIRST: "metrics", SECOND: "web"})
        assert await exchange(parts, settings(SECOND, FIRST)) == []
        await until({FIRST: "web", SECOND: "metrics"})
        assert await exchange(parts, settings(SECOND, None)) == []
        await until({FIRST: None, SECOND: "metrics"})
        supervisor.stop()
        await life


async def test_a_port_in_use_or_a_part_that_cannot_be_leaves_all_as_it_was(parts: Parts) -> None:
    supervisor = Supervisor(SystemClock(), lambda *_: None)
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", TAKEN)
    async with asyncio.TaskGroup() as tasks, taken:
        life = tasks.create_task(supervisor.run())
        parts.make(settings(FIRST, SECOND))
        parts.employ(supervisor)
        await until({FIRST: "metrics", SECOND: "web"})
        plain = next(each for each in supervisor.status() if each.name == "plain")
        for new in (
            settings(TAKEN, SECOND, "other"),  # one is refused at once
            settings(SECOND, TAKEN, "other"),  # the other after the old ones had made room
            settings(SECOND, FIRST, "broken"),
        ):
            (why,) = await exchange(parts, new)
            assert "in use" in why or why == "plain: it cannot be"
            await until({FIRST: "metrics", SECOND: "web"})
        after = next(each for each in supervisor.status() if each.name == "plain")
        assert after == plain, "it was not even stopped"
        supervisor.stop()
        await life
