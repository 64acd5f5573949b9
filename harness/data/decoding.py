"""Decode one image, upright, with 8 bits per channel."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2.functional import pil_to_tensor

from harness.errors import DataError
from harness.run.files import read_bytes

BITS_OF_A_BYTE, STORED_BITS = 8, 16
UPRIGHT = 1
"""Orientation, in EXIF's numbers, of an image that lies as it is stored."""


def is_gray(image: Image.Image) -> bool:
    """Tell whether an image that `decode_image` returned has one channel."""
    return image.mode in ("1", "L")


def decode_image(entry: Any, *, place: str, significant_bits: int | None) -> Image.Image:
    """Return one image, upright; of 16-bit images the 8 highest significant bits.

    Args:
        entry: What an undecoded image column holds: a mapping with `bytes`, `path` or both.
        place: Which image it is, for the message.
        significant_bits: How many of the 16 stored bits hold the value; None takes all 16 where
            the highest is used, and refuses the image where it is not.

    Raises:
        DataError: The image cannot be decoded, or nobody can tell what its values mean.
    """
    entry = entry or {}
    path = entry.get("path") or ""
    content = entry.get("bytes")
    place = f"{place} ({path})" if path else place
    try:
        # Read first, by the door that waits for no pipe.
        whole = read_bytes(Path(path), limit=None) if content is None else content
        with Image.open(io.BytesIO(whole)) as opened:
            stored_as = _raw_mode(opened)
            ImageOps.exif_transpose(opened, in_place=True)
            image: Image.Image = opened
    except Exception as error:  # Damaged bytes lead the plugins of Pillow to any class.
        why = _reason(error)
        raise DataError(f"{place} cannot be decoded: {why}; replace or remove it") from None
    if image.mode.startswith("I"):
        return _to_8_bits(image, place=place, significant_bits=significant_bits)
    if image.mode == "F":
        raise DataError(
            f"{place} holds floating point values, whose range nobody knows; "
            "convert the images to 8 or 16 bits per channel"
        )
    if ";16" in stored_as and significant_bits != STORED_BITS:
        # Pillow has dropped the low bytes: it cannot be seen here whether they were all there was.
        raise DataError(
            f"{place} has 16 bits per channel, of which only the high 8 can be read in colour; set "
            "data.significant_bits to 16 if the values fill 16 bits, or convert the images to 8"
        )
    return image


def decode_tensor(entry: Any, *, place: str, significant_bits: int | None) -> Tensor:
    """Return what `decode_image` does as RGB, uint8 (3, H, W).

    An upright JPEG file is decoded straight into the tensor, by libjpeg-turbo as Pillow does and
    into the same values where both were built with the same version of it.

    Args:
        entry: What an undecoded image column holds: a mapping with `bytes`, `path` or both.
        place: Which image it is, for the message.
        significant_bits: As `decode_image` takes them.

    Raises:
        DataError: The image cannot be decoded, or nobody can tell what its values mean.
    """
    pixels = _decode_upright_jpeg(entry or {})
    if pixels is None:
        image = decode_image(entry, place=place, significant_bits=significant_bits)
        pixels = pil_to_tensor(image.convert("RGB"))
    return pixels


def _decode_upright_jpeg(entry: Any) -> Tensor | None:
    """Return the RGB values of a JPEG file; None for all that Pillow has to judge."""
    content = entry.get("bytes")
    try:
        whole = read_bytes(Path(entry["path"]), limit=None) if content is None else content
        # No other form is tried: Pillow would ask some of its plugins before that of JPEG.
        with Image.open(io.BytesIO(whole), formats=("JPEG",)) as header:
            if header.format != "JPEG" or header.mode not in ("L", "RGB"):
                return None
            if header.getexif().get(ExifTags.Base.Orientation, UPRIGHT) != UPRIGHT:
                return None
        # A copy: PyTorch warns of memory that cannot be written.
        encoded = torch.frombuffer(bytearray(whole), dtype=torch.uint8)
        pixels: Tensor = decode_jpeg(encoded, ImageReadMode.RGB)
    except Exception:  # Pillow says what is wrong with it.
        return None
    return pixels


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return (error.strerror or "unreadable").lower()  # The file, not what stands in it.
    return "it is not a whole image file"


def _raw_mode(image: Image.Image) -> str:
    """Return how the file stores pixels in Pillow's terms, `RGB;16B`; empty where unknown."""
    tiles = getattr(image, "tile", None) or [None]
    arguments = getattr(tiles[0], "args", None)
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _to_8_bits(image: Image.Image, *, place: str, significant_bits: int | None) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    largest = int(values.max(initial=0))
    bits = significant_bits or STORED_BITS
    if significant_bits is None and largest < 2 ** (STORED_BITS - 1):
        raise DataError(
            f"{place} stores 16 bits per pixel, but its largest value is {largest}: 12 bits would "
            "come out black; set data.significant_bits to what the images have, 9 to 16"
        )
    if largest >= 2**bits or int(values.min(initial=0)) < 0:
        raise DataError(
            f"{place} has values from {values.min()} to {largest}, outside 0 to {2**bits - 1}; "
            "set data.significant_bits to what the images have, or convert them to 8 bits"
        )
    return Image.fromarray((values >> (bits - BITS_OF_A_BYTE)).astype(np.uint8))
