"""The station over TLS: both sides show a certificate of the same authority."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.scada_rig import master, serving, setpoint
from vppd.core.settings_scada import StationTlsSettings

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


def openssl(directory: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority with a station and a master, and a stranger of another authority."""
    directory = tmp_path_factory.mktemp("papers")
    for authority in ("authority", "stranger"):
        openssl(directory, "req", "-x509", *KEY, "-subj", f"/CN={authority}",
                "-keyout", f"{authority}.key", "-out", f"{authority}.pem")  # fmt: skip
    for name in ("station", "master"):
        openssl(directory, "req", *KEY[:-2], "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        openssl(directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "authority.pem",
                "-CAkey", "authority.key", "-CAcreateserial", "-days", "2",
                "-out", f"{name}.pem")  # fmt: skip
    return directory


def of(papers: Path) -> StationTlsSettings:
    return StationTlsSettings(
        certificate=str(papers / "station.pem"),
        private_key=str(papers / "station.key"),
        authority=str(papers / "authority.pem"),
    )


def client(papers: Path, name: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(papers / "authority.pem"))
    context.check_hostname = False
    if name is not None:
        context.load_cert_chain(papers / f"{name}.pem", papers / f"{name}.key")
    return context


async def test_a_master_with_papers_commands(papers: Path) -> None:
    async with (
        serving({"tls": of(papers)}) as site,
        master(site, ssl=client(papers, "master")) as it,
    ):
        assert await it.command(setpoint(0.1))
        assert site.accepted() == [pytest.approx(100.0)]


@pytest.mark.parametrize("name", [None, "stranger"])
async def test_who_has_none_or_others_is_not_let_in(papers: Path, name: str | None) -> None:
    async with serving({"tls": of(papers)}) as site:
        with pytest.raises((ConnectionError, ssl.SSLError)):
            async with master(site, ssl=client(papers, name)) as it:
                await it.command(setpoint(0.1))
        assert site.accepted() == []


async def test_plain_bytes_are_not_let_in(papers: Path) -> None:
    async with serving({"tls": of(papers)}) as site:
        with pytest.raises((ConnectionError, TimeoutError)):
            async with master(site, response_timeout=2.0) as it:
                await it.command(setpoint(0.1))
        assert site.accepted() == []


async def test_papers_that_cannot_be_read_stop_the_start(papers: Path) -> None:
    missing = StationTlsSettings(certificate="no.pem", private_key="no.key", authority="no.pem")
    with pytest.raises(ExceptionGroup) as failed:
        async with serving({"tls": missing}):
            pass
    assert failed.group_contains(FileNotFoundError)
