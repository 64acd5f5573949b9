"""Sensitivities of all layers from gradients: where a search may start without an evaluation.

Images are summed batch by batch in order, each batch by one rank, as in `accuracy.py`: the result
is the same on every rank, however many share the work.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data import EvalBatches, one_line_for_lost_workers
from harness.errors import DataError, NotFiniteError
from harness.problem.candidates import Candidates
from harness.problem.ties import SIDES
from harness.quant.gradient import batch_sensitivities, random_signs
from harness.quant.supernet import Supernet
from harness.shares import over_ranks, share_of_batches

IMAGES = 512
"""Images that are enough (docs/results/gradient.md)."""

BATCH_SIZE = 64
"""Images whose features are kept for one pass; the result hardly depends on it."""

MIN_IMAGES = 2
"""A batch of one image has no variance where features are 1 x 1."""


@one_line_for_lost_workers()
def gradient_sensitivities(
    supernet: Supernet,
    batches: EvalBatches,
    *,
    candidates: Candidates,
    num_probes: int = 1,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return the KL divergence from the max policy, had each candidate one layer alone.

    It is a mean over the images, to second order in the change, under the BN statistics of each
    batch. Nothing is evaluated: one pass forward, one backward for each probe, and each layer once
    for each of its candidates. Tied sides are given one by one. It stands for the other scores
    too: what labels add, of first order, holds on these images alone.

    Args:
        supernet: It is put into evaluation mode.
        batches: Images, `IMAGES` in batches of `BATCH_SIZE`; every rank is given all of
            them and takes its share. A batch of one image is left out.
        candidates: What each layer may take; changes start from the largest.
        num_probes: Draws for each image; more of them make the result less noisy.
        seed: Decides the draws.

    Returns:
        (layers, 2, bits), for weight and activation bits, in the order of the layer's candidates
        and 0 for the largest; no numbers behind the last.

    Raises:
        DataError: There are fewer than two images in every batch.
        NotFiniteError: Outputs or gradients are infinite or no numbers.
    """
    supernet.eval()
    sums, counts = _by_batch(supernet, batches, candidates, num_probes=num_probes, seed=seed)
    num_images = int(counts.sum())
    if num_images == 0:
        raise DataError(
            "gradients need at least two images in a batch; give more images or larger batches"
        )
    # Batch by batch: `sum` adds in an order of its own, and in another one elsewhere.
    total = np.zeros(sums.shape[1:])
    for row in sums.cpu().numpy():
        total += row
    return _checked(total / num_images, candidates)


def _by_batch(
    supernet: Supernet,
    batches: EvalBatches,
    candidates: Candidates,
    *,
    num_probes: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Return sums over the images of each batch and how many there are, the same on every rank."""
    device = next(supernet.parameters()).device
    share = share_of_batches(1)
    sums = torch.zeros(len(batches), *_shape(candidates), dtype=torch.float64, device=device)
    counts = torch.zeros(len(batches), dtype=torch.int64, device=device)
    for index, (images, _) in zip(
        range(share.rank, len(batches), share.world_size),
        batches.share(rank=share.rank, world_size=share.world_size),
        strict=True,
    ):
        if len(images) < MIN_IMAGES:
            continue
        shape = num_probes, len(images), supernet.network.num_classes
        sums[index] = batch_sensitivities(
            supernet,
            candidates,
            images.to(device),
            signs=random_signs(*shape, seed=(seed, index)).to(device),
        )
        counts[index] = len(images)
    return over_ranks(sums), over_ranks(counts)


def pair_values(
    sensitivities: NDArray[np.float64], candidates: Candidates
) -> list[NDArray[np.float64]]:
    """Return for each layer (weight candidates, activation candidates): the sums of both sides.

    As a cost table is laid out, and added up over the layers: what a knapsack takes.
    """
    return [
        rows[0, : len(layer.weight), None] + rows[1, None, : len(layer.act)]
        for rows, layer in zip(sensitivities, candidates.layers, strict=True)
    ]


def _shape(candidates: Candidates) -> tuple[int, int, int]:
    most = max(len(layer.of(side)) for layer in candidates.layers for side in SIDES)
    return len(candidates.layers), len(SIDES), most


def _checked(found: NDArray[np.float64], candidates: Candidates) -> NDArray[np.float64]:
    """Return sensitivities with no numbers where there is no candidate."""
    for index, layer in enumerate(candidates.layers):
        for at, side in enumerate(SIDES):
            given = layer.of(side)
            for position, bits in enumerate(given):
                if not np.isfinite(found[index, at, position]):
                    raise NotFiniteError(
                        f"the gradient that says what {bits} {side} bits of {layer.name} cost is "
                        "no finite number; train again with a lower train.learning_rate, or check "
                        "the images"
                    )
            found[index, at, len(given) :] = np.nan
    return found
