"""Processes that were started together and work alone are told from those that are alone."""

import os

import pytest

from harness.errors import RunError
from harness.ranks import check_joined, current_rank, is_main_process

LAUNCHED = {"ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_MIXED_PRECISION": "no"}
TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"}
BATCH_SCRIPT = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}
TASK = BATCH_SCRIPT | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}


@pytest.fixture
def started(monkeypatch):
    """Give this process the variables of one that something started."""

    def start(variables):
        for name in [*os.environ]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return start


@pytest.mark.parametrize(
    ("variables", "num_joined"),
    [
        ({}, 1),
        ({"MASTER_ADDR": "node7", "MASTER_PORT": "29500"}, 1),
        ({"MASTER_ADDR": "node7", "MASTER_PORT": "29500", "WORLD_SIZE": "1"}, 1),
        (LAUNCHED, 1),
        (LAUNCHED | {"MASTER_ADDR": "node7", "WORLD_SIZE": "1"}, 1),
        (TORCHRUN, 2),
        (TORCHRUN | LAUNCHED | {"MASTER_ADDR": "node7"}, 2),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, 4),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, 1),
        (BATCH_SCRIPT, 1),
        (TASK | {"SLURM_STEP_NUM_TASKS": "1"}, 1),
        (TASK | {"RANK": "1", "WORLD_SIZE": "2"}, 2),
        # One launcher on each of two nodes, with four processes each.
        (TASK | {"RANK": "1", "WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "2"}, 8),
        ({"WORLD_SIZE": "", "SLURM_STEP_NUM_TASKS": "unset"}, 1),
    ],
)
def test_processes_that_are_alone_or_joined_are_let_through(started, variables, num_joined):
    started(variables)
    check_joined(num_joined)


@pytest.mark.parametrize(
    ("variables", "num_joined", "message"),
    [
        (TORCHRUN, 1, r"2 processes were started by a launcher that sets WORLD_SIZE and this one"),
        (
            LAUNCHED | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
            1,
            r"several processes were started by accelerate launch, which joins processes without "
            r"GPUs only by mpirun, and this one works alone; start them with torchrun, ",
        ),
        (TASK, 1, r"2 processes were started by srun and this one works alone"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, 1, "4 processes were started by mpirun and this one works"),
        ({"PMI_SIZE": "3"}, 1, "3 processes were started by mpirun"),
        ({"MV2_COMM_WORLD_SIZE": "3"}, 1, "3 processes were started by mpirun"),
        # Two launchers of two processes each, none of which knows the other.
        (TORCHRUN | TASK | {"SLURM_STEP_NUM_TASKS": "3"}, 2, r"3 .* by srun and 2 of them work as"),
        (TORCHRUN | {"PMI_SIZE": "4"}, 2, r"4 .* by mpirun and 2 of them work as one"),
    ],
)
def test_processes_that_do_not_join_are_refused(started, variables, num_joined, message):
    started(variables)
    with pytest.raises(RunError, match="^" + message):
        check_joined(num_joined)


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, 0),
        ({"RANK": "3"}, 0),  # Left by something else: it is the only one.
        (TORCHRUN, 1),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"}, 2),
        (BATCH_SCRIPT, 0),
        (TASK, 1),
        (TASK | {"SLURM_STEP_NUM_TASKS": "1"}, 0),
    ],
)
def test_a_process_knows_its_rank(started, variables, rank):
    started(variables)
    assert current_rank() == rank
    assert is_main_process() == (rank == 0)
