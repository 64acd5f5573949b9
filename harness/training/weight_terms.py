"""Penalties on weights under the bits of a pass: oscillation dampening and decay inside the range.

With w_c the weight clipped to the range of its bits and q its quantized value, both in the units of
the weight, summed over the elements of a layer and over the layers of the network:

  dampening  (w_c - q)^2, without gradient through q (Nagel et al., "Overcoming oscillations in
             quantization-aware training", arXiv 2203.11086, equation 8; in arXiv 2401.01543 as QE)
  decay      w_c^2 / 2 of the layers whose weights have 2 bits (arXiv 2401.01543, its code)

Elements that round to the same grid point, within half a step, under the layer's smallest present
candidate are not dampened: there fewer bits ask for the same. So nothing is at that candidate.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from harness.problem.candidates import Candidates
from harness.quant.dampening import distance_to_bins
from harness.quant.execution import PolicyInputs
from harness.quant.fake_quantize import Level, used_step_size
from harness.quant.layers import QuantizedLayer

TWO_BITS = 2


class WeightTerms:
    """What the weights of one pass add to its loss; empty until the pass has run.

    Attributes:
        dampening: By layer, a scalar.
        decay: By layer at 2 bits, a scalar.
    """

    def __init__(self, candidates: Candidates, *, dampens: bool, decays: bool) -> None:
        """Say what is wanted.

        Args:
            candidates: The present ones.
            dampens: Whether oscillations are dampened.
            decays: Whether weights at 2 bits decay apart.
        """
        self.dampening: list[Tensor] = []
        self.decay: list[Tensor] = []
        self._smallest = [min(layer.weight) for layer in candidates.layers]
        self._dampens = dampens
        self._decays = decays

    def watching(self, inputs: PolicyInputs, bits: Iterable[int]) -> PolicyInputs:
        """Return the inputs of a pass, which then shows its weights.

        Args:
            inputs: As `Supernet.encode` returned them.
            bits: Weight bits of each layer in the pass.
        """
        rows = list(inputs.rows)
        for index, (row, own) in enumerate(zip(rows, bits, strict=True)):
            is_dampened = self._dampens and own > self._smallest[index]
            decays = self._decays and own == TWO_BITS
            if row.weight is not None and (is_dampened or decays):
                watch = _Watch(self, self._smallest[index] if is_dampened else None, decays=decays)
                rows[index] = row._replace(look_at_weight=watch)
        return inputs._replace(rows=rows)


class _Watch:
    """Is shown the weight of one layer."""

    def __init__(self, terms: WeightTerms, smallest: int | None, *, decays: bool) -> None:
        self._terms = terms
        self._smallest = smallest
        self._decays = decays

    def __call__(self, layer: QuantizedLayer, weight: Tensor, level: Level) -> None:
        quantizer = layer.weight_quantizer
        if self._smallest is not None:
            fewest = quantizer.level(self._smallest)
            distance = distance_to_bins(weight, quantizer.step_size, level, fewest)
            self._terms.dampening.append(distance)
        if self._decays:
            step_size = used_step_size(quantizer.step_size.detach(), level)
            clipped = torch.clamp(weight, step_size * level.low, step_size * level.high)
            self._terms.decay.append(0.5 * clipped.square().sum())


def dampening_weight(progress: float, *, start: float, peak: float) -> float:
    """Return the weight of the dampening: 0 up to `start`, then a cosine up to `peak` at the end.

    Args:
        progress: Share of the training that is done.
        start: Share at which it begins (paper: 40 of 150 epochs).
        peak: At the end (paper: 0.1).

    >>> [round(dampening_weight(p, start=0.2, peak=0.1), 3) for p in (0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.0, 0.05, 0.1]
    """
    if progress <= start:
        return 0.0
    done = (progress - start) / (1 - start)
    return peak * 0.5 * (1 - math.cos(math.pi * done))
