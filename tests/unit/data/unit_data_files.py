"""Write real images in the forms that the sources read."""

import gzip
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
