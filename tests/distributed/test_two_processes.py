"""Two real processes over gloo: one set of weights, one draw of policies, exact error counts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.accuracy import count_policy_errors
from harness.checkpoint import load_supernet
from harness.data import eval_batches, load_splits
from harness.spec.run_dir import RunDir

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc_per_node", "2", SCRIPT, folder]  # fmt: skip
    environment = {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(SCRIPT.parents[2]),
    }
    subprocess.run(command, env=environment, check=True, timeout=110)
    return folder, [json.loads((folder / f"rank{r}.json").read_text()) for r in range(2)]


def test_ranks_end_with_the_same_weights(reports):
    _, (first, second) = reports
    assert first["weights"] == second["weights"]


def test_ranks_share_the_images_of_an_epoch(reports):
    _, (first, second) = reports
    assert first["steps"] == second["steps"] == 2 * 320 // (2 * 40)


def test_ranks_draw_the_same_policies(reports):
    _, (first, second) = reports
    assert first["policies"] == second["policies"]
    assert len({json.dumps(policy) for policy in first["policies"]}) > 8


def test_error_counts_are_those_of_one_process(reports):
    folder, (first, second) = reports
    run = RunDir(folder / "run")
    supernet = load_supernet(run)
    config = run.load_config()
    batches = eval_batches(load_splits(config.data, seed=config.seed).search, batch_size=30)
    policies = [supernet.largest_policy, supernet.smallest_policy]
    alone = count_policy_errors(supernet, policies, batches)
    assert first["errors"] == second["errors"] == alone


def test_ranks_search_as_one_and_resume_from_a_torn_journal(reports):
    _, (first, second) = reports
    whole, resumed = first["found"]
    assert first["found"] == second["found"]
    assert resumed == whole
