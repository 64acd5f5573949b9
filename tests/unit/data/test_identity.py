"""Images are known again wherever they lie, and every change of them is told in one line."""

import shutil

import numpy as np
import pytest
from PIL import Image
from unit_data_files import write_varied_jpegs

from harness.data import check_same_data, load_splits
from harness.errors import DataError, RunError
from harness.run.config import DataConfig
from harness.run.data_file import data_identity, load_data, save_data


def load(folder, **changes):
    settings = {"name": "imagefolder", "path": folder, "search_images": 5, "image_size": 24}
    return load_splits(DataConfig(**{**settings, **changes}), seed=0).identity


def changed(there, here):
    with pytest.raises(DataError, match=r"^the images are not those of runs/a: .*; give --data-p"):
        check_same_data(there, here, run="runs/a")
    return there.difference(here)


@pytest.fixture(params=["small", "large"])
def folder(request, image_folder, tmp_path):
    """A set that is held in memory, and one that is decoded as it is used."""
    if request.param == "small":
        return image_folder
    write_varied_jpegs(tmp_path / "jpegs" / "train", count=10)
    write_varied_jpegs(tmp_path / "jpegs" / "val", count=6)
    return tmp_path / "jpegs"


def test_the_same_images_are_known_in_another_place(folder, tmp_path):
    there = load(folder)
    shutil.copytree(folder, tmp_path / "copy")
    check_same_data(there, load(tmp_path / "copy"), run="runs/a")
    check_same_data(None, there, run="runs/a")


def test_a_class_more_is_named(folder):
    there = load(folder)
    shutil.copytree(folder / "train" / "cat", folder / "train" / "ant")
    assert changed(there, load(folder)) == "2 classes there and 3 here, ant is not there"
    shutil.rmtree(folder / "train" / "ant")
    (folder / "train" / "cat").rename(folder / "train" / "dog")
    (folder / "val" / "cat").rename(folder / "val" / "dog")
    assert changed(there, load(folder)) == "2 classes there and 2 here, dog is not there"


def test_an_image_more_or_less_is_counted(folder):
    there = load(folder)
    (file,) = (folder / "train" / "cat").glob("003.*")
    shutil.copy(file, file.with_stem("999"))
    parts = changed(there, load(folder))
    count = there.train.num_images
    assert parts == f"the train split has {count} images there and {count + 1} here"


def test_another_image_under_the_same_name_is_seen(folder):
    there = load(folder)
    for file in folder.rglob("005.*"):
        with Image.open(file) as image:
            other = Image.fromarray(255 - np.asarray(image))
        other.save(file)
    assert "are others" in changed(there, load(folder))


def test_swapped_labels_are_seen(folder):
    there = load(folder)
    cat, coffee = (next((folder / "train" / name).glob("002.*")) for name in ("cat", "coffee"))
    other = coffee.with_name("swap")
    cat.rename(other)
    coffee.rename(cat)
    other.rename(coffee)
    assert "are others" in changed(there, load(folder))


def test_another_size_or_split_is_seen(folder):
    there = load(folder)
    assert (
        changed(there, load(folder, image_size=16))
        == "they are 3 x 24 x 24 there and 3 x 16 x 16 here"
    )
    assert "split has" in changed(there, load(folder, search_images=6))


def test_gray_images_are_another_number_of_channels(image_folder):
    there = load(image_folder)
    for file in image_folder.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    assert changed(there, load(image_folder)) == "they are 3 x 24 x 24 there and 1 x 24 x 24 here"


def test_statistics_may_differ_by_rounding_alone(image_folder):
    there = load(image_folder)
    near = there.model_copy(update={"mean": tuple(x + 1e-4 for x in there.mean)})
    far = there.model_copy(update={"mean": tuple(x + 1e-2 for x in there.mean)})
    check_same_data(there, near, run="runs/a")
    assert changed(there, far).startswith("mean is ")


def test_classes_in_another_order_are_seen(image_folder):
    there = load(image_folder)
    here = there.model_copy(update={"class_names": there.class_names[::-1]})
    assert changed(there, here) == "the 2 classes are in another order"


def test_what_is_known_is_read_back(image_folder, tmp_path):
    there = load(image_folder)
    save_data(tmp_path / "data.json", there)
    assert load_data(tmp_path / "data.json") == there


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": True}, "channels: input should be a valid integer"),
        ({"channels": 2}, "3"),
        ({"image_size": [8]}, "image_size.1: field required"),
        ({"test": {"num_images": -1, "digest": ""}}, "test.num_images: input should be greater"),
        ({"class_names": None}, "class_names: input should be a valid"),
        ({"more": 1}, "more: extra inputs are not permitted"),
    ],
)
def test_damaged_values_are_refused_by_their_name(image_folder, change, message):
    values = {**load(image_folder).to_json(), **change}
    with pytest.raises(ValueError, match=message):
        data_identity(values)


def test_a_damaged_file_is_one_line(image_folder, tmp_path):
    save_data(tmp_path / "data.json", load(image_folder))
    text = (tmp_path / "data.json").read_text()
    (tmp_path / "data.json").write_text(text.replace('"channels": 3', '"channels": "3"'))
    with pytest.raises(RunError, match=r"data\.json (is damaged|was altered).*restore"):
        load_data(tmp_path / "data.json")
