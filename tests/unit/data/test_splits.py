"""The three splits never share an image and depend on nothing but the data and the seed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import load_splits, splits
from harness.errors import DataError
from harness.run.config import DataConfig

DIGITS = 1797


def identities(split):
    """Return a key per image: digits are distinct images, but for none."""
    return [pixels.numpy().tobytes() for pixels in split.pixels]


def test_digits_are_distinct_images():
    """What the disjointness tests below rest on."""
    loaded = load_splits(DataConfig(), seed=0)
    every = [*identities(loaded.train), *identities(loaded.search), *identities(loaded.test)]
    assert len(set(every)) == len(every) == DIGITS


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), search_images=st.integers(1, 1437))
def test_splits_share_no_image(seed, search_images):
    loaded = load_splits(DataConfig(search_images=search_images), seed=seed)
    parts = [set(identities(part)) for part in (loaded.train, loaded.search, loaded.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == DIGITS


def test_search_images_depend_on_the_seed_and_test_images_do_not():
    first, second = (load_splits(DataConfig(), seed=seed) for seed in (0, 1))
    assert set(identities(first.search)) != set(identities(second.search))
    assert identities(first.test) == identities(second.test)


def test_splits_repeat_for_the_same_seed():
    first, second = (load_splits(DataConfig(), seed=3) for _ in range(2))
    for part in ("train", "search", "test"):
        assert torch.equal(getattr(first, part).pixels, getattr(second, part).pixels)
        assert torch.equal(getattr(first, part).labels, getattr(second, part).labels)


def test_limits_shorten_a_split_without_changing_its_beginning():
    whole = load_splits(DataConfig(), seed=0)
    some = load_splits(DataConfig(train_images=100, test_images=50), seed=0)
    assert identities(some.train) == identities(whole.train)[:100]
    assert identities(some.search) == identities(whole.search)
    assert identities(some.test) == identities(whole.test)[:50]


def test_training_images_are_normalised_by_their_own_statistics():
    train = load_splits(DataConfig(), seed=0).train
    images, _ = train.read(range(len(train)))
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_channel_statistics_equal_those_of_torch():
    pixels = torch.randint(0, 256, (300, 3, 5, 7), dtype=torch.uint8)
    mean, std = splits.channel_statistics(pixels)
    scaled = pixels.double() / 255
    assert mean == pytest.approx(scaled.mean(dim=(0, 2, 3)).tolist(), rel=1e-9)
    assert std == pytest.approx(scaled.std(dim=(0, 2, 3), correction=0).tolist(), rel=1e-9)


def test_channel_statistics_of_a_constant_channel_divide_by_one():
    mean, std = splits.channel_statistics(torch.full((4, 1, 2, 2), 51, dtype=torch.uint8))
    assert (mean, std) == ((pytest.approx(0.2),), (1.0,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"search_images": 1444},
            "data.search_images 1444 leaves none of the 1444 training images of digits; lower",
        ),
        (
            {"train_images": 1145},
            "data.train_images 1145 is more than the 1144 images of digits left beside 300 for the "
            "search; lower it",
        ),
        (
            {"test_images": 354},
            "data.test_images 354 is more than the 353 test images of digits; lower data.test_i",
        ),
    ],
)
def test_load_splits_refuses_more_images_than_there_are(changes, message):
    with pytest.raises(DataError, match=message):
        load_splits(DataConfig(**changes), seed=0)
