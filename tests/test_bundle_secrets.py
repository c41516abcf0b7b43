"""`vppctl bundle`: what logs in anywhere is in none of its files, and half a bundle is none."""

import io
import os
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.journal_site import event, running
from vppd.cli import bundle

URL_SECRET = "p@ss:w/rd-9"  # noqa: S105  with every mark that a URL has a use for
FILE_SECRET = "hunter-seventeen"  # noqa: S105
YAML = f"""mqtt:
  url: mqtts://site7:{URL_SECRET}@broker.example:8883   # which the check refuses
  keepalive_s: 30
# old: https://me:{URL_SECRET}@desk.example/path
"""


def content(file: Path) -> dict[str, str]:
    with tarfile.open(file) as tar:
        members = [(each.name, tar.extractfile(each)) for each in tar]
        return {name: (raw or io.BytesIO()).read().decode() for name, raw in members}


@pytest.fixture
def places(tmp_path: Path) -> bundle.Places:
    config, state = tmp_path / "etc", tmp_path / "state"
    (config / "credentials").mkdir(parents=True)
    state.mkdir()
    (config / "vppd.yaml").write_text(YAML)
    (config / "credentials" / "desk").write_bytes(f"\xff\n {FILE_SECRET} \r\n".encode("latin-1"))
    return bundle.Places(config, state, str(tmp_path / "none.sock"), [config / "credentials"])


async def test_what_errors_said_of_an_address_names_no_login(
    places: bundle.Places, tmp_path: Path
) -> None:
    words = (
        f"mqtts://site7:{URL_SECRET}@broker.example:8883 refused",
        f"the exchange said: unknown user {FILE_SECRET}",
        f"login with {URL_SECRET} failed",
        "https://other:unknown-to-us@elsewhere.example gave 401; see https://docs.example/a",
    )
    async with running(places.state / "journal.db") as site:
        for number, text in enumerate(words):
            row = event(number, text)
            assert await site.journal.commit(
                type(row)(datetime.now(UTC), row.code, row.unit, row.level, text, row.data_json)
            )
    file = tmp_path / "report.tar.gz"
    bundle.bundle(file, places, 86_400.0, lambda _: None)
    kept = content(file)
    for name, text in kept.items():
        for secret in (URL_SECRET, "w/rd-9", "ss:w", FILE_SECRET, "unknown-to-us"):
            assert secret not in text, (name, secret)
    events = kept["journal/event.jsonl"]
    assert events.count("\n") == len(words)
    for shown in ("broker.example:8883 refused", "unknown user (a", "https://docs.example/a"):
        assert shown in events
    assert "keepalive_s: 30" in kept["config/vppd.yaml"]


def test_a_credential_that_may_not_be_read_cannot_be_kept_out(
    places: bundle.Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = places.config / "credentials" / "desk"
    if os.geteuid() == 0:  # to whom nothing is closed

        def closed(path: Path) -> bytes:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "read_bytes", closed)
    else:
        desk.chmod(0)
    file = tmp_path / "report.tar.gz"
    with pytest.raises(OSError, match=r"desk.*run it as root"):
        bundle.bundle(file, places, 60.0, lambda _: None)
    assert not file.exists()


def test_half_a_bundle_is_not_left(places: bundle.Places, tmp_path: Path) -> None:
    file = tmp_path / "report.tar.gz"

    def full(_: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="space"):
        bundle.bundle(file, places, 60.0, full)
    assert not file.exists()
