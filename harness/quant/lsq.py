"""Learned step size quantization (LSQ), one learned step size per candidate bit-width.

  q(x; s, b) = s * round(clip(x / s, Qn, Qp))

arXiv 1902.08153, equations 1 to 3 and section 2.2; per bit-width as in arXiv 2401.01543. Weights
are signed, activations unsigned where they cannot be negative.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

MIN_STEP_SIZE = 1e-7
"""Steps are kept above this, so that a division never meets zero."""


EDGE = 2.0**-16
"""The range is closed, torch's hardtanh backward takes it as open: this much more, in steps, makes
it closed; up to 8 bits it is the smallest difference that float32 resolves."""


FITTED_FACTORS = tuple(2 ** (sixths / 6) for sixths in range(-18, 19))
"""Multiples of the present step size that `LsqQuantizer.fit_step_sizes` tries, 1/8 to 8."""

MAX_FITTED = 2**14
"""About how many elements, evenly spaced, a step size is fitted to."""


def quantization_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """Return the integer range (Qn, Qp) of a bit-width.

    >>> quantization_range(4, signed=True), quantization_range(4, signed=False)
    ((-8, 7), (0, 15))
    """
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


class _FakeQuantize(torch.autograd.Function):
    """LSQ with its own backward: keeps x, q and s, where autograd would keep five tensors.

    It keeps no more than the network does: q is the input of the layer behind it.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, step_size: Tensor, low: int, high: int) -> Tensor:
        quantized = (x / step_size).clamp_(low, high).round_().mul_(step_size)
        ctx.save_for_backward(x, quantized, step_size)
        ctx.range = (low, high)  # type: ignore[attr-defined]
        return quantized

    @staticmethod
    def backward(
        ctx: FunctionCtx, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grad_outputs
        x, quantized, step_size = ctx.saved_tensors  # type: ignore[attr-defined]
        low, high = ctx.range  # type: ignore[attr-defined]
        ratio = x / step_size
        # No boolean masks: on a CPU their promotion to float costs more than all the rest.
        grad_x = torch.ops.aten.hardtanh_backward(grad, ratio, low - EDGE, high + EDGE)
        # d q / d s is round(x/s) - x/s = (q - x)/s inside the range and Qn or Qp = q/s outside.
        inside = _dot(grad_x, torch.sub(quantized, x, out=ratio))
        outside = _dot(torch.sub(grad, grad_x, out=ratio), quantized)
        return grad_x, ((inside + outside) / step_size).reshape(step_size.shape), None, None


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of a * b, in memory order where both lie alike: flattening would copy."""
    if a.stride() == b.stride() and _is_channels_last(a):
        a, b = a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)
    return torch.dot(a.reshape(-1), b.reshape(-1))


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == len("NCHW") and x.is_contiguous(memory_format=torch.channels_last)


def fake_quantize(x: Tensor, step_size: Tensor, *, bits: int, signed: bool) -> Tensor:
    """Return x rounded to the grid of one bit-width, with the LSQ gradients.

    Args:
        x: Any shape.
        step_size: Step size, a scalar > 0 in the units of x.
        bits: Bit-width.
        signed: Whether the grid holds negative values.

    Returns:
        Tensor of the shape of x on the grid `step_size * {Qn, ..., Qp}`. The gradient passes
        straight through inside the range and is zero outside.
    """
    low, high = quantization_range(bits, signed=signed)
    quantized: Tensor = _FakeQuantize.apply(x, step_size, low, high)
    return quantized


class LsqQuantizer(nn.Module):
    """The step sizes of one tensor, one per candidate, and the bit-width now in use.

    Step sizes of all candidates are one parameter, so that every pass gives each of them a gradient
    (zero where unused): data-parallel reducers and optimizers then meet no unused parameters.
    """

    def __init__(self, candidates: Sequence[int], *, signed: bool) -> None:
        super().__init__()
        self.candidates = tuple(candidates)
        self.signed = signed
        self.bits = self.candidates[0]
        self._index = 0
        self.step_size = nn.Parameter(torch.ones(len(self.candidates)))

    def select(self, bits: int) -> None:
        """Make `bits`, one of the candidates, the width of the next forward passes."""
        self._index = self.candidates.index(bits)
        self.bits = bits

    def step_size_of(self, bits: int) -> Tensor:
        """Return the step size of a candidate, a scalar."""
        return self.step_size[self.candidates.index(bits)]

    @torch.no_grad()
    def set_step_size(self, bits: int, value: float | Tensor) -> None:
        """Set the step size of a candidate."""
        self.step_size[self.candidates.index(bits)] = torch.as_tensor(value).clamp_min(
            MIN_STEP_SIZE
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
            step_sizes = [self.step_size_of(bits) * factor for factor in FITTED_FACTORS]
            errors = [
                (fake_quantize(sample, step_size, bits=bits, signed=self.signed) - sample)
                .square()
                .sum()
                for step_size in step_sizes
            ]
            self.set_step_size(bits, step_sizes[int(torch.stack(errors).argmin())])

    def forward(self, x: Tensor, *, num_features: int) -> Tensor:
        """Fake-quantize x.

        Args:
            x: Any shape.
            num_features: Elements that share a step size in one example; its gradient is scaled by
                1/sqrt(num_features * Qp) (arXiv 1902.08153, section 2.2).
        """
        step_size = self.step_size[self._index].clamp_min(MIN_STEP_SIZE)
        _, high = quantization_range(self.bits, signed=self.signed)
        scale = 1 / math.sqrt(num_features * max(high, 1))
        step_size = step_size * scale + (step_size * (1 - scale)).detach()
        return fake_quantize(x, step_size, bits=self.bits, signed=self.signed)


def initial_weight_step_size(weight: Tensor, bits: int) -> Tensor:
    """Return max(|mean - 3 std|, |mean + 3 std|) / 2^(b-1), the step size weights start from."""
    mean, std = weight.detach().mean(), weight.detach().std(unbiased=False)
    step_size: Tensor = torch.maximum((mean - 3 * std).abs(), (mean + 3 * std).abs()) / 2 ** (
        bits - 1
    )
    return step_size


def initial_act_step_size(mean_magnitude: Tensor | float, bits: int, *, signed: bool) -> Tensor:
    """Return 2 mean|x| / sqrt(Qp), the step size activations start from (arXiv 1902.08153, 2.1)."""
    _, high = quantization_range(bits, signed=signed)
    step_size: Tensor = torch.as_tensor(2 * mean_magnitude / math.sqrt(high))
    return step_size
