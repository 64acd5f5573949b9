"""Idx files: what is read, and what is refused."""

import gzip
import re

import numpy as np
import pytest

from harness.data.idx_files import read_idx
from harness.errors import DataError


def test_read_idx_returns_the_written_array(idx_folder):
    images = read_idx(idx_folder / "train-images-idx3-ubyte.gz", num_dimensions=3)
    assert images.shape == (60, 8, 8)
    assert images.dtype == np.uint8
    assert images.max() > 200


@pytest.mark.parametrize("compress", [False, True])
def test_read_idx_names_the_file_and_both_sizes_when_truncated(idx_folder, tmp_path, compress):
    whole = gzip.decompress((idx_folder / "train-images-idx3-ubyte.gz").read_bytes())
    file = tmp_path / "cut"
    if compress:
        packed = gzip.compress(whole)
        file.write_bytes(packed[: len(packed) // 2])
        found = r"\d+"
    else:
        file.write_bytes(whole[:1000])
        found = "1000"
    message = (
        f"{re.escape(str(file))} holds {found} bytes, expected 3856 for the shape 60 x 8 x 8 "
        "in its header; fetch it again"
    )
    with pytest.raises(DataError, match=f"^{message}$"):
        read_idx(file, num_dimensions=3)


def test_read_idx_refuses_bytes_after_the_end(idx_folder):
    file = idx_folder / "t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(DataError, match="holds 32 bytes, expected 28 for the shape 20 in its"):
        read_idx(file, num_dimensions=1)


def test_read_idx_refuses_damaged_gzip(idx_folder):
    file = idx_folder / "train-images-idx3-ubyte.gz"
    packed = bytearray(file.read_bytes())
    packed[200:260] = bytes(60)
    file.write_bytes(packed)
    with pytest.raises(DataError, match=r"idx3-ubyte\.gz is a damaged gzip file \(.*\); fetch"):
        read_idx(file, num_dimensions=3)


def test_read_idx_refuses_another_format(tmp_path):
    file = tmp_path / "page"
    file.write_bytes(b"<html>not found</html>")
    message = "is not an idx file of 1 dimensions: it starts with 3c68746d, expected 00000801"
    with pytest.raises(DataError, match=message):
        read_idx(file, num_dimensions=1)


def test_read_idx_refuses_an_empty_file(tmp_path):
    file = tmp_path / "empty"
    file.touch()
    with pytest.raises(DataError, match="it starts with nothing, expected 00000803"):
        read_idx(file, num_dimensions=3)


def test_read_idx_says_why_a_file_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="absent cannot be read: no such file or directory; check"):
        read_idx(tmp_path / "absent", num_dimensions=3)
