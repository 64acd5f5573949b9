"""Re-estimate batch normalisation statistics of one policy from training images, without gradients.

Statistics of a pair's copy were gathered under many policies of the layers before it; a reported
policy gets its own (arXiv 2401.01543, section 4.1: ~7000 images). A cumulative average after a
reset, weighted by batch size, so it does not depend on momentum.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from harness.quant.supernet import Supernet
from harness.quant.switchable_bn import batch_norms, copy_statistics, restore_statistics


@contextmanager
def recalibrated(supernet: Supernet, images: Iterable[Tensor]) -> Iterator[None]:
    """Run the block with statistics re-estimated for the present policy, then restore the old ones.

    Args:
        supernet: In evaluation mode.
        images: Batches (N, C, H, W); none leaves the trained statistics in place.
    """
    saved = copy_statistics(supernet)
    try:
        reestimate_statistics(supernet, images)
        yield
    finally:
        restore_statistics(supernet, saved)


@torch.no_grad()
def reestimate_statistics(supernet: Supernet, images: Iterable[Tensor]) -> None:
    """Replace the statistics in use by the average over batches of images (N, C, H, W)."""
    norms = [(bn, bn.momentum, bn.training) for bn in batch_norms(supernet)]
    num_seen = 0
    try:
        for bn, _, _ in norms:
            bn.training = True  # Not bn.train(): its dropout and activation stay in evaluation.
        for batch in images:
            if len(batch) == 1:
                continue  # A last batch of one image has no variance where features are 1 x 1.
            num_seen += len(batch)
            for bn, _, _ in norms:
                bn.momentum = len(batch) / num_seen  # The first batch replaces what was there.
            supernet(batch)
    finally:
        for bn, momentum, was_training in norms:
            bn.momentum, bn.training = momentum, was_training
