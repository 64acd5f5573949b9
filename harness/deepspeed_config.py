"""DeepSpeed's configuration: what of it this training can keep to, and what it fills in.

`accelerate launch` names a JSON file, or a few values of its own file. DeepSpeed would take many
more settings than leave the training what it is without DeepSpeed, some of them without a word.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DeepSpeedPlugin, DistributedType
from pydantic import ValidationError

from harness.errors import ConfigError, RunError

STAGES = (1, 2, 3)

AUTO = "auto"

PLAIN_KEYS = {
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps",
    "gradient_clipping", "zero_optimization", "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer", "fp16", "bf16", "steps_per_print", "wall_clock_breakdown",
    "memory_breakdown", "dump_state", "comms_logger",
}  # fmt: skip
"""Settings that are checked below, or decide nothing but what is printed."""

ZERO_KEYS = {
    "stage", "contiguous_gradients", "reduce_scatter", "reduce_bucket_size",
    "use_multi_rank_bucket_allreduce", "allgather_partitions", "allgather_bucket_size",
    "overlap_comm", "offload_param", "offload_optimizer", "sub_group_size",
    "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold",
    "stage3_model_persistence_threshold", "stage3_max_live_parameters", "stage3_max_reuse_distance",
    "stage3_gather_16bit_weights_on_model_save", "stage3_module_granularity_threshold",
    "stage3_use_all_reduce_for_fetch_params", "round_robin_gradients", "log_trace_cache_warnings",
}  # fmt: skip
"""Settings that decide where numbers lie and when they travel, not what they are."""

OWN_REASONS = {
    "optimizer": "the optimizer is this program's (train.learning_rate, train.momentum ...)",
    "scheduler": "the schedule is this program's (train.warmup_epochs, train.epochs)",
}


def is_asked_for() -> bool:
    """Return whether the launcher asked for DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"


def deepspeed_plugin(**process_group: Any) -> DeepSpeedPlugin | None:
    """Return the checked configuration for the first Accelerator of a process.

    On a machine without GPUs the process group is made here: Accelerate makes none for DeepSpeed.

    Args:
        process_group: What `torch.distributed.init_process_group` is to be given besides.

    Returns:
        None where DeepSpeed was not asked for, and where it is running already.

    Raises:
        ConfigError: The configuration cannot be read, or this training cannot keep to it.
        RunError: Nothing started the processes that DeepSpeed is to join.
    """
    if not is_asked_for() or AcceleratorState._shared_state:
        return None
    if "LOCAL_RANK" not in os.environ:
        raise RunError(
            "DeepSpeed was asked for (ACCELERATE_USE_DEEPSPEED) and no launcher started this "
            "process; start it with accelerate launch"
        )
    if os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("true", "1", "yes", "on"):
        raise RunError(
            "Accelerate leaves out DeepSpeed where use_cpu is set; take it out of the file that "
            "accelerate launch is given, without GPUs the CPU is used all the same"
        )
    source = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if source == "none":
        source = "the file that accelerate launch was given"
    else:
        _check_readable(Path(source))
    if not torch.cuda.is_available():
        _use_cpu()
    try:
        # `zero3_init_flag` would have transformers build its own models in parts.
        plugin = DeepSpeedPlugin(zero3_init_flag=False)
    except (ValueError, NotImplementedError) as problem:
        raise ConfigError(f"DeepSpeed, {source}: {_one_line(problem)}; correct it") from None
    check_deepspeed_config(plugin.deepspeed_config, source=source)
    if not torch.cuda.is_available():
        PartialState(cpu=True, **process_group)
    return plugin


def check_deepspeed_config(values: dict[str, Any], *, source: str) -> None:
    """Check that a configuration leaves training what it is, and fill in what Accelerate would not.

    Raises:
        ConfigError: It does not.
    """
    zero = values.get("zero_optimization")
    if not isinstance(zero, dict) or zero.get("stage", 0) not in STAGES:
        raise ConfigError(
            f"DeepSpeed, {source}: zero_optimization.stage is none of 1, 2 and 3; set one, or "
            "leave out DeepSpeed (configs/accelerate/multi_gpu.yaml)"
        )
    _check_keys(values, PLAIN_KEYS, source=source)
    _check_keys(zero, ZERO_KEYS, source=source, section="zero_optimization.")
    for kind in ("fp16", "bf16"):
        _check_precision(kind, values.get(kind), source=source)
    _check_gradients(values, source=source)
    for name in ("offload_optimizer", "offload_param"):
        _check_offload(name, zero.get(name), source=source)
    _check_zero_values(zero, source=source)
    # Accelerate would fill in a clipping by norm.
    values["gradient_clipping"] = 0.0
    values["gradient_accumulation_steps"] = 1
    # Left to themselves, DeepSpeed refuses an optimizer that it does not know, and Accelerate takes
    # Adam in its place where moments lie in main memory.
    values["zero_allow_untested_optimizer"] = True
    values["zero_force_ds_cpu_optimizer"] = False


@contextmanager
def batch_size_filled_in(accelerator: Accelerator, *, batch_size: int) -> Iterator[None]:
    """Tell DeepSpeed the batch size of each rank inside the block, in which it is started.

    Raises:
        ConfigError: Its configuration names another.
    """
    values = accelerator.state.deepspeed_plugin.deepspeed_config
    ranks = accelerator.num_processes
    expected = {
        "train_micro_batch_size_per_gpu": batch_size,
        "train_batch_size": batch_size * ranks,
    }
    for name, number in expected.items():
        if values.get(name, AUTO) not in (AUTO, number):
            raise ConfigError(
                f"DeepSpeed's {name} is {values[name]}, train.batch_size {batch_size} in each of "
                f'{ranks} processes makes it {number}; set it to "auto"'
            )
    given = {name: values.get(name, AUTO) for name in expected}
    values.update(expected)
    try:
        yield
    finally:
        values.update(given)  # Another run of this process may have other batches.


def check_deepspeed_runs(accelerator: Accelerator) -> None:
    """Check that DeepSpeed runs if it was asked for.

    Raises:
        RunError: It does not.
    """
    if is_asked_for() and accelerator.distributed_type is not DistributedType.DEEPSPEED:
        raise RunError(
            "DeepSpeed was asked for and Accelerate started without it; start the run with "
            "accelerate launch and a file like configs/accelerate/zero2.yaml"
        )


def _use_cpu() -> None:
    # Before DeepSpeed is imported, which takes a GPU for granted.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed.ops

    # Reductions through shared memory, which each machine would compile at its first start. Gloo
    # does them as well, and needs no compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _check_readable(path: Path) -> None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        reason = (problem.strerror or "unreadable").lower()
        raise ConfigError(
            f"DeepSpeed's configuration {path} cannot be read: {reason}; its place counts from the "
            "folder that the command is started in"
        ) from None
    except ValueError as problem:
        raise ConfigError(
            f"DeepSpeed's configuration {path} is not JSON: {_one_line(problem)}; correct it"
        ) from None
    if not isinstance(values, dict):
        raise ConfigError(f"DeepSpeed's configuration {path} is no JSON object; write one")


def _check_keys(
    values: Mapping[str, Any], known: set[str], *, source: str, section: str = ""
) -> None:
    for key in values:
        if key not in known:
            why = OWN_REASONS.get(key, "it is not known to leave the training what it is")
            raise ConfigError(f"DeepSpeed, {source}: {section}{key}: {why}; remove it")


def _check_precision(kind: str, section: Any, *, source: str) -> None:
    enabled = section.get("enabled", False) if isinstance(section, dict) else section
    wanted = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if enabled not in (None, False, AUTO) or wanted not in ("", "no"):
        shown = kind if enabled not in (None, False, AUTO) else wanted
        raise ConfigError(
            f"DeepSpeed, {source}: {shown} would round step sizes and BN statistics to 16 bits; "
            "set mixed_precision to no, and fp16 and bf16 to enabled: false"
        )


def _check_gradients(values: Mapping[str, Any], *, source: str) -> None:
    steps = values.get("gradient_accumulation_steps", AUTO)
    if steps not in (AUTO, 1):
        raise ConfigError(
            f"DeepSpeed, {source}: gradient_accumulation_steps is {steps}, a step has one batch "
            'per process (and adds up its passes by itself); set it to 1 or "auto"'
        )
    clipping = values.get("gradient_clipping", AUTO)
    if clipping not in (AUTO, 0):
        raise ConfigError(
            f"DeepSpeed, {source}: gradient_clipping is {clipping}, which clips by norm; this "
            "training clips element-wise (train.gradient_clip); remove it"
        )


def _check_offload(name: str, section: Any, *, source: str) -> None:
    device = section.get("device", "none") if isinstance(section, dict) else "none"
    if device not in ("none", "cpu", None):
        raise ConfigError(
            f"DeepSpeed, {source}: {name}.device is {device}, which needs an operation that is "
            "compiled on the machine; take cpu or none"
        )


def _check_zero_values(zero: dict[str, Any], *, source: str) -> None:
    for key, value in zero.items():
        if value == AUTO:
            raise ConfigError(
                f"DeepSpeed, {source}: zero_optimization.{key} is auto, which is filled in for "
                "language models alone; write a number or remove it"
            )
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    try:
        DeepSpeedZeroConfig(**zero)
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"DeepSpeed, {source}: zero_optimization.{place}: {first['msg'].lower()}; correct it"
        ) from None


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())
