"""The parts of which a training image is made, each in the forms that were compared."""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.transforms import MaybeToTensor, RandomResizedCropAndInterpolation
from torch import Tensor
from torchvision.transforms import Normalize
from torchvision.transforms.v2.functional import pil_to_tensor, resized_crop

from harness.data.augmenting import CROP_AREA, CROP_RATIO
from harness.data.decoding import decode_image, decode_tensor

SIZE = [224, 224]

Form = Callable[[], Iterable[Any]]
"""Makes what yields tuples that begin with a list of images."""


def decoded(entries: Sequence[dict[str, Any]]) -> tuple[list[Image.Image], list[Tensor]]:
    """Return images as Pillow and as torchvision decode them."""
    images = [_by_pillow(entry) for entry in entries]
    return images, [_by_torchvision(entry) for entry in entries]


def part_forms(entries: Sequence[dict[str, Any]]) -> dict[str, dict[str, Form]]:
    """Return the forms of each part by its name; the first form is the one that was there."""
    images, tensors = decoded(entries)
    boxes = crop_boxes(tensors)
    crops = [
        resized_crop(one, *box, SIZE, antialias=True)
        for one, box in zip(tensors, boxes, strict=True)
    ]
    pictures = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in crops]
    mean, std = (
        torch.tensor(x).view(-1, 1, 1) for x in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    )
    scale, shift = 1 / (255 * std), -mean / std
    to_tensor, normalize = MaybeToTensor(), Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)

    def finished(pixels: Tensor) -> Tensor:
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)

    return {
        "decoding": {
            "Pillow": each(_by_pillow, entries),
            "torchvision, after a look at the header by Pillow": each(_by_torchvision, entries),
        },
        "crop, bilinear": {
            "Pillow": each(_cropped, list(zip(images, boxes, strict=True))),
            "torchvision": each(_cropped, list(zip(tensors, boxes, strict=True))),
        },
        "to float, normalised": {
            "timm, on an image of Pillow": each(lambda one: normalize(to_tensor(one)), pictures),
            "on each tensor": each(finished, crops),
            "on each tensor, one addcmul": each(lambda x: torch.addcmul(shift, x, scale), crops),
            "on the whole batch": lambda: [(list(finished(torch.stack(crops))),)],
        },
        "seeds of an image": {
            "three generators, kept and seeded for each": each(_seeded_each, range(len(images))),
            "two seeded, one of its own": each(_seeded, range(len(images))),
        },
    }  # fmt: skip


def differences(entries: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return by how much pixels differ between Pillow and torchvision, decoded and cropped."""
    images, tensors = decoded(entries)
    pairs = [(pil_to_tensor(image), tensor) for image, tensor in zip(images, tensors, strict=True)]
    boxes = crop_boxes(tensors)
    crops = [
        (pil_to_tensor(_cropped((image, box))), _cropped((tensor, box)))
        for image, tensor, box in zip(images, tensors, boxes, strict=True)
    ]
    found = {}
    for name, compared in (("decoded", pairs), ("cropped", crops)):
        levels = torch.cat([(a.int() - b.int()).abs().flatten() for a, b in compared])
        found[f"{name}_share"] = float((levels > 0).double().mean())
        found[f"{name}_levels"] = float(levels.max())
    return found


def crop_boxes(tensors: Sequence[Tensor]) -> list[tuple[int, int, int, int]]:
    """Return a random crop for each image: top, left, height, width."""
    random.seed(0)
    draw = RandomResizedCropAndInterpolation.get_params
    return [draw(one, CROP_AREA, CROP_RATIO) for one in tensors]


def each(function: Callable[[Any], Any], arguments: Sequence[Any]) -> Form:
    """Return a form that calls a function with one argument after another."""
    return lambda: (([function(argument)],) for argument in arguments)


def _by_pillow(entry: dict[str, Any]) -> Image.Image:
    return decode_image(entry, place="an image", significant_bits=None).convert("RGB")


def _by_torchvision(entry: dict[str, Any]) -> Tensor:
    return decode_tensor(entry, place="an image", significant_bits=None)


def _cropped(image_and_box: tuple[Any, tuple[int, int, int, int]]) -> Any:
    image, box = image_and_box
    return resized_crop(image, *box, SIZE, antialias=True)


def _seeded_each(seed: int) -> None:
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - what timm draws from.
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002


def _seeded(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.rand(1, generator=torch.Generator().manual_seed(seed))
