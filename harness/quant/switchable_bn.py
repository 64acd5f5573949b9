"""Switchable batch normalisation: one copy per (weight bits, activation bits) pair.

arXiv 2401.01543 follows switchable BN of slimmable networks (arXiv 1812.08928). All copies lie in
one stacked tensor, so an optimizer, a reducer and the EMA handle 4 tensors rather than 4 per pair.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SwitchableBatchNorm2d(nn.Module):
    """BatchNorm2d with P copies of affine parameters and statistics, shape (P, C) each.

    All copies start from the given BatchNorm2d. The activation and dropout of timm's
    BatchNormAct2d are kept.

    Attributes:
        layer_name: Module path of the convolution whose output is normalised.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, bn: _BatchNorm, pairs: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.pairs = tuple(pairs)
        self.eps = bn.eps
        self.momentum = 0.1 if bn.momentum is None else bn.momentum
        self._index = 0
        self.layer_name = ""
        copies = (len(self.pairs), 1)
        if bn.weight is None or bn.running_mean is None or bn.running_var is None:
            raise ValueError("a BatchNorm without affine parameters or statistics has no copies")
        self.weight = nn.Parameter(bn.weight.detach().repeat(copies))
        self.bias = nn.Parameter(bn.bias.detach().repeat(copies))
        self.register_buffer("running_mean", bn.running_mean.detach().repeat(copies))
        self.register_buffer("running_var", bn.running_var.detach().repeat(copies))
        self.drop = getattr(bn, "drop", nn.Identity())
        self.act = getattr(bn, "act", nn.Identity())

    def select(self, weight_bits: int, act_bits: int) -> None:
        """Make the copy of a pair the one that normalises the next forward passes."""
        self._index = self.pairs.index((weight_bits, act_bits))

    @property
    def selected_statistics(self) -> tuple[Tensor, Tensor]:
        """Running mean and variance of the selected copy, (C,) each, as views."""
        return self.running_mean[self._index], self.running_var[self._index]

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, shape (N, C, H, W), with the selected copy."""
        mean, var = self.selected_statistics
        weight, bias = self.weight[self._index], self.bias[self._index]
        x = F.batch_norm(x, mean, var, weight, bias, self.training, self.momentum, self.eps)
        return self.act(self.drop(x))  # type: ignore[no-any-return]


def batch_norms(model: nn.Module) -> list["SwitchableBatchNorm2d | _BatchNorm"]:
    """Return every batch normalisation of a model, switchable or plain."""
    kinds = (SwitchableBatchNorm2d, _BatchNorm)
    return [module for module in model.modules() if isinstance(module, kinds)]


def statistics(bn: "SwitchableBatchNorm2d | _BatchNorm") -> tuple[Tensor, Tensor]:
    """Return running mean and variance now in use, (C,) each, as views.

    Raises:
        ValueError: The normalisation keeps no statistics.
    """
    if isinstance(bn, SwitchableBatchNorm2d):
        return bn.selected_statistics
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("a BatchNorm without running statistics")
    return bn.running_mean, bn.running_var


@torch.no_grad()
def copy_statistics(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return clones of the statistics in use, to be handed to `restore_statistics`."""
    return [(mean.clone(), var.clone()) for mean, var in map(statistics, batch_norms(model))]


@torch.no_grad()
def restore_statistics(model: nn.Module, saved: list[tuple[Tensor, Tensor]]) -> None:
    """Put back statistics taken by `copy_statistics` under the same policy."""
    for bn, (saved_mean, saved_var) in zip(batch_norms(model), saved, strict=True):
        mean, var = statistics(bn)
        mean.copy_(saved_mean)
        var.copy_(saved_var)
