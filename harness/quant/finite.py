"""What tensors a network cannot compute with: numbers that are none, and negative variances."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

VARIANCE = "running_var"
"""How the names of variances end; a negative one has no square root."""


@torch.no_grad()
def first_unusable(state: Mapping[str, Any]) -> str | None:
    """Return in words what is wrong with the first tensor that cannot be computed with, or None.

    Waits for the device once, whatever the number of tensors.

    Args:
        state: Tensors by name, or such states by name; what is neither is not looked at.
    """
    tensors = dict(_named_tensors(state))
    names = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
    if not names:
        return None
    flags = torch.stack([_is_usable(name, tensors[name]) for name in names]).tolist()
    bad = next((name for name, is_usable in zip(names, flags, strict=True) if not is_usable), None)
    return None if bad is None else f"{bad} holds {_problem(tensors[bad])}"


def _named_tensors(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Tensor]]:
    for key, value in values.items():
        if isinstance(value, Tensor):
            yield f"{path}{key}", value
        elif isinstance(value, Mapping):
            yield from _named_tensors(value, f"{path}{key}.")


def _is_usable(name: str, tensor: Tensor) -> Tensor:
    is_usable = tensor.isfinite().all()
    return is_usable & (tensor >= 0).all() if name.endswith(VARIANCE) else is_usable


def _problem(tensor: Tensor) -> str:
    count = int((~tensor.isfinite()).sum())
    what = "that are no finite numbers" if count else "below 0, which no variance is"
    return f"{count or int((tensor < 0).sum())} of {tensor.numel()} values {what}"
