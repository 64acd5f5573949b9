"""Which of several processes this one is, as whatever started it says in the environment.

Nothing is imported for it, so that `harness --help` stays instant on ranks too. The process group
itself, once there is one, is `process_group`'s.
"""

import os

from harness.errors import RunError

MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
MPI_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")

STEP_SIZE = "SLURM_STEP_NUM_TASKS"
"""Set in what `srun` starts. A batch script and the shell of `salloc` do not have it: there
SLURM_NTASKS says how many tasks the job might start, and one process is one."""

LAUNCHER_MARK = "ACCELERATE_DYNAMO_BACKEND"
"""`accelerate launch` sets it for every process that it starts."""


def current_rank() -> int:
    """Return the rank of this process; 0 where it is the only one."""
    if num_to_join() > 1:
        return _number(("RANK", *MPI_RANKS), 0)
    return _number(("SLURM_PROCID",), 0) if _num_srun_tasks() > 1 else 0


def is_main_process() -> bool:
    """Return whether this process speaks for all."""
    return current_rank() == 0


def num_to_join() -> int:
    """Return how many processes the environment tells to form one group."""
    return _number(("WORLD_SIZE", *MPI_SIZES), 1)


def check_joined(num_joined: int) -> None:
    """Check that the processes that were started work as one.

    Args:
        num_joined: Processes in the group that this one is in.

    Raises:
        RunError: Others were started with this one and are not in its group: each would do the
            whole work by itself, all of them in one folder.
    """
    started, by = _started_together(num_joined)
    if started == "1":
        return
    joined = "this one works alone" if num_joined == 1 else f"{num_joined} of them work as one"
    raise RunError(
        f"{started} processes were started by {by} and {joined}; start them with torchrun, under "
        "SLURM with slurm/train.sh or slurm/search.sh, or start one"
    )


def _started_together(num_joined: int) -> tuple[str, str]:
    """Return how many processes were started and by what; "1" where all of them are joined."""
    # Under torchrun the tasks of srun or mpirun are its launchers, one for each node.
    groups = {num_joined, _number(("GROUP_WORLD_SIZE",), num_joined)}
    for name, by in ((STEP_SIZE, "srun"), *((name, "mpirun") for name in MPI_SIZES)):
        if _number((name,), 1) > 1 and _number((name,), 1) not in groups:
            return os.environ[name], by
    num_ranks = _number(("WORLD_SIZE",), 1)
    if num_ranks not in (1, num_joined):
        return str(num_ranks), "a launcher that sets WORLD_SIZE"
    if num_joined == 1 and _is_launched_as_several():
        return "several", "accelerate launch, which joins processes without GPUs only by mpirun,"
    return "1", ""


def _is_launched_as_several() -> bool:
    """Return whether `accelerate launch` was told to start more than this one process.

    On CPUs it starts one per machine whatever it was told. The address at which the others were to
    be met is all that tells; a user may have left one in the environment, with WORLD_SIZE.
    """
    others = LAUNCHER_MARK in os.environ and "MASTER_ADDR" in os.environ
    return others and "LOCAL_RANK" not in os.environ and "WORLD_SIZE" not in os.environ


def _num_srun_tasks() -> int:
    return _number((STEP_SIZE,), 1)


def _number(names: tuple[str, ...], default: int) -> int:
    """Return the first of some variables that holds a whole number."""
    for name in names:
        text = os.environ.get(name, "")
        if text.isdecimal():
            return int(text)
    return default
