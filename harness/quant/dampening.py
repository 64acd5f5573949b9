"""How far weights are from their bins, which dampens oscillations.

The sum over a weight of (w_c - q)^2, with w_c the weight clipped to the range of its bits and q its
quantized value, without gradient through q or the step size (Nagel et al., arXiv 2203.11086,
equation 8). Elements that round into the same bin, within half a step, under the fewest bits count
nothing: `training/weight_terms.py` says why.

As for `fake_quantize`, float32 on a CPU takes a kernel of the Rust engine: the terms of autograd
would go over every weight of the network some ten times a pass, and keep it three times.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from harness import _search_rs
from harness.quant.fake_quantize import (
    Level,
    flat,
    grid_numbers,
    has_kernel,
    quantize_at_level,
    used_step_size,
    without_gaps,
)


def distance_to_bins(weight: Tensor, step_sizes: Tensor, level: Level, fewest: Level) -> Tensor:
    """Return the sum of squared distances of a weight to its bins, a scalar.

    Args:
        weight: Any shape.
        step_sizes: (candidates,).
        level: The bit-width of the weight.
        fewest: The smallest candidate.
    """
    step_sizes = step_sizes.detach()
    if has_kernel(weight):
        distance: Tensor = _Dampening.apply(weight, step_sizes, level, fewest)
        return distance
    step_size = used_step_size(step_sizes, level)
    bins, coarse = (
        quantize_at_level(weight.detach(), step_sizes, one, gradient_scale=1.0)
        for one in (level, fewest)
    )
    clipped = torch.clamp(weight, step_size * level.low, step_size * level.high)
    bins_differ = (coarse - bins).abs() >= 0.5 * step_size
    return ((clipped - bins).square() * bins_differ).sum()


class _Dampening(torch.autograd.Function):
    """The kernel with its gradient, which keeps the weight alone."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, weight: Tensor, step_sizes: Tensor, level: Level, fewest: Level
    ) -> Tensor:
        weight, _ = without_gaps(weight)
        ctx.save_for_backward(weight)
        grids = (grid_numbers(step_sizes, level), grid_numbers(step_sizes, fewest))
        ctx.grids = grids  # type: ignore[attr-defined]
        threads = torch.get_num_threads()
        return weight.new_tensor(_search_rs.dampening(flat(weight), grids, threads))

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = grad_outputs
        (weight,) = ctx.saved_tensors  # type: ignore[attr-defined]
        grads = torch.empty_like(weight)
        grids, threads = ctx.grids, torch.get_num_threads()  # type: ignore[attr-defined]
        _search_rs.dampening_backward(flat(weight), flat(grads), grids, float(grad), threads)
        return grads, None, None, None
