"""Values of images come out right, or one line says why nobody can tell."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from harness.data.decoding import decode_image
from harness.data.sample_keys import encoded_bytes
from harness.errors import DataError


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return {"bytes": buffer.getvalue(), "path": None}


def gray16(largest):
    values = np.linspace(0, largest, 64).astype(np.uint16).reshape(8, 8)
    return values, encoded(Image.fromarray(values))


def png_of_16_bit_colour(values):
    """Write a PNG by hand: Pillow writes no more than 8 bits per channel in colour."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return {"bytes": b"\x89PNG\r\n\x1a\n" + body, "path": None}


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_significant_bits_fill_the_range_of_a_byte(bits):
    values, entry = gray16(2**bits - 1)
    image = decode_image(entry, place="row 0", significant_bits=bits)
    assert np.array_equal(np.asarray(image), values >> (bits - 8))
    assert np.asarray(image).max() == 255


def test_16_bits_need_no_setting_where_they_are_used():
    values, entry = gray16(65535)
    image = decode_image(entry, place="row 0", significant_bits=None)
    assert np.array_equal(np.asarray(image), values >> 8)


@pytest.mark.parametrize("largest", [1023, 4095, 16383, 32767])
def test_values_that_would_come_out_dark_are_refused(largest):
    message = (
        rf"^row 0 stores 16 bits per pixel, but its largest value is {largest}: .*; set data\."
    )
    with pytest.raises(DataError, match=message):
        decode_image(gray16(largest)[1], place="row 0", significant_bits=None)


def test_values_beyond_the_significant_bits_are_refused():
    message = r"has values from 0 to 4096, outside 0 to 4095; set data\.significant_bits"
    with pytest.raises(DataError, match=message):
        decode_image(gray16(4096)[1], place="row 0", significant_bits=12)


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_12_bits_come_out_alike_in_every_file_form(kind):
    values, _ = gray16(4095)
    entry = encoded(Image.fromarray(values), kind)
    image = decode_image(entry, place="row 0", significant_bits=12)
    assert np.array_equal(np.asarray(image), values >> 4)


def test_16_bit_colour_is_refused_unless_it_fills_its_bits():
    values = np.full((4, 4, 3), 4095)
    entry = png_of_16_bit_colour(values)
    for bits in (None, 12):
        with pytest.raises(DataError, match="of which only the high 8 can be read in colour; set"):
            decode_image(entry, place="row 0", significant_bits=bits)
    whole = png_of_16_bit_colour(np.full((4, 4, 3), 0xAB12))
    image = decode_image(whole, place="row 0", significant_bits=16)
    assert set(np.asarray(image).flatten()) == {0xAB}


def test_floating_point_images_are_refused():
    entry = encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    with pytest.raises(DataError, match="row 0 holds floating point values, whose range nobody kn"):
        decode_image(entry, place="row 0", significant_bits=None)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
def test_8_bit_images_need_no_setting(mode):
    image = Image.new("RGB", (4, 4), (250, 250, 250)).convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    decoded = decode_image(encoded(image, kind), place="row 0", significant_bits=None)
    assert np.asarray(decoded.convert("L")).min() >= 240


@pytest.mark.timeout(20)
def test_a_pipe_or_a_device_in_the_place_of_an_image_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    for name in ("a.png", "b.png"):
        entry = {"bytes": None, "path": str(tmp_path / name)}
        with pytest.raises(
            DataError, match=r"row 0 \(.*\) cannot be decoded: it is no regular file"
        ):
            decode_image(entry, place="row 0", significant_bits=None)
        with pytest.raises(DataError, match="cannot be read: it is no regular file; restore"):
            encoded_bytes(entry)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "DDS", "TGA"])
def test_damaged_bytes_are_one_line_or_an_image_in_every_file_form(kind):
    """Each plugin of Pillow raises classes of its own."""
    image = Image.effect_noise((24, 24), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"exif": exif} if kind in ("JPEG", "WEBP", "PNG") else {}))
    content, generator = buffer.getvalue(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in generator.integers(0, len(damaged), 3):
            damaged[place] = generator.integers(0, 256)
        cut = (
            damaged[: generator.integers(1, len(damaged) + 1)]
            if generator.random() < 0.3
            else damaged
        )
        try:
            decode_image({"bytes": bytes(cut), "path": None}, place="row 0", significant_bits=16)
        except DataError:
            continue
