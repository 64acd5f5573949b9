"""What of DeepSpeed's configuration is taken, filled in and refused, and the files that ship."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from deepspeed.runtime.config import DeepSpeedConfig

from harness.deepspeed_config import (
    batch_size_filled_in,
    check_deepspeed_config,
    check_deepspeed_runs,
    deepspeed_plugin,
)
from harness.errors import ConfigError, RunError

CONFIGS = Path(__file__).parents[2] / "configs"


def whole(**settings):
    return {"zero_optimization": {"stage": 2}, **settings}


@pytest.fixture
def asked_for(monkeypatch):
    """As `accelerate launch` leaves a process, before there is an Accelerator."""
    monkeypatch.setattr(AcceleratorState, "_shared_state", {})
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)


def test_shipped_files_of_accelerate_load():
    kinds = {"cpu": "NO", "one_gpu": "NO", "multi_gpu": "MULTI_GPU"}
    kinds |= {f"zero{stage}": "DEEPSPEED" for stage in (1, 2, 3)}
    files = {path.stem: path for path in (CONFIGS / "accelerate").iterdir()}
    assert files.keys() == kinds.keys()
    for name, kind in kinds.items():
        values = load_config_from_file(str(files[name]))
        assert values.distributed_type == DistributedType[kind]
        assert values.use_cpu is (name == "cpu")
        if kind == "DEEPSPEED":
            assert values.deepspeed_config["deepspeed_config_file"] == (
                f"configs/deepspeed/{name}.json"
            )


def test_shipped_files_of_deepspeed_load_and_are_filled_in():
    files = sorted((CONFIGS / "deepspeed").iterdir())
    assert [path.stem for path in files] == ["zero1", "zero2", "zero3"]
    for stage, path in enumerate(files, start=1):
        values = json.loads(path.read_text())
        check_deepspeed_config(values, source=str(path))
        plugin = SimpleNamespace(deepspeed_config=values)
        accelerator = SimpleNamespace(
            num_processes=1, state=SimpleNamespace(deepspeed_plugin=plugin)
        )
        with batch_size_filled_in(accelerator, batch_size=40):
            read = DeepSpeedConfig(values)
        assert values["train_batch_size"] == "auto"
        assert read.zero_optimization_stage == stage
        assert (read.train_micro_batch_size_per_gpu, read.gradient_clipping) == (40, 0)
        assert read.zero_allow_untested_optimizer
        assert not read.zero_force_ds_cpu_optimizer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (whole(optimizer={"type": "Adam"}), "optimizer: the optimizer is this program's .*; remov"),
        (whole(scheduler={"type": "WarmupLR"}), "scheduler: the schedule is this program's"),
        (whole(prescale_gradients=True), "prescale_gradients: it is not known to leave the train"),
        (whole(gradient_clipping=1.0), r"gradient_clipping is 1.0, which clips by norm; .*; remov"),
        (whole(gradient_accumulation_steps=4), "gradient_accumulation_steps is 4, a step has one"),
        (whole(fp16={"enabled": True}), "fp16 would round step sizes and BN statistics to 16 bits"),
        (whole(bf16={"enabled": True}), "bf16 would round step sizes and BN statistics to 16 bits"),
        ({}, "zero_optimization.stage is none of 1, 2 and 3; set one, or leave out DeepSpeed"),
        ({"zero_optimization": {"stage": 0}}, "zero_optimization.stage is none of 1, 2 and 3"),
        ({"zero_optimization": {"stage": [2]}}, "zero_optimization.stage is none of 1, 2 and 3"),
        (
            {"zero_optimization": {"stage": 3, "zero_quantized_weights": True}},
            "zero_optimization.zero_quantized_weights: it is not known",
        ),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme"}}},
            "offload_optimizer.device is nvme, which needs an operation that is compiled",
        ),
        (
            {"zero_optimization": {"stage": 2, "reduce_bucket_size": "auto"}},
            "zero_optimization.reduce_bucket_size is auto, which is filled in for language models",
        ),
        (
            {"zero_optimization": {"stage": 2, "reduce_bucket_size": -1}},
            "zero_optimization.reduce_bucket_size: input should be greater than 0; correct it",
        ),
    ],
)
def test_what_training_cannot_keep_to_is_refused(settings, message):
    with pytest.raises(ConfigError, match=f"^DeepSpeed, ds.json: {message}"):
        check_deepspeed_config(settings, source="ds.json")


def test_16_bits_that_the_launcher_asks_for_are_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ConfigError, match=r"fp16 would round .*; set mixed_precision to no"):
        check_deepspeed_config(whole(), source="ds.json")


@pytest.mark.parametrize(
    ("name", "number"), [("train_micro_batch_size_per_gpu", 8), ("train_batch_size", 40)]
)
def test_batch_sizes_that_contradict_are_refused(name, number):
    plugin = SimpleNamespace(deepspeed_config={name: number})
    accelerator = SimpleNamespace(num_processes=2, state=SimpleNamespace(deepspeed_plugin=plugin))
    message = rf'{name} is {number}, train.batch_size 40 in .*; set it to "auto"$'
    with (
        pytest.raises(ConfigError, match=message),
        batch_size_filled_in(accelerator, batch_size=40),
    ):
        pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"x.json cannot be read: no such file or directory; its place counts from the fold"),
        ("{", r"x.json is not JSON: .*; correct it"),
        ("[1]", r"x.json is no JSON object; write one"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(asked_for, monkeypatch, tmp_path, content, message):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(path))
    with pytest.raises(ConfigError, match=message):
        deepspeed_plugin()


def test_without_a_launcher_deepspeed_is_refused(asked_for, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK")
    with pytest.raises(RunError, match=r"no launcher started this process; start it with accele"):
        deepspeed_plugin()


def test_the_launchers_cpu_without_deepspeed_is_refused(asked_for, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(RunError, match=r"leaves out DeepSpeed where use_cpu is set; take it out"):
        deepspeed_plugin()
    accelerator = SimpleNamespace(distributed_type=DistributedType.MULTI_CPU)
    with pytest.raises(RunError, match=r"asked for and Accelerate started without it; start the r"):
        check_deepspeed_runs(accelerator)
