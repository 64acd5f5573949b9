"""Changed images are told by every command that uses them; moved ones are followed."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from test_train import write_images

from harness.run.data_file import load_data
from harness.run.folder import RunDir
from harness.run.state_file import load_state

SETTINGS = (
    "data.name=imagefolder", "data.search_images=10", "train.batch_size=10", "train.epochs=1",
    "train.num_random_passes=1", "eval.recalibrate_images=10", "search.recalibrate_images=10",
    "search.finalists=2",
)  # fmt: skip
SET = tuple(part for setting in SETTINGS for part in ("--set", setting))


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", 8)


@pytest.fixture
def run(images, tmp_path, harness):
    """A trained and searched run of a small image folder."""
    out = tmp_path / "run"
    code, _, err = harness("train", *SET, "--data-path", images, "--out", out)
    assert code == 0, err
    assert "30 training, 10 search and 40 test images of 1 x 8 x 8" in " ".join(err.split())
    code, _, err = harness("search", "--run", out, "--target-bitops", "60%", "--evaluations", 6)
    assert code == 0, err
    return out


def add_class(images):
    shutil.copytree(images / "train" / "ant", images / "train" / "adder")


def add_images(images):
    for number in range(6):
        pixels = np.full((8, 8), 40 * number, np.uint8)
        Image.fromarray(pixels).save(images / "train" / "ant" / f"{number}b.png")


def commands(run, images):
    search = ("search", "--run", run, "--evaluations", 6)
    return {
        "eval": ("eval", "--run", run, "--policy", "4/4"),
        "search": (*search, "--target-bitops", "70%"),
        "resume": (*search, "--target-bitops", "60%", "--resume"),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add_class, "2 classes there and 3 here, adder is not there; give --data-path"),
        (add_images, "the train split has 30 images there and 36 here; give --data-path"),
    ],
)
def test_changed_images_are_refused_by_every_command(run, images, refused, change, message):
    change(images)
    for command in commands(run, images).values():
        assert message in refused(*command)


def test_a_stopped_run_refuses_changed_images(images, tmp_path, harness, refused):
    out = tmp_path / "run"
    train = ("train", *SET, "--set", "train.epochs=2", "--set", "train.checkpoint_every_epochs=1")
    harness(*train, "--data-path", images, "--out", out)
    # As a kill leaves it between the last two checkpoints.
    (out / "summary.json").unlink()
    shutil.rmtree(max((out / "checkpoints").iterdir()))
    add_images(images)
    assert "36 here" in refused(*train, "--data-path", images, "--out", out)


def test_a_moved_folder_is_followed_by_every_command(run, images, tmp_path, harness, refused):
    moved = images.rename(tmp_path / "moved")
    for command in commands(run, images).values():
        assert "is not there; give --data-path where it lies" in refused(*command)
        assert harness(*command, "--data-path", moved)[0] == 0
    assert harness("train", *SET, "--data-path", moved, "--out", run)[0] == 0


def test_run_checkpoint_and_journal_carry_the_same_identity(run):
    identity = load_data(RunDir(run).data_file_path)
    for checkpoint in (run / "checkpoints").iterdir():
        assert load_state(checkpoint)["data"] == identity
    assert identity.class_names == ("ant", "bee")
    header = json.loads((run / "search/journal.jsonl").read_text().splitlines()[0])
    assert header["data"] == identity.to_json()


def test_weights_of_a_run_with_other_classes_are_refused(images, tmp_path, harness, refused):
    flt = tmp_path / "float"
    train = ("train", *SET, "--data-path", images)
    assert harness(*train, "--set", "train.mode=float", "--out", flt)[0] == 0
    for split in ("train", "test"):
        (images / split / "ant").rename(images / split / "cow")
    line = refused(*train, "--set", f"model.weights={flt}", "--out", tmp_path / "run")
    assert "was trained on other images: 2 classes there and 2 here, cow is not there" in line


def test_weights_that_saw_the_search_images_are_warned_of(images, tmp_path, harness):
    flt = tmp_path / "float"
    train = ("train", *SET, "--data-path", images)
    assert harness(*train, "--set", "train.mode=float", "--set", "seed=1", "--out", flt)[0] == 0
    code, _, err = harness(*train, "--set", f"model.weights={flt}", "--out", tmp_path / "run")
    assert code == 0
    assert "was trained on another split of the images" in " ".join(err.split())
    weights = ("--set", f"model.weights={flt}", "--set", "seed=1", "--out", tmp_path / "same")
    code, _, err = harness(*train, *weights)
    assert (code, "another split" in err) == (0, False)
