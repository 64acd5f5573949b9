"""Two real processes over gloo: one set of weights, one draw of policies, exact error counts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from two_processes import OVERRIDES

from harness.accuracy import count_wrong_by_policy
from harness.checkpoint import load_supernet, load_tensors
from harness.data import eval_batches, load_splits
from harness.errors import CheckpointError
from harness.quant.finite import first_unusable
from harness.run.checkpoint_folder import newest_checkpoint
from harness.run.config import load_config
from harness.run.folder import RunDir
from harness.training.trainer import train

FOLDER = Path(__file__).parent


def run_two(script: str, folder: Path) -> tuple[list[dict], str]:
    """Run a script in two processes; return what each rank reported, and their error streams."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc_per_node", "2", FOLDER / script, folder]  # fmt: skip
    environment = {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(FOLDER.parents[1]),
    }
    done = subprocess.run(
        command, env=environment, check=False, timeout=110, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"rank{r}.json").read_text()) for r in range(2)], done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return folder, *run_two("two_processes.py", folder)


@pytest.fixture(scope="module")
def reports(run):
    folder, ranks, _ = run
    return folder, ranks


def test_gradients_lie_as_the_reducer_wants_them(run):
    assert "bucket_view" not in run[2]  # It copies, and warns, where strides differ.


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


def test_ranks_freeze_what_rank_0_decides(reports):
    folder, (first, second) = reports
    assert first["candidates"] == second["candidates"]
    frozen = [row["name"] for row in first["candidates"] if row["weight"] == [6, 5, 4, 3]]
    assert len(frozen) == 1  # A fifth of eight free layers, from half of training on.
    rows = (folder / "run/metrics.jsonl").read_text().splitlines()
    (act,) = [json.loads(row) for row in rows if "freezing_ratio" in row]
    assert (act["step"], act[f"frozen_bits/{frozen[0]}"]) == (4, 2)
    # Policies of the second epoch are drawn from what was left.
    layer = [row["name"] for row in first["candidates"]].index(frozen[0])
    bits = [policy[layer][0] for policy in first["policies"]]
    assert 2 in bits[: len(bits) // 2]


def test_error_counts_are_those_of_one_process(reports):
    folder, (first, second) = reports
    trained = RunDir(folder / "run")
    supernet = load_supernet(trained)
    config = trained.load_config()
    batches = eval_batches(load_splits(config.data, seed=config.seed).search, batch_size=30)
    policies = [supernet.network.candidates.largest, supernet.network.candidates.smallest]
    alone = count_wrong_by_policy(supernet, policies, batches)
    assert first["errors"] == second["errors"] == alone


def test_ranks_search_as_one_and_resume_from_a_torn_journal(reports):
    _, (first, second) = reports
    whole, resumed = first["found"]
    assert first["found"] == second["found"]
    assert resumed == whole


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    (first, second), _ = run_two("stopped_ranks.py", folder)
    assert first == second
    return folder, first


def test_a_signal_while_one_rank_validates_stops_both_at_the_next_step(refusals):
    folder, raised = refusals
    assert raised["stopped"].startswith("Stopped: stopped by a signal at step 5 of 8, saved in ")
    assert newest_checkpoint(RunDir(folder / "stopped")).name == "step_00000005"


def test_a_run_of_two_ranks_is_not_taken_over_by_one(refusals):
    folder, _ = refusals
    message = r"step_00000005 has 4 steps per epoch, 1 process\(es\) make it 8; start as many"
    with pytest.raises(CheckpointError, match=message):
        train(load_config(None, overrides=OVERRIDES), out=folder / "stopped")


def test_fewer_batches_than_ranks_are_refused(refusals):
    folder, raised = refusals
    assert raised["too few"] == (
        "DataError: train.batch_size 300 in each of 2 processes is more than the 320 training "
        "images; lower it or start fewer processes"
    )
    assert not (folder / "few").exists()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "images",
            "the loss (max_pass_ce, random_ce, random_kl) is no finite number in step 6, in the "
            "max pass (policy 6/6), first in the images on process 1; nothing was saved since",
        ),
        (
            "head",
            "the loss is beyond 230.3 in step 6, in the max pass (policy 6/6), whose layers' "
            "values are all finite, the largest 1e+06 in the output of layer fc on process 1; ",
        ),
    ],
)
def test_a_loss_of_one_rank_that_is_bad_stops_both(refusals, what, message):
    folder, raised = refusals
    assert raised[what].startswith(f"NotFiniteError: {message}")
    begun, kept = sorted(RunDir(folder / what).checkpoints.iterdir())
    assert (begun.name, kept.name) == ("step_00000000", "step_00000004")
    assert first_unusable(load_tensors(kept, "ema.safetensors")) is None
