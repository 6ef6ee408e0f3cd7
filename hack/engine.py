"""The Docker engine: used when it runs, started when it does not, installed on Debian as root."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import time
from pathlib import Path

from hack.bases import install
from hack.cache import LOGS, RECIPES
from hack.errors import EngineUnavailable
from hack.process import Log, answer, start

_SYS_RESOURCE = 24
"""The capability's number (linux/capability.h)."""
_WRAPPER = Path("/usr/local/bin/metis-runc-caps")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_START_LIMIT = 60.0


def ensure(log: Log) -> str:
    """Have a Docker engine answer; return its version.

    Raises:
        EngineUnavailable: there is none, and it cannot be installed or started here.
    """
    if version := _version():
        return f"Docker {version} runs"
    if os.environ.get("DOCKER_HOST") or platform.system() != "Linux" or os.geteuid() != 0:
        _explain()
    if not shutil.which("dockerd", path=_SYSTEM_PATH):
        if not shutil.which("apt-get"):
            _explain()
        log.note("installing the Docker engine")
        install(log, "docker.io", "iptables")
    _start(log)
    return f"Docker {_version()} started"


def lacks_sys_resource(status: str) -> bool:
    """Whether /proc/self/status tells of a missing CAP_SYS_RESOURCE.

    Privileged containers cannot have it then, and asking for it fails.
    """
    for line in status.splitlines():
        if line.startswith("CapBnd:"):
            return not int(line.split()[1], 16) >> _SYS_RESOURCE & 1
    return False


def host_lacks_sys_resource() -> bool:
    """Whether this machine lacks CAP_SYS_RESOURCE."""
    file = Path("/proc/self/status")
    return file.is_file() and lacks_sys_resource(file.read_text())


def _version() -> str | None:
    return answer("docker", "version", "--format", "{{.Server.Version}}")


def _explain() -> None:
    """Raise with what a person can do on this machine."""
    error = _client_error()
    if "permission denied" in error.lower():
        raise EngineUnavailable(
            "your user may not talk to the Docker engine",
            "Add it to the group `docker` (`sudo usermod -aG docker $USER`) and log in again.",
        )
    if os.environ.get("DOCKER_HOST"):
        raise EngineUnavailable(
            f"no Docker engine answers at DOCKER_HOST={os.environ['DOCKER_HOST']}",
            "Start that engine, or unset DOCKER_HOST.",
        )
    if platform.system() == "Linux":
        what = "start it (`sudo systemctl start docker`)"
        if not shutil.which("docker"):
            what = "install it (Debian, Ubuntu: `apt-get install docker.io`)"
        raise EngineUnavailable(
            "no Docker engine answers", f"As root, {what}, then run this again."
        )
    raise EngineUnavailable(
        "no Docker engine answers",
        "Install and start Docker Desktop (or colima, OrbStack), then run this again.",
    )


def _client_error() -> str:
    try:
        done = subprocess.run(
            ["docker", "version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return done.stderr


def _start(log: Log) -> None:
    daemon: subprocess.Popen[bytes] | None = None
    if Path("/run/systemd/system").is_dir():
        log.note("starting the Docker service")
        log.run("systemctl", "start", "docker")
    else:
        log.note("starting dockerd")
        _remove_stale(log)
        daemon = _start_daemon()
    end = time.monotonic() + _START_LIMIT
    while not _version():
        gone = daemon is not None and daemon.poll() is not None
        if gone or time.monotonic() > end:
            how = "ended at once" if gone else f"does not answer after {_START_LIMIT:.0f} s"
            raise EngineUnavailable(
                f"dockerd was started but {how}",
                "Its log's last lines name the cause.",
                LOGS / "dockerd.log",
            )
        time.sleep(0.3)


def _start_daemon() -> subprocess.Popen[bytes]:
    command: list[str] = ["dockerd"]
    if host_lacks_sys_resource():
        shutil.copy(RECIPES / "engine" / "runc-caps", _WRAPPER)
        _WRAPPER.chmod(0o755)
        command += ["--add-runtime", f"caps={_WRAPPER}", "--default-runtime", "caps"]
    LOGS.mkdir(parents=True, exist_ok=True)
    path = os.environ.get("PATH", "")
    with (LOGS / "dockerd.log").open("wb") as log:
        # A session of its own: the engine outlives this run and does not get its signals.
        return start(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=Path("/"),
            env={"PATH": f"{path}:{_SYSTEM_PATH}"},
        )  # fmt: skip


def runs(stat: str, program: str) -> bool:
    """Whether /proc/PID/stat tells of a live process of this program: no other one, no zombie."""
    name, _, rest = stat.partition("(")[2].rpartition(")")
    return name == program and rest.split()[0] != "Z"


def _alive(pid: int, program: str) -> bool:
    try:
        return runs(Path(f"/proc/{pid}/stat").read_text(), program)
    except OSError:
        return False


def _remove_stale(log: Log) -> None:
    """Remove what an engine that was killed left behind, which would keep a new one from starting.

    A pid file counts only if that process is the program it speaks of: after a reboot the number
    may be another's. A dockerd that is up but does not answer is left to settle; its containerd
    that outlived it is ended.
    """
    for file, program in (
        (Path("/var/run/docker.pid"), "dockerd"),
        (Path("/var/run/docker/containerd/containerd.pid"), "containerd"),
    ):
        if not file.is_file():
            continue
        pid = int(file.read_text().strip() or 0)
        if _alive(pid, program):
            if program == "dockerd":
                return
            log.write(f"ending the containerd {pid} of an engine that was killed")
            os.kill(pid, signal.SIGTERM)
            end = time.monotonic() + 10
            while _alive(pid, program) and time.monotonic() < end:
                time.sleep(0.1)
        log.write(f"removing the stale {file}")
        file.unlink(missing_ok=True)
