"""A site with a link to the fleet that takes commands and never gets them on disk, to be killed:

    python -m tests.killed_mqtt DIRECTORY PORT kept|lost

It prints one line for each command that it has done and not answered. `kept`: what the daemon
remembers of it reaches the disk all the same; `lost`: nothing does.
"""

import asyncio
import sys
from pathlib import Path

from tests.mqtt_rig import Broker, linked, settings_for
from vppd.core.records import Row


async def run(directory: Path, port: int, *, lost: bool) -> None:
    broker = Broker(directory, port)  # it runs elsewhere: only its certificates are used
    settings = settings_for(broker, port, command_expiry_s=60.0)
    async with linked(directory / "site", settings) as site:

        async def held(row: Row) -> bool:
            print("held", type(row).__name__, flush=True)
            await asyncio.Event().wait()
            return False

        site.journal.commit = held  # type: ignore[method-assign]
        if lost:
            site.journal.append = lambda _: None  # type: ignore[method-assign, assignment]
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), lost=sys.argv[3] == "lost"))
