"""Where an image falls is decided by the image: others that come or go change nothing about it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from unit_data_files import crops, write_class_folders

from harness.data import load_splits
from harness.data.choice import _by_sample
from harness.data.sample_keys import below, uniform_draws
from harness.errors import DataError
from harness.run.config import DataConfig


def pixels_of(split):
    return {pixels.numpy().tobytes() for pixels in split.pixels}


@pytest.fixture
def folder(tmp_path):
    write_class_folders(tmp_path / "set" / "train", crops(16, count=60))
    return tmp_path / "set"


def load(folder, **changes):
    return load_splits(DataConfig(name="imagefolder", path=folder, **changes), seed=0)


def add_images(folder, count):
    """Add images that sort between those that are there."""
    for name, images in crops(16, count=60 + count).items():
        for number, image in enumerate(images[60:]):
            Image.fromarray(image).save(folder / "train" / name / f"{number:03}b.png")


def test_no_image_that_was_trained_on_becomes_a_search_or_test_image_when_others_come(folder):
    before = load(folder, search_images=25)
    add_images(folder, 5)
    after = load(folder, search_images=25)
    trained = pixels_of(before.train)
    assert not trained & (pixels_of(after.search) | pixels_of(after.test))
    assert pixels_of(before.test) <= pixels_of(after.test)
    assert len(after.search) == 25


def test_by_position_images_change_sides_when_others_come(folder):
    """The fault that splitting by sample mends."""
    before = load(folder, search_images=25, split_by="position")
    add_images(folder, 5)
    after = load(folder, search_images=25, split_by="position")
    assert pixels_of(before.train) & pixels_of(after.search)


def test_a_share_decides_each_image_alone_also_when_others_go(folder):
    before = load(folder, search_share=0.3)
    for file in sorted(folder.rglob("*.png"))[::7]:
        file.unlink()
    after = load(folder, search_share=0.3)
    for split in ("train", "search", "test"):
        assert pixels_of(getattr(after, split)) < pixels_of(getattr(before, split))


def test_splits_stay_where_a_folder_is_moved_and_its_files_are_listed_otherwise(folder, tmp_path):
    before = load(folder, search_images=25)
    moved = (tmp_path / "elsewhere").resolve()
    folder.rename(moved)
    after = load(moved, search_images=25)
    assert after.identity == before.identity
    for split in ("train", "search", "test"):
        assert pixels_of(getattr(after, split)) == pixels_of(getattr(before, split))


def test_a_share_that_leaves_nothing_is_refused(folder):
    with pytest.raises(DataError, match=r"data.search_share 1e-09 holds 0 of the \d+ training im"):
        load(folder, search_share=1e-9)


def test_copies_of_an_image_never_lie_on_both_sides():
    keys = [str(n // 4).encode() for n in range(400)]
    for search_images in (30, 31, 32, 33):
        config = DataConfig(search_images=search_images)
        train, search, test = _by_sample(keys, None, config, 0)
        parts = [{keys[n] for n in part} for part in (train, search, test)]
        assert sum(map(len, parts)) == len(set.union(*parts))
        assert len(search) == search_images


@settings(max_examples=20)
@given(seed=st.integers(0, 2**62), share=st.floats(0.05, 0.95))
def test_draws_of_keys_are_uniform(seed, share):
    draws = uniform_draws((str(n).encode() for n in range(4000)), purpose=1, seed=seed)
    found = below(draws, share).mean()
    assert found == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / 4000))


def test_draws_are_the_same_on_every_machine():
    draws = uniform_draws([b"ant/1.jpg", b"bee/2.jpg"], purpose=0, seed=0)
    assert draws.tolist() == [9609338524614335385, 713338674591209958]
