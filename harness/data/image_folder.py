"""A folder of images with one folder per class, as a `datasets.Dataset` of paths.

The class of an image is the name of the folder directly below that of the split, however deep the
image lies in it. What is left out without harm (hidden files, texts) is left out; what a person may
have meant as images (archives, images outside a class folder) is refused.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from torchvision.datasets.folder import make_dataset

from harness.errors import DataError

NAME_COLUMN = "name"
"""Path of an image below the split's folder: what it is known by, wherever that folder lies."""

IMAGES = tuple(
    suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN
)
"""Endings of files that Pillow reads."""
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst")

MAX_DEPTH = 20
"""Folders between the split's folder and an image; only a link in a circle leads deeper."""

logger = logging.getLogger(__name__)


def read_class_folders(folder: Path, *, class_names: Sequence[str] | None = None) -> Dataset:
    """Return the images below a folder: columns `image` (encoded), `label` and `name`.

    Args:
        folder: One folder per class.
        class_names: Those of the training images, in order; None takes the folders' names, sorted.

    Raises:
        DataError: There is no image, an archive, an image outside a class folder, a class folder
            without an image, or a class that is not among `class_names`.
    """
    found = sorted(entry.name for entry in folder.iterdir() if _is_class(entry))
    for name in found:
        _check_path(str(folder / name), depth=1)
    _check_outside(folder, found)
    names = list(class_names or found)
    unknown = [name for name in found if name not in names]
    if unknown:
        raise DataError(
            f"imagefolder: {folder} has a folder {unknown[0]}, which is no class of the training "
            "images; add training images of it or remove it"
        )
    listed = _list_images(folder, {name: index for index, name in enumerate(names)}, found)
    paths = [path for path, _ in listed]
    relative = [path[len(f"{folder}/") :] for path in paths]
    features = Features(
        {"image": ImageFeature(), "label": ClassLabel(names=names), NAME_COLUMN: Value("string")}
    )
    columns = {
        "image": features["image"].cast_storage(pa.array(paths, pa.string())),
        "label": pa.array([label for _, label in listed], pa.int64()),
        NAME_COLUMN: pa.array(relative, pa.string()),
    }
    return Dataset(pa.table(columns, schema=features.arrow_schema))


def _list_images(
    folder: Path, index_of: dict[str, int], found: Sequence[str]
) -> list[tuple[str, int]]:
    """Return path and class index of every image, in the order of their paths."""
    left_out: list[str] = []
    prefix = f"{folder}/"

    def is_image(path: str) -> bool:
        # Texts, not paths: there may be a million, and a `Path` takes ten times as long to make.
        parts = path[len(prefix) :].split("/")
        if any(_is_hidden(part) for part in parts):
            return False
        _check_path(path, depth=len(parts))
        suffix = "." + path.rpartition(".")[2].lower()
        if suffix in ARCHIVES:
            raise DataError(
                f"imagefolder: {path} is an archive among the images; unpack or remove it"
            )
        if suffix not in IMAGES:
            left_out.append(path)
            return False
        return True

    present = {name: index_of[name] for name in found}
    if not present:
        raise DataError(
            f"imagefolder: {folder} has no class folders with images; put the images of each class "
            "into a folder of its name"
        )
    # An empty class folder is more likely a copy that failed than a class.
    listed: list[tuple[str, int]] = make_dataset(
        str(folder), present, is_valid_file=is_image, allow_empty=True
    )
    empty = set(present.values()) - {label for _, label in listed}
    if empty:
        name = next(name for name, index in present.items() if index in empty)
        raise DataError(
            f"imagefolder: {folder / name} holds no image; add some or remove the folder"
        )
    if left_out:
        logger.warning(
            "%s: %d files that are no images are left out, the first is %s",
            folder, len(left_out), left_out[0],
        )  # fmt: skip
    return listed


def _check_path(path: str, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise DataError(
            f"imagefolder: {path[:200]}... lies {depth} folders deep, the most is {MAX_DEPTH}; "
            "remove the link that leads back into its own folder"
        )
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"imagefolder: {path.encode(errors='backslashreplace').decode()} has a name that is "
            "not UTF-8; rename it"
        ) from None


def _check_outside(folder: Path, class_names: Sequence[str]) -> None:
    """Refuse images and archives beside the class folders: their class is not known."""
    for entry in sorted(folder.iterdir()):
        is_meant = entry.suffix.lower() in (*IMAGES, *ARCHIVES) and not _is_hidden(entry.name)
        if entry.name not in class_names and is_meant:
            raise DataError(
                f"imagefolder: {entry} lies beside the class folders; put it into the folder of "
                "its class, unpacked, or remove it"
            )


def _is_class(entry: Path) -> bool:
    return entry.is_dir() and not _is_hidden(entry.name)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__"))
