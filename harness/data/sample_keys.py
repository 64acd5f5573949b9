"""What an image is known by, wherever its set lies and however many others are in it.

An image of a class folder is known by its path below the split's folder: to read the contents of a
large set would take hours. An image that stands in a table is known by its contents. From the key
alone follows to which split an image belongs, so others that come or go change nothing about it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from datasets import Image as ImageFeature
from numpy.typing import NDArray

from harness.data.columns import Selection, is_pixel_array, read_array_column
from harness.errors import DataError
from harness.run.files import read_bytes

ROWS_AT_ONCE = 1000
"""Encoded images in memory at a time."""


def sample_keys(rows: Dataset, *, image: str, name: str | None) -> list[bytes]:
    """Return the key of every row.

    Args:
        rows: The rows of a set.
        image: The column of images.
        name: The column of names; None where images are known by their contents.

    Raises:
        DataError: An image cannot be read.
    """
    if name is not None:
        return [text.encode() for text in rows.data.column(name).to_pylist()]
    if is_pixel_array(rows.features[image]):
        everything = Selection(rows=rows, indices=np.arange(len(rows)))
        return [content_digest(pixels) for pixels in read_array_column(everything, column=image)]
    encoded = rows.select_columns([image]).cast_column(image, ImageFeature(decode=False))
    batches = (encoded[n : n + ROWS_AT_ONCE][image] for n in range(0, len(rows), ROWS_AT_ONCE))
    return [content_digest(encoded_bytes(entry)) for batch in batches for entry in batch]


def content_digest(content: Any) -> bytes:
    """Return 16 bytes that tell contents apart; `content` is bytes or an array of them."""
    return hashlib.blake2b(content, digest_size=16).digest()


def encoded_bytes(entry: Any) -> bytes:
    """Return the bytes of an undecoded image: its own, or those of its file.

    Raises:
        DataError: The file cannot be read.
    """
    entry = entry or {}
    if entry.get("bytes") is not None:
        return bytes(entry["bytes"])
    path = entry.get("path")
    if not path:
        return b""  # Decoding will say that the image is missing.
    try:
        return read_bytes(Path(path), limit=None)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise DataError(f"image {path} cannot be read: {reason}; restore or remove it") from None


def uniform_draws(keys: Iterable[bytes], *, purpose: int, seed: int) -> NDArray[np.uint64]:
    """Return one draw per key, uniform over 64 bits: a pure function of key, purpose and seed."""
    salt = f"{purpose} {seed}".encode()
    hashed = (hashlib.blake2b(key, digest_size=8, key=salt).digest() for key in keys)
    return np.frombuffer(b"".join(hashed), dtype="<u8").astype(np.uint64)


def below(draws: NDArray[np.uint64], share: float) -> NDArray[np.bool_]:
    """Tell which draws fall into the first `share` (0..1) of their range."""
    lowest: NDArray[np.bool_] = draws < np.uint64(int(share * 2**64))
    return lowest


def in_order(draws: NDArray[np.uint64], places: Sequence[int] | NDArray[np.int64]) -> Any:
    """Return the places sorted by their draws; equal draws keep their order."""
    chosen = np.asarray(places, dtype=np.int64)
    return chosen[np.argsort(draws[chosen], kind="stable")]
