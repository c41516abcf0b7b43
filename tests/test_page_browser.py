"""The page in a real browser. It runs where `scripts/test --browser` has put Chromium."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.api_site import UNITS
from tests.browser import CHROMIUM, chromium
from tests.test_window import shown, site
from vppd.core.alarms import Code
from vppd.core.model import UnitId

MARKUP = "<img src=x onerror=document.title='taken'>"
SIZES = (360, 1280)

pytestmark = pytest.mark.skipif(
    os.environ.get("VPPD_BROWSER") != "yes" or CHROMIUM is None,
    reason="scripts/test --browser runs it",
)


async def test_the_page_shows_the_site_as_it_changes(tmp_path: Path) -> None:
    rig = site(tmp_path)
    # one that nothing takes back, should the site stand still while the browser starts
    rig.site.alarms.set(Code.NO_REVERT, UnitId("B3"), True, MARKUP + "x" * 300)
    async with shown(rig) as port, chromium(tmp_path / "profile") as tab, asyncio.TaskGroup() as on:
        living = [on.create_task(rig.live()), on.create_task(rig.poll())]
        for width in SIZES:
            rig.frequency_hz = 50.0
            await tab.open(f"http://localhost:{port.port}/", width)
            await tab.until("document.getElementById('figures')?.textContent.includes('50.000 Hz')")
            rig.frequency_hz = 49.8
            await tab.until("document.getElementById('figures')?.textContent.includes('49.800 Hz')")
            await tab.until("document.querySelectorAll('#hz path[data-name]').length == 1")
            await tab.until("document.querySelectorAll('#kw path[data-name]').length == 3")
            rows = "[...document.querySelectorAll('#units tr')].map(e => e.cells[0].textContent)"
            assert sorted(await tab.value(rows)) == sorted(UNITS)
            assert await tab.value("document.documentElement.scrollWidth") <= width
            assert MARKUP in await tab.value("document.getElementById('alarms').textContent")
            assert await tab.value("document.querySelectorAll('img').length") == 0
        title = await tab.value("document.title")
        for task in living:
            task.cancel()
        assert title.startswith("lab: ")
        assert tab.complaints == []
