"""Evaluation batches that stay on the device from one pass to the next.

A search passes over the same images some hundred times. Without this each pass would normalise them
and send them to the device anew, and wait for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.data.batches import EvalBatches

MAX_HELD_BYTES = 128 * 2**20
"""Normalised pixels that the batches of one split keep on the device, those read first: a search
has two, images that score and images that re-estimate statistics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBatch:
    """A batch on the device; treat it as read-only."""

    index: int
    """Its place among the batches of the split."""
    first: int
    """Place of its first image in the split."""
    images: Tensor
    """float32 (N, C, H, W)."""
    labels: Tensor
    """int64 (N,)."""


class HeldBatches:
    """Evaluation batches on a device; the first ones of a share are read once.

    Attributes:
        num_images: Of the whole split.
    """

    def __init__(
        self, batches: EvalBatches, device: torch.device, *, max_bytes: int = MAX_HELD_BYTES
    ) -> None:
        """Hold nothing yet.

        Args:
            batches: Where images are read; they must not change.
            device: Where they are wanted.
            max_bytes: Most bytes of pixels that stay there; 0 holds none.
        """
        self.num_images = batches.num_images
        self._batches = batches
        self._device = device
        self._free_bytes = max_bytes
        self._held: dict[int, HeldBatch] = {}

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def share(self, *, rank: int, world_size: int) -> Iterator[HeldBatch]:
        """Yield batches `rank`, `rank + world_size`, ... in order."""
        index = rank
        while index in self._held:
            yield self._held[index]
            index += world_size
        for images, labels in self._batches.share(rank=index, world_size=world_size):
            # All batches but the last are of one size.
            is_last = index == len(self) - 1
            first = self.num_images - len(labels) if is_last else index * len(labels)
            batch = HeldBatch(
                index=index,
                first=first,
                images=images.to(self._device),
                labels=labels.to(self._device),
            )
            self._hold(batch)
            yield batch
            index += world_size

    def _hold(self, batch: HeldBatch) -> None:
        size_bytes = batch.images.numel() * batch.images.element_size()
        if batch.index in self._held:
            return
        if size_bytes > self._free_bytes:
            self._free_bytes = 0  # A small batch behind one without room would be out of reach.
            return
        self._held[batch.index] = batch
        self._free_bytes -= size_bytes
