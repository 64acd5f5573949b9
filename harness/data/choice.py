"""Which images are train, search and test: a pure function of the images and the seed.

A set's own test split is used as it comes; where there is none, a fifth is held out, the same for
all seeds, so that they are compared on the same test images. Search images are held out of the
training images by the seed of the run. All three come shuffled: the first images of each are a fair
sample of its classes.

By sample, an image falls where a hash of its key puts it (`sample_keys.py`): a test image if it
lies in the lowest fifth, a search image if it is among the lowest. By position, a permutation of
all places decides, so that one image more moves all the others: runs of format 2 were split so.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from harness.data import draws
from harness.data.columns import Columns, Selection, find_columns, read_labels
from harness.data.sample_keys import below, in_order, sample_keys, uniform_draws
from harness.data.sources import Source
from harness.errors import DataError
from harness.run.config import DataConfig

HELD_OUT_SHARE = 5
"""One image in this many is held out as the test split of a set that brings none."""

_Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The chosen images of each split, by its name."""

    columns: Columns
    selections: Mapping[str, Selection]
    labels: Mapping[str, Tensor]
    """Class index of each chosen image, int64 (N,)."""
    keys: Mapping[str, list[bytes]]
    """What each chosen image is known by."""


def choose_rows(source: Source, config: DataConfig, *, seed: int) -> Parts:
    """Return which rows of a source are which split's.

    Args:
        source: The set.
        config: The `data` section.
        seed: Draws the search images; the test split does not depend on it.

    Raises:
        DataError: The set is too small for what was asked, or its labels cannot be used.
    """
    columns = find_columns(source.train, test=source.test, name=config.name)
    rows = {"train": source.train, "search": source.train, "test": source.test or source.train}
    own_test = None if source.test is None else _keys(source.test, source, columns)
    keys = _keys(source.train, source, columns)
    choose = _by_sample if config.split_by == "sample" else _by_position
    train, search, test = choose(keys, own_test, config, seed)
    num_train = _num_train(config, num_search=len(search), num_rows=len(train) + len(search))
    places = {
        "train": train[:num_train],
        "search": search,
        "test": test[: _num_test(config, num_rows=len(test))],
    }
    selections = {
        split: Selection(rows=rows[split], indices=chosen) for split, chosen in places.items()
    }
    labels = {
        split: torch.from_numpy(
            read_labels(selection, columns=columns, name=config.name, split=split)
        )
        for split, selection in selections.items()
    }
    keys_of = {"train": keys, "search": keys, "test": keys if own_test is None else own_test}
    return Parts(
        columns=columns,
        selections=selections,
        labels=labels,
        keys={split: [keys_of[split][n] for n in chosen] for split, chosen in places.items()},
    )


def _keys(rows: Dataset, source: Source, columns: Columns) -> list[bytes]:
    return sample_keys(rows, image=columns.image, name=source.name_column)


def _by_sample(
    keys: list[bytes], own_test: list[bytes] | None, config: DataConfig, seed: int
) -> tuple[_Places, _Places, _Places]:
    """Return the places of train, search and test, each in the order of its hashes."""
    test_keys = keys if own_test is None else own_test
    test_draws = uniform_draws(test_keys, purpose=draws.HOLD_OUT, seed=0)
    everything = np.arange(len(keys))
    if own_test is None:
        is_test = below(test_draws, 1 / HELD_OUT_SHARE)
        test, rest = everything[is_test], everything[~is_test]
    else:
        test, rest = np.arange(len(own_test)), everything
    hashes = uniform_draws(keys, purpose=draws.SEARCH, seed=seed)
    order = in_order(hashes, rest)
    if config.search_share is None:
        num_search = _num_search(config, num_rows=len(order))
    else:
        num_search = int(below(hashes[order], config.search_share).sum())
    if not 0 < num_search < len(order):
        raise DataError(
            f"data.search_share {config.search_share} holds {num_search} of the {len(order)} "
            f"training images of {config.name} out; set another share"
        )
    search, train = order[:num_search], order[num_search:]
    # Copies of the last search image have its hash, and must not be trained on.
    train = train[hashes[train] > hashes[search[-1]]]
    return train, search, in_order(test_draws, test)


def _by_position(
    keys: list[bytes], own_test: list[bytes] | None, config: DataConfig, seed: int
) -> tuple[_Places, _Places, _Places]:
    """Return the places of train, search and test as runs of format 2 had them."""
    rest = np.arange(len(keys))
    if own_test is None:
        order = draws.permutation(len(keys), purpose=draws.HOLD_OUT, seed=0)
        num_test = len(keys) // HELD_OUT_SHARE
        test, rest = order[:num_test], order[num_test:]
        test = test[draws.permutation(num_test, purpose=draws.HOLD_OUT, seed=0)]
    else:
        test = draws.permutation(len(own_test), purpose=draws.HOLD_OUT, seed=0)
    num_search = _num_search(config, num_rows=len(rest))
    order = rest[draws.permutation(len(rest), purpose=draws.SEARCH, seed=seed)]
    return order[num_search:], order[:num_search], test


def _num_search(config: DataConfig, *, num_rows: int) -> int:
    if config.search_images >= num_rows:
        raise DataError(
            f"data.search_images {config.search_images} leaves none of the {num_rows} training "
            f"images of {config.name}; lower data.search_images"
        )
    return config.search_images


def _num_train(config: DataConfig, *, num_search: int, num_rows: int) -> int:
    num_left = num_rows - num_search
    if config.train_images is not None and config.train_images > num_left:
        raise DataError(
            f"data.train_images {config.train_images} is more than the {num_left} images of "
            f"{config.name} left beside {num_search} for the search; lower it"
        )
    return config.train_images or num_left


def _num_test(config: DataConfig, *, num_rows: int) -> int:
    if config.test_images is not None and config.test_images > num_rows:
        raise DataError(
            f"data.test_images {config.test_images} is more than the {num_rows} test images of "
            f"{config.name}; lower data.test_images"
        )
    if num_rows == 0:
        raise DataError(f"{config.name} has no test images; add some or set data.test_split")
    return config.test_images or num_rows
