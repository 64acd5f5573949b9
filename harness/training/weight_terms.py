"""Penalties on weights under the bits of a pass: oscillation dampening and decay inside the range.

With w_c the weight clipped to the range of its bits and q its quantized value, both in the units of
the weight, summed over the elements of a layer and over the layers of the network:

  dampening  (w_c - q)^2, without gradient through q (Nagel et al., "Overcoming oscillations in
             quantization-aware training", arXiv 2203.11086, equation 8; in arXiv 2401.01543 as QE)
  decay      w_c^2 / 2 of the layers whose weights have 2 bits (arXiv 2401.01543, its code)

Elements that round to the same grid point, within half a step, under the layer's smallest present
candidate are not dampened: both bit-widths want them where they are. At that candidate itself, and
so in a network with one bit-width, the dampening is zero by definition.

The decay differs from the authors' code, which adds it in every pass, while the optimizer decays a
weight once a step: with a decay of 0 and a layer at 2 bits in two passes, its weights would grow.
Here it is added once a step, and for convolutions alone, which alone the optimizer decays.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.problem.candidates import Candidates
from harness.quant.dampening import distance_to_bins
from harness.quant.execution import PolicyInputs
from harness.quant.fake_quantize import Level, used_step_size
from harness.quant.layers import LayerRow, QuantizedLayer

TWO_BITS = 2


class WeightTerms:
    """What the weights of one pass add to its loss; empty until the pass has run."""

    def __init__(self, candidates: Candidates, *, dampens: bool, decays: bool) -> None:
        """Say what is wanted.

        Args:
            candidates: The present ones.
            dampens: Whether oscillations are dampened.
            decays: Whether weights at 2 bits decay apart.
        """
        self._smallest = [min(layer.weight) for layer in candidates.layers]
        self._dampens = dampens
        self._decays = decays
        self._dampened: list[int] = []
        self._decayed: list[int] = []
        self._seen = _Seen({}, {})

    @property
    def dampening(self) -> list[Tensor]:
        """By dampened layer, a scalar."""
        return [self._seen.distances[at] for at in self._dampened if at in self._seen.distances]

    @property
    def decay(self) -> list[Tensor]:
        """By layer that decays apart, a scalar."""
        return [self._seen.halves[at] for at in self._decayed if at in self._seen.halves]

    def watching(
        self,
        inputs: PolicyInputs,
        bits: Iterable[int],
        *,
        decayed: Collection[int],
        fewest: Sequence[LayerRow] | None = None,
    ) -> PolicyInputs:
        """Return the inputs of a pass, which then shows its weights.

        Args:
            inputs: As `Supernet.encode` returned them.
            bits: Weight bits of each layer in the pass.
            decayed: Layers at 2 bits that decay apart in this pass.
            fewest: Rows of the smallest present policy in tensors, for a compiled graph: passes of
                any bits then compute the same of every layer, and what does not count is left out
                afterwards. None computes only what counts.
        """
        own_bits = list(bits)
        if self._dampens:
            self._dampened = [at for at, own in enumerate(own_bits) if own > self._smallest[at]]
        if self._decays:
            self._decayed = sorted(decayed)
        rows = list(inputs.rows)
        for at, row in enumerate(rows):
            is_dampened, decays = at in self._dampened, at in self._decayed
            smallest: int | Level | None = self._smallest[at] if is_dampened else None
            if fewest is not None:
                smallest, decays = fewest[at].weight if self._dampens else None, self._decays
            if row.weight is not None and (smallest is not None or decays):
                watch = _Watch(self._seen, at, smallest, decays=decays)
                rows[at] = row._replace(look_at_weight=watch)
        return inputs._replace(rows=rows)


class _Seen(NamedTuple):
    """What a pass has shown, by layer."""

    distances: dict[int, Tensor]
    halves: dict[int, Tensor]


class _Watch:
    """Is shown the weight of one layer."""

    def __init__(self, seen: _Seen, at: int, smallest: int | Level | None, *, decays: bool) -> None:
        self._seen = seen
        self._at = at
        self._smallest = smallest
        self._decays = decays

    def __call__(self, layer: QuantizedLayer, weight: Tensor, level: Level) -> None:
        quantizer, smallest = layer.weight_quantizer, self._smallest
        if smallest is not None:
            fewest = quantizer.level(smallest) if isinstance(smallest, int) else smallest
            distance = distance_to_bins(weight, quantizer.step_size, level, fewest)
            self._seen.distances[self._at] = distance
        if self._decays:
            step_size = used_step_size(quantizer.step_size.detach(), level)
            clipped = torch.clamp(weight, step_size * level.low, step_size * level.high)
            self._seen.halves[self._at] = 0.5 * clipped.square().sum()


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
