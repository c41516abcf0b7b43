"""A reload that is broken off in the real process: by a fault of ours when units were let go
already, and (with RELOAD_KILLS=1) by kill -9 on the way. What starts next runs on the files as
they are then."""

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from tests.process_site import NAMES, Daemon, Site, until

pytestmark = pytest.mark.timeout(300)

# `vppd run` whose next configuration cannot rule, when units that leave were let go
MISCHIEF = """
from vppd import house
from vppd.cli.vppd import main

def adopt(self, new, refit=None):
    raise KeyError("a mistake of ours")

house.House.adopt = adopt
main()
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with closing(Site(tmp_path)) as site:
        yield site


def rows(site: Site, code: str) -> list[tuple[str, str]]:
    path = f"file:{site.directory}/state/journal.db?mode=ro"
    with closing(sqlite3.connect(path, uri=True)) as db:
        asked = "SELECT text, data_json FROM event WHERE code = ? ORDER BY id"
        return db.execute(asked, (code,)).fetchall()


def units(daemon: Daemon) -> list[str]:
    return [each["id"] for each in daemon.get("/v1/units")["units"]]


def works(site: Site, names: str) -> Daemon:
    """A new daemon on the files as they are: all of them, and them alone, give 20 kW each."""
    daemon = site.start().ready(60.0)
    assert units(daemon) == list(names)
    daemon.dispatch(20.0 * len(names))

    def there() -> bool:
        held = dict(zip(NAMES, site.plant.held_kw(*NAMES), strict=True))
        return all(abs(held[name] - (20.0 if name in names else 0.0)) < 0.5 for name in NAMES)

    until(there, 60.0, lambda: (site.plant.held_kw(*NAMES), daemon.get("/v1/status")))
    return daemon


def test_a_fault_of_ours_when_units_were_let_go_ends_it_at_0_and_the_new_files_rule(
    site: Site, tmp_path: Path
) -> None:
    (mischief := tmp_path / "mischief.py").write_text(MISCHIEF)
    field, plant = site.config / "field.yaml", site.plant
    daemon = site.start(program=(str(mischief),)).ready(60.0)
    site.running(100.0)
    field.write_text(field.read_text().replace("  - {id: C,", "  # - {id: C,"))
    daemon.send(signal.SIGHUP)
    assert daemon.exit_code(60.0) == 70, "systemd starts it again"
    assert all(plant.told_zero(name) for name in NAMES)
    assert "a mistake of ours" in daemon.words
    assert any("reload: KeyError" in text for text, _ in rows(site, "stopped"))
    works(site, "ABD")
    (begun,) = rows(site, "configuration")[1:]
    assert json.loads(begun[1])["sha256"]["field.yaml"] == sha256(field.read_bytes()).hexdigest()
    assert not rows(site, "reload"), "it was never taken over"


@pytest.mark.skipif("RELOAD_KILLS" not in os.environ, reason="long; on virtual time in the suite")
def test_killed_on_the_way_devices_revert_and_the_files_rule(site: Site) -> None:
    field, plant = site.config / "field.yaml", site.plant
    daemon = works(site, "ABCD")
    field.write_text(field.read_text().replace("  - {id: D,", "  # - {id: D,"))
    daemon.send(signal.SIGHUP)
    until(lambda: plant.held_kw("D")[0] < 15.0, 60.0, lambda: plant.held_kw(*NAMES))
    daemon.send(signal.SIGKILL)
    daemon.exit_code(60.0)
    until(lambda: not any(plant.held_kw(*NAMES)), 60.0, lambda: plant.held_kw(*NAMES))
    works(site, "ABC")
    assert len(rows(site, "started")) == 2
    assert not rows(site, "reload"), "it was never taken over"
