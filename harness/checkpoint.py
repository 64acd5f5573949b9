"""Save and load a run's state; loading executes nothing (safetensors, JSON).

A checkpoint is a folder `step_00000123/` written under a temporary name, fsynced and renamed, with
sizes and SHA-256 of its files in `manifest.json`. A checkpoint that is there is whole; one that was
damaged later is recognised.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from harness.errors import CheckpointError, ModelError
from harness.models import create_model
from harness.quant.convert import convert, describe_network
from harness.quant.finite import first_unusable
from harness.quant.supernet import Supernet
from harness.run.checkpoint_facts import EMA_FILE
from harness.run.checkpoint_folder import (
    checkpoint_path,
    existing_checkpoint,
    is_saved,
    remove_leftovers,
    remove_old,
)
from harness.run.files import read_bytes, sync_folder, write_bytes
from harness.run.folder import RunDir
from harness.run.manifest import older_one, read_checked, write_manifest
from harness.run.network_file import check_described, with_sizes_of
from harness.run.optimizer_file import (
    OPTIMIZER_FILE,
    load_old_optimizer_state,
    load_optimizer_state,
    to_bytes,
)
from harness.run.state_file import (
    NAMED_OPTIMIZER_FORMAT,
    STATE_FILE,
    check_configuration,
    load_state,
    save_state,
    written_format,
)

MAX_HEADER_BYTES = 100_000_000
"""Largest header that safetensors reads."""

MODEL_FILE = "model.safetensors"


def save_checkpoint(run: RunDir, state: dict[str, Any], *, keep: int) -> Path:
    """Write a checkpoint and remove the oldest whole ones beyond `keep`; return its folder.

    Args:
        run: The run.
        state: Tensors by name under `model` (weights in training) and `ema` (averaged weights),
            the named state of the optimizer under `optimizer`, and what `save_state` takes.
        keep: Newest checkpoints left in place.
    """
    final = checkpoint_path(run, state["step"])
    remove_leftovers(run)
    if is_saved(final):
        return final  # The run stopped where it had gone on from.
    partial = final.with_name(f".{final.name}.partial")
    partial.mkdir(parents=True)
    standing = dict(state)
    contents = {
        MODEL_FILE: _to_safetensors(standing.pop("model")),
        EMA_FILE: _to_safetensors(standing.pop("ema")),
        OPTIMIZER_FILE: to_bytes(standing.pop("optimizer")),
    }
    for name, content in contents.items():
        write_bytes(partial / name, content)
    contents[STATE_FILE] = save_state(partial, standing)
    write_manifest(partial, contents)
    partial.replace(final)
    sync_folder(final.parent)
    remove_old(run, keep=keep, newest=final)
    return final


def load_checkpoint(
    checkpoint: Path, *, optimizer_groups: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return the state that `save_checkpoint` was given, tensors on the CPU.

    Args:
        checkpoint: Its folder.
        optimizer_groups: Names of the parameters by the optimizer's group. A checkpoint of format 1
            or 2 has the optimizers' state in that order, without names.

    Raises:
        CheckpointError: The checkpoint is incomplete, damaged, or of a newer version.
    """
    state = load_state(checkpoint)
    optimizer = (
        load_optimizer_state(checkpoint)
        if written_format(checkpoint) >= NAMED_OPTIMIZER_FORMAT
        else load_old_optimizer_state(checkpoint, optimizer_groups)
    )
    return {
        **state,
        "model": load_tensors(checkpoint, MODEL_FILE),
        "ema": load_tensors(checkpoint, EMA_FILE),
        "optimizer": optimizer,
    }


def load_tensors(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """Return the tensors of one file of a checkpoint, under today's names.

    Raises:
        CheckpointError: The checkpoint is incomplete or damaged.
    """
    content = read_checked(checkpoint, name)
    try:
        tensors: dict[str, Tensor] = load_safetensors(content)
    except SafetensorError as error:
        raise CheckpointError(
            f"checkpoint file {checkpoint / name} holds no tensors ({_first_line(error)}); "
            f"{older_one(checkpoint)}"
        ) from None
    return _with_names_of_format_2(tensors) if written_format(checkpoint) == 1 else tensors


def fill(module: nn.Module, tensors: dict[str, Tensor], *, checkpoint: Path) -> None:
    """Load tensors of a checkpoint into a module.

    Raises:
        CheckpointError: They belong to another network, or nothing can be computed with them.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"checkpoint {checkpoint} does not fit the network: {_in_short(error)}; "
            "train again or use the configuration it was made with"
        ) from None
    _check_usable(module, checkpoint)


def _check_usable(module: nn.Module, checkpoint: Path) -> None:
    """Check that one can compute with what a module was given.

    Raises:
        CheckpointError: One cannot.
    """
    # After loading: what is too large for the module's own type has become infinite.
    problem = first_unusable(module.state_dict())
    if problem is not None:
        raise CheckpointError(f"checkpoint {checkpoint}: {problem}; {older_one(checkpoint)}")


def load_supernet(run: RunDir, *, checkpoint: Path | None = None) -> Supernet:
    """Return the run's averaged supernet in evaluation mode, by default of its newest checkpoint.

    Raises:
        RunError: The folder is no supernet run.
        CheckpointError: It has no whole checkpoint.
    """
    network = run.load_network()
    config = run.load_config()
    checkpoint = checkpoint or existing_checkpoint(run)
    check_configuration(checkpoint, config)
    create = partial(
        create_model,
        config.model.model_copy(update={"pretrained": False}),
        num_classes=network.num_classes,
        in_channels=network.input_size[0],
    )
    # Without memory at first: what the file says of the sizes may be wrong, and beyond all memory.
    on_meta = create(device="meta")
    described = describe_network(
        on_meta,
        name=config.model.name,
        input_size=network.input_size,
        num_classes=network.num_classes,
        config=config.quant,
    )
    check_described(run.network_path, network, described)
    network = with_sizes_of(network, described)
    tensors = load_tensors(checkpoint, EMA_FILE)
    _check_sizes(on_meta, tensors, checkpoint=checkpoint)
    supernet = convert(create(), network)
    fill(supernet, tensors, checkpoint=checkpoint)
    return supernet.eval()


def _check_sizes(model: nn.Module, tensors: Mapping[str, Tensor], *, checkpoint: Path) -> None:
    """Check that a model's parameters are not larger than the tensors of their names.

    Raises:
        CheckpointError: They are.
    """
    for name, parameter in model.named_parameters():
        tensor = tensors.get(f"model.{name}")
        # Those of switched norms have a row for each pair of bits, and are larger than the model's.
        if tensor is not None and parameter.numel() > tensor.numel():
            raise CheckpointError(
                f"checkpoint {checkpoint} does not fit the network: {name} has shape "
                f"{list(tensor.shape)} there and {list(parameter.shape)} by network.json; restore "
                "whichever was changed"
            )


def load_float_weights(model: nn.Module, path: Path, *, setting: str = "model.weights") -> None:
    """Load float weights into a float network: a float run's averaged ones, or a .safetensors file.

    Args:
        model: The network.
        path: The run's folder, or the file.
        setting: What the user calls the weights, for messages.

    Raises:
        ModelError: There is no such file, it or the run belongs to another network, or nothing can
            be computed with the file.
        CheckpointError: The run has no whole checkpoint, or nothing can be computed with it.
    """
    if path.is_dir():
        checkpoint = existing_checkpoint(RunDir(path))
        try:
            model.load_state_dict(load_tensors(checkpoint, EMA_FILE))
        except RuntimeError as error:
            there = load_state(checkpoint)["configuration"]
            raise ModelError(
                f"{setting} {path} is a {there['train.mode']} run of {there['model.name']}, whose "
                f"weights do not fit the model ({_in_short(error)}); give a float run of the same "
                "network"
            ) from None
        _check_usable(model, checkpoint)
        return
    # In the widest type there is; a larger file is of another model, if it is one at all.
    limit = MAX_HEADER_BYTES + 8 * sum(tensor.numel() for tensor in model.state_dict().values())
    try:
        weights = load_safetensors(read_bytes(path, limit=limit))
        model.load_state_dict(weights)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise ModelError(f"weights {path} cannot be read: {reason}; check {setting}") from None
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"weights {path} do not fit the model: {_in_short(error)}; check {setting}"
        ) from None
    problem = first_unusable(model.state_dict())
    if problem is not None:
        raise ModelError(f"weights {path}: {problem}; mend the file or give another {setting}")


def _to_safetensors(tensors: dict[str, Tensor]) -> bytes:
    return save_safetensors({name: tensor.contiguous() for name, tensor in tensors.items()})


def _with_names_of_format_2(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of format 1 under the names they have since: `step_size` was `step`."""
    return {re.sub(r"(_quantizer)\.step$", r"\1.step_size", name): t for name, t in tensors.items()}


def _in_short(error: Exception) -> str:
    """Return the first line of what torch refused, with the first of the names that it lists."""
    line = _first_line(error)
    names = re.findall(r'"[^"]*"', line)
    if not names[1:]:
        return line
    return f"{line.partition(names[0])[0]}{names[0]} and {len(names) - 1} more"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)] if lines else type(error).__name__
