"""`optimizer.safetensors`: what the optimizer keeps of each parameter, by the parameter's name.

The names are the network's. So a run goes on under any engine, whichever way that one lays the
parameters out, and loading executes nothing. Up to format 2 of a checkpoint there were two
optimizers in `optimizers.pt`, by the positions of their parameters.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from harness.errors import CheckpointError
from harness.run.manifest import older_one, read_checked

OPTIMIZER_FILE = "optimizer.safetensors"
OLD_OPTIMIZERS_FILE = "optimizers.pt"
"""Of the formats 1 and 2."""

NamedState = Mapping[str, Mapping[str, Tensor]]
"""By a parameter's name, its moments and counts by theirs (`momentum_buffer`, `exp_avg` ...)."""


def to_bytes(state: NamedState) -> bytes:
    """Return the content of the file."""
    return save_safetensors(
        {
            f"{key}/{name}": value.contiguous()
            for name, values in state.items()
            for key, value in values.items()
        }
    )


def load_optimizer_state(checkpoint: Path) -> NamedState:
    """Return the state that `to_bytes` was given, on the CPU.

    Raises:
        CheckpointError: The file is damaged or holds no optimizer state.
    """
    content = read_checked(checkpoint, OPTIMIZER_FILE)
    try:
        tensors = load_safetensors(content)
    except SafetensorError as error:
        raise _no_state(checkpoint, OPTIMIZER_FILE, error) from None
    state: dict[str, dict[str, Tensor]] = {}
    for place in sorted(tensors):  # safetensors returns them in no order of their own.
        value = tensors[place]
        key, _, name = place.partition("/")
        state.setdefault(name, {})[key] = value
    return state


def load_old_optimizer_state(checkpoint: Path, groups: Mapping[str, Sequence[str]]) -> NamedState:
    """Return the state of the two optimizers that a checkpoint of format 1 or 2 holds, by name.

    Args:
        checkpoint: Its folder.
        groups: Names of the parameters by group, in the order in which optimizers take them.

    Raises:
        CheckpointError: The file is damaged, or of another network.
    """
    content = read_checked(checkpoint, OLD_OPTIMIZERS_FILE)
    names = [*groups.get("convolutions", ()), *groups.get("others", ())]
    try:
        states: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
        of_weights = _by_name(states.pop("weights"), names)
        # Format 1 called the step sizes `steps`.
        rest = [_by_name(one, groups["step_sizes"]) for one in states.values()]
    except Exception as error:  # A malformed stream leads the unpickler to any class.
        raise _no_state(checkpoint, OLD_OPTIMIZERS_FILE, error) from None
    return {name: values for part in (of_weights, *rest) for name, values in part.items()}


def _by_name(state: dict[str, Any], names: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    order = [index for group in state["param_groups"] for index in group["params"]]
    by_index = dict(zip(order, names, strict=True))
    return {
        by_index[index]: {key: value for key, value in values.items() if value is not None}
        for index, values in state["state"].items()
    }


def _no_state(checkpoint: Path, name: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"checkpoint file {checkpoint / name} holds no optimizer state "
        f"({type(error).__name__}); {older_one(checkpoint)}"
    )
