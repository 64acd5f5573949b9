"""Split an image set into train, search and test, and choose how its images are held.

Search images are drawn from the training images by a permutation seeded by the run. The test split
is used as it comes; where there is none, a fifth is held out by a permutation that no seed changes,
so that all seeds are compared on the same test images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
from torch import Tensor

from harness.data import draws
from harness.data.columns import Columns, Selection, find_columns, read_labels
from harness.data.encoded import EncodedImages
from harness.data.images import DecodedSplit, ImageSplit, MemorySplit
from harness.data.pixels import read_small_images
from harness.data.reading import EvalReader
from harness.data.sources import Source, load_source
from harness.errors import DataError
from harness.run.config import DataConfig

HELD_OUT_SHARE = 5
"""One image in this many is held out as the test split of a set that brings none."""
IMAGES_AT_ONCE = 4096
"""Images whose pixels are summed at once, to bound memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """The three splits; no image is in two of them."""

    train: ImageSplit
    search: ImageSplit
    test: ImageSplit
    num_classes: int
    in_channels: int
    image_size: tuple[int, int]
    """Height and width in pixels, as fed to the network."""
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to 0..1; subtracted from every image."""
    std: tuple[float, ...]
    """Per channel, of pixels scaled to 0..1; every image is divided by it."""
    class_names: tuple[str, ...]

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width of an image as fed to the network."""
        return (self.in_channels, *self.image_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The chosen images and labels of each split, by its name."""

    columns: Columns
    selections: Mapping[str, Selection]
    labels: Mapping[str, Tensor]


def check_same_images(
    splits: Splits, *, input_size: tuple[int, int, int], num_classes: int, run: Path
) -> None:
    """Check that images are of the size and number of classes that a run was trained on.

    Another `data.path` may hold other images than it did.

    Raises:
        DataError: They are not.
    """
    if (splits.input_size, splits.num_classes) != (input_size, num_classes):
        now, then = (" x ".join(map(str, size)) for size in (splits.input_size, input_size))
        raise DataError(
            f"the images are {now} in {splits.num_classes} classes, {run} was trained on {then} in "
            f"{num_classes}; check data.path"
        )


def load_splits(config: DataConfig, *, seed: int) -> Splits:
    """Load the set that the configuration names and split it.

    Args:
        config: The `data` section.
        seed: Draws the search images; the test split does not depend on it.

    Raises:
        DataError: The set is missing, unreadable, unlabelled or too small for what was asked.
    """
    source = load_source(config)
    parts = _choose_rows(source, config, seed)
    pixels = read_small_images(
        parts.selections, column=parts.columns.image, name=config.name, image_size=config.image_size
    )
    if pixels is not None:
        return _hold_in_memory(parts, config, pixels)
    if config.image_size is None:
        raise DataError(
            f"{config.name}: data.image_size is null, but the images are of several sizes or too "
            "many to hold in memory; set data.image_size"
        )
    return _decode_as_needed(parts, config, config.image_size)


def _choose_rows(source: Source, config: DataConfig, seed: int) -> _Parts:
    columns = find_columns(source.train, test=source.test, name=config.name)
    train, test = _train_and_test(source)
    num_train = _num_train(config, num_rows=len(train))
    num_test = _num_test(config, num_rows=len(test))
    order = draws.permutation(len(train), purpose=draws.SEARCH, seed=seed)
    # All three stay shuffled, so that the first images of each are a fair sample of its classes.
    search, rest = order[: config.search_images], order[config.search_images :]
    selections = {
        "train": _narrow(train, rest[:num_train]),
        "search": _narrow(train, search),
        "test": _narrow(test, _fixed_order(len(test))[:num_test]),
    }
    labels = {
        split: torch.from_numpy(
            read_labels(selection, columns=columns, name=config.name, split=split)
        )
        for split, selection in selections.items()
    }
    return _Parts(columns=columns, selections=selections, labels=labels)


def _train_and_test(source: Source) -> tuple[Selection, Selection]:
    num_rows = len(source.train)
    if source.test is not None:
        train = Selection(rows=source.train, indices=np.arange(num_rows))
        return train, Selection(rows=source.test, indices=np.arange(len(source.test)))
    everything = Selection(rows=source.train, indices=np.arange(num_rows))
    order = _fixed_order(num_rows)
    num_test = num_rows // HELD_OUT_SHARE
    return _narrow(everything, order[num_test:]), _narrow(everything, order[:num_test])


def _fixed_order(count: int) -> NDArray[np.int64]:
    return draws.permutation(count, purpose=draws.HOLD_OUT, seed=0)


def _narrow(selection: Selection, places: NDArray[np.int64]) -> Selection:
    return Selection(rows=selection.rows, indices=selection.indices[places])


def _num_train(config: DataConfig, *, num_rows: int) -> int:
    num_left = num_rows - config.search_images
    if num_left < 1:
        raise DataError(
            f"data.search_images {config.search_images} leaves none of the {num_rows} training "
            f"images of {config.name}; lower data.search_images"
        )
    if config.train_images is not None and config.train_images > num_left:
        raise DataError(
            f"data.train_images {config.train_images} is more than the {num_left} images of "
            f"{config.name} left beside data.search_images {config.search_images}; "
            "lower one of them"
        )
    return config.train_images or num_left


def _num_test(config: DataConfig, *, num_rows: int) -> int:
    if config.test_images is not None and config.test_images > num_rows:
        raise DataError(
            f"data.test_images {config.test_images} is more than the {num_rows} test images of "
            f"{config.name}; lower data.test_images"
        )
    if num_rows == 0:
        raise DataError(f"{config.name} has no test images; add some or set data.test_split")
    return config.test_images or num_rows


def _hold_in_memory(parts: _Parts, config: DataConfig, pixels: Mapping[str, Tensor]) -> Splits:
    mean, std = channel_statistics(pixels["train"])
    splits = {
        split: MemorySplit(
            pixels[split],
            labels=parts.labels[split],
            mean=mean,
            std=std,
            crop_padding=config.crop_padding,
            horizontal_flip=config.horizontal_flip,
        )
        for split in parts.selections
    }
    num_channels, height, width = pixels["train"].shape[1:]
    return Splits(
        **splits,
        num_classes=len(parts.columns.class_names),
        in_channels=num_channels,
        image_size=(height, width),
        mean=mean,
        std=std,
        class_names=parts.columns.class_names,
    )


def _decode_as_needed(parts: _Parts, config: DataConfig, image_size: int) -> Splits:
    shape = (3, image_size, image_size)
    normalisation = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    flip = 0.5 if config.horizontal_flip else 0.0
    train_transform = create_transform(
        shape, is_training=True, hflip=flip, color_jitter=None, **normalisation
    )
    # Without normalising, pixels come out as bytes, a quarter of the memory to keep and to send.
    eval_transform = create_transform(shape, is_training=False, normalize=False)
    images = {
        split: EncodedImages(
            selection,
            column=parts.columns.image,
            name=f"{config.name} ({split} split)",
            eval_transform=eval_transform,
        )
        for split, selection in parts.selections.items()
    }
    reader = EvalReader(images, num_workers=config.num_workers)
    splits = {
        split: DecodedSplit(
            split, labels=labels, reader=reader, train_transform=train_transform, **normalisation
        )
        for split, labels in parts.labels.items()
    }
    return Splits(
        **splits,
        num_classes=len(parts.columns.class_names),
        in_channels=3,
        image_size=(image_size, image_size),
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        class_names=parts.columns.class_names,
    )


def channel_statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of uint8 pixels (N, C, H, W) scaled to 0..1.

    Summed in integers, so exact and the same on every machine; a constant channel has deviation 1.
    """
    total = torch.zeros(pixels.shape[1], dtype=torch.int64)
    squares = torch.zeros_like(total)
    for chunk in torch.split(pixels, IMAGES_AT_ONCE):
        total += chunk.sum(dim=(0, 2, 3), dtype=torch.int64)
        squares += chunk.to(torch.int32).square().sum(dim=(0, 2, 3), dtype=torch.int64)
    count = pixels.numel() // pixels.shape[1]
    mean = total.double() / count
    std = (squares.double() / count - mean.square()).clamp(min=0).sqrt()
    std[pixels.amin(dim=(0, 2, 3)) == pixels.amax(dim=(0, 2, 3))] = 255.0
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
