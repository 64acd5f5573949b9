"""Read idx files, the format of MNIST and Fashion-MNIST: big-endian header, then bytes.

Header: two zero bytes, the type code (8 for unsigned bytes), the number of dimensions, then each
dimension as a 4-byte big-endian integer.
"""

import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTE = 8


def read_idx(path: Path, *, num_dimensions: int) -> NDArray[np.uint8]:
    """Return the array of one idx file, gzip-compressed or raw.

    Args:
        path: The file.
        num_dimensions: 3 for images (N, H, W), 1 for labels (N,).

    Raises:
        DataError: The file cannot be read, is not idx, or holds other than the promised bytes.
    """
    content = _read_bytes(path)
    header_bytes = 4 + 4 * num_dimensions
    expected_magic = bytes([0, 0, UNSIGNED_BYTE, num_dimensions])
    if len(content) < header_bytes or content[:4] != expected_magic:
        raise DataError(
            f"{path} is not an idx file of {num_dimensions} dimensions: it starts with "
            f"{content[:4].hex() or 'nothing'}, expected {expected_magic.hex()}; fetch it again"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", num_dimensions, 4))
    expected = header_bytes + math.prod(shape)
    if len(content) != expected:
        raise DataError(
            f"{path} holds {len(content)} bytes, expected {expected} for the shape "
            f"{' x '.join(map(str, shape))} in its header; fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise DataError(f"{path} cannot be read: {reason}; check data.path") from None
    if not content.startswith(GZIP_MAGIC):
        return content
    # A cut-off gzip file yields what it has, so that the message can count the bytes.
    try:
        return zlib.decompressobj(wbits=31).decompress(content)
    except zlib.error as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); fetch it again") from None
