"""A number that is none ends a run in one line, and what was good before is kept."""

import json
import math
import shutil
import signal
from contextlib import contextmanager

import pytest
from folder_contents import files_under
from journey_runs import QUICK, quick_config, signal_in_step
from safetensors.torch import load_file, save_file

from harness.checkpoint import load_tensors
from harness.errors import NotFiniteError, Stopped
from harness.models import create_model
from harness.quant.finite import first_unusable
from harness.run.checkpoint_folder import newest_checkpoint
from harness.run.config import ModelConfig
from harness.run.folder import RunDir
from harness.run.manifest import write_manifest
from harness.training.supernet_task import SupernetTask
from harness.training.trainer import train

SETS = [part for override in QUICK for part in ("--set", override)]


@contextmanager
def spoiled_in_step(step, *, what):
    """Spoil the images, a gradient or weights of one step, counted from 1."""
    run_passes = SupernetTask.run_passes

    def spoiled(self, engine, images, labels, **named):
        is_now = named["step"] + 1 == step
        if is_now and what == "images":
            images.mul_(math.nan)
        if is_now and what == "head":
            self.model.get_parameter("model.fc.bias").data[0] += 1e6
        if is_now and what == "small":
            norm = self.model.model.stages[1][0].bn1
            copies = [at for at, pair in enumerate(norm.pairs) if pair != (6, 6)]
            norm.weight.data[copies] = math.inf
        losses = run_passes(self, engine, images, labels, **named)
        if is_now and what == "gradient":
            self.model.get_parameter("model.fc.weight").grad[0, 0] = math.nan
        return losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SupernetTask, "run_passes", spoiled)
        yield


def check_is_good(run):
    for checkpoint in run.checkpoints.iterdir():
        for name in ("model.safetensors", "ema.safetensors"):
            assert first_unusable(load_tensors(checkpoint, name)) is None


def no_constant(name):
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize(
    ("what", "step", "message"),
    [
        (
            "images", 11,
            r"the loss \(max_pass_ce, random_ce, random_kl\) is no finite number in step 11, in "
            r"the max pass \(policy 6/6\), first in the images; nothing was saved since, .*; "
            r"train again with a lower train.learning_rate, or mend the images",
        ),
        # Its own loss is finite, that of the next step is not.
        (
            "gradient", 11,
            r"the loss \(max_pass_ce, .*\) is no finite number in step 12, in the max pass "
            r"\(policy 6/6\), first in the output of layer fc, where fc.weight holds 1 of 640",
        ),
        # Without a value that is none, before the optimizer has moved a weight.
        (
            "head", 11,
            r"the loss is beyond 230.3 in step 11, in the max pass \(policy 6/6\), whose layers' "
            r"values are all finite, the largest .* in the output of layer fc; that is "
            r"train.explosion_factor 100 times the loss of guessing among 10 classes; nothing was "
            r"saved since, .*; train again with a lower train.learning_rate, or raise the factor",
        ),
        # Of the max pass nothing is wrong: its norms are others.
        (
            "small", 11,
            r"the loss \(random_ce, random_kl\) is no finite number in step 11, in the random pass "
            r"1 of 1 \(policy (\d/\d ?){10}\), first in the output of layer "
            r"stages.1.0.bn1, where stages.1.0.bn1.weight holds ",
        ),
        # No step follows before the checkpoint.
        (
            "gradient", 16,
            r"after step 16 model.model.fc.weight holds 1 of 640 values .*, so no checkpoint "
            r"was written, those from before are kept",
        ),
    ],
)  # fmt: skip
def test_the_run_stops_and_goes_on_from_the_last_good_checkpoint(tmp_path, what, step, message):
    run = RunDir(tmp_path / "run")
    with spoiled_in_step(step, what=what), pytest.raises(NotFiniteError, match=message):
        train(quick_config(), out=run.path)
    assert not run.is_finished
    assert newest_checkpoint(run).name == "step_00000008"
    check_is_good(run)
    for line in run.metrics_path.read_text().splitlines():
        json.loads(line, parse_constant=no_constant)
    train(quick_config(), out=run.path)
    whole = train(quick_config(), out=tmp_path / "whole")
    last = "checkpoints/step_00000016/ema.safetensors"
    assert (run.path / last).read_bytes() == (whole.path / last).read_bytes()


@pytest.mark.parametrize("mode", ["supernet", "float"])
def test_a_run_that_diverges_is_one_line(tmp_path, refused, mode):
    out = tmp_path / "run"
    line = refused("train", "--out", out, *SETS, "--set", "train.learning_rate=1e38",
                   "--set", f"train.mode={mode}", "--set", "train.gradient_clip=1e38")  # fmt: skip
    assert "is no finite number in step" in line or "values that are no finite numbers" in line
    assert "lower train.learning_rate" in line
    check_is_good(RunDir(out)) if RunDir(out).checkpoints.is_dir() else None
    assert not RunDir(out).is_finished


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_none_are_refused_by_name(tmp_path, refused, value):
    weights = create_model(ModelConfig(), num_classes=10, in_channels=1).state_dict()
    weights["stages.1.0.conv2.weight"][3, 1, 0, 2] = value
    save_file(weights, tmp_path / "w.safetensors")
    out = tmp_path / "run"
    line = refused("train", "--out", out, *SETS, "--set", f"model.weights={tmp_path}/w.safetensors")
    assert line == (
        f"weights {tmp_path}/w.safetensors: stages.1.0.conv2.weight holds 1 of 9216 values that "
        "are no finite numbers; mend the file or give another model.weights"
    )
    assert not out.exists()


def test_weights_that_overflow_are_named_by_the_layer_behind_them(tmp_path, refused):
    weights = create_model(ModelConfig(), num_classes=10, in_channels=1).state_dict()
    weights["conv1.weight"] *= 1e38
    save_file(weights, tmp_path / "w.safetensors")
    line = refused("train", "--out", tmp_path / "run", *SETS, "--set", "train.epochs=0",
                   "--set", f"model.weights={tmp_path}/w.safetensors")  # fmt: skip
    assert "the input of layer stages.0.0.conv1 is not finite on the first training images" in line
    assert not (tmp_path / "run").exists()


def spoil(run, name, tensor, value):
    """Spoil a tensor of the newest checkpoint, with a manifest that fits."""
    folder = newest_checkpoint(run)
    tensors = load_file(folder / name)
    tensors[tensor].view(-1)[0] = value
    save_file(tensors, folder / name)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    write_manifest(folder, {one: (folder / one).read_bytes() for one in files})


@pytest.mark.parametrize(
    ("name", "tensor", "value"),
    [
        ("model.safetensors", "model.fc.weight", math.nan),
        ("ema.safetensors", "model.bn1.running_var", -1.0),
        ("ema.safetensors", "model.fc.act_quantizer.step_size", math.inf),
    ],
)
def test_a_checkpoint_with_numbers_that_are_none_is_refused(tmp_path, name, tensor, value):
    run = RunDir(tmp_path / "run")
    with signal_in_step(signal.SIGTERM, 11), pytest.raises(Stopped):
        train(quick_config(), out=run.path)
    spoil(run, name, tensor, value)
    before = files_under(run.path)
    with pytest.raises(Exception, match=rf"step_00000011: {tensor} holds 1 of \d+ values") as found:
        train(quick_config(), out=run.path)
    assert "remove" in str(found.value)
    assert files_under(run.path) == before


def test_moments_that_are_none_are_refused(tmp_path):
    run = RunDir(tmp_path / "run")
    with signal_in_step(signal.SIGTERM, 11), pytest.raises(Stopped):
        train(quick_config(), out=run.path)
    spoil(run, "optimizer.safetensors", "momentum_buffer/model.fc.weight", math.nan)
    message = r"optimizer.model.fc.weight.momentum_buffer holds 1 of \d+ values that are no"
    with pytest.raises(Exception, match=message):
        train(quick_config(), out=run.path)


def test_search_and_eval_refuse_weights_that_are_none(tmp_path, refused, trained_run):
    run = RunDir(shutil.copytree(trained_run.path, tmp_path / "run"))
    spoil(run, "ema.safetensors", "model.stages.0.0.conv1.weight", math.nan)
    for command in (("eval", "--policy", "4/4"), ("search", "--target-bitops", "40%")):
        line = refused(*command, "--run", run.path)
        assert "model.stages.0.0.conv1.weight holds 1 of 2304 values that are no finite" in line


def test_layers_that_compute_nothing_are_warned_of_once(tmp_path, caplog, monkeypatch):
    weights = create_model(ModelConfig(), num_classes=10, in_channels=1).state_dict()
    weights["stages.1.0.conv1.weight"].zero_()
    save_file(weights, tmp_path / "w.safetensors")
    config = quick_config(
        f"model.weights={tmp_path}/w.safetensors", "train.validate_every_epochs=1"
    )
    monkeypatch.setattr("harness.training.trainer.setup_logging", lambda **_: None)
    train(config, out=tmp_path / "run")
    warned = [one.getMessage() for one in caplog.records if "computes nothing" in one.getMessage()]
    assert warned == [
        f"layer {layer} are all zero at 6, 5, 4, 3, 2 bits; "
        "accuracies at these bits are those of a network without it"
        for layer in (
            "stages.1.0.conv1 computes nothing: its weights",
            "stages.1.0.conv2 computes nothing: its inputs",
        )
    ]
