"""The quantizer itself: numbers rounded to the grid of one bit-width, and the gradients of LSQ.

  q(x; s, b) = s * round(clip(x / s, Qn, Qp))

arXiv 1902.08153, equations 1 to 3. There are two forms. On a CPU float32 takes a kernel of the Rust
engine, which goes over memory once each way (docs/results/quantizer.md has what others take); all
else takes operations of torch. Both give the same bits of q and of the gradient of x
(tests/unit/quant/test_fake_quantize.py); sums for the step size are added in another order.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.autograd.graph import saved_tensors_hooks

from harness import _search_rs
from harness.quant.openmp import share_torch_threads

MIN_STEP_SIZE = float(np.float32(1e-7))
"""Step sizes are at least this, so that a division never meets zero; as float32 holds it."""

SHORT_TYPES = (torch.bfloat16, torch.float16)
"""Types too short to divide or add up in: 8.7 % of 8-bit codes would differ."""

NCHW_DIMS = 4
"""Dimensions of a tensor of feature maps or of a convolution's weight."""


share_torch_threads()


class Level(NamedTuple):
    """One bit-width of one tensor, as the quantizer needs it.

    Each is a whole number, or all are int64 tensors without dimensions.
    """

    position: int | Tensor
    """Position of the bit-width among the quantizer's candidates: which step size is used."""
    low: int | Tensor
    """Qn, the smallest integer of the grid."""
    high: int | Tensor
    """Qp, the largest integer of the grid."""


def select(table: Tensor, index: int | Tensor) -> Tensor:
    """Return one row of a table of one row per candidate.

    Indexing with a tensor without dimensions would make Python wait for the device to read it.
    """
    if isinstance(index, Tensor):
        return table.index_select(0, index.reshape(1)).squeeze(0)
    return table[index]


def fake_quantize(x: Tensor, step_size: Tensor, *, low: int | Tensor, high: int | Tensor) -> Tensor:
    """Return x rounded to the grid of one bit-width, with the LSQ gradients.

    Args:
        x: Any shape.
        step_size: Step size, a scalar > 0 in the units of x.
        low: Qn, as from `quantization_range`.
        high: Qp.

    Returns:
        Tensor of the shape of x on the grid `step_size * {Qn, ..., Qp}`. The gradient passes
        straight through inside the range and is zero outside.
    """
    return quantize_at_level(x, step_size.reshape(1), Level(0, low, high), gradient_scale=1.0)


def quantize_at_level(
    x: Tensor, step_sizes: Tensor, level: Level, *, gradient_scale: float | Tensor
) -> Tensor:
    """Return x rounded to the grid of a level.

    Args:
        x: Any shape.
        step_sizes: (candidates,). The gradient of those that are not used is zero; of one that is
            no larger than the smallest, a gradient that would make it smaller still is dropped.
        level: The bit-width.
        gradient_scale: Factor of the step size's gradient.
    """
    quantized: Tensor = _FakeQuantize.apply(x, step_sizes, level, gradient_scale)
    return quantized


class _FakeQuantize(torch.autograd.Function):
    """LSQ with a backward of its own, which keeps x alone; autograd would keep five tensors."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, step_sizes: Tensor, level: Level, scale: float | Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, step_sizes)
        ctx.grid = (level, scale)  # type: ignore[attr-defined]
        return _quantized(x, step_sizes, level)

    @staticmethod
    def backward(
        ctx: FunctionCtx, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grad_outputs
        x, step_sizes = ctx.saved_tensors  # type: ignore[attr-defined]
        level, scale = ctx.grid  # type: ignore[attr-defined]
        if has_kernel(x):
            grad_x, grad_steps = _kernel_backward(grad, x, step_sizes, level, scale)
        else:
            grad_x, grad_steps = _torch_backward(grad, x, step_sizes, level, scale)
        return grad_x, grad_steps, None, None


REMADE_FROM = 2**16
"""Elements from which on a quantized tensor is made again; keeping a smaller one costs less."""


class Recipe(NamedTuple):
    """What `quantize_at_level` made a tensor of."""

    x: Tensor
    step_sizes: Tensor
    level: Level


class RemadeInBackward(saved_tensors_hooks):
    """While this is entered, quantized tensors are not kept for backward but made again there.

    An operation keeps what it multiplies, and the quantizer keeps what it was given. The one
    follows from the other, so without this a supernet would keep every feature map twice.
    """

    def __init__(self, made: Iterable[tuple[Tensor, Recipe]]) -> None:
        """Say what is made again: quantized tensors with what they were made of."""
        # By their memory: what is kept may be another tensor object on it.
        recipes = {
            (quantized.data_ptr(), quantized.shape): Recipe(x.detach(), steps.detach(), level)
            for quantized, (x, steps, level) in made
            if quantized.numel() >= REMADE_FROM
        }

        def pack(tensor: Tensor) -> Tensor | Recipe:
            return recipes.get((tensor.data_ptr(), tensor.shape), tensor)

        def unpack(packed: Tensor | Recipe) -> Tensor:
            return packed if isinstance(packed, Tensor) else _quantized(*packed)

        super().__init__(pack, unpack)


def has_kernel(x: Tensor) -> bool:
    """Return whether the Rust engine's kernels take a tensor; a compiler cannot follow them."""
    is_plain = x.device.type == "cpu" and x.dtype == torch.float32
    return is_plain and not torch.compiler.is_compiling()


def _quantized(x: Tensor, step_sizes: Tensor, level: Level) -> Tensor:
    return (_kernel_forward if has_kernel(x) else _torch_forward)(x, step_sizes, level)


def _kernel_forward(x: Tensor, step_sizes: Tensor, level: Level) -> Tensor:
    x, out = without_gaps(x)
    grid = grid_numbers(step_sizes, level)
    _search_rs.fake_quantize(flat(x), flat(out), grid, torch.get_num_threads())
    return out


def _kernel_backward(
    grad: Tensor, x: Tensor, step_sizes: Tensor, level: Level, scale: float | Tensor
) -> tuple[Tensor, Tensor]:
    x, grad_x = without_gaps(x)
    if grad.stride() != x.stride():
        grad = torch.empty_like(x).copy_(grad)
    grid = grid_numbers(step_sizes, level)
    sum_for_step = _search_rs.fake_quantize_backward(
        flat(grad), flat(x), flat(grad_x), grid, torch.get_num_threads()
    )
    position = int(level.position)
    grad_step = sum_for_step * float(scale)
    grads = torch.zeros_like(step_sizes)
    is_smallest = float(step_sizes[position]) <= MIN_STEP_SIZE
    grads[position] = min(grad_step, 0.0) if is_smallest else grad_step
    return grad_x, grads


def without_gaps(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x so that it fills its memory, and a new tensor laid out alike."""
    out = torch.empty_like(x)
    return (x if out.stride() == x.stride() else torch.empty_like(out).copy_(x)), out


def flat(x: Tensor) -> NDArray[np.float32]:
    """Return the memory of a tensor without gaps, in its order."""
    flat: NDArray[np.float32] = x.detach().as_strided((x.numel(),), (1,)).numpy()
    return flat


def grid_numbers(step_sizes: Tensor, level: Level) -> tuple[float, float, float]:
    """Return the step size that a level uses, Qn and Qp, as the kernels take them."""
    step_size = max(float(step_sizes[int(level.position)]), MIN_STEP_SIZE)
    return step_size, float(level.low), float(level.high)


def used_step_size(step_sizes: Tensor, level: Level) -> Tensor:
    """Return the step size that a level uses, a scalar."""
    return select(step_sizes, level.position).clamp_min(MIN_STEP_SIZE)


def _torch_forward(x: Tensor, step_sizes: Tensor, level: Level) -> Tensor:
    step_size = used_step_size(step_sizes, level)
    codes = (_wide(x) / step_size).clamp_(level.low, level.high).round_()  # type: ignore[arg-type]
    return codes.mul_(step_size).to(x.dtype)


def _torch_backward(
    grad: Tensor, x: Tensor, step_sizes: Tensor, level: Level, scale: float | Tensor
) -> tuple[Tensor, Tensor]:
    step_size = used_step_size(step_sizes, level)
    grad_x = _inside(grad, x, step_size, level)
    ratio = _wide(x) / step_size
    codes = ratio.clamp(level.low, level.high).round_()  # type: ignore[arg-type]
    # d q / d s is round(x/s) - x/s inside the range, and Qn or Qp outside.
    inside = dot(grad_x, torch.sub(codes, ratio, out=ratio))
    grad_step = (inside + dot(grad - grad_x, codes)) * scale
    grads = torch.zeros_like(step_sizes)
    one_sided = torch.where(
        select(step_sizes, level.position) > MIN_STEP_SIZE, grad_step, grad_step.clamp_max(0.0)
    ).to(grads.dtype)
    if isinstance(level.position, Tensor):
        grads.index_copy_(0, level.position.reshape(1), one_sided.reshape(1))
    else:
        grads[level.position] = one_sided
    return grad_x, grads


def _inside(grad: Tensor, x: Tensor, step_size: Tensor, level: Level) -> Tensor:
    """Return the gradient where x lies within the clip range, its ends included, 0 elsewhere.

    The ends are compared as forward computes them, in the type of x: x / s may round to the other
    side of an end, and how far off it rounds differs with the end and the type.
    """
    _, low, high = level
    if isinstance(low, Tensor):
        assert isinstance(high, Tensor), "a level is whole numbers or tensors"
        ends = torch.stack((low, high)).to(x.dtype) * step_size
        return torch.where((x >= ends[0]) & (x <= ends[1]), grad, 0.0)
    least, most = (x.new_tensor((low, high)) * step_size).tolist()
    # No boolean masks: on a CPU their promotion to float costs more than all the rest. This stops
    # the gradient at its own ends, so they lie one float further out.
    return torch.ops.aten.hardtanh_backward(  # type: ignore[no-any-return]
        grad, x, _next_float(least, -math.inf, x.dtype), _next_float(most, math.inf, x.dtype)
    )


def _next_float(value: float, towards: float, dtype: torch.dtype) -> float:
    """Return the next number after one of this type; kernels compare short types in float32."""
    kind = np.float64 if dtype == torch.float64 else np.float32
    return float(np.nextafter(kind(value), kind(towards)))


def _wide(x: Tensor) -> Tensor:
    """Return x in float32 where its own type is too short to add up millions of numbers in."""
    return x.float() if x.dtype in SHORT_TYPES else x


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of a * b, a scalar, in float32 where either is of a short type."""
    if a.dtype in SHORT_TYPES or b.dtype in SHORT_TYPES:
        # In a tree of sums; `dot` takes one type alone, and its running sum would lose more.
        return torch.mul(_wide(a), b).sum()
    # In memory order where both lie alike: flattening would copy.
    if a.stride() == b.stride() and _is_channels_last(a):
        a, b = a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)
    return torch.dot(a.reshape(-1), b.reshape(-1))


def _is_channels_last(x: Tensor) -> bool:
    has_channels = x.dim() == NCHW_DIMS
    return has_channels and x.is_contiguous(memory_format=torch.channels_last)
