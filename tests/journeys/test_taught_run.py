"""A run that an external teacher teaches: what is refused before anything is written."""

import signal

import pytest
import timm
import torch
from journey_runs import QUICK, quick_config, signal_in_step
from safetensors.torch import save_file

from harness.checkpoint import load_tensors
from harness.errors import CheckpointError, Stopped
from harness.models import create_model
from harness.run.checkpoint_folder import newest_checkpoint
from harness.run.config import ModelConfig
from harness.run.folder import RunDir
from harness.training.trainer import train

SETS = [part for override in QUICK for part in ("--set", override)]


def save_teacher(path, *, seed):
    torch.manual_seed(seed)
    network = create_model(ModelConfig(), num_classes=10, in_channels=1)
    save_file(network.state_dict(), path)


def test_a_run_goes_on_under_its_own_teacher_alone(tmp_path):
    path, out = tmp_path / "teacher.safetensors", tmp_path / "run"
    config = quick_config("train.teacher=resnet8", f"train.teacher_weights={path}")
    save_teacher(path, seed=1)
    with signal_in_step(signal.SIGTERM, 4), pytest.raises(Stopped):
        train(config, out=out)
    stopped_at = newest_checkpoint(RunDir(out))
    before = {one: one.read_bytes() for one in out.rglob("*") if one.is_file()}
    save_teacher(path, seed=2)
    for given in ({"out": out}, {"out": tmp_path / "new", "resume": str(stopped_at)}):
        with pytest.raises(CheckpointError, match=r"are not those that taught the run until here"):
            train(config, **given)
    assert {one: one.read_bytes() for one in out.rglob("*") if one.is_file()} == before
    assert not (tmp_path / "new").exists()
    save_teacher(path, seed=1)
    resumed = newest_checkpoint(train(config, out=out))
    whole = newest_checkpoint(train(config, out=tmp_path / "whole"))
    for name in ("model.safetensors", "ema.safetensors"):
        ours, expected = load_tensors(resumed, name), load_tensors(whole, name)
        assert all(torch.equal(ours[key], value) for key, value in expected.items())


def test_a_run_that_cannot_teach_is_refused_in_one_line(tmp_path, refused):
    supernet = train(quick_config("train.epochs=0"), out=tmp_path / "supernet").path
    other = quick_config("train.epochs=0", "train.mode=float", "model.name=mobilenetv2_small")
    mobilenet = train(other, out=tmp_path / "float").path
    for run, kind in (
        (supernet, "supernet run of resnet8"),
        (mobilenet, "float run of mobilenetv2_small"),
    ):
        out = tmp_path / "taught"
        line = refused("train", "--out", out, *SETS, "--set", "train.teacher=resnet8",
                       "--set", f"train.teacher_weights={run}")  # fmt: skip
        assert line.startswith(
            f"train.teacher_weights {run} is a {kind}, whose weights do not fit the model (Missing "
        )
        assert line.endswith(" more); give a float run of the same network")
        assert len(line) < 400
        assert not out.exists()


def test_a_teacher_of_a_fixed_size_is_refused_before_a_run_is_written(tmp_path, refused):
    network = timm.create_model("vit_tiny_patch16_224", num_classes=10, in_chans=1)
    path, out = tmp_path / "vit.safetensors", tmp_path / "run"
    save_file(network.state_dict(), path)
    line = refused("train", "--out", out, *SETS, "--set", "train.teacher=vit_tiny_patch16_224",
                   "--set", f"train.teacher_weights={path}")  # fmt: skip
    assert "cannot be run on images of 1 x 8 x 8" in line
    assert not out.exists()
