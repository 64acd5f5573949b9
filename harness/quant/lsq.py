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

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

MIN_STEP_SIZE = 1e-7
"""Step sizes are kept above this, so that a division never meets zero."""

EDGE = 2.0**-16
"""Added to both ends of the clip range in backward, in units of the step size. Values exactly at an
end pass their gradient on, but torch's hardtanh backward stops it there; 2^-16 is the smallest
widening that float32 still resolves beside 255, the largest integer of 8 bits."""

FITTED_FACTORS = tuple(2 ** (sixths / 6) for sixths in range(-18, 19))
"""Multiples of the present step size that `LsqQuantizer.fit_step_sizes` tries, 1/8 to 8."""

NCHW_DIMS = 4
"""Dimensions of a tensor of feature maps or of a convolution's weight."""

MAX_FITTED = 2**14
"""About how many elements, evenly spaced, a step size is fitted to."""


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
        ratio = x / step_size
        grad_x = _inside(grad, ratio, *ctx.range)  # type: ignore[attr-defined]
        # d q / d s is round(x/s) - x/s = (q - x)/s inside the range and Qn or Qp = q/s outside.
        inside = _dot(grad_x, torch.sub(quantized, x, out=ratio))
        outside = _dot(torch.sub(grad, grad_x, out=ratio), quantized)
        return grad_x, ((inside + outside) / step_size).reshape(step_size.shape), None, None


def _inside(grad: Tensor, ratio: Tensor, low: int | Tensor, high: int | Tensor) -> Tensor:
    """Return the gradient where x / s lies within the range, 0 elsewhere."""
    if isinstance(low, Tensor):
        return torch.where((ratio > low - EDGE) & (ratio < high + EDGE), grad, 0.0)
    # No boolean masks: on a CPU their promotion to float costs more than all the rest.
    return torch.ops.aten.hardtanh_backward(grad, ratio, low - EDGE, high + EDGE)  # type: ignore[no-any-return]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of a * b, in memory order where both lie alike: flattening would copy."""
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
        sample = x.detach().flatten()
        sample = sample[:: max(1, sample.numel() // MAX_FITTED)]
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
        """
        step_size = select(self.step_size, level.position).clamp_min(MIN_STEP_SIZE)
        scale, rest = _gradient_scale(num_features, level.high, step_size)
        step_size = step_size * scale + (step_size * rest).detach()
        return fake_quantize(x, step_size, low=level.low, high=level.high)


def select(table: Tensor, index: int | Tensor) -> Tensor:
    """Return one row of a table of one row per candidate.

    Indexing with a tensor without dimensions would make Python wait for the device to read it.
    """
    if isinstance(index, Tensor):
        return table.index_select(0, index.reshape(1)).squeeze(0)
    return table[index]


def _gradient_scale(
    num_features: int, high: int | Tensor, step_size: Tensor
) -> tuple[float | Tensor, float | Tensor]:
    """Return 1/sqrt(num_features * Qp) and what is left to 1.

    With gradient through the first part alone, the step size stays what it is and its gradient is
    scaled.
    """
    if isinstance(high, Tensor):
        scale = (num_features * high.clamp_min(1)).double().rsqrt()
        return scale.to(step_size.dtype), (1 - scale).to(step_size.dtype)
    number = 1 / math.sqrt(num_features * max(high, 1))
    return number, 1 - number


def initial_weight_step_size(weight: Tensor, bits: int) -> Tensor:
    """Return max(|mean - 3 std|, |mean + 3 std|) / 2^(b-1), where weights' step sizes start."""
    mean, std = weight.detach().mean(), weight.detach().std(unbiased=False)
    largest: Tensor = torch.maximum((mean - 3 * std).abs(), (mean + 3 * std).abs())
    step_size: Tensor = largest / 2 ** (bits - 1)
    return step_size


def initial_act_step_size(mean_magnitude: Tensor | float, bits: int, *, signed: bool) -> Tensor:
    """Return 2 mean|x| / sqrt(Qp), where activations' step sizes start (arXiv 1902.08153, 2.1)."""
    _, high = quantization_range(bits, signed=signed)
    return torch.as_tensor(2 * mean_magnitude / math.sqrt(high))
