"""How much worse each layer makes the outputs where it alone gets fewer bits, from gradients.

Where one tensor inside the max policy changes by d, outputs t of an image move to softmax(t + J d),
and to second order

  KL(softmax(t) || softmax(t + J d)) = 1/2 d' J' F J d,   F = diag(p) - p p',  p = softmax(t)

(the Fisher metric, arXiv 1412.1193; of second order as HAWQ-V2, arXiv 1911.03852, but no Hessian).
With B = diag(sqrt p) (I - sqrt p sqrt p'), F = B B', and with a sign drawn for each class,
E (d' J' B signs)^2 = d' J' F J d: one backward pass serves all layers and candidates. The square is
of the sum over an image, so what cancels within an image counts as cancelled.

The change d is seen, not derived: one layer is run at other bits on the features that it has under
the max policy, with the normalisation behind it, whose copy changes too. Normalisations use the
statistics of the batch, and gradients go through them: so a change of mean and scale counts for
nothing that re-estimated statistics would take back.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.problem.candidates import Candidates
from harness.problem.ties import SIDES
from harness.quant.layers import LayerRow, QuantizedLayer
from harness.quant.norms import Statistics, SwitchableBatchNorm2d
from harness.quant.supernet import Supernet


class _Place:
    """A layer with the norm behind it, and what went through it under the max policy.

    Attributes:
        given: What the layer was given, (N, ...), without gradient.
        left: What left the norm, or the layer where it has none of its own, (N, ...).
    """

    given: Tensor
    left: Tensor

    def __init__(self, layer: QuantizedLayer, index: int) -> None:
        self.layer = layer
        self.index = index
        self.norm: SwitchableBatchNorm2d | None = None

    def at(self, weight_bits: int, act_bits: int) -> Tensor:
        """Return what leaves where the layer takes these bits, shaped as `left`."""
        norm = 0 if self.norm is None else self.norm.pairs.index((weight_bits, act_bits))
        row = self.layer.row(weight_bits, act_bits, norm=norm)
        features: Tensor = self.layer(self.given, row)
        if self.norm is None:
            return features
        return self.norm(features, row, _of_the_batch(self.norm.statistics(row)))  # type: ignore[no-any-return]


def batch_sensitivities(
    supernet: Supernet,
    candidates: Candidates,
    images: Tensor,
    *,
    signs: Tensor,
) -> Tensor:
    """Return the KL divergence from the max policy of each candidate of each layer alone.

    To second order, and summed over a batch.

    Args:
        supernet: In evaluation mode; it stays as it is.
        candidates: What each layer may take; the largest ones are where changes start from.
        images: (N, C, H, W), at least two, on the device of the weights.
        signs: -1 or 1, (probes, N, classes); the result is the mean over the probes.

    Returns:
        float64 (layers, 2, bits) sums over the images, for weight and activation bits, each in the
        order of the layer's candidates; 0 for the largest, and behind the last. All are no numbers
        where the outputs are none.
    """
    inputs = supernet.encode_standing([candidates.largest])[0]
    own = [_of_the_batch(one) for one in supernet.statistics(inputs)]
    chosen = [
        index
        for index, layer in enumerate(candidates.layers)
        if max(len(layer.weight), len(layer.act)) > 1
    ]
    shape = len(candidates.layers), len(SIDES), _most(candidates)
    total = torch.zeros(shape, dtype=torch.float64, device=images.device)
    if not chosen:
        return total
    with torch.enable_grad():
        with _watched(supernet, inputs.rows, chosen) as places:
            logits = supernet(images, inputs._replace(statistics=own))
        sums = [(logits * one).sum() for one in _directions(logits.detach(), signs)]
        tensors = [place.left for place in places]
        gradients = [torch.autograd.grad(one, tensors, retain_graph=True) for one in sums]
    with torch.no_grad():
        for place, of_place in zip(places, zip(*gradients, strict=True), strict=True):
            _fill(total[place.index], place, candidates, of_place)
    return total


def _fill(rows: Tensor, place: _Place, candidates: Candidates, gradients: Sequence[Tensor]) -> None:
    """Write the sensitivities (2, bits) of one layer from its gradients of each probe."""
    choice, largest = candidates.layers[place.index], candidates.largest.bits[place.index]
    for at, side in enumerate(SIDES):
        for position, bits in enumerate(choice.of(side)):
            if bits == largest[at]:
                continue
            pair = (bits, largest[1]) if side == "weight" else (largest[0], bits)
            change = place.at(*pair) - place.left
            # Of each image; each gradient is (N, ...) as the change is.
            rises = [(one * change).flatten(1).sum(dim=1).double() for one in gradients]
            rows[at, position] = torch.stack(rises).square().sum() / (2 * len(rises))


def _directions(logits: Tensor, signs: Tensor) -> list[Tensor]:
    """Return B signs (N, classes) for each probe."""
    # In float64 the rest is not lost where one class has nearly all of it.
    shares = logits.double().softmax(dim=1)
    roots = shares.sqrt()
    found = []
    for one in signs.to(roots):
        along = (roots * one).sum(dim=1, keepdim=True)
        found.append(roots * (one - roots * along))
    return [one.to(logits.dtype) for one in found]


@contextmanager
def _watched(
    supernet: Supernet, rows: Sequence[LayerRow], chosen: Sequence[int]
) -> Iterator[list[_Place]]:
    """Keep what goes through the chosen layers and their norms while the supernet runs."""
    layers = supernet.layers
    by_row: dict[int, _Place] = {}
    places = []
    for index in chosen:
        layer = layers[index]
        assert isinstance(layer, QuantizedLayer), "layers in float have no choice"
        place = _Place(layer, index)
        # Each row is an object of its own, by which a norm is known to follow the layer.
        by_row[id(rows[index])] = place
        places.append(place)
    watched: list[nn.Module] = [*(place.layer for place in places), *supernet.norms]
    hooks = [module.register_forward_hook(_keeper(by_row)) for module in watched]
    try:
        yield places
    finally:
        for hook in hooks:
            hook.remove()


def _keeper(by_row: dict[int, _Place]) -> Callable[..., Tensor | None]:
    """Return a hook for layers and norms."""

    def keep(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor | None:
        given, row = arguments[:2]
        place = by_row.get(id(row))
        if place is None:
            return None
        if isinstance(module, SwitchableBatchNorm2d):
            place.norm = module
        else:
            # A copy: what follows may write into it.
            place.given = given.detach().clone()
        # Where all weights before stand still, the gradient's way begins here.
        place.left = output if output.requires_grad else output.detach().requires_grad_()
        return place.left.clone()

    return keep


def _of_the_batch(statistics: Statistics) -> Statistics:
    """Return statistics that have a norm use those of its batch; where they move to is not read."""
    return statistics.copied(momentum=0.0)


def _most(candidates: Candidates) -> int:
    return max(len(layer.of(side)) for layer in candidates.layers for side in SIDES)


def random_signs(
    num_probes: int, num_images: int, num_classes: int, *, seed: Sequence[int]
) -> Tensor:
    """Return what `batch_sensitivities` takes as signs, the same on every machine."""
    count = num_probes * num_images * num_classes
    # The raw stream, as `lsq.fair_sample` has it: unlike a generator's methods it is fixed.
    words = np.random.PCG64(np.random.SeedSequence(list(seed))).random_raw(-(-count // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8))[:count].astype(np.float64)
    return torch.from_numpy(2 * bits - 1).view(num_probes, num_images, num_classes)
