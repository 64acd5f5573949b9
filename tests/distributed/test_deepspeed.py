"""DeepSpeed with two real processes over gloo, started by the configurations that are shipped."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from rank_processes import ROOT, bare_environment, free_port, run_two
from safetensors.torch import load_file

from harness.deepspeed_config import check_deepspeed_config
from harness.errors import ConfigError
from harness.run.checkpoint_folder import newest_checkpoint
from harness.run.folder import RunDir

FOLDER = Path(__file__).parent
LAUNCH = Path(sys.executable).with_name("accelerate")
ACCELERATE = ROOT / "configs" / "accelerate"
DEEPSPEED = ROOT / "configs" / "deepspeed"


def launch(config, *command, timeout=150):
    """Run `accelerate launch` from the project's folder, as its configurations expect."""
    return subprocess.run(
        [str(LAUNCH), "launch", "--config_file", str(config), "--main_process_port",
         str(free_port()), *map(str, command)],
        cwd=ROOT, env=bare_environment(), capture_output=True, text=True, timeout=timeout,
        check=False,
    )  # fmt: skip


def train_runs(stage, folder, *names):
    done = launch(ACCELERATE / f"{stage}.yaml", FOLDER / "zero_processes.py", folder, *names)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of the same configuration: under each engine, stopped and gone on with, and mixed."""
    folder = tmp_path_factory.mktemp("zero")
    train_runs("zero2", folder, "zero2", "again@3", "again", "zero2_first@1")
    train_runs("zero1", folder, "zero1", "mixed@3", "zero1_first@1")
    train_runs("zero3", folder, "mixed", "zero3", "zero3_first@1", "spoiled!3")
    ddp = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         FOLDER / "zero_processes.py", folder, "ddp", "ddp_first@1"],
        env=bare_environment(), capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert ddp.returncode == 0, ddp.stderr[-3000:]
    return folder


def tensors(folder, name, file="ema.safetensors"):
    return load_file(newest_checkpoint(RunDir(folder / name)) / file)


def losses(folder, name):
    rows = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    return [row["max_pass_ce"] for row in rows if "max_pass_ce" in row]


@pytest.mark.parametrize("stage", ["zero1", "zero2", "zero3"])
def test_every_stage_learns_as_data_parallel_training_does(runs, stage):
    """Memory is laid out otherwise, so sums round otherwise, and grids magnify that."""
    expected = losses(runs, "ddp")
    assert len(expected) == 8
    assert losses(runs, stage) == pytest.approx(expected, rel=2e-2)
    assert losses(runs, stage)[0] == pytest.approx(expected[0], rel=1e-5)


@pytest.mark.parametrize("first_run", ["ddp", "zero1", "zero2", "mixed"])
def test_steps_are_those_of_plain_torch(runs, first_run):
    """To the last bit or two; the run named mixed is the first of ZeRO 3."""
    for rank in range(2):
        assert float((runs / f"{first_run}_rank{rank}.txt").read_text()) < 1e-6


@pytest.mark.parametrize("stage", ["zero1", "zero2", "zero3"])
def test_every_stage_takes_the_mean_over_ranks_of_the_sum_over_passes(runs, stage):
    """After the first step the momentum is the gradient."""
    expected = tensors(runs, "ddp_first", "optimizer.safetensors")
    found = tensors(runs, f"{stage}_first", "optimizer.safetensors")
    names = [name for name in expected if name.startswith("momentum_buffer/")]
    assert len(names) > 20
    left, right = (torch.cat([t[n].flatten() for n in names]) for t in (expected, found))
    assert (left - right).norm() < 1e-2 * left.norm()


@pytest.mark.parametrize("file", ["ema.safetensors", "model.safetensors", "optimizer.safetensors"])
def test_a_stopped_run_ends_as_one_that_was_not_stopped(runs, file):
    whole, again = tensors(runs, "zero2", file), tensors(runs, "again", file)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert losses(runs, "again") == losses(runs, "zero2")


@pytest.mark.parametrize("file", ["ema.safetensors", "model.safetensors", "optimizer.safetensors"])
def test_a_run_goes_on_under_another_stage_to_the_same_weights(runs, file):
    assert losses(runs, "mixed") == losses(runs, "zero1") == losses(runs, "zero3")
    for name in ("zero1", "zero3"):
        whole, mixed = tensors(runs, name, file), tensors(runs, "mixed", file)
        assert whole.keys() == mixed.keys()
        assert all(torch.equal(whole[key], mixed[key]) for key in whole)


@pytest.mark.parametrize("stage", ["zero1", "zero2", "zero3"])
def test_a_checkpoint_holds_whole_tensors(runs, stage):
    expected = tensors(runs, "ddp", "optimizer.safetensors")
    found = tensors(runs, stage, "optimizer.safetensors")
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}
    for name, moment in found.items():
        assert moment.isfinite().all()
        if moment.dim() > 1:
            assert moment.abs().sum() > 0, name


def test_a_loss_that_is_no_number_is_looked_back_at_by_ranks_with_parts_of_the_weights(runs):
    first, second = ((runs / f"spoiled_raised{rank}.txt").read_text() for rank in range(2))
    assert first == second
    assert "is no finite number in step 3, in the max pass (policy 6/6), first in the im" in first
    assert "images on process 1; nothing was saved since" in first
    assert newest_checkpoint(RunDir(runs / "spoiled")).name == "step_00000000"


def test_a_run_of_deepspeed_is_searched_by_one_process_and_by_two(runs, tmp_path):
    run = shutil.copytree(runs / "zero2", tmp_path / "run")
    search = ("search", "--run", run, "--target-bitops", "50%", "--evaluations", 12, "--json")
    one = subprocess.run(
        [sys.executable, "-m", "harness", *map(str, search), "--out", str(tmp_path / "one")],
        env=bare_environment(), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert one.returncode == 0, one.stderr
    first, second = run_two(*search, "--out", tmp_path / "two")
    assert (first.code, second.code, second.out) == (0, 0, "")
    keys = ("policy", "accuracy", "evaluations", "bitops")
    alone, together = json.loads(one.stdout), json.loads(first.out)
    assert {key: alone[key] for key in keys} == {key: together[key] for key in keys}


def test_the_configuration_for_one_process_trains(tmp_path):
    options = ("--set", "data.train_images=200", "--set", "train.epochs=1", "--out", tmp_path / "r")
    done = launch(ACCELERATE / "cpu.yaml", ROOT / "harness/train.py", *options)
    assert done.returncode == 0, done.stderr
    assert RunDir(tmp_path / "r").is_finished


@pytest.mark.parametrize("name", ["cpu", "one_gpu", "multi_gpu", "zero1", "zero2", "zero3"])
def test_shipped_configurations_of_accelerate_are_what_it_reads(name):
    config = load_config_from_file(str(ACCELERATE / f"{name}.yaml"))
    values = yaml.safe_load((ACCELERATE / f"{name}.yaml").read_text())
    assert config.num_processes == values["num_processes"]
    if name.startswith("zero"):
        file = ROOT / values["deepspeed_config"]["deepspeed_config_file"]
        assert json.loads(file.read_text())["zero_optimization"]["stage"] == int(name[-1])


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_shipped_configurations_of_deepspeed_are_accepted(stage):
    values = json.loads((DEEPSPEED / f"zero{stage}.json").read_text())
    check_deepspeed_config(values, source="it")
    assert values["zero_allow_untested_optimizer"] is True


def changed(**changes):
    values = json.loads((DEEPSPEED / "zero2.json").read_text())
    zero = changes.pop("zero", {})
    return {**values, **changes, "zero_optimization": {**values["zero_optimization"], **zero}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (changed(optimizer={"type": "Adam"}), "optimizer: the optimizer is this program's"),
        (changed(scheduler={}), "scheduler: the schedule is this program's"),
        (changed(fp16={"enabled": True}), "fp16 would round step sizes and BN statistics"),
        (changed(bf16={"enabled": True}), "bf16 would round step sizes and BN statistics"),
        (changed(gradient_accumulation_steps=4), "gradient_accumulation_steps is 4, a step has"),
        (changed(gradient_clipping=1.0), "gradient_clipping is 1.0, which clips by norm"),
        (changed(zero={"stage": 0}), "zero_optimization.stage is none of 1, 2 and 3; set one"),
        (
            changed(zero={"offload_optimizer": {"device": "nvme"}}),
            "offload_optimizer.device is nvme, which needs",
        ),
        (
            changed(zero={"reduce_bucket_size": "auto"}),
            "zero_optimization.reduce_bucket_size is auto, which",
        ),
        (changed(zero={"reduce_bucket_size": -1}), "zero_optimization.reduce_bucket_size: input"),
        (changed(zero={"nonsense": 1}), "zero_optimization.nonsense: it is not known to leave"),
        ({"zero_optimization": 3}, "zero_optimization.stage is none of 1, 2 and 3"),
    ],
)
def test_settings_that_would_change_the_training_are_refused(values, message):
    with pytest.raises(ConfigError, match=rf"^DeepSpeed, it: {message}"):
        check_deepspeed_config(values, source="it")


def test_a_contradicting_batch_size_is_one_line(tmp_path):
    values = changed(train_micro_batch_size_per_gpu=7)
    (tmp_path / "zero.json").write_text(json.dumps(values))
    config = yaml.safe_load((ACCELERATE / "zero2.yaml").read_text())
    config["deepspeed_config"]["deepspeed_config_file"] = str(tmp_path / "zero.json")
    (tmp_path / "accelerate.yaml").write_text(yaml.safe_dump(config))
    done = launch(
        tmp_path / "accelerate.yaml", ROOT / "harness/train.py", "--out", tmp_path / "run"
    )
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert lines == [
        "error: DeepSpeed's train_micro_batch_size_per_gpu is 7, train.batch_size 128 in each of "
        '2 processes makes it 128; set it to "auto"'
    ]
