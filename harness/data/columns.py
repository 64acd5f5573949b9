"""Find the image and the label column of a `datasets.Dataset`, and read both."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Array2D, ClassLabel, Dataset, Value
from datasets import Image as ImageFeature
from numpy.typing import NDArray
from PIL import Image, ImageOps

from harness.errors import DataError

IMAGE_NAMES = ("image", "img", "images", "picture", "pixel_values")
MIN_CLASSES = 2
LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "category")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Chosen rows of a set.

    Kept apart from the rows: `datasets` takes seconds to read arrays through `Dataset.select`.
    """

    rows: Dataset
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of chosen rows."""
        return len(self.indices)

    def chosen_rows(self) -> Dataset:
        """Return the chosen rows alone."""
        return self.rows.select(self.indices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns hold the image and the label, and what the labels are called."""

    image: str
    label: str
    class_names: tuple[str, ...]


def find_columns(train: Dataset, *, test: Dataset | None, name: str) -> Columns:
    """Return the columns, found by their feature type and, failing that, by their name.

    Raises:
        DataError: There is no such column, or fewer than two classes.
    """
    image = _find_image_column(train, name=name)
    label = _find_label_column(train, name=name)
    for column in (image, label):
        if test is not None and column not in test.column_names:
            raise DataError(f"{name}: the test split has no column {column}; set data.test_split")
    class_names = _class_names(train, test, label)
    if len(class_names) < MIN_CLASSES:
        raise DataError(
            f"{name}: column {label} holds {len(class_names)} class, the least is {MIN_CLASSES}; "
            "check data.path or data.train_split"
        )
    return Columns(image=image, label=label, class_names=class_names)


def read_labels(
    selection: Selection, *, columns: Columns, name: str, split: str
) -> NDArray[np.int64]:
    """Return the class index of every chosen row, shape (N,).

    Raises:
        DataError: A label is missing or is not one of the classes.
    """
    labels = selection.rows.data.column(columns.label).take(selection.indices).to_pylist()
    index_of = {class_name: index for index, class_name in enumerate(columns.class_names)}
    indices = [index_of.get(x, -1) if isinstance(x, str) else x for x in labels]
    for label, index in zip(labels, indices, strict=True):
        if index is None or not 0 <= index < len(columns.class_names):
            raise DataError(
                f"{name}: the {split} split holds label {label}, outside the "
                f"{len(columns.class_names)} classes of the training images; "
                "choose a labelled split with data.train_split and data.test_split"
            )
    return np.asarray(indices, dtype=np.int64)


def is_pixel_array(feature: Any) -> bool:
    """Tell whether a column holds gray images of one size as uint8 arrays (H, W)."""
    return isinstance(feature, Array2D) and feature.dtype == "uint8"


def read_array_column(selection: Selection, *, column: str) -> NDArray[np.uint8]:
    """Return the chosen rows of a column of uint8 arrays as one array (N, H, W).

    The storage of the column is taken as it is: its decoding by `datasets` costs seconds.
    """
    rows = selection.rows
    chunks = [_flat_values(chunk.storage) for chunk in rows.data.column(column).chunks]
    pixels = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    return pixels.reshape(len(rows), *rows.features[column].shape)[selection.indices]


def without_decoding(selection: Selection, *, column: str) -> Dataset:
    """Return the image column of the chosen rows, left encoded, for `decode_image`."""
    images = selection.chosen_rows().select_columns([column])
    return images.cast_column(column, ImageFeature(decode=False))


def is_gray(image: Image.Image) -> bool:
    """Tell whether an image that `decode_image` returned has one channel."""
    return image.mode in ("1", "L")


def decode_image(entry: Any, *, place: str) -> Image.Image:
    """Return one image, upright; 16-bit gray images keep their high bytes.

    Args:
        entry: What an undecoded image column holds: a mapping with `bytes`, `path` or both.
        place: Which image it is, for the message.

    Raises:
        DataError: The image cannot be decoded.
    """
    entry = entry or {}
    path = entry.get("path") or ""
    content = entry.get("bytes")
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as opened:
            image = ImageOps.exif_transpose(opened)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        where = f" ({path})" if path else ""
        reason = "it is not a whole image file" if isinstance(error, OSError) else str(error)
        raise DataError(
            f"{place}{where} cannot be decoded: {reason}; replace or remove it"
        ) from None
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image


def _find_image_column(rows: Dataset, *, name: str) -> str:
    features = rows.features
    typed = [c for c, f in features.items() if isinstance(f, ImageFeature) or is_pixel_array(f)]
    named = [column for column in IMAGE_NAMES if column in features]
    # A parquet file written without `datasets` holds images as bytes, or as bytes and a path.
    binary = [c for c, f in features.items() if _is_binary(f)]
    # The surest sign comes first: the type, then the name, then bytes under any name.
    usable = [*typed, *(column for column in named if column in binary), *binary]
    if not usable:
        raise DataError(
            f"{name}: none of the columns {', '.join(features)} holds images; "
            "choose an image classification set"
        )
    return str(usable[0])


def _is_binary(feature: Any) -> bool:
    if isinstance(feature, dict):
        feature = feature.get("bytes")
    return isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")


def _find_label_column(rows: Dataset, *, name: str) -> str:
    features = rows.features
    typed = [column for column, feature in features.items() if isinstance(feature, ClassLabel)]
    named = [column for column in LABEL_NAMES if column in features]
    usable = [column for column in named if column in typed or isinstance(features[column], Value)]
    # The surest sign comes first: type and name, then the type, then the name.
    ranked = [*(column for column in usable if column in typed), *typed, *usable]
    if not ranked:
        raise DataError(
            f"{name}: none of the columns {', '.join(features)} holds labels; "
            "choose an image classification set"
        )
    return str(ranked[0])


def _class_names(train: Dataset, test: Dataset | None, label: str) -> tuple[str, ...]:
    feature = train.features[label]
    if isinstance(feature, ClassLabel):
        return tuple(feature.names)
    values: Sequence[Any] = train.unique(label)
    if any(isinstance(value, str) for value in values):
        return tuple(sorted(str(value) for value in values if value is not None))
    largest = max((int(value) for value in values if value is not None), default=-1)
    if test is not None:
        largest = max([largest, *(int(v) for v in test.unique(label) if v is not None)])
    return tuple(str(index) for index in range(largest + 1))


def _flat_values(array: pa.Array) -> NDArray[np.uint8]:
    while isinstance(array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        array = array.flatten()
    return np.asarray(array.to_numpy(zero_copy_only=False))
