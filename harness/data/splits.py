"""Load an image set as train, search and test, and choose how its images are held."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
from torch import Tensor

from harness.data.augmenting import augmentation, rand_augment
from harness.data.choice import Parts, choose_rows
from harness.data.encoded import EncodedImages
from harness.data.identity import identify
from harness.data.images import Changes, DecodedSplit, ImageSplit, MemorySplit
from harness.data.pixels import read_small_images
from harness.data.reading import EvalReader
from harness.data.sources import load_source
from harness.errors import DataError
from harness.run.config import DataConfig
from harness.run.data_file import DataIdentity, SplitIdentity

MAX_CLASSES_SHOWN = 20
"""Classes whose images are counted one by one in the line about a set."""
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
    identities: Mapping[str, SplitIdentity]
    """Of each split, by its name."""

    @property
    def identity(self) -> DataIdentity:
        """What a run keeps of its images, to know them again."""
        return DataIdentity(
            class_names=self.class_names,
            channels=self.in_channels,
            image_size=self.image_size,
            mean=self.mean,
            std=self.std,
            **self.identities,
        )

    def describe(self) -> str:
        """Return in one line how many images there are, and of which classes."""
        counts = torch.bincount(self.train.labels, minlength=self.num_classes).tolist()
        shown = [f"{name} {count}" for name, count in zip(self.class_names, counts, strict=True)]
        if len(shown) > MAX_CLASSES_SHOWN:
            half = MAX_CLASSES_SHOWN // 2
            between = f"... {min(counts)} to {max(counts)} each ..."
            shown = [*shown[:half], between, *shown[-half:]]
        return (
            f"{len(self.train)} training, {len(self.search)} search and {len(self.test)} test "
            f"images of {' x '.join(map(str, self.input_size))}; training images of "
            f"{self.num_classes} classes: {', '.join(shown)}"
        )

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width of an image as fed to the network."""
        return (self.in_channels, *self.image_size)


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
    parts = choose_rows(source, config, seed=seed)
    pixels = read_small_images(parts.selections, column=parts.columns.image, config=config)
    is_in_memory = pixels is not None
    identities = identify(parts, name_column=source.name_column, is_in_memory=is_in_memory)
    if pixels is not None:
        return _hold_in_memory(parts, config, pixels, identities)
    if config.image_size is None:
        raise DataError(
            f"{config.name}: data.image_size is null, but the images are of several sizes or too "
            "many to hold in memory; set data.image_size"
        )
    return _decode_as_needed(parts, config, config.image_size, identities)


def _hold_in_memory(
    parts: Parts,
    config: DataConfig,
    pixels: Mapping[str, Tensor],
    identities: Mapping[str, SplitIdentity],
) -> Splits:
    mean, std = channel_statistics(pixels["train"])
    num_channels, height, width = pixels["train"].shape[1:]
    changes = Changes(
        crop_padding=config.crop_padding,
        horizontal_flip=config.horizontal_flip,
        rand_augment=rand_augment(config.rand_augment, image_size=(height, width), mean=mean),
    )
    splits = {
        split: MemorySplit(
            pixels[split],
            labels=parts.labels[split],
            mean=mean,
            std=std,
            changes=changes,
            # Crops and flips of a batch cost less than to hand it from process to process.
            num_workers=config.num_workers if config.rand_augment else 0,
        )
        for split in parts.selections
    }
    return Splits(
        **splits,
        num_classes=len(parts.columns.class_names),
        in_channels=num_channels,
        image_size=(height, width),
        mean=mean,
        std=std,
        class_names=parts.columns.class_names,
        identities=identities,
    )


def _decode_as_needed(
    parts: Parts, config: DataConfig, image_size: int, identities: Mapping[str, SplitIdentity]
) -> Splits:
    size = (image_size, image_size)
    normalisation = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    augment = augmentation(
        config.augment_by,
        image_size=size,
        horizontal_flip=config.horizontal_flip,
        rand_augment=rand_augment(config.rand_augment, image_size=size, mean=IMAGENET_DEFAULT_MEAN),
        **normalisation,
    )
    # Without normalising, pixels come out as bytes, a quarter of the memory to keep and to send.
    eval_transform = create_transform((3, *size), is_training=False, normalize=False)
    images = {
        split: EncodedImages(
            selection,
            column=parts.columns.image,
            name=f"{config.name} ({split} split)",
            eval_transform=eval_transform,
            significant_bits=config.significant_bits,
        )
        for split, selection in parts.selections.items()
    }
    reader = EvalReader(images, num_workers=config.num_workers)
    splits = {
        split: DecodedSplit(
            split, labels=labels, reader=reader, augmentation=augment, **normalisation
        )
        for split, labels in parts.labels.items()
    }
    return Splits(
        **splits,
        num_classes=len(parts.columns.class_names),
        in_channels=3,
        image_size=size,
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        class_names=parts.columns.class_names,
        identities=identities,
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
