"""The far side of a site as one process: `vppd sim` with an exchange that answers on a TCP port.

    python -m tests.far_field CONFIG FAULT_SOCKET EXCHANGE_PORT BOOKS_FILE

`vppd sim --exchange` serves on a Unix socket; a daemon in mode hardware asks an address. Faults of
plant and exchange come by the fault socket. Runs until a signal.
"""

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

from vppd import config
from vppd.core.settings import Settings
from vppd.sim.exchange import SimulatedExchange
from vppd.sim.exchange_hall import Rules
from vppd.sim.plant import serve
from vppd.spine.clock import SystemClock


async def _run(settings: Settings, faults: Path, port: int, books: Path) -> None:
    loop, clock, market = asyncio.get_running_loop(), SystemClock(), settings.market
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    rules = Rules(market.gates, market.dam_terms, market.rtm_terms, rtm_final_min=0.5)
    async with SimulatedExchange(
        clock, seed=3, rules=rules, port=port, file=books, rate_per_s=1e3
    ) as exchange:
        await serve(
            settings,
            trace=None,
            seed=1,
            clock=clock,
            faults_socket=faults,
            ready=lambda: print("serving", flush=True),
            exchange=exchange,
        )


def main() -> None:
    loaded = config.load(Path(sys.argv[1]))
    if loaded.settings is None:
        raise SystemExit("\n".join(map(str, loaded.errors)))
    with suppress(asyncio.CancelledError):
        asyncio.run(_run(loaded.settings, Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))


if __name__ == "__main__":
    main()
