"""Find the image and the label column of a `datasets.Dataset`, and read both."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Array2D, ClassLabel, Dataset, Value
from datasets import Image as ImageFeature
from numpy.typing import NDArray

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
    label_values: tuple[Any, ...]
    """What the column holds for each class; for a `ClassLabel` its index."""


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
    class_names, values = _classes(train, test, label, name=name)
    if len(class_names) < MIN_CLASSES:
        raise DataError(
            f"{name}: column {label} holds {len(class_names)} class, the least is {MIN_CLASSES}; "
            "check data.path or data.train_split"
        )
    return Columns(image=image, label=label, class_names=class_names, label_values=values)


def read_labels(
    selection: Selection, *, columns: Columns, name: str, split: str
) -> NDArray[np.int64]:
    """Return the class index of every chosen row, shape (N,).

    Raises:
        DataError: A label is missing or is not one of the classes.
    """
    labels = selection.rows.data.column(columns.label).take(selection.indices).to_pylist()
    if isinstance(selection.rows.features[columns.label], ClassLabel):
        index_of = {index: index for index in range(len(columns.class_names))}
    else:
        index_of = {value: index for index, value in enumerate(columns.label_values)}
    for label in set(labels):
        if label not in index_of:
            raise DataError(
                f"{name}: the {split} split holds label {label}, outside the "
                f"{len(columns.class_names)} classes of the training images; "
                "choose a labelled split with data.train_split and data.test_split"
            )
    return np.asarray([index_of[label] for label in labels], dtype=np.int64)


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


def _classes(
    train: Dataset, test: Dataset | None, label: str, *, name: str
) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Return the names of the classes, and what the column holds for each."""
    feature = train.features[label]
    if isinstance(feature, ClassLabel):
        _check_same_names(feature, None if test is None else test.features[label], name=name)
        return tuple(feature.names), tuple(range(len(feature.names)))
    values = [value for value in train.unique(label) if value is not None]
    unusable = [value for value in values if not isinstance(value, str | int)]
    if unusable:
        raise DataError(
            f"{name}: column {label} holds {unusable[0]}, a label is a text or a whole number; "
            "choose an image classification set"
        )
    # Each value that occurs is a class: 7, 300 and 5000 are three.
    values = sorted(values)
    return tuple(str(value) for value in values), tuple(values)


def _check_same_names(train: ClassLabel, test: Any, *, name: str) -> None:
    """Check that a label's number means the same class in both splits."""
    if isinstance(test, ClassLabel) and test.names != train.names:
        raise DataError(
            f"{name}: the test split numbers the classes otherwise than the training split "
            f"({', '.join(test.names[:3])} ... and {', '.join(train.names[:3])} ...); "
            "write both with the same class names, in one order"
        )


def _flat_values(array: pa.Array) -> NDArray[np.uint8]:
    while isinstance(array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        array = array.flatten()
    return np.asarray(array.to_numpy(zero_copy_only=False))
