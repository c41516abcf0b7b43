"""install.sh on a staged root: real environments, real pip, a tiny vppd of our own as the product.

The product carries its own build backend and needs no library, so no test here needs a network.
What only a running systemd can show (readiness, automatic rollback) is not claimed here.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]

BACKEND = """
import pathlib, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    info = "vppd-0.1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(directory, "vppd-0.1.0-py3-none-any.whl"), "w") as wheel:
        for path in sorted(pathlib.Path("vppd").rglob("*.py")):
            wheel.write(path)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: vppd\\nVersion: 0.1.0\\n")
        wheel.writestr(f"{info}/WHEEL",
            "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/entry_points.txt",
            "[console_scripts]\\nvppd = vppd.__main__:main\\nvppctl = vppd.__main__:main\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return "vppd-0.1.0-py3-none-any.whl"
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["vppd"]
[project]
name = "vppd"
version = "0.1.0"
"""
PROGRAM = """
import pathlib, sys
RELEASE = "first"
def dropins(words):
    if "--help" in words:
        return
    text = pathlib.Path(words[words.index("--config") + 1], "vppd.yaml").read_text()
    if "nowhere" in text:
        sys.exit("mqtt.url: nowhere cannot be resolved now")
    folder = pathlib.Path(words[words.index("--dir") + 1])
    folder.mkdir(parents=True, exist_ok=True)
    made = f"# from {words[words.index('--called') + 1]}: {text}"
    if (folder / "ip.conf").exists() and (folder / "ip.conf").read_text() == made:
        return
    (folder / "ip.conf").write_text(made)
    print("ip.conf: written")
    print("in force after: systemctl daemon-reload")
def main():
    if sys.argv[1:2] == ["check"]:
        wrong = "wrong" in pathlib.Path(sys.argv[3], "vppd.yaml").read_text()
        sys.exit("vppd.yaml:1: mode: is wrong" if wrong else 0)
    if sys.argv[1:2] == ["dropins"]:
        return dropins(sys.argv[2:])
    print(RELEASE)
if __name__ == "__main__":
    main()
"""


class Site:
    """A checkout and the root it is staged into."""

    def __init__(self, directory: Path) -> None:
        self.checkout = directory / "checkout"
        self.root = directory / "root"
        self.opt = self.root / "opt/vppd"
        self.config = self.root / "etc/vppd"
        self.packages: list[Path] = []  # of each release, as they were made
        for folder in ("vppd/spine", "etc/vppd/devices", "scripts"):
            (self.checkout / folder).mkdir(parents=True)
        shutil.copytree(TOP / "systemd", self.checkout / "systemd")
        for script in ("install.sh", "deb"):
            shutil.copy(TOP / "scripts" / script, self.checkout / "scripts")
        self.write("scripts/constraints.txt", "")
        self.write("README.md", "# product\n")
        self.write("LICENSE", "free\n")
        self.write("pyproject.toml", PYPROJECT)
        self.write("vppd/__init__.py", "")
        self.write("vppd/__main__.py", PROGRAM)
        self.write("vppd/backend.py", BACKEND)
        self.write("vppd/spine/__init__.py", "")
        self.write("vppd/spine/schema.py", "STEPS = ('',)\n")
        self.write("etc/vppd/vppd.yaml", "mode: simulation\n")
        self.write("etc/vppd/devices/own.yaml", "{}\n")

    def write(self, name: str, text: str) -> None:
        (self.checkout / name).write_text(text, encoding="utf-8")

    def release(self, name: str) -> None:
        """Change the product."""
        self.write("vppd/__main__.py", PROGRAM.replace("first", name))

    def install(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.checkout / "scripts/install.sh", "--root", self.root, *words],
            env={**os.environ, "PYTHON": sys.executable},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    def package(self) -> Path:
        """As scripts/deb makes it of the release that is installed."""
        done = subprocess.run(
            [self.checkout / "scripts/deb", "--stage", self.root, self.root.with_name("dist")],
            env={**os.environ, "PYTHON": sys.executable},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return Path(done.stdout.splitlines()[-1])

    def runs(self, link: str = "current") -> str:
        """What the release behind a link says it is."""
        python = self.opt / link / "bin/python"
        return subprocess.run(
            [python, "-P", "-m", "vppd"], capture_output=True, text=True, timeout=30, check=True
        ).stdout.strip()

    def release_name(self) -> str:
        """As install.sh calls a checkout without a commit: by the hash of its files."""
        listing = "".join(
            f"{hashlib.sha256((self.checkout / name).read_bytes()).hexdigest()}  {name}\n"
            for name in sorted(
                path.relative_to(self.checkout).as_posix()
                for path in self.checkout.rglob("*")
                if path.is_file() and path.suffix != ".pyc"
            )
        )
        return f"0.1.0-h{hashlib.sha256(listing.encode()).hexdigest()[:10]}"

    def links(self) -> tuple[str, str]:
        return tuple(  # type: ignore[return-value]
            str((self.opt / link).readlink()) if (self.opt / link).is_symlink() else ""
            for link in ("current", "previous")
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One first installation; the tests below go on from it, in their order."""
    site = Site(tmp_path_factory.mktemp("site"))
    done = site.install()
    assert done.returncode == 0, done.stdout + done.stderr
    site.packages.append(site.package())
    return site


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_first_installation_lays_everything_out(installed: Site) -> None:
    site = installed
    current, previous = site.links()
    assert current.startswith("releases/0.1.0-h")
    assert previous == ""
    assert (site.opt / "current/RELEASE").read_text().startswith(current.split("/")[1])
    assert site.runs() == "first"
    assert (site.root / "etc/systemd/system/vppd.service").read_bytes() == (
        TOP / "systemd/vppd.service"
    ).read_bytes()
    for name in ("vppd", "vppctl"):
        link = site.root / "usr/local/bin" / name
        assert str(link.readlink()) == f"/opt/vppd/current/bin/{name}"
        assert os.access(site.opt / "current/bin" / name, os.X_OK)
    assert (site.root / "etc/sysusers.d/vppd.conf").exists()
    assert (site.root / "usr/local/lib/systemd/catalog/vppd.catalog").read_bytes() == (
        TOP / "systemd/vppd.catalog"
    ).read_bytes()
    drop_in = site.root / "etc/systemd/system/vppd.service.d/ip.conf"
    assert drop_in.read_text() == "# from /etc/vppd: mode: simulation\n"
    assert (site.config / "vppd.yaml").read_text() == "mode: simulation\n"
    assert (site.config / "devices/own.yaml").exists()
    assert [mode(site.config), mode(site.config / "vppd.yaml")] == ["0o750", "0o640"]


def test_nothing_in_a_staged_release_names_the_stage(installed: Site) -> None:
    stage = str(installed.root).encode()
    programs = [*(installed.opt / "current/bin").iterdir(), installed.opt / "current/pyvenv.cfg"]
    assert [path.name for path in programs if path.is_file() and stage in path.read_bytes()] == []


def test_the_same_again_changes_nothing(installed: Site) -> None:
    before = {path: path.lstat() for path in installed.root.rglob("*")}
    done = installed.install()
    assert done.returncode == 0
    assert "nothing to do" in done.stdout
    after = {path: path.lstat() for path in installed.root.rglob("*")}
    assert after.keys() == before.keys()
    changed = [path for path in after if after[path].st_mtime_ns != before[path].st_mtime_ns]
    assert changed == []


def test_drop_ins_that_cannot_be_made_stop_the_upgrade_unless_they_are_kept(
    installed: Site,
) -> None:
    site, links = installed, installed.links()
    drop_in = site.root / "etc/systemd/system/vppd.service.d/ip.conf"
    before = drop_in.read_text()
    (site.config / "vppd.yaml").write_text("mode: nowhere\n", encoding="utf-8")
    done = site.install()
    assert done.returncode == 1
    assert "nowhere cannot be resolved" in done.stderr
    assert "nothing was changed" in done.stderr
    assert (site.links(), drop_in.read_text()) == (links, before)
    (site.config / "vppd.yaml").write_text("mode: simulation\n", encoding="utf-8")


def test_a_refused_configuration_stops_the_upgrade(installed: Site) -> None:
    site = installed
    links, releases = site.links(), set((site.opt / "releases").iterdir())
    (site.config / "vppd.yaml").write_text("mode: wrong\n", encoding="utf-8")
    site.release("second")
    site.write("etc/vppd/vppd.yaml", "mode: simulation # and news\n")
    done = site.install()
    assert done.returncode == 1
    assert "vppd.yaml:1: mode: is wrong" in done.stdout + done.stderr
    assert "nothing was changed" in done.stderr
    assert (site.links(), set((site.opt / "releases").iterdir())) == (links, releases)
    assert not (site.config / "vppd.yaml.example").exists()
    assert site.runs() == "first"


def test_a_release_that_cannot_be_built_changes_nothing(installed: Site) -> None:
    links = installed.links()
    installed.write("vppd/backend.py", "raise SystemExit('no compiler')\n")
    done = installed.install()
    installed.write("vppd/backend.py", BACKEND)
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert installed.links() == links
    assert len(list((installed.opt / "releases").iterdir())) == 1


def test_an_upgrade_keeps_the_operators_words(installed: Site) -> None:
    site = installed
    (site.config / "vppd.yaml").write_text("mode: hardware # ours\n", encoding="utf-8")
    site.release("second")
    site.write("etc/vppd/vppd.yaml", "mode: simulation # and news\n")
    site.write("etc/vppd/market.yaml", "enabled: false\n")
    first, _ = site.links()
    # a build of this release that was cut off leaves its folder without the word of completion
    cut_off = site.opt / "releases" / site.release_name()
    (cut_off / "bin").mkdir(parents=True)
    (cut_off / "bin/half").write_text("")
    done = site.install()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (cut_off / "RELEASE").exists()
    assert not (cut_off / "bin/half").exists()
    assert (site.config / "vppd.yaml").read_text() == "mode: hardware # ours\n"
    assert (site.config / "vppd.yaml.example").read_text() == "mode: simulation # and news\n"
    assert not (site.config / "market.yaml").exists()
    assert (site.config / "market.yaml.example").exists()
    assert not (site.config / "devices/own.yaml.example").exists()
    assert site.links()[1] == first
    assert (site.runs(), site.runs("previous")) == ("second", "first")
    os.utime(site.checkout / "vppd/__main__.py", (2e9, 2e9))  # made later, to the second
    site.packages.append(site.package())


def test_rollback_goes_back_and_forth(installed: Site) -> None:
    site = installed
    current, previous = site.links()
    # as on the machine itself, from the release's own copy, without the checkout
    own = site.opt / "current/scripts/install.sh"
    done = subprocess.run(
        [own, "rollback", "--root", site.root],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.links() == (previous, current)
    assert site.runs() == "first"
    assert site.install("rollback").returncode == 0
    assert site.runs() == "second"


def test_rollback_too_asks_the_configuration_first(installed: Site) -> None:
    links = installed.links()
    (installed.config / "vppd.yaml").write_text("mode: wrong\n", encoding="utf-8")
    assert installed.install("rollback").returncode == 1
    assert installed.links() == links
    (installed.config / "vppd.yaml").write_text("mode: hardware\n", encoding="utf-8")


def test_uninstall_keeps_what_is_the_operators_and_purge_does_not(installed: Site) -> None:
    site = installed
    state = site.root / "var/lib/vppd"
    state.mkdir(parents=True)
    (state / "journal.db").write_bytes(b"rows")
    assert site.install("uninstall").returncode == 0
    gone = [
        site.opt,
        site.root / "usr/local/bin/vppctl",
        site.root / "etc/systemd/system/vppd.service",
    ]
    assert [path for path in gone if path.is_symlink() or path.exists()] == []
    assert (state / "journal.db").exists()
    assert (site.config / "vppd.yaml").read_text() == "mode: hardware\n"
    assert site.install("uninstall", "--purge").returncode == 0
    assert not site.config.exists()
    assert not state.exists()


def test_words_it_does_not_know_are_refused_with_its_usage(tmp_path: Path) -> None:
    done = Site(tmp_path).install("upgrade")
    assert done.returncode == 2
    assert "rollback" in done.stderr
    assert not (tmp_path / "root/opt").exists()


# --- the package ---


class Machine:
    """A root with a dpkg of its own; its maintainer scripts run without a chroot."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "var/lib/dpkg/info").mkdir(parents=True)
        (root / "var/lib/dpkg/updates").mkdir()
        (root / "var/lib/dpkg/status").touch()
        self.opt = root / "opt/vppd"

    def dpkg(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        forced = "--force-not-root,script-chrootless,depends,bad-path,downgrade,unsafe-io"
        command = ["dpkg", f"--root={self.root}", forced, f"--log={self.root}/log", *words]
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        env = {**os.environ, "PATH": path, "DPKG_FRONTEND_LOCKED": ""}
        return subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=110, check=False
        )

    def status(self) -> str:
        told = self.dpkg("--status", "vppd").stdout
        return next((line[8:] for line in told.splitlines() if line.startswith("Status:")), "none")

    def current(self) -> str:
        link = self.opt / "current"
        return link.readlink().name if link.is_symlink() else ""


def field(name: str, path: Path) -> str:
    return subprocess.run(
        ["dpkg-deb", "--field", path, name], capture_output=True, text=True, timeout=30, check=True
    ).stdout.strip()


def test_a_package_says_what_it_needs_and_brings_no_configuration(installed: Site) -> None:
    first, second = installed.packages
    minor = sys.version_info.minor
    needs = field("Depends", first).split(", ")
    assert needs[:2] == [f"python3 (>= 3.{minor}~)", f"python3 (<< 3.{minor + 1})"]
    versions = [field("Version", path) for path in (first, second)]
    compare = ["dpkg", "--compare-versions", versions[0], "lt", versions[1]]
    assert subprocess.run(compare, timeout=30, check=False).returncode == 0, versions
    listing = subprocess.run(
        ["dpkg-deb", "--contents", first], capture_output=True, text=True, timeout=30, check=True
    ).stdout.splitlines()
    paths = [line.split()[5] for line in listing]
    assert [path for path in paths if not path.startswith(("./opt/vppd/releases/", "./opt/"))] == [
        "./"
    ]
    assert {line.split()[1] for line in listing} == {"root/root"}


def test_a_package_is_installed_upgraded_downgraded_removed_and_purged(
    installed: Site, tmp_path: Path
) -> None:
    first, second = installed.packages
    machine = Machine(tmp_path)
    done = machine.dpkg("--install", first)
    assert done.returncode == 0, done.stdout + done.stderr
    assert machine.status() == "install ok installed"
    one = machine.current()
    assert (machine.opt / "current/RELEASE").read_text().startswith(one)
    config = tmp_path / "etc/vppd/vppd.yaml"
    assert config.read_text() == "mode: simulation\n"
    unit = tmp_path / "etc/systemd/system/vppd.service"
    assert unit.exists()

    config.write_text("mode: hardware # ours\n", encoding="utf-8")
    done = machine.dpkg("--install", second)
    assert done.returncode == 0, done.stdout + done.stderr
    two = machine.current()
    assert two != one
    assert config.read_text() == "mode: hardware # ours\n"
    # dpkg took the first one's files away; a rollback finds them all the same
    assert (machine.opt / "previous").readlink().name == one
    assert (machine.opt / "previous/RELEASE").read_text().startswith(one)
    assert (machine.opt / "previous/bin/vppctl").exists()
    assert not (machine.opt / "kept").exists()

    assert machine.dpkg("--install", first).returncode == 0
    assert (machine.current(), (machine.opt / "previous").readlink().name) == (one, two)
    own = machine.opt / "current/scripts/install.sh"
    subprocess.run([own, "rollback", "--root", tmp_path], timeout=60, check=True)
    assert machine.dpkg("--install", second).returncode == 0
    assert (machine.current(), (machine.opt / "previous").readlink().name) == (two, one)
    assert (machine.opt / "previous/RELEASE").read_text().startswith(one)

    (tmp_path / "var/lib/vppd").mkdir(parents=True)
    assert machine.dpkg("--remove", "vppd").returncode == 0
    assert machine.status() == "deinstall ok config-files"
    assert not machine.opt.exists()
    assert not unit.exists()
    assert config.read_text() == "mode: hardware # ours\n"
    assert machine.dpkg("--purge", "vppd").returncode == 0
    assert not config.parent.exists()
    assert not (tmp_path / "var/lib/vppd").exists()
    assert machine.status() == "none"


def test_a_package_that_cannot_run_here_leaves_the_one_before_in_place(
    installed: Site, tmp_path: Path
) -> None:
    first, second = installed.packages
    machine = Machine(tmp_path)
    assert machine.dpkg("--install", first).returncode == 0
    one = machine.current()
    config = tmp_path / "etc/vppd/vppd.yaml"
    config.write_text("mode: wrong\n", encoding="utf-8")
    done = machine.dpkg("--install", second)
    assert done.returncode != 0
    assert "nothing was changed" in done.stderr
    assert machine.current() == one
    assert (machine.opt / "current/bin/python").exists()
    assert (machine.opt / "current/RELEASE").read_text().startswith(one)
    # the cause mended, dpkg goes on from there
    config.write_text("mode: hardware\n", encoding="utf-8")
    assert machine.dpkg("--configure", "vppd").returncode == 0
    assert machine.current() != one


def test_it_refuses_without_root_before_touching_anything() -> None:
    nobody = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*nobody, "bash", "-s"],
        input=(TOP / "scripts/install.sh").read_text(encoding="utf-8"),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "must be root" in done.stderr


def test_the_wheel_carries_every_module_and_profile(tmp_path: Path) -> None:
    """The real one: what setuptools would leave out is missing on every site."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, tmp_path)
    shutil.copytree(
        TOP / "vppd", tmp_path / "vppd", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    shutil.copytree(TOP / "etc", tmp_path / "etc")
    wheels = tmp_path / "wheels"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", wheels, tmp_path),
        ],
        timeout=110,
        check=True,
    )
    (wheel,) = wheels.iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())
    source = {
        path.relative_to(tmp_path).as_posix()
        for path in (tmp_path / "vppd").rglob("*")
        if path.is_file()
    }
    assert source <= names, source - names
