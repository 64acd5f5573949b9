"""The class of an image is its class folder; what may have been meant as images is not dropped."""

import logging
import shutil
import zipfile

import pytest
import torch
from PIL import Image

from harness.data import load_splits
from harness.errors import DataError
from harness.run.config import DataConfig


def load(folder, **changes):
    return load_splits(
        DataConfig(**{"name": "imagefolder", "path": folder, "search_images": 5, **changes}), seed=0
    )


def test_nested_folders_belong_to_their_class(image_folder):
    cats = image_folder / "train" / "cat"
    (cats / "red" / "dark").mkdir(parents=True)
    for file in sorted(cats.glob("*.png"))[:6]:
        file.rename(cats / "red" / "dark" / file.name)
    splits = load(image_folder)
    assert splits.class_names == ("cat", "coffee")
    labels = torch.cat([splits.train.labels, splits.search.labels])
    assert torch.bincount(labels).tolist() == [12, 12]


@pytest.mark.parametrize(
    "place", ["train/cat/more.zip", "train/cat/red/more.tar.gz", "train/m.ZIP"]
)
def test_archives_are_refused(image_folder, place):
    archive = image_folder / place
    archive.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        file.write(image_folder / "val" / "cat" / "000.png", "000.png")
    with pytest.raises(DataError, match=r"^imagefolder: .*more|m.ZIP .*archive|unpacked"):
        load(image_folder)


def test_images_beside_the_class_folders_are_refused(image_folder):
    shutil.copy(image_folder / "train/cat/000.png", image_folder / "train/extra.png")
    message = r"train/extra\.png lies beside the class folders; put it into the folder of its class"
    with pytest.raises(DataError, match=message):
        load(image_folder)


def test_a_class_without_images_is_refused(image_folder):
    (image_folder / "train" / "dog").mkdir()
    with pytest.raises(DataError, match=r"train/dog holds no image; add some or remove the folder"):
        load(image_folder)


def test_a_class_of_the_test_split_alone_is_refused(image_folder):
    (image_folder / "val" / "cat").rename(image_folder / "val" / "cats")
    message = r"val has a folder cats, which is no class of the training images; add training"
    with pytest.raises(DataError, match=message):
        load(image_folder)


def test_a_class_that_the_test_split_lacks_shifts_no_label(image_folder):
    shutil.rmtree(image_folder / "val" / "cat")
    splits = load(image_folder)
    assert splits.class_names == ("cat", "coffee")
    assert set(splits.test.labels.tolist()) == {1}


def test_hidden_files_and_texts_are_left_out_the_latter_with_a_word(image_folder, caplog):
    cats = image_folder / "train" / "cat"
    (image_folder / "train" / ".ipynb_checkpoints").mkdir()
    shutil.copy(cats / "000.png", image_folder / "train" / ".ipynb_checkpoints" / "000.png")
    shutil.copy(cats / "000.png", cats / "._000.png")
    (cats / "licence.txt").write_text("free")
    with caplog.at_level(logging.WARNING, logger="harness"):
        logging.getLogger("harness").propagate = True
        splits = load(image_folder)
    assert (len(splits.train) + len(splits.search), splits.class_names) == (24, ("cat", "coffee"))
    assert "1 files that are no images are left out, the first is" in caplog.text


@pytest.mark.parametrize("name", ["p[1]", "a*b", "it's", "sp ace", "ü"])
def test_awkward_folder_names_are_read_as_they_are(image_folder, name):
    folder = image_folder.rename(image_folder.with_name(name))
    neighbour = folder.with_name("p1")
    (neighbour / "train" / "dog").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(neighbour / "train" / "dog" / "0.png")
    assert load(folder).class_names == ("cat", "coffee")


def test_a_run_says_its_classes_and_their_counts(image_folder):
    text = load(image_folder).describe()
    assert text.startswith(
        "19 training, 5 search and 8 test images of 3 x 32 x 32; training images"
    )
    assert text.endswith(" of 2 classes: cat 8, coffee 11")


def test_many_classes_are_summarised(tmp_path):
    for number in range(30):
        folder = tmp_path / "train" / f"class{number:02}"
        folder.mkdir(parents=True)
        for index in range(3 + number % 2):
            Image.new("L", (8, 8), number * 8 + index).save(folder / f"{index}.png")
    text = load(tmp_path).describe()
    assert "of 30 classes: class00 " in text
    assert " each ..., class20 " in text


def test_a_link_in_a_circle_is_refused(image_folder):
    (image_folder / "train" / "cat" / "back").symlink_to(image_folder / "train")
    with pytest.raises(DataError, match=r"lies \d+ folders deep, the most is 20; remove the link"):
        load(image_folder)


@pytest.mark.parametrize("place", ["train/cat/\udcff.png", "train/\udcff/000.png"])
def test_a_name_that_is_not_utf_8_is_refused(image_folder, place):
    file = image_folder / place
    file.parent.mkdir(exist_ok=True)
    shutil.copy(image_folder / "train/cat/000.png", file)
    with pytest.raises(DataError, match=r"udcff.* has a name that is not UTF-8; rename it"):
        load(image_folder)
