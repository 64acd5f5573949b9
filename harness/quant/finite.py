"""What tensors a network cannot compute with: numbers that are none, and negative variances."""

from collections.abc import Mapping

import torch
from torch import Tensor

VARIANCE = "running_var"
"""How the names of variances end; a negative one has no square root."""


@torch.no_grad()
def first_unusable(tensors: Mapping[str, Tensor]) -> str | None:
    """Return in words what is wrong with the first tensor that cannot be computed with, or None.

    Waits for the device once, whatever the number of tensors.
    """
    names = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
    if not names:
        return None
    flags = torch.stack([_is_usable(name, tensors[name]) for name in names]).tolist()
    bad = next((name for name, is_usable in zip(names, flags, strict=True) if not is_usable), None)
    return None if bad is None else f"{bad} holds {_problem(tensors[bad])}"


def _is_usable(name: str, tensor: Tensor) -> Tensor:
    is_usable = tensor.isfinite().all()
    return is_usable & (tensor >= 0).all() if name.endswith(VARIANCE) else is_usable


def _problem(tensor: Tensor) -> str:
    count = int((~tensor.isfinite()).sum())
    what = "that are no finite numbers" if count else "below 0, which no variance is"
    return f"{count or int((tensor < 0).sum())} of {tensor.numel()} values {what}"
