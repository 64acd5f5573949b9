"""Batch normalisation of a supernet: with a copy per pair of bits, or shared by all policies.

Switchable: one copy per (weight bits, activation bits) pair of the convolution in front
(arXiv 2401.01543, after switchable BN of slimmable networks, arXiv 1812.08928). All copies lie in
one stacked tensor, so an optimizer, a reducer and the EMA handle 4 tensors rather than 4 per pair.

Both kinds take statistics as an argument in place of their own. So statistics can be re-estimated
for many policies side by side, and no module changes while it is evaluated.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.quant.fake_quantize import select
from harness.quant.layers import LayerRow


class Statistics(NamedTuple):
    """Mean and variance of one normalisation, (C,) each."""

    mean: Tensor
    var: Tensor
    momentum: float | None = None
    """None normalises with mean and variance. A number normalises with those of the batch, and
    moves mean and variance towards them in place by this share."""

    def copied(self, *, momentum: float | None = None) -> "Statistics":
        """Return a copy that may be moved without moving what it was taken from."""
        return Statistics(self.mean.clone(), self.var.clone(), momentum)


class SwitchableBatchNorm2d(nn.Module):
    """BatchNorm2d with P copies of affine parameters and statistics, shape (P, C) each.

    All copies start from the given BatchNorm2d. The activation and dropout of timm's
    BatchNormAct2d are kept.

    Attributes:
        pairs: (weight bits, activation bits) of each copy.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, bn: _BatchNorm, pairs: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.pairs = tuple(pairs)
        self.eps = bn.eps
        self.momentum = 0.1 if bn.momentum is None else bn.momentum
        copies = (len(self.pairs), 1)
        if bn.weight is None or bn.running_mean is None or bn.running_var is None:
            raise ValueError("a BatchNorm without affine parameters or statistics has no copies")
        self.weight = nn.Parameter(bn.weight.detach().repeat(copies))
        self.bias = nn.Parameter(bn.bias.detach().repeat(copies))
        self.register_buffer("running_mean", bn.running_mean.detach().repeat(copies))
        self.register_buffer("running_var", bn.running_var.detach().repeat(copies))
        self.drop = getattr(bn, "drop", nn.Identity())
        self.act = getattr(bn, "act", nn.Identity())
        self.train(bn.training)

    def statistics(self, row: LayerRow) -> Statistics:
        """Return the statistics of the copy that a row chooses; whole-number rows give views."""
        return Statistics(select(self.running_mean, row.norm), select(self.running_var, row.norm))

    def forward(self, x: Tensor, row: LayerRow, given: Statistics | None = None) -> Tensor:
        """Normalise x, shape (N, C, H, W), with the copy that a row chooses.

        Args:
            x: Output of the convolution in front.
            row: The row of that convolution.
            given: Statistics in place of the copy's own, which then stay as they are.
        """
        mean, var, momentum = given or self.statistics(row)
        # Given statistics belong to whoever gave them, also in training.
        learns = given is None and self.training
        if learns:
            momentum = self.momentum
        weight, bias = select(self.weight, row.norm), select(self.bias, row.norm)
        x = F.batch_norm(
            x, mean, var, weight, bias, momentum is not None, momentum or 0.0, self.eps
        )
        if learns and isinstance(row.norm, Tensor):  # Views were updated in place.
            with torch.no_grad():
                index = row.norm.reshape(1)
                self.running_mean.index_copy_(0, index, mean[None])
                self.running_var.index_copy_(0, index, var[None])
        if row.look is not None:
            row.look(x)
        return self.act(self.drop(x))  # type: ignore[no-any-return]


class SharedBatchNorm(nn.Module):
    """A BatchNorm that no single convolution feeds: one copy serves every policy.

    It takes over the parameters, statistics, activation and dropout of the given BatchNorm, under
    the same names.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, bn: _BatchNorm) -> None:
        super().__init__()
        if bn.running_mean is None or bn.running_var is None or bn.num_batches_tracked is None:
            raise ValueError("a BatchNorm without statistics has none to take over")
        self.eps = bn.eps
        self.momentum = bn.momentum
        self.weight, self.bias = bn.weight, bn.bias
        self.register_buffer("running_mean", bn.running_mean)
        self.register_buffer("running_var", bn.running_var)
        self.register_buffer("num_batches_tracked", bn.num_batches_tracked)
        self.drop = getattr(bn, "drop", nn.Identity())
        self.act = getattr(bn, "act", nn.Identity())
        self.train(bn.training)

    def statistics(self, _: LayerRow | None = None) -> Statistics:
        """Return the running statistics, as they stand."""
        return Statistics(self.running_mean, self.running_var)

    def forward(self, x: Tensor, given: Statistics | None = None) -> Tensor:
        """Normalise x, shape (N, C, ...); `given` stands in for the running statistics."""
        mean, var, momentum = given or self.statistics()
        if given is None and self.training:
            self.num_batches_tracked.add_(1)
            # As in torch, no momentum means the average over all batches.
            average = 1.0 / float(self.num_batches_tracked)
            momentum = average if self.momentum is None else self.momentum
        x = F.batch_norm(
            x, mean, var, self.weight, self.bias, momentum is not None, momentum or 0.0, self.eps
        )
        return self.act(self.drop(x))  # type: ignore[no-any-return]


Norm = SwitchableBatchNorm2d | SharedBatchNorm
"""What a supernet normalises with and may be given statistics for."""


def can_be_given_statistics(bn: nn.Module) -> bool:
    """Return whether a module is a BatchNorm with statistics to replace."""
    return isinstance(bn, _BatchNorm) and bn.running_mean is not None


def is_switchable(bn: nn.Module) -> bool:
    """Return whether a module is a BatchNorm that can have copies."""
    return can_be_given_statistics(bn) and bn.weight is not None and bn.bias is not None
