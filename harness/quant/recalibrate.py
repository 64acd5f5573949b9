"""Re-estimate batch normalisation statistics of policies from training images, without gradients.

The statistics of a norm's copy were gathered in training, under many policies of the layers before
it; a reported policy gets its own (arXiv 2401.01543, section 4.1: ~7000 images). They are the
average over the batches, weighted by their sizes, and so do not depend on a momentum.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from harness.quant.execution import PolicyInputs
from harness.quant.supernet import Supernet


@torch.no_grad()
def with_reestimated_statistics(
    supernet: Supernet,
    policies: Sequence[PolicyInputs],
    images: Iterable[Tensor],
    *,
    on_batch: Callable[[], None] | None = None,
) -> list[PolicyInputs]:
    """Return policies with statistics of their own; the supernet stays as it is.

    Args:
        supernet: In evaluation mode.
        policies: From its `encode`.
        images: Batches (N, C, H, W), each read once for all policies; none of them leaves the
            statistics that the policies came with.
        on_batch: Called after each batch, to show progress.
    """
    own = [[one.copied() for one in supernet.statistics(inputs)] for inputs in policies]
    num_seen = 0
    for batch in images:
        # A last batch of one image has no variance where features are 1 x 1: it is left out.
        if len(batch) > 1:
            num_seen += len(batch)
            share = len(batch) / num_seen  # The first batch replaces what was there.
            for inputs, statistics in zip(policies, own, strict=True):
                moving = [one._replace(momentum=share) for one in statistics]
                supernet(batch, inputs._replace(statistics=moving))
        if on_batch is not None:
            on_batch()
    pairs = zip(policies, own, strict=True)
    return [inputs._replace(statistics=statistics) for inputs, statistics in pairs]
