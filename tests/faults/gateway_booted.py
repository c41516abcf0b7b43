"""The gateway as a machine of its own: a real systemd in namespaces, with the shipped unit on it.

`scripts/faults_boot` boots it. Its state directory is an ext4 file system in a file, so that power
can be cut under it; configuration and code are those of this checkout, mounted into it. It shares
this process's network, which `scripts/faults` made private.
"""

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.faults.gateway import TOP, Gateway
from tests.process_site import until

DISK_MB = 64
SHUTDOWN = 0x8004587D  # ioctl: the file system is gone at once
NO_LOG_FLUSH = 2
SHOWN_AS = {"nofile": "Max open files", "as": "Max address space"}
BOOT_S = 30.0
PYTHON = f"/usr/bin/python3.{sys.version_info.minor}"
DROP_IN = """[Service]
ExecStart=
ExecStart={python} -P /opt/vppd/code/tests/faults/mischief.py run --config /etc/vppd
Environment=PYTHONDONTWRITEBYTECODE=1
"""
HOOK = """
cp {code}/systemd/vppd.service "$E/vppd.service"
sed 's/^m /#m /' {code}/systemd/vppd.sysusers >"$R/run/accounts"
systemd-sysusers --root="$R" - <"$R/run/accounts" >/dev/null 2>&1
mkdir -p "$E/vppd.service.d" "$R/etc/vppd" "$R/var/lib/vppd" "$R/opt/vppd/code" "$R/opt/vppd/lib"
cp {here}/drop-in.conf "$E/vppd.service.d/faults.conf"
mount --bind {code} "$R/opt/vppd/code"
mount --bind {lib} "$R/opt/vppd/lib"
mount --bind {config} "$R/etc/vppd"
mount --bind {state} "$R/var/lib/vppd"
printf '%s\\n' /opt/vppd/code /opt/vppd/lib >"$R/usr/lib/python3/dist-packages/vppd.pth"
cp {here}/hosts "$R/etc/hosts"
cp {here}/resolv.conf "$R/run/resolv.conf"
rm -f "$R/etc/resolv.conf"
ln -s /run/resolv.conf "$R/etc/resolv.conf"
chown -R "$(sed -n 's/^vppd:[^:]*:\\([0-9]*\\):.*/\\1/p' "$R/etc/passwd")" "$R/var/lib/vppd"
"""


def can_boot() -> str:
    """Empty, or why a gateway cannot be booted here."""
    if os.geteuid() != 0:
        return "not root"
    missing = [
        each
        for each in ("unshare", "nsenter", "mkfs.ext4", "losetup", "systemctl", "systemd-sysusers")
        if shutil.which(each) is None
    ]
    if missing or not Path("/lib/systemd/systemd").exists():
        return f"not here: {', '.join(missing) or 'systemd'}"
    if not Path(PYTHON).exists():
        return f"no {PYTHON}, which the service's user could run"
    return ""


def _run(*command: object) -> None:
    done = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"


class BootedGateway(Gateway):
    """See the module."""

    booted = True

    def __init__(self, directory: Path, config: Path) -> None:
        self._here, self._disk = directory / "gateway", directory / "disk.img"
        self.state = directory / "state"
        self._here.mkdir()
        self.state.mkdir()
        lib = Path(next(each for each in sys.path if each.endswith("site-packages")))
        (self._here / "drop-in.conf").write_text(DROP_IN.format(python=PYTHON))
        (self._here / "hosts").write_text("127.0.0.1 localhost broker.lab unit-d.lab\n")
        (self._here / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        words = {"here": self._here, "config": config, "state": self.state, "code": TOP, "lib": lib}
        (self._here / "hook").write_text(HOOK.format(**words))
        with self._disk.open("wb") as file:
            file.truncate(DISK_MB << 20)
        _run("mkfs.ext4", "-q", "-F", self._disk)
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0
        self.boot()

    @property
    def root(self) -> Path:
        """Its files, while it runs."""
        return Path(f"/proc/{self._init}/root")

    def boot(self) -> None:
        """Power on."""
        _run("mount", "-o", "loop,errors=remount-ro", self._disk, self.state)
        with (self._here / "console").open("a") as console:
            self._process = subprocess.Popen(
                [TOP / "scripts/faults_boot", self._here],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        until(self._up, BOOT_S, (self._here / "console").read_text)
        self.socket = self.root / "run/vppd/vppd.sock"

    def _up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._here / "console").read_text()
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        found = children.read_text().split()
        if not found or not Path("/proc", found[0], "root", "run/systemd/private").exists():
            return False
        self._init = int(found[0])
        state = self.inside("systemctl", "is-system-running", check=False)
        return state.strip() in ("running", "degraded")

    def power_off(self) -> None:
        """The mains are gone: nothing more reaches the disk, and nobody is told."""
        descriptor = os.open(self.state, os.O_RDONLY)
        fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(descriptor)
        self._halt()

    def _halt(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.kill(self._init, signal.SIGKILL)
        self._process.wait(20.0)
        self._unmounted()
        for each in (self._here / "cgroups").read_text().split():
            self._removed(Path(each))

    def _unmounted(self) -> None:
        def gone() -> bool:
            done = subprocess.run(["umount", self.state], capture_output=True, check=False)
            return done.returncode == 0 or b"not mounted" in done.stderr

        until(gone, 20.0, lambda: "the state directory stays busy")

    @staticmethod
    def _removed(group: Path) -> None:
        def gone() -> bool:
            for each in sorted(group.rglob("*/"), reverse=True):
                with suppress(OSError):
                    each.rmdir()
            with suppress(OSError):
                group.rmdir()
            return not group.exists()

        until(gone, 10.0, lambda: f"{group} stays")

    def inside(self, *command: str, check: bool = True) -> str:
        """Run a command on the gateway."""
        spaces = ("--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd")
        done = subprocess.run(
            ["nsenter", "-t", str(self._init), *spaces, "--", *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=60.0,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr or done.stdout}"
        return done.stdout

    def pid(self) -> int | None:
        groups = [Path(each) for each in (self._here / "cgroups").read_text().split()]
        for group in groups:
            listed = group / "system.slice/vppd.service/cgroup.procs"
            with suppress(OSError):
                for pid in map(int, listed.read_text().split()):
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                    if any(word.endswith(b"mischief.py") for word in words):
                        return pid
        return None

    def start(self) -> None:
        self.inside("systemctl", "reset-failed", "vppd", check=False)
        self.inside("systemctl", "start", "--no-block", "vppd")

    def stop(self) -> None:
        self.inside("systemctl", "stop", "vppd")

    def close(self) -> None:
        self._halt()
        self._disk.unlink(missing_ok=True)

    def told(self, environment: Mapping[str, str]) -> None:
        lines = [f"Environment={key}={value}" for key, value in environment.items()]
        path = self.root / "etc/systemd/system/vppd.service.d/told.conf"
        path.write_text("\n".join(["[Service]", *lines, ""]))
        self.inside("systemctl", "daemon-reload")

    def words(self) -> str:
        return self.inside("journalctl", "-u", "vppd", "-n", "40", "--no-pager", check=False)

    def squeeze(self, what: str, soft: int) -> None:
        pid = self.inside("systemctl", "show", "vppd", "--property=MainPID", "--value").strip()
        asked = f"--{what}={'unlimited' if soft < 0 else soft}:"  # the hard one stays
        user = ("runuser", "-u", "vppd", "-g", "vppd-viewers", "--")
        if pid != "0":
            self.inside(*user, "prlimit", "--pid", pid, asked, check=False)

    def soft(self, what: str) -> int:
        pid = self.pid()
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith(SHOWN_AS[what])]
        word = line.removeprefix(SHOWN_AS[what]).split()[0]
        return -1 if word == "unlimited" else int(word)

    def limit(self, name: str, value: str) -> None:
        """A property of the running unit, until it is set back."""
        self.inside("systemctl", "set-property", "--runtime", "vppd", f"{name}={value}")

    def named(self, *, known: bool) -> None:
        """Whether names are in its hosts file, or only a name server knows them."""
        text = (self._here / "hosts").read_text()
        path = self.root / "etc/hosts"
        path.write_text(text if known else "127.0.0.1 localhost\n")
