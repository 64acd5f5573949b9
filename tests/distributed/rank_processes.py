"""The command line in two processes that join, each as a launcher would start it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAUNCHERS = ("SLURM", "OMPI_", "PMI_", "MV2_", "ACCELERATE_", "TORCHELASTIC_", "MASTER_", "GROUP_")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


def bare_environment(**variables: object) -> dict[str, str]:
    """Return this environment without what a launcher of the tests themselves may have set."""
    ranks = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHERS) and k not in ranks}
    added = {name: str(value) for name, value in variables.items()}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | added


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rank_variables(rank: int, port: int, world_size: int = 2) -> dict[str, object]:
    return {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": world_size,
        "LOCAL_WORLD_SIZE": world_size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }


@contextmanager
def two_ranks(
    *arguments: object, second: tuple[object, ...] | None = None
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start `python -m harness` on two ranks, rank 1 perhaps with other arguments.

    What still runs is killed.
    """
    port = free_port()
    processes = []
    try:
        for rank in range(2):
            given = second if rank == 1 and second is not None else arguments
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "harness", *map(str, given)],
                    env=bare_environment(**rank_variables(rank, port)),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
        yield processes
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def ended(process: subprocess.Popen[str], timeout: float = 100) -> Ended:
    out, err = process.communicate(timeout=timeout)
    return Ended(process.returncode, out, err)


def run_two(*arguments: object, second: tuple[object, ...] | None = None) -> list[Ended]:
    with two_ranks(*arguments, second=second) as processes:
        return [ended(process) for process in processes]
