"""A split of an image set: labelled images that come out as normalised batches.

`MemorySplit` holds small images of one size as one uint8 tensor and works on whole batches;
`DecodedSplit` decodes larger or differing images one by one and leaves resizing to timm.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from harness.data import draws
from harness.data.encoded import Transform
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


class MemorySplit(ImageSplit):
    """Images of one size in one uint8 tensor, cropped, flipped and normalised batch by batch."""

    def __init__(
        self,
        pixels: Tensor,  # uint8 (N, C, H, W)
        *,
        labels: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        crop_padding: int,
        horizontal_flip: bool,
    ) -> None:
        self.pixels = pixels
        self.labels = labels
        self.num_workers = 0
        self._crop_padding = crop_padding
        self._horizontal_flip = horizontal_flip
        # (x / 255 - mean) / std, folded into one multiplication and one addition.
        std_column = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)
        self._scale = 1 / (255 * std_column)
        self._shift = -torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1) / std_column

    def read(self, indices: Sequence[int], *, draw: Draw | None = None) -> Batch:
        """Return the images at `indices`, augmented if a draw is given."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        pixels = self.pixels[rows]
        if draw is not None:
            pixels = self._augment(pixels, rows, draw)
        return torch.addcmul(self._shift, pixels, self._scale), self.labels[rows]

    def _augment(self, pixels: Tensor, rows: Tensor, draw: Draw) -> Tensor:
        if self._crop_padding:
            pixels = self._crop(pixels, rows, draw)
        if self._horizontal_flip:
            flipped = _table(len(self), draws.FLIP, 2, draw)[rows].bool().view(-1, 1, 1, 1)
            pixels = torch.where(flipped, pixels.flip(3), pixels)
        return pixels

    def _crop(self, pixels: Tensor, rows: Tensor, draw: Draw) -> Tensor:
        height, width = pixels.shape[2:]
        padded = functional.pad(pixels, (self._crop_padding,) * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, 2p+1, 2p+1, H, W)
        num_places = 2 * self._crop_padding + 1
        top = _table(len(self), draws.CROP_ROW, num_places, draw)[rows]
        left = _table(len(self), draws.CROP_COLUMN, num_places, draw)[rows]
        return windows[torch.arange(len(rows)), :, top, left]


class DecodedSplit(ImageSplit):
    """Images decoded as they are asked for, as RGB, and brought to size by timm's transforms."""

    def __init__(
        self,
        split: str,
        *,
        labels: Tensor,
        reader: EvalReader,
        train_transform: Transform,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.labels = labels
        self.num_workers = reader.num_workers
        self._split = split
        self._reader = reader
        self._images = reader.images[split]
        self._train_transform = train_transform
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
        seeds = _cached_draws(len(self), draws.TRANSFORM, draw)[numbers] >> np.uint64(1)
        images = []
        for image, seed in zip(self._images.decode(numbers), seeds, strict=True):
            with _seeded(int(seed)):
                images.append(self._train_transform(image))
        return torch.stack(images), self.labels[numbers]

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


@lru_cache(maxsize=8)
def _table(count: int, purpose: int, num_values: int, draw: Draw) -> Tensor:
    """Return one draw below `num_values` per image, int64 (count,)."""
    values = _cached_draws(count, purpose, draw) % np.uint64(num_values)
    return torch.from_numpy(values.astype(np.int64))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that timm's transforms draw from, and put them back after."""
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
