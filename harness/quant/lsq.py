"""Learned step size quantization (LSQ), one learned step size per candidate bit-width.

  q(x; s, b) = s * round(clip(x / s, Qn, Qp))

arXiv 1902.08153, equations 1 to 3 and section 2.2; per bit-width as in arXiv 2401.01543. Weights
are signed, activations unsigned where they cannot be negative.

A bit-width reaches the computation as a `Level`: numbers where Python decides what runs, tensors
where a compiled graph serves every bit-width. Both give the same bits of the result.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

MIN_STEP_SIZE = 1e-7
"""Step sizes are kept above this, so that a division never meets zero."""

ZERO_BELOW = 1e-6
"""Weights and inputs of a smaller scale count as zero: their step sizes would start near the
smallest, and a first optimizer step would carry everything out of the range."""

NORMAL_MAGNITUDE = math.sqrt(2 / math.pi)
"""Mean |x| of a normalised input; half of it where only the positive ones are left."""

FITTED_FACTORS = tuple(2 ** (sixths / 6) for sixths in range(-18, 19))
"""Multiples of the present step size that `LsqQuantizer.fit_step_sizes` tries, 1/8 to 8."""

SHORT_TYPES = (torch.bfloat16, torch.float16)
"""Types that products are rounded to but not added up in."""

NCHW_DIMS = 4
"""Dimensions of a tensor of feature maps or of a convolution's weight."""

MAX_FITTED = 2**18
"""Elements that a step size is fitted to; a larger tensor is sampled. What few rare large weights
weigh is then found as well: with 2^16 the fit of efficientnet_lite0's weights at 8 bits is up to
22 % worse than on all of them, with 2^18 it is the same."""


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


def quantization_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """Return the integer range (Qn, Qp) of a bit-width.

    >>> quantization_range(4, signed=True), quantization_range(4, signed=False)
    ((-8, 7), (0, 15))
    """
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


class _FakeQuantize(torch.autograd.Function):
    """LSQ with a backward of its own, which keeps x, q and s; autograd would keep five tensors.

    Of these only x is extra: q is the input of the layer that follows, which keeps it anyway.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, step_size: Tensor, low: int | Tensor, high: int | Tensor
    ) -> Tensor:
        quantized = (x / step_size).clamp_(low, high).round_().mul_(step_size)  # type: ignore[arg-type]
        ctx.save_for_backward(x, quantized, step_size)
        ctx.range = (low, high)  # type: ignore[attr-defined]
        return quantized

    @staticmethod
    def backward(
        ctx: FunctionCtx, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grad_outputs
        x, quantized, step_size = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_x = _inside(grad, x, step_size, *ctx.range)  # type: ignore[attr-defined]
        # d q / d s is round(x/s) - x/s = (q - x)/s inside the range and Qn or Qp = q/s outside.
        rest = torch.sub(_wide(quantized), x)
        inside = _dot(grad_x, rest)
        outside = _dot(torch.sub(grad, grad_x, out=rest), quantized)
        return grad_x, ((inside + outside) / step_size).reshape(step_size.shape), None, None


def _inside(
    grad: Tensor, x: Tensor, step_size: Tensor, low: int | Tensor, high: int | Tensor
) -> Tensor:
    """Return the gradient where x lies within the clip range, its ends included, 0 elsewhere.

    The ends are compared as forward computes them, in the type of x: x / s may round to the other
    side of an end, and how far off it rounds differs with the end and the type.
    """
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


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of a * b, in float32 where either is of a short type."""
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
    quantized: Tensor = _FakeQuantize.apply(x, step_size, low, high)
    return quantized


class LsqQuantizer(nn.Module):
    """The step sizes of one tensor, one per candidate.

    Step sizes of all candidates are one parameter, so that every pass gives each of them a gradient
    (zero where unused): data-parallel reducers and optimizers then meet no unused parameters.
    """

    def __init__(self, candidates: Sequence[int], *, signed: bool) -> None:
        super().__init__()
        self.candidates = tuple(candidates)
        self.signed = signed
        self.step_size = nn.Parameter(torch.ones(len(self.candidates)))

    def level(self, bits: int) -> Level:
        """Return a bit-width in the form that `forward` takes.

        Raises:
            ValueError: It is no candidate.
        """
        low, high = quantization_range(bits, signed=self.signed)
        return Level(self.candidates.index(bits), low, high)

    def step_size_of(self, bits: int) -> Tensor:
        """Return the step size of a candidate, a scalar."""
        return self.step_size[self.candidates.index(bits)]

    @torch.no_grad()
    def set_step_size(self, bits: int, value: float | Tensor) -> None:
        """Set the step size of a candidate."""
        at_least = torch.as_tensor(value).clamp_min(MIN_STEP_SIZE)
        self.step_size[self.candidates.index(bits)] = at_least

    def start_step_sizes(self, mean_magnitude: Tensor) -> None:
        """Set every step size to its initial value for inputs of this mean |x|."""
        for bits in self.candidates:
            self.set_step_size(
                bits, initial_act_step_size(mean_magnitude, bits, signed=self.signed)
            )

    @torch.no_grad()
    def fit_step_sizes(self, x: Tensor) -> None:
        """Move every step size to the one near it that has the least squared error on x.

        Differs from the reference, which has the initial step sizes only: in a pretrained network
        with rare large weights these clip so much that even 8 bits keep nothing of its accuracy.
        """
        sample = fair_sample(x.detach())
        if not sample.any():
            return  # Any step size fits zeros.
        for bits in self.candidates:
            low, high = quantization_range(bits, signed=self.signed)
            sizes = [self.step_size_of(bits) * factor for factor in FITTED_FACTORS]
            distances = [
                (fake_quantize(sample, size, low=low, high=high) - sample).square().sum()
                for size in sizes
            ]
            self.set_step_size(bits, sizes[int(torch.stack(distances).argmin())])

    def forward(self, x: Tensor, level: Level, *, num_features: int) -> Tensor:
        """Fake-quantize x.

        Args:
            x: Any shape.
            level: The bit-width.
            num_features: Elements that share a step size in one example; its gradient is scaled by
                1/sqrt(num_features * Qp) (arXiv 1902.08153, section 2.2).

        The authors' code of arXiv 2401.01543 counts the elements of the whole batch, and its
        configurations turn the scaling off. Adam, which step sizes are trained with, divides the
        scale out again (docs/results/differences.md has what was measured).
        """
        scale, rest = _gradient_scale(num_features, level.high, self.step_size.dtype)
        step_size: Tensor = _UsedStepSize.apply(self.step_size, level.position, scale, rest)
        return fake_quantize(x, step_size, low=level.low, high=level.high)


class _UsedStepSize(torch.autograd.Function):
    """One candidate's step size, at least the smallest; its gradient scaled and one-sided there.

    At the smallest step size a gradient that would make it smaller still is dropped, and one that
    would make it larger passes: if none passed, as through a clamp, what an optimizer once carried
    below would stay there for ever.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        step_sizes: Tensor,
        position: int | Tensor,
        scale: float | Tensor,
        rest: float | Tensor,
    ) -> Tensor:
        chosen = select(step_sizes, position)
        ctx.save_for_backward(step_sizes, chosen)
        ctx.selection = (position, scale)  # type: ignore[attr-defined]
        used = chosen.clamp_min(MIN_STEP_SIZE)
        # Rounds as it always did: another last bit would be another grid to weights trained before.
        return used * scale + used * rest

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        step_sizes, chosen = ctx.saved_tensors  # type: ignore[attr-defined]
        position, scale = ctx.selection  # type: ignore[attr-defined]
        grad = grad_outputs[0] * scale
        grads = torch.zeros_like(step_sizes)
        if isinstance(position, Tensor):
            grad = torch.where(chosen > MIN_STEP_SIZE, grad, grad.clamp_max(0.0))
            grads.index_copy_(0, position.reshape(1), grad.reshape(1))
        else:
            grads[position] = grad if chosen > MIN_STEP_SIZE else grad.clamp_max(0.0)
        return grads, None, None, None


def fair_sample(x: Tensor, size: int = MAX_FITTED) -> Tensor:
    """Return at most `size` elements of x, flat: one drawn from each of as many equal stretches.

    A pure function of the numbers of elements, alike on every rank and machine. Every k-th element
    would be no fair sample: where k is a multiple of the pixels of a feature map, it is one pixel.
    """
    flat = x.flatten()
    if flat.numel() <= size:
        return flat
    starts = np.arange(size + 1) * flat.numel() // size
    # The raw stream, as `data/draws.py` has it: unlike a generator's methods it is fixed.
    draws = np.random.PCG64(np.random.SeedSequence([flat.numel(), size])).random_raw(size)
    places = starts[:-1] + (draws % np.diff(starts).astype(np.uint64)).astype(np.int64)
    return flat[torch.from_numpy(places).to(flat.device)]


def select(table: Tensor, index: int | Tensor) -> Tensor:
    """Return one row of a table of one row per candidate.

    Indexing with a tensor without dimensions would make Python wait for the device to read it.
    """
    if isinstance(index, Tensor):
        return table.index_select(0, index.reshape(1)).squeeze(0)
    return table[index]


def _gradient_scale(
    num_features: int, high: int | Tensor, dtype: torch.dtype
) -> tuple[float | Tensor, float | Tensor]:
    """Return 1/sqrt(num_features * Qp) and what is left to 1."""
    if isinstance(high, Tensor):
        scale = (num_features * high.clamp_min(1)).double().rsqrt()
        return scale.to(dtype), (1 - scale).to(dtype)
    number = 1 / math.sqrt(num_features * max(high, 1))
    return number, 1 - number


def initial_weight_step_size(
    weight: Tensor, bits: int, *, std_of_zeros: float | Tensor | None = None
) -> Tensor:
    """Return max(|mean - 3 std|, |mean + 3 std|) / 2^(b-1), where weights' step sizes start.

    Zeros have no scale of their own, and a range of no width lets no gradient through: weights that
    start at zero would leave it in their first step and never move again.

    Args:
        weight: The weight that is quantized.
        bits: The bit-width.
        std_of_zeros: Standard deviation that counts where the weight is zero; by default the one
            with which PyTorch starts a layer of as many inputs, 1/sqrt(3 fan_in).
    """
    mean, std = weight.detach().mean(), weight.detach().std(unbiased=False)
    largest = torch.maximum((mean - 3 * std).abs(), (mean + 3 * std).abs())
    if std_of_zeros is None:
        std_of_zeros = (3 * weight[0].numel()) ** -0.5
    # Not by `if`: networks are also made on the meta device, where there is nothing to decide by.
    largest = torch.where(largest < ZERO_BELOW, 3 * std_of_zeros, largest)
    step_size: Tensor = largest / 2 ** (bits - 1)
    return step_size


def initial_act_step_size(mean_magnitude: Tensor | float, bits: int, *, signed: bool) -> Tensor:
    """Return 2 mean|x| / sqrt(Qp), where activations' step sizes start (arXiv 1902.08153, 2.1).

    An input that is zero, behind weights that start at zero say, gets the start of one that was
    normalised: as for weights, a range of no width lets no gradient through.
    """
    _, high = quantization_range(bits, signed=signed)
    magnitude = torch.as_tensor(mean_magnitude)
    normal = NORMAL_MAGNITUDE if signed else NORMAL_MAGNITUDE / 2
    magnitude = torch.where(magnitude < ZERO_BELOW, normal, magnitude)
    return 2 * magnitude / math.sqrt(high)
