"""Bring any supported image set into the form of Hugging Face `datasets`: training and test rows.

Nothing is decoded, shuffled or split here.
"""

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets import Array2D, ClassLabel, Dataset, DatasetDict, Features
from numpy.typing import NDArray

from harness.data.idx_files import read_idx
from harness.data.image_folder import NAME_COLUMN, read_class_folders
from harness.errors import DataError
from harness.run.config import DataConfig

FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the idx files."""
FASHION_MNIST_HUB_NAME = "zalando-datasets/fashion_mnist"
FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
OTHER_TEST_SPLITS = ("test", "validation", "val", "valid")
"""Taken, in this order, as the test split where `data.test_split` is not there."""
HUB_TIMEOUT_SECONDS = 5.0
TAKE_A_PATH = ("fashion_mnist", "imagefolder", "parquet")
"""Sets that lie in a folder of the user's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One image set before it is split; `test` is None where the set brings no test split."""

    train: Dataset
    test: Dataset | None
    name_column: str | None = None
    """The column of what images are known by; None where they are known by their contents."""


def load_source(config: DataConfig) -> Source:
    """Return the set that `config.name` asks for.

    Raises:
        DataError: The set is missing, unreadable or not reachable.
    """
    loaders: Mapping[str, Callable[[DataConfig], Source]] = {
        "digits": _load_digits,
        "fashion_mnist": _load_fashion_mnist,
        "imagefolder": _load_image_folder,
        "parquet": _load_parquet,
    }
    if config.path is not None and config.name not in TAKE_A_PATH:
        raise DataError(
            f"data.path {config.path} is set, but {config.name} takes none; set it to null, or "
            f"data.name to {', '.join(TAKE_A_PATH[:-1])} or {TAKE_A_PATH[-1]}"
        )
    return loaders.get(config.name, _load_hub)(config)


def _load_digits(config: DataConfig) -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    class_names = [str(name) for name in digits.target_names]
    return Source(train=_as_dataset(images, digits.target, class_names=class_names), test=None)


def _load_fashion_mnist(config: DataConfig) -> Source:
    folder = config.path or FASHION_MNIST_FOLDER
    if folder.is_dir():
        return Source(train=_read_idx_pair(folder, "train"), test=_read_idx_pair(folder, "t10k"))
    remedy = "run `make system-packages` or set data.path to the folder of the idx files"
    if config.path is not None:
        raise DataError(f"fashion_mnist: data.path {folder} is not a folder; {remedy}")
    try:
        return _load_hub(config, name=FASHION_MNIST_HUB_NAME)
    except DataError as error:
        raise DataError(
            f"fashion_mnist: {folder} is not there and {str(error).partition(';')[0]}; {remedy}"
        ) from None


def _read_idx_pair(folder: Path, prefix: str) -> Dataset:
    images_file = _find_idx(folder, f"{prefix}-images-idx3-ubyte")
    labels_file = _find_idx(folder, f"{prefix}-labels-idx1-ubyte")
    images = read_idx(images_file, num_dimensions=3)
    labels = read_idx(labels_file, num_dimensions=1)
    if len(images) != len(labels):
        raise DataError(
            f"{images_file} holds {len(images)} images, but {labels_file.name} holds "
            f"{len(labels)} labels; fetch both again"
        )
    if len(labels) and labels.max() >= len(FASHION_MNIST_CLASSES):
        raise DataError(
            f"{labels_file} holds label {labels.max()}, the largest is "
            f"{len(FASHION_MNIST_CLASSES) - 1}; fetch it again"
        )
    return _as_dataset(images, labels, class_names=FASHION_MNIST_CLASSES)


def _find_idx(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"fashion_mnist: {folder} has neither {name}.gz nor {name}; "
        "run `make system-packages` or set data.path to the folder of the idx files"
    )


def _as_dataset(
    images: NDArray[np.uint8],  # (N, H, W)
    labels: NDArray[Any],  # (N,)
    *,
    class_names: tuple[str, ...] | list[str],
) -> Dataset:
    """Wrap arrays without copying them pixel by pixel, as `Dataset.from_dict` would."""
    num_images, height, width = images.shape
    label = ClassLabel(names=list(class_names))
    features = Features({"image": Array2D(shape=(height, width), dtype="uint8"), "label": label})
    row_starts = np.arange(0, num_images * height * width + 1, width, dtype=np.int32)
    image_starts = np.arange(0, num_images * height + 1, height, dtype=np.int32)
    rows = pa.ListArray.from_arrays(pa.array(row_starts), pa.array(images.reshape(-1)))
    storage = pa.ListArray.from_arrays(pa.array(image_starts), rows)
    columns = {
        "image": pa.ExtensionArray.from_storage(features["image"](), storage),
        "label": pa.array(labels.astype(np.int64)),
    }
    return Dataset(pa.table(columns, schema=features.arrow_schema))


def _load_image_folder(config: DataConfig) -> Source:
    folder = _required_path(config)
    if not (folder / config.train_split).is_dir():
        raise DataError(
            f"imagefolder: {folder} has no folder {config.train_split}/ with one folder of images "
            "per class; set data.path or data.train_split"
        )
    test_split = next((n for n in _test_names(config) if (folder / n).is_dir()), None)
    train = read_class_folders(folder / config.train_split)
    if test_split is None:
        return Source(train=train, test=None, name_column=NAME_COLUMN)
    test = read_class_folders(folder / test_split, class_names=train.features["label"].names)
    return Source(train=train, test=test, name_column=NAME_COLUMN)


def _load_parquet(config: DataConfig) -> Source:
    path = _required_path(config)
    if path.is_file():
        train, test = [path], []
    elif path.is_dir():
        train = _parquet_files(path, config.train_split)
        found = (_parquet_files(path, name) for name in _test_names(config))
        test = next((files for files in found if files), [])
    else:
        raise DataError(
            f"parquet: data.path {path} is neither a file nor a folder; give --data-path"
        )
    if not train:
        raise DataError(
            f"parquet: {path} has no {config.train_split}*.parquet; "
            "set data.path or data.train_split"
        )
    # One by one: together, the test files would be read by the class names of the training files.
    return Source(
        train=_read_parquet(train, config), test=_read_parquet(test, config) if test else None
    )


def _read_parquet(files: Sequence[Path], config: DataConfig) -> Dataset:
    # `datasets` takes each path for a pattern: p[1] would read its neighbour p1.
    patterns = [glob.escape(str(file)) for file in files]
    return _load("parquet", config, data_files={"rows": patterns})["rows"]


def _parquet_files(folder: Path, split: str) -> list[Path]:
    return sorted(folder.rglob(f"{glob.escape(split)}*.parquet"))


def _load_hub(config: DataConfig, *, name: str | None = None) -> Source:
    name = name or config.name
    offline = datasets.config.HF_HUB_OFFLINE
    # Without this, `datasets` retries for half a minute before it looks into its cache.
    datasets.config.HF_HUB_OFFLINE = offline or not _is_hub_reachable(name)
    try:
        splits = _load(name, config)
    finally:
        datasets.config.HF_HUB_OFFLINE = offline
    if config.train_split not in splits:
        raise DataError(
            f"{name} has no split {config.train_split}; its splits are {', '.join(splits)}; "
            "set data.train_split"
        )
    test = next((name for name in _test_names(config) if name in splits), None)
    return _pick_splits(splits, train=config.train_split, test=test)


def _is_hub_reachable(name: str) -> bool:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().dataset_info(name, timeout=HUB_TIMEOUT_SECONDS)
    except (HfHubHTTPError, HFValidationError):
        return True  # The hub has answered; loading says what is wrong with the name.
    except Exception:
        # Which HTTP client raises here, and what, depends on the version of huggingface_hub.
        return False
    return True


def _load(name: str, config: DataConfig, **arguments: Any) -> DatasetDict:
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, **arguments)
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        remedy = "data.path" if config.path else "data.name, or go online"
        raise DataError(f"{name} cannot be loaded: {reason}; check {remedy}") from error


def _pick_splits(splits: DatasetDict, *, train: str, test: str | None) -> Source:
    return Source(train=splits[train], test=None if test is None else splits[test])


def _test_names(config: DataConfig) -> tuple[str, ...]:
    return (config.test_split, *OTHER_TEST_SPLITS)


def _required_path(config: DataConfig) -> Path:
    if config.path is None:
        raise DataError(f"{config.name}: data.path is not set; set it to the folder of the images")
    if not config.path.exists():
        raise DataError(
            f"{config.name}: data.path {config.path} is not there; give --data-path where it lies"
        )
    return config.path
