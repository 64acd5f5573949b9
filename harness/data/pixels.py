"""Read a set whose images are small and of one size as one uint8 tensor per split."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, resize

from harness.data.columns import (
    Selection,
    is_pixel_array,
    read_array_column,
    without_decoding,
)
from harness.data.decoding import decode_image, is_gray
from harness.run.config import DataConfig

MAX_MEMORY_BYTES = 2**30
"""Sets that take more as uint8 pixels are decoded as they are used."""


def read_small_images(
    selections: Mapping[str, Selection], *, column: str, config: DataConfig
) -> dict[str, Tensor] | None:
    """Return the pixels of each split, uint8 (N, C, H, W), or None if they must stay encoded.

    They must where images differ in size or would take more than `MAX_MEMORY_BYTES`; reading stops
    at the first image that settles it. Gray images among coloured ones become coloured.

    Args:
        selections: The chosen rows of each split, by its name.
        column: The image column.
        config: With the set's name, `significant_bits`, and `image_size`: the shorter side is
            brought to it and the centre cropped; None keeps the size.

    Raises:
        DataError: An image cannot be decoded.
    """
    if is_pixel_array(next(iter(selections.values())).rows.features[column]):
        pixels = {
            split: torch.from_numpy(read_array_column(selection, column=column)).unsqueeze(1)
            for split, selection in selections.items()
        }
    else:
        arrays = _decode_all(selections, column=column, config=config)
        if arrays is None:
            return None
        pixels = _stack(arrays)
    return {split: _resized(tensor, config.image_size) for split, tensor in pixels.items()}


def _decode_all(
    selections: Mapping[str, Selection], *, column: str, config: DataConfig
) -> dict[str, list[NDArray[np.uint8]]] | None:
    num_images = sum(len(selection) for selection in selections.values())
    arrays: dict[str, list[NDArray[np.uint8]]] = {split: [] for split in selections}
    size: tuple[int, int] | None = None
    for split, selection in selections.items():
        rows = without_decoding(selection, column=column)
        for index, row in zip(selection.indices, rows, strict=True):
            image = decode_image(
                row[column],
                place=f"row {index} of {config.name} ({split} split)",
                significant_bits=config.significant_bits,
            )
            image = image.convert("L" if is_gray(image) else "RGB")
            num_bytes = num_images * image.width * image.height * len(image.getbands())
            if num_bytes > MAX_MEMORY_BYTES or image.size != (size or image.size):
                return None
            size = image.size
            arrays[split].append(np.asarray(image))
    return arrays


def _stack(arrays: Mapping[str, list[NDArray[np.uint8]]]) -> dict[str, Tensor]:
    shapes = {image.shape for images in arrays.values() for image in images}
    num_channels = max(shape[2] if len(shape) > len("HW") else 1 for shape in shapes)
    stacked = {}
    for split, images in arrays.items():
        layers = [image.reshape(*image.shape[:2], -1) for image in images]
        shape = (*layers[0].shape[:2], num_channels)
        pixels = np.stack([np.broadcast_to(image, shape) for image in layers])  # (N, H, W, C)
        stacked[split] = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    return stacked


def _resized(pixels: Tensor, image_size: int | None) -> Tensor:
    if image_size is None or pixels.shape[2:] == (image_size, image_size):
        return pixels
    scaled = resize(pixels, [image_size], antialias=True)  # The shorter side.
    cropped: Tensor = center_crop(scaled, [image_size, image_size])
    return cropped.contiguous()
