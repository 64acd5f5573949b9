"""Save and load training state; loading executes nothing (safetensors, JSON, weights_only).

A checkpoint is a folder `step_00000123/` written under a temporary name, fsynced and renamed, with
sizes and SHA-256 of its files in `manifest.json`. A checkpoint that is there is whole; one that was
damaged later is recognised.
"""

import hashlib
import io
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from harness.errors import CheckpointError, ModelError
from harness.models import create_model
from harness.quant.supernet import Supernet, convert
from harness.run.config import Config
from harness.run.files import read_json, sync_folder, write_bytes, write_json
from harness.run.folder import RunDir

MODEL_FILE = "model.safetensors"
EMA_FILE = "ema.safetensors"
OPTIMIZERS_FILE = "optimizers.pt"
STATE_FILE = "state.json"
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """Where a run stands."""

    step: int
    """Optimizer steps taken."""
    steps_per_epoch: int
    config_fingerprint: str


def checkpoint_path(run: RunDir, step: int) -> Path:
    """Return the folder of a step's checkpoint."""
    return run.checkpoints / f"step_{step:08d}"


def newest_checkpoint(run: RunDir) -> Path | None:
    """Return the checkpoint of the latest step; None where there is none."""
    return max(run.checkpoints.glob("step_" + "[0-9]" * 8), default=None)


def existing_checkpoint(run: RunDir) -> Path:
    """Return the checkpoint of the latest step.

    Raises:
        CheckpointError: There is none.
    """
    checkpoint = newest_checkpoint(run)
    if checkpoint is None:
        raise CheckpointError(f"run {run.path} has no checkpoint; train it first")
    return checkpoint


def weights_digest(checkpoint: Path) -> str:
    """Return 16 hex digits of a checkpoint's averaged weights, which no later step changes.

    Raises:
        CheckpointError: The checkpoint is incomplete or damaged.
    """
    return hashlib.sha256(_read_checked(checkpoint, EMA_FILE)).hexdigest()[:16]


def save_checkpoint(
    run: RunDir,
    progress: TrainingProgress,
    *,
    model: nn.Module,
    ema: nn.Module,
    optimizers: dict[str, Any],
    keep: int,
) -> Path:
    """Write a checkpoint and remove the oldest beyond `keep`; return its folder.

    Args:
        run: The run.
        progress: Where it stands.
        model: Weights in training.
        ema: Averaged weights.
        optimizers: State dicts by name.
        keep: Newest checkpoints left in place.
    """
    final = checkpoint_path(run, progress.step)
    for torn in run.checkpoints.glob(".step_*.partial"):
        shutil.rmtree(torn)
    if final.is_dir():
        return final  # The run stopped where it had gone on from: it is whole, and the same.
    partial = final.with_name(f".{final.name}.partial")
    partial.mkdir(parents=True)
    buffer = io.BytesIO()
    torch.save(optimizers, buffer)
    contents = {
        MODEL_FILE: save_safetensors(_tensors(model)),
        EMA_FILE: save_safetensors(_tensors(ema)),
        OPTIMIZERS_FILE: buffer.getvalue(),
    }
    for name, content in contents.items():
        write_bytes(partial / name, content)
    write_json(partial / STATE_FILE, asdict(progress))
    contents[STATE_FILE] = (partial / STATE_FILE).read_bytes()
    files = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    write_json(partial / MANIFEST_FILE, {"files": files})
    partial.replace(final)
    sync_folder(final.parent)
    for old in sorted(run.checkpoints.glob("step_*"))[:-keep]:
        shutil.rmtree(old)
    return final


def load_progress(checkpoint: Path) -> TrainingProgress:
    """Return where the run stood.

    Raises:
        CheckpointError: The checkpoint is incomplete or damaged.
    """
    _read_checked(checkpoint, STATE_FILE)
    values = read_json(checkpoint / STATE_FILE, what="checkpoint state", error=CheckpointError)
    try:
        return TrainingProgress(**{key: values[key] for key in TrainingProgress.__slots__})
    except KeyError as problem:
        raise CheckpointError(
            f"checkpoint file {checkpoint / STATE_FILE} lacks {problem}; "
            f"remove {checkpoint} to go on from an older one"
        ) from None


def check_configuration(checkpoint: Path, config: Config) -> None:
    """Check that the checkpoint was made with the configuration, as far as it decides weights.

    Raises:
        CheckpointError: It was not, or the checkpoint is incomplete or damaged.
    """
    if load_progress(checkpoint).config_fingerprint != config.training_fingerprint():
        raise CheckpointError(
            f"checkpoint {checkpoint} was made with another configuration; use or restore that one"
        )


def load_training_state(checkpoint: Path, *, model: nn.Module, ema: nn.Module) -> dict[str, Any]:
    """Load weights and averaged weights; return the optimizers' state dicts by name.

    Raises:
        CheckpointError: The checkpoint is incomplete, damaged, or of another network.
    """
    _load_weights(checkpoint, MODEL_FILE, model)
    _load_weights(checkpoint, EMA_FILE, ema)
    content = _read_checked(checkpoint, OPTIMIZERS_FILE)
    try:
        optimizers: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
    except Exception as error:  # A malformed stream leads the unpickler to any class.
        raise CheckpointError(
            f"checkpoint file {checkpoint / OPTIMIZERS_FILE} holds no optimizer state "
            f"({type(error).__name__}); remove {checkpoint} to go on from an older one"
        ) from None
    return optimizers


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
    model = create_model(
        config.model.model_copy(update={"pretrained": False}),
        num_classes=network.num_classes,
        in_channels=network.input_size[0],
    )
    supernet = convert(model, network)
    _load_weights(checkpoint, EMA_FILE, supernet)
    return supernet.eval()


def load_float_weights(model: nn.Module, path: Path) -> None:
    """Load float weights into a float network: a float run's averaged ones, or a .safetensors file.

    Raises:
        ModelError: There is no such file, or it belongs to another network.
        CheckpointError: The run has no whole checkpoint.
    """
    if path.is_dir():
        _load_weights(existing_checkpoint(RunDir(path)), EMA_FILE, model)
        return
    try:
        weights = load_safetensors(path.read_bytes())
        model.load_state_dict(weights)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise ModelError(f"weights {path} cannot be read: {reason}; check model.weights") from None
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"weights {path} do not fit the model: {_first_line(error)}; check model.weights"
        ) from None


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in module.state_dict().items()}


def _load_weights(checkpoint: Path, name: str, module: nn.Module) -> None:
    content = _read_checked(checkpoint, name)
    try:
        module.load_state_dict(_with_present_names(load_safetensors(content)))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint {checkpoint} does not fit the network: {_first_line(error)}; "
            "train again or use the configuration it was made with"
        ) from None


def _with_present_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of an old checkpoint under today's names: `step_size` was `step`."""
    return {re.sub(r"(_quantizer)\.step$", r"\1.step_size", name): t for name, t in tensors.items()}


def _read_checked(checkpoint: Path, name: str) -> bytes:
    """Return a file of the checkpoint after comparing it with the manifest."""
    manifest = read_json(
        checkpoint / MANIFEST_FILE,
        what="checkpoint",
        error=CheckpointError,
        remedy=f"remove {checkpoint} to go on from an older one",
    )
    files = manifest.get("files")
    expected = files.get(name) if isinstance(files, dict) else None
    if not isinstance(expected, dict) or not {"bytes", "sha256"} <= expected.keys():
        raise CheckpointError(
            f"checkpoint file {checkpoint / MANIFEST_FILE} does not list {name}; "
            f"remove {checkpoint} to go on from an older one"
        )
    path = checkpoint / name
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    if len(content) != expected["bytes"]:
        raise CheckpointError(
            f"checkpoint file {path} has {len(content)} bytes, its manifest says "
            f"{expected['bytes']}; remove {checkpoint} to go on from an older one"
        )
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise CheckpointError(
            f"checkpoint file {path} was altered, its SHA-256 is not the manifest's; "
            f"remove {checkpoint} to go on from an older one"
        )
    return content


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)] if lines else type(error).__name__
