"""Write real images in the forms that the sources read, and note which files are opened."""

import gzip
import os
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image


def write_idx(path: Path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def crops(size, *, count):
    """Return `count` crops of two photographs of scikit-image, by class name."""
    from skimage import data

    photographs = {"cat": data.chelsea(), "coffee": data.coffee()}
    corners = [(20 * n % 180, 37 * n % 280) for n in range(count)]
    return {
        name: [photograph[y : y + size, x : x + size] for y, x in corners]
        for name, photograph in photographs.items()
    }


def write_class_folders(folder: Path, images_by_class):
    for name, images in images_by_class.items():
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(folder / name / f"{number:03}.png")


def write_varied_jpegs(folder: Path, *, count):
    """Write `count` photographs of each class as JPEG files, no two of a class of one size."""
    for number in range(count):
        for name, images in crops(26 + 2 * number, count=number + 1).items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[-1]).save(folder / name / f"{number:03}.jpg")


watched = {}
"""The folder whose opened files are noted, and where; empty while none are."""


@contextmanager
def opened_files(folder: Path, log: Path):
    """Give a function that returns (process id, path) of each opening of a file below a folder.

    Openings by processes that are forked inside the block are among them.
    """
    _install_hook()
    log.touch()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    watched.update(folder=f"{folder}/", log=descriptor)
    try:
        yield lambda: [
            (int(process), path)
            for process, path in (line.split(" ", 1) for line in log.read_text().splitlines())
        ]
    finally:
        watched.clear()
        os.close(descriptor)


@cache
def _install_hook():
    sys.addaudithook(_note_opening)  # It can never be removed again; `watched` turns it off.


def _note_opening(event, arguments):
    if event == "open" and watched and str(arguments[0]).startswith(watched["folder"]):
        os.write(watched["log"], f"{os.getpid()} {arguments[0]}\n".encode())
