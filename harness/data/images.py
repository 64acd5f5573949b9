"""A split of an image set: labelled images that come out as normalised batches.

`MemorySplit` holds small images of one size as one uint8 tensor and works on whole batches;
`DecodedSplit` decodes larger or differing images one by one and leaves resizing to timm.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from harness.data import draws
from harness.data.columns import Selection, decode_image, without_decoding

Batch = tuple[Tensor, Tensor]
"""Images, float32 (N, C, H, W), normalised; labels, int64 (N,)."""

Transform = Callable[[Image.Image], Tensor]


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
        selection: Selection,
        *,
        column: str,
        labels: Tensor,
        name: str,
        transforms: tuple[Transform, Transform],  # training, evaluation
        num_workers: int,
    ) -> None:
        self.labels = labels
        self.num_workers = num_workers
        self._rows = without_decoding(selection, column=column)
        self._indices = selection.indices
        self._column = column
        self._name = name
        self._train_transform, self._eval_transform = transforms

    def read(self, indices: Sequence[int], *, draw: Draw | None = None) -> Batch:
        """Return the images at `indices`, augmented if a draw is given.

        Raises:
            DataError: An image cannot be decoded.
        """
        numbers = [int(index) for index in indices]
        entries = self._rows[numbers][self._column]
        images = [self._transformed(*pair, draw) for pair in zip(numbers, entries, strict=True)]
        return torch.stack(images), self.labels[torch.tensor(numbers, dtype=torch.int64)]

    def _transformed(self, number: int, entry: Any, draw: Draw | None) -> Tensor:
        image = decode_image(entry, place=f"row {self._indices[number]} of {self._name}").convert(
            "RGB"
        )
        if draw is None:
            return self._eval_transform(image)
        seed = int(_cached_draws(len(self), draws.TRANSFORM, draw)[number] >> np.uint64(1))
        with _seeded(seed):
            return self._train_transform(image)


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
