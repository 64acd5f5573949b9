"""A SLURM of two nodes on this machine, for the tests alone: its own daemons, ports, key and state.

It shares nothing with another SLURM here, so that tests may run at the same time.
"""

import ctypes
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
PR_SET_PDEATHSIG = 1

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
AuthType=auth/munge
# The second setting is also how long a job waits before it starts again; below 5 it is 120.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n/slurmd.pid
SlurmdSpoolDir={folder}/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# Ports that a job chooses follow from its number.
FirstJobId={first_job}
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_1} CPUs=2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_2} CPUs=2
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""

T = TypeVar("T")


def why_not() -> str | None:
    """Return why no SLURM can be started here; None if one can."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not on PATH; run make system-packages as root"
    if os.geteuid() != 0:
        return "starting SLURM's daemons needs root"
    return None


def wait_for(what: Callable[[], T | None], *, seconds: float, name: str) -> T:
    """Return what a function returns once that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{name}: not within {seconds} seconds")


@dataclass
class Job:
    """A job that was submitted."""

    cluster: "Cluster"
    number: int
    log_path: Path
    history: list[str] = field(default_factory=list)
    """State and comment, each time that they had changed when they were looked at."""

    @property
    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def look(self) -> dict[str, str]:
        """Return what `scontrol show job` says."""
        text = self.cluster.run("scontrol", "--oneliner", "show", "job", str(self.number)).strip()
        # Values may hold spaces; names start with a capital letter.
        pairs = re.findall(r"([A-Z]\w*(?:/\w+)?)=(.*?)(?= [A-Z]\w*(?:/\w+)?=|$)", text)
        facts = {name: value.strip() for name, value in pairs}
        shown = f"{facts['JobState']}: {facts.get('Comment', '')}"
        if self.history[-1:] != [shown]:
            self.history.append(shown)
        return facts

    def wait(self, seconds: float = 120) -> dict[str, str]:
        """Return what the job has come to, once it has ended."""

        def ended() -> dict[str, str] | None:
            facts = self.look()
            return facts if facts["JobState"] in ENDED else None

        try:
            return wait_for(ended, seconds=seconds, name=f"job {self.number} ends")
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.history}\n{self.log}") from None

    def wait_until(self, what: Callable[[], T | None], *, name: str) -> T:
        """Return what a function returns once that is true; the job has not ended before."""

        def found() -> T | None:
            facts = self.look()
            assert facts["JobState"] not in ENDED, self.log
            return what()

        return wait_for(found, seconds=90, name=name)

    def ranks(self) -> list[int]:
        """Return the process ids of its ranks."""
        mine = f"SLURM_JOB_ID={self.number}".encode()
        return [
            pid
            for pid, variables in environments()
            if mine in variables
            and self.cluster.mark in variables
            and any(v.startswith(b"RANK=") for v in variables)
            and re.match(rb"python|harness", Path(f"/proc/{pid}/comm").read_bytes())
        ]

    def hold(self) -> list[int]:
        """Stop the ranks where they are; return their process ids."""
        held = self.ranks()
        for pid in held:
            os.kill(pid, signal.SIGSTOP)
        return held


def let_go(pids: list[int]) -> None:
    """Let processes go on that were held."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def environments() -> Iterator[tuple[int, list[bytes]]]:
    """Yield every process that can be looked into, with its variables."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield int(folder.name), (folder / "environ").read_bytes().split(b"\0")


class Cluster:
    """The daemons, and commands that are given to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configuration = folder / "slurm.conf"
        self.mark = f"SLURM_CONF={self.configuration}".encode()
        slurm = ("SLURM", "SBATCH", "HARNESS")
        ranks = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(slurm) and k not in ranks}
        self.environment = kept | {
            "SLURM_CONF": str(self.configuration),
            "VIRTUAL_ENV": sys.prefix,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the daemons and wait until both nodes take jobs."""
        self.folder.chmod(0o755)
        for name in ("state", "n1", "n2"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        with _free_ports(3) as (controller_port, port_1, port_2):
            self.configuration.write_text(
                CONFIGURATION.format(
                    host=socket.gethostname().split(".")[0],
                    folder=self.folder,
                    controller_port=controller_port,
                    port_1=port_1,
                    port_2=port_2,
                    first_job=random.randrange(1, 60_000),
                )
            )
        files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{name}={self.folder}/munge.{end}" for name, end in files.items()]
        self._start("munged", "--foreground", "--force", f"--key-file={key}", *options)
        socket_path = self.folder / "munge.socket"
        wait_for(socket_path.exists, seconds=20, name="munged listens")
        self._start("slurmctld", "-D", "-i")
        self._start("slurmd", "-D", "-N", "n1")
        self._start("slurmd", "-D", "-N", "n2")
        wait_for(self._is_idle, seconds=60, name="both nodes take jobs")

    def stop(self) -> None:
        """End the jobs, the daemons, and whatever they have left."""
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=10)
            daemon.kill()
            daemon.wait()
        for pid, variables in list(environments()):
            if self.mark in variables and pid != os.getpid():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def run(self, *command: str, **variables: str) -> str:
        """Run one of SLURM's commands in the project's folder; return what it prints."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def submit(
        self, script: str, *arguments: object, options: tuple[str, ...] = (), **variables: str
    ) -> Job:
        """Submit a script of slurm/ as a user does."""
        log = Path(tempfile.mkstemp(suffix=".log", dir=self.folder)[1])
        command = ["sbatch", "--parsable", f"--output={log}", *options, f"slurm/{script}"]
        number = self.run(*command, *map(str, arguments), **variables)
        return Job(self, int(number), log)

    def _start(self, *command: str) -> None:
        log = (self.folder / f"{len(self._daemons)}_{command[0]}.log").open("wb")
        with log:
            daemon = subprocess.Popen(
                command,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self._daemons.append(daemon)

    def _is_idle(self) -> bool:
        for daemon in self._daemons:
            assert daemon.poll() is None, self._logs()
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%T %D"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout.split() == ["idle", "2"]

    def _logs(self) -> str:
        logs = sorted(self.folder.glob("*_*.log"))
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')}" for log in logs)


def _end_with_parent() -> None:
    """Have a daemon end with the tests, however these end."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Yield ports that were free together; they are again when the block ends."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        yield [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
