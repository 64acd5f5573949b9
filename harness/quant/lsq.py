"""Learned step size quantization (LSQ), one learned step size per candidate bit-width.

  q(x; s, b) = s * round(clip(x / s, Qn, Qp))

arXiv 1902.08153, equations 1 to 3 and section 2.2; per bit-width as in arXiv 2401.01543. Weights
are signed, activations unsigned where they cannot be negative.

A bit-width reaches the computation as a `Level`: numbers where Python decides what runs, tensors
where a compiled graph serves every bit-width. Both give the same bits of the result.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from harness.quant.fake_quantize import MIN_STEP_SIZE, Level, fake_quantize, quantize_at_level

ZERO_BELOW = 1e-6
"""Weights and inputs of a smaller scale count as zero: their step sizes would start near the
smallest, and a first optimizer step would carry everything out of the range."""

NORMAL_MAGNITUDE = math.sqrt(2 / math.pi)
"""Mean |x| of a normalised input; half of it where only the positive ones are left."""

FITTED_FACTORS = tuple(2 ** (sixths / 6) for sixths in range(-18, 19))
"""Multiples of the present step size that `LsqQuantizer.fit_step_sizes` tries, 1/8 to 8."""

MAX_FITTED = 2**18
"""Elements that a step size is fitted to; a larger tensor is sampled. What few rare large weights
weigh is then found as well: with 2^16 the fit of efficientnet_lite0's weights at 8 bits is up to
22 % worse than on all of them, with 2^18 it is the same."""


def quantization_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """Return the integer range (Qn, Qp) of a bit-width.

    >>> quantization_range(4, signed=True), quantization_range(4, signed=False)
    ((-8, 7), (0, 15))
    """
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


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
        scale = _gradient_scale(num_features, level.high, self.step_size.dtype)
        return quantize_at_level(x, self.step_size, level, gradient_scale=scale)


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


def _gradient_scale(num_features: int, high: int | Tensor, dtype: torch.dtype) -> float | Tensor:
    """Return 1/sqrt(num_features * Qp)."""
    if isinstance(high, Tensor):
        return (num_features * high.clamp_min(1)).double().rsqrt().to(dtype)
    return float(np.float32(1 / math.sqrt(num_features * max(high, 1))))


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
