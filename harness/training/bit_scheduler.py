"""The bit-width scheduler: turbulent layers lose their smallest candidate for a while.

arXiv 2401.01543, bit-width scheduler. At some epochs' ends the layers whose weights lie most often
near a rounding boundary are *frozen*: passes no longer sample their smallest candidate. All others
get back what they began with. Only candidates change, and everything else follows from them: what
passes sample, what validation shows, what a search proposes.

What is frozen is the weight candidate: turbulence is of weights, and so is the candidate by which
information distortion is mitigated. The authors' code leaves that to `split_aw_cands`: weights
alone for MobileNetV2, and for ResNet18 one list that serves weights and activations.
`FROZEN_SIDES` decides it here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.problem.candidates import Candidates, LayerCandidates
from harness.problem.ties import SIDES, Side, Ties, merged
from harness.quant.fake_quantize import MIN_STEP_SIZE
from harness.quant.layers import QuantizedLayer
from harness.quant.lsq import quantization_range
from harness.quant.supernet import Supernet

FROZEN_SIDES: tuple[Side, ...] = ("weight",)
"""Sides that lose their smallest candidate; `SIDES` freezes those of activations as well."""

NEAR_A_BOUNDARY = 0.375
"""Distance to the nearest grid point, in steps, beyond which a weight is turbulent: half a step is
the boundary itself, and a quarter of that half is near it."""

FIRST_RATIO, LAST_RATIO = 0.5, 0.2
"""Share of layers that are frozen at the beginning, and from half of training on."""

PAPER_EPOCHS, PAPER_START, PAPER_PERIOD, PAPER_LATE_PERIOD = 150, 6, 2, 15
LATE_PERCENT = 72
"""Of training, behind which the long period counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezingAct:
    """What the scheduler did once."""

    candidates: Candidates
    """What each layer may take from now on."""
    frozen: dict[str, int]
    """The weight bits that each frozen layer lost, by the layer's name."""
    turbulence: dict[str, float]
    """T_l of every layer that can be frozen, by name, over the candidates that it had until now."""
    ratio: float

    def metrics(self) -> dict[str, float]:
        """Return the act as it stands in metrics.jsonl: a number for each key."""
        return {
            "freezing_ratio": self.ratio,
            "layers_frozen": len(self.frozen),
            **{f"frozen_bits/{name}": bits for name, bits in self.frozen.items()},
            **{f"turbulence/{name}": value for name, value in self.turbulence.items()},
        }

    def describe(self) -> str:
        """Return the act in a line for people."""
        if not self.turbulence:
            return "no layer has a weight candidate to lose"
        most = max(self.turbulence, key=lambda name: self.turbulence[name])
        return (
            f"{len(self.frozen)} of {len(self.turbulence)} layers frozen, most turbulent {most} "
            f"({self.turbulence[most]:.3f})"
        )


@torch.no_grad()
def turbulence(weight: Tensor, step_sizes: Mapping[int, Tensor]) -> float:
    """Return the bit-width interference T_l of one layer.

    Args:
        weight: What is quantized, shape (out, ...).
        step_sizes: By weight candidate that the layer has at present, one at least: the step size
            in units of the weight, a scalar > 0 or one per output channel, (out,).

    Returns:
        Mean over the candidates b of (share of weights within 0.125 step of a boundary between two
        codes) / b, in [0, 0.5]. A weight beyond an end of the grid is near no boundary.

    Differs from the authors' code, which sorts weights into bins by equality of floats: here
    distances are compared.
    """
    shares = [_share_near(weight, step, bits) / bits for bits, step in step_sizes.items()]
    return sum(shares) / len(shares)


def _share_near(weight: Tensor, step_size: Tensor, bits: int) -> float:
    low, high = quantization_range(bits, signed=True)
    if step_size.numel() > 1:
        step_size = step_size.reshape(-1, *[1] * (weight.dim() - 1))
    scaled = weight / step_size.clamp_min(MIN_STEP_SIZE)
    is_between_codes = (scaled > low) & (scaled < high)
    is_near = (scaled - scaled.round()).abs() > NEAR_A_BOUNDARY
    return int((is_near & is_between_codes).sum()) / weight.numel()


def epochs_of_acts(num_epochs: int, start_epoch: int | None = None) -> tuple[int, ...]:
    """Return the epochs, from 1, at whose ends the scheduler acts.

    The paper's numbers are of 150 epochs: from 6 every 2, and behind 72 % of training every 15.
    Start and periods are shares of training here, rounded and at least one epoch, so that layers
    are frozen over the same part of a training of any length; one below 113 epochs acts after every
    epoch until 72 %. No act follows the last epoch: nothing would be trained after it, and a search
    would miss candidates that were trained to the end.

    The authors' code acts after epochs 7, 9, ..., 107 of 150, and then after 119, 134 and 149.

    Args:
        num_epochs: Of the whole training.
        start_epoch: The first act follows it; None is the paper's share.

    >>> epochs = epochs_of_acts(150)
    >>> epochs[:3], epochs[-4:]
    ((6, 8, 10), (106, 108, 123, 138))
    >>> epochs_of_acts(3), epochs_of_acts(1)
    ((1, 2), ())
    """

    def scaled(epochs: int) -> int:
        return max(1, round(epochs * num_epochs / PAPER_EPOCHS))

    period, late_period = scaled(PAPER_PERIOD), scaled(PAPER_LATE_PERIOD)
    epoch = scaled(PAPER_START) if start_epoch is None else start_epoch
    found: list[int] = []
    while epoch < num_epochs:
        found.append(epoch)
        is_late = 100 * (epoch + period) > LATE_PERCENT * num_epochs
        epoch += late_period if is_late else period
    return tuple(found)


def freezing_ratio(epoch: int, num_epochs: int) -> float:
    """Return which share of layers is frozen at the end of an epoch, counted from 1.

    It falls from 0.5 to 0.2 on a cosine over the first half of training and stays there. The
    authors' code gives the cosine half as many steps as there are epochs, but takes one step in two
    epochs, so that there it falls all through training.

    >>> [round(freezing_ratio(epoch, 150), 3) for epoch in (0, 6, 37, 75, 138)]
    [0.5, 0.495, 0.353, 0.2, 0.2]
    """
    progress = min(2 * epoch / num_epochs, 1.0)
    return LAST_RATIO + (FIRST_RATIO - LAST_RATIO) * (1 + math.cos(math.pi * progress)) / 2


def frozen_layers(full: Candidates, turbulences: Mapping[int, float], *, ratio: float) -> list[int]:
    """Return the indices of the layers that are frozen: the floor(ratio x n) most turbulent of n.

    Layers whose frozen sides are tied are decided together, by the mean of their turbulence, and
    count as one. Of equally turbulent ones the earlier is frozen.

    Args:
        full: What the layers began with.
        turbulences: T_l by layer index, of every layer that can be frozen.
        ratio: Share, 0 to 1.
    """
    units = _units(full.ties, list(turbulences))
    means = [sum(turbulences[index] for index in unit) / len(unit) for unit in units]
    ranked = sorted(range(len(units)), key=lambda place: -means[place])
    chosen = ranked[: math.floor(ratio * len(units))]
    return sorted(index for place in chosen for index in units[place])


def _units(ties: Ties, layers: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the layers that are decided together, in the order of their first ones."""
    groups = [[(index, SIDES[0]) for index, side in tie if side in FROZEN_SIDES] for tie in ties]
    alone = [(index,) for index in layers]
    together = [tuple(index for index, _ in group if index in layers) for group in merged(groups)]
    tied = {index for unit in together for index in unit}
    found = [unit for unit in together if unit] + [unit for unit in alone if unit[0] not in tied]
    return sorted(found)


def without_smallest(full: Candidates, frozen: Sequence[int]) -> Candidates:
    """Return the full candidates, but those of frozen layers without their smallest.

    A side with one candidate keeps it, so the largest is never lost.
    """
    chosen = set(frozen)
    layers = (
        _frozen(layer) if index in chosen else layer for index, layer in enumerate(full.layers)
    )
    return Candidates(tuple(layers), full.ties)


def _frozen(layer: LayerCandidates) -> LayerCandidates:
    for side in FROZEN_SIDES:
        kept = tuple(bits for bits in layer.of(side) if bits > min(layer.of(side)))
        if kept and not layer.is_pinned:
            layer = replace(layer, weight=kept) if side == "weight" else replace(layer, act=kept)
    return layer


def turbulences_of(supernet: Supernet, present: Candidates) -> dict[int, float]:
    """Return T_l by layer index, of every layer that can be frozen.

    Those are the ones that are not pinned and begin with at least two weight candidates.

    Over what is left, as in the authors' code. The smallest candidate weighs most in T_l, so a
    layer that lost it ranks behind and is released at the next act: freezing goes round the layers
    (in 20 epochs of resnet8 on the digits no act froze a layer that the one before had frozen).

    Args:
        supernet: With whole weights.
        present: What the layers may take now.
    """
    found: dict[int, float] = {}
    parts = zip(supernet.layers, supernet.network.candidates.layers, present.layers, strict=True)
    for index, (layer, full, narrow) in enumerate(parts):
        if full.is_pinned or len(full.weight) == 1 or not isinstance(layer, QuantizedLayer):
            continue
        quantizer = layer.weight_quantizer
        steps = {bits: quantizer.step_size_of(bits) for bits in narrow.weight}
        found[index] = turbulence(layer.effective_weight(), steps)
    return found


def standing(supernet: Supernet, present: Candidates) -> dict[str, float]:
    """Return how the layers stand, as metrics.jsonl has it after an epoch without an act.

    Args:
        supernet: With whole weights.
        present: What the layers may take now.
    """
    full = supernet.network.candidates
    pairs = zip(full.layers, present.layers, strict=True)
    turbulences = turbulences_of(supernet, present).items()
    return {
        "layers_frozen": sum(one != other for one, other in pairs),
        **{f"turbulence/{full.layers[index].name}": value for index, value in turbulences},
    }


def freeze(supernet: Supernet, present: Candidates, *, ratio: float) -> FreezingAct:
    """Return what the layers may take from now on, and why.

    Args:
        supernet: With whole weights.
        present: What the layers may take until now.
        ratio: Share of layers that is frozen.
    """
    full = supernet.network.candidates
    turbulences = turbulences_of(supernet, present)
    frozen = frozen_layers(full, turbulences, ratio=ratio)
    names = [layer.name for layer in full.layers]
    return FreezingAct(
        candidates=without_smallest(full, frozen),
        frozen={names[index]: min(full.layers[index].weight) for index in frozen},
        turbulence={names[index]: value for index, value in turbulences.items()},
        ratio=ratio,
    )
