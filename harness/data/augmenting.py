"""How training images that are decoded as needed become tensors, and RandAugment for all images.

The libraries draw from global generators. Those are seeded anew for each image, by a number that is
a pure function of seed, epoch and image, and are put back afterwards.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import posterize, rand_augment_transform
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor
from torchvision.transforms import Compose
from torchvision.transforms.v2.functional import pil_to_tensor, resized_crop

from harness.data.encoded import EncodedImages, Transform

CROP_AREA, CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""Share of the area and width over height of a random crop; timm's for ImageNet."""

FLIPPED_SHARE = 0.5

ImageTransform = Callable[[Image.Image], Image.Image]
Augmentation = Callable[[EncodedImages, Sequence[int], NDArray[np.uint64]], list[Tensor]]
"""Maps places of images and a seed below 2**63 for each to tensors (3, H, W)."""


def rand_augment(
    policy: str | None, *, image_size: tuple[int, int], mean: Sequence[float]
) -> ImageTransform | None:
    """Return RandAugment (arXiv 1909.13719) as timm's training transform applies it.

    It draws from the global generators of Python and NumPy. On gray images the operation on
    colours changes nothing.

    Args:
        policy: As timm takes it, `rand-m9-mstd0.5-inc1`; None gives none.
        image_size: Height and width in pixels.
        mean: Per channel, of pixels in 0..1; fills what a shift or rotation leaves empty.
    """
    if policy is None:
        return None
    fill = tuple(min(255, round(255 * value)) for value in mean)
    augment: ImageTransform = rand_augment_transform(
        policy,
        {
            "translate_const": int(min(image_size) * 0.45),
            "img_mean": fill[0] if len(fill) == 1 else fill,
            "interpolation": Image.Resampling.BILINEAR,
        },
    )
    for operation in augment.ops:  # type: ignore[attr-defined]
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize
    return augment


def augment_arrays(
    pixels: NDArray[np.uint8], seeds: NDArray[np.uint64], transform: ImageTransform
) -> NDArray[np.uint8]:
    """Return images of one size, each transformed under its own seed.

    Args:
        pixels: (N, C, H, W), with one or three channels.
        seeds: One for each image, below 2**63.
        transform: Keeps size and channels, draws from the generators of Python and NumPy.
    """
    augmented = np.empty_like(pixels)
    with global_draws_kept():
        for place, seed in enumerate(seeds.tolist()):
            _seed_global_draws(seed)
            image = transform(_as_image(pixels[place]))
            augmented[place] = np.asarray(image).reshape(*image.size[::-1], -1).transpose(2, 0, 1)
    return augmented


def augmentation(
    by: str,
    *,
    image_size: tuple[int, int],
    horizontal_flip: bool,
    rand_augment: ImageTransform | None,
    mean: Sequence[float],
    std: Sequence[float],
) -> Augmentation:
    """Return what crops, flips and normalises images that are decoded as they are needed.

    Both ways draw the same crops, flips and operations. Their interpolations round differently: of
    photographs 1.4 % of the pixels, each by one level of 255.

    Args:
        by: `torchvision` or `pillow` (`data.augment_by`).
        image_size: Height and width in pixels of a crop.
        horizontal_flip: Whether half of the images are flipped.
        rand_augment: Applied to the crop; None leaves it out.
        mean: Per channel, of pixels in 0..1.
        std: Per channel, of pixels in 0..1.
    """
    ways: dict[str, type[_TensorAugmentation | _PillowAugmentation]] = {
        "torchvision": _TensorAugmentation,
        "pillow": _PillowAugmentation,
    }
    return ways[by](image_size, horizontal_flip, rand_augment, mean, std)


class _TensorAugmentation:
    """On uint8 tensors, JPEG files decoded straight into them: 0.6 of the other's time."""

    def __init__(
        self,
        image_size: tuple[int, int],
        horizontal_flip: bool,  # noqa: FBT001 - both ways are called by one line above.
        rand_augment: ImageTransform | None,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self._image_size = list(image_size)
        self._horizontal_flip = horizontal_flip
        self._rand_augment = rand_augment
        self._mean = torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)

    def __call__(
        self, images: EncodedImages, numbers: Sequence[int], seeds: NDArray[np.uint64]
    ) -> list[Tensor]:
        """Return augmented images, normalised in the steps of evaluation."""
        with global_draws_kept():
            pixels = map(self._augmented, images.decode_tensors(numbers), seeds.tolist())
            return [
                one.to(torch.float32).div_(255).sub_(self._mean).div_(self._std) for one in pixels
            ]

    def _augmented(self, pixels: Tensor, seed: int) -> Tensor:
        _seed_global_draws(seed)
        crop = RandomResizedCropAndInterpolation.get_params(pixels, CROP_AREA, CROP_RATIO)
        pixels = resized_crop(pixels, *crop, self._image_size, antialias=True)
        if self._horizontal_flip:
            # What the global generator would draw; to seed that one costs thirty times as much.
            draw = torch.rand(1, generator=torch.Generator().manual_seed(seed))
            pixels = pixels.flip(-1) if draw < FLIPPED_SHARE else pixels
        if self._rand_augment is not None:
            pixels = pil_to_tensor(self._rand_augment(_as_image(pixels.numpy())))
        return pixels


class _PillowAugmentation:
    """By timm's transforms on images of Pillow: what runs until format 4 were trained on."""

    def __init__(
        self,
        image_size: tuple[int, int],
        horizontal_flip: bool,  # noqa: FBT001 - both ways are called by one line above.
        rand_augment: ImageTransform | None,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        first, _, last = create_transform(
            (3, *image_size),
            is_training=True,
            hflip=FLIPPED_SHARE if horizontal_flip else 0.0,
            color_jitter=None,
            mean=tuple(mean),
            std=tuple(std),
            separate=True,
        )
        between = [] if rand_augment is None else [rand_augment]
        self._transform: Transform = Compose([*first.transforms, *between, *last.transforms])

    def __call__(
        self, images: EncodedImages, numbers: Sequence[int], seeds: NDArray[np.uint64]
    ) -> list[Tensor]:
        """Return augmented images, normalised."""
        augmented = []
        with global_draws_kept(), torch.random.fork_rng(devices=[]):
            for image, seed in zip(images.decode(numbers), seeds.tolist(), strict=True):
                _seed_global_draws(seed)
                torch.manual_seed(seed)
                augmented.append(self._transform(image))
        return augmented


def _posterize(image: Image.Image, bits_to_keep: int, **_: object) -> Image.Image:
    """Keep the highest bits of each value; timm asks for 0 as well, which Pillow refuses."""
    if bits_to_keep < 1:
        return Image.new(image.mode, image.size)
    kept: Image.Image = posterize(image, bits_to_keep)
    return kept


def _as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return pixels (C, H, W) as an image, gray where there is one channel."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def _seed_global_draws(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - timm draws from the global one.


@contextmanager
def global_draws_kept() -> Iterator[None]:
    """Put the generators of Python and NumPy back after the block."""
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
