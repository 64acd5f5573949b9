"""A split of an image set: labelled images that come out as normalised batches.

`MemorySplit` holds small images of one size as one uint8 tensor and works on whole batches;
`DecodedSplit` decodes larger or differing images one by one.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from harness.data import draws
from harness.data.augmenting import Augmentation, ImageTransform, augment_arrays
from harness.data.reading import EvalReader

Batch = tuple[Tensor, Tensor]
"""Images, float32 (N, C, H, W), normalised; labels, int64 (N,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Key of the augmentation: image i of a split is changed as a pure function of (draw, i)."""

    seed: int
    epoch: int


class ImageSplit(Dataset[Batch], ABC):
    """Labelled images in a fixed order.

    Attributes:
        labels: Class index per image, int64 (N,).
        num_workers: Processes worth spending on reading batches.
    """

    labels: Tensor
    num_workers: int

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @abstractmethod
    def read(self, indices: Sequence[int], *, draw: Draw | None = None) -> Batch:
        """Return the images at `indices`, augmented if a draw is given."""

    def read_pass(self, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Yield the images of each batch of indices, not augmented."""
        return map(self.read, batches)

    def __getitem__(self, index: int) -> Batch:
        """Return one image (C, H, W) and its label (), not augmented."""
        images, labels = self.read([index])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return a batch, not augmented."""
        return self.read(indices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What training does to images in memory, in this order."""

    crop_padding: int = 0
    """Pixels of zero padding before a random crop back to size; 0 leaves it out."""
    horizontal_flip: bool = False
    """Whether half of the images are flipped."""
    rand_augment: ImageTransform | None = None
    """None leaves it out."""


NO_CHANGES = Changes()


class MemorySplit(ImageSplit):
    """Images of one size in one uint8 tensor, cropped, flipped and normalised batch by batch."""

    def __init__(
        self,
        pixels: Tensor,  # uint8 (N, C, H, W)
        *,
        labels: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        changes: Changes = NO_CHANGES,
        num_workers: int = 0,
    ) -> None:
        self.pixels = pixels
        self.labels = labels
        self.num_workers = num_workers
        self._changes = changes
        # (x / 255 - mean) / std, folded into one multiplication and one addition.
        std_column = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)
        self._scale = 1 / (255 * std_column)
        self._shift = -torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1) / std_column

    def read(self, indices: Sequence[int], *, draw: Draw | None = None) -> Batch:
        """Return the images at `indices`, augmented if a draw is given."""
        rows = np.asarray(indices, dtype=np.int64)
        # NumPy picks pixels in 0.4 of the time of PyTorch; `addcmul` stays, as it rounds otherwise.
        pixels = self.pixels.numpy()[rows]
        if draw is not None:
            pixels = self._augment(pixels, rows, draw)
        images = torch.addcmul(self._shift, torch.from_numpy(pixels), self._scale)
        return images, self.labels[torch.from_numpy(rows)]

    def _augment(
        self, pixels: NDArray[np.uint8], rows: NDArray[np.int64], draw: Draw
    ) -> NDArray[np.uint8]:
        changes = self._changes
        if changes.crop_padding:
            pixels = self._crop(pixels, rows, draw)
        if changes.horizontal_flip:
            flipped = _table(len(self), draws.FLIP, 2, draw)[rows].astype(bool)
            pixels[flipped] = pixels[flipped][..., ::-1]
        if changes.rand_augment is not None:
            seeds = _image_seeds(len(self), draw)[rows]
            pixels = augment_arrays(pixels, seeds, changes.rand_augment)
        return pixels

    def _crop(
        self, pixels: NDArray[np.uint8], rows: NDArray[np.int64], draw: Draw
    ) -> NDArray[np.uint8]:
        padding, size = self._changes.crop_padding, pixels.shape[2:]
        padded = np.pad(pixels, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        windows = sliding_window_view(padded, size, axis=(2, 3))  # (N, C, 2p+1, 2p+1, H, W)
        num_places = 2 * padding + 1
        top = _table(len(self), draws.CROP_ROW, num_places, draw)[rows]
        left = _table(len(self), draws.CROP_COLUMN, num_places, draw)[rows]
        return np.ascontiguousarray(windows[np.arange(len(rows)), :, top, left])


class DecodedSplit(ImageSplit):
    """Images decoded as they are asked for, as RGB, and brought to size."""

    def __init__(
        self,
        split: str,
        *,
        labels: Tensor,
        reader: EvalReader,
        augmentation: Augmentation,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.labels = labels
        self.num_workers = reader.num_workers
        self._split = split
        self._reader = reader
        self._images = reader.images[split]
        self._augmentation = augmentation
        self._mean = torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)

    def read(self, indices: Sequence[int], *, draw: Draw | None = None) -> Batch:
        """Return the images at `indices`, augmented if a draw is given.

        Raises:
            DataError: An image cannot be decoded.
        """
        numbers = [int(index) for index in indices]
        if draw is None:
            return self._finished(self._images.pixels(numbers), numbers)
        seeds = _image_seeds(len(self), draw)[numbers]
        images = self._augmentation(self._images, numbers, seeds)
        # In a worker process this writes into shared memory, which `torch.stack` leaves to a copy.
        return default_collate(images), self.labels[numbers]

    def read_pass(self, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Yield each batch, not augmented; images that an earlier pass decoded are kept.

        Raises:
            DataError: An image cannot be decoded.
        """
        decoded = self._reader.read(self._split, batches)
        return map(self._finished, decoded, batches)

    def _finished(self, pixels: Tensor, numbers: Sequence[int]) -> Batch:
        # In these steps, as timm takes them for one image: another order rounds differently.
        images = pixels.to(torch.float32).div_(255).sub_(self._mean).div_(self._std)
        return images, self.labels[torch.as_tensor(numbers, dtype=torch.int64)]


@lru_cache(maxsize=4)
def _cached_draws(count: int, purpose: int, draw: Draw) -> NDArray[np.uint64]:
    return draws.raw_draws(count, purpose=purpose, seed=draw.seed, epoch=draw.epoch)


def _image_seeds(count: int, draw: Draw) -> NDArray[np.uint64]:
    """Return a seed below 2**63 for what libraries draw for each image, (count,)."""
    seeds: NDArray[np.uint64] = _cached_draws(count, draws.TRANSFORM, draw) >> np.uint64(1)
    return seeds


@lru_cache(maxsize=8)
def _table(count: int, purpose: int, num_values: int, draw: Draw) -> NDArray[np.int64]:
    """Return one draw below `num_values` per image, (count,)."""
    values: NDArray[np.uint64] = _cached_draws(count, purpose, draw) % np.uint64(num_values)
    return values.astype(np.int64)
