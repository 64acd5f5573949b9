"""Evaluation opens each image file once, whatever passes over it, and with one pool of workers."""

import os
import pickle
import re
import signal
from collections import Counter
from multiprocessing import active_children

import pytest
import torch
from PIL import Image
from timm.data import create_transform
from unit_data_files import opened_files, write_varied_jpegs

from harness.data import Draw, eval_batches, load_splits, reading
from harness.data.encoded import EncodedImages
from harness.errors import DataError
from harness.run.config import DataConfig

IMAGE_BYTES = 3 * 24 * 24


@pytest.fixture
def jpeg_folder(tmp_path):
    """20 training and 12 validation photographs, of many sizes."""
    folder = tmp_path / "jpegs"
    write_varied_jpegs(folder / "train", count=10)
    write_varied_jpegs(folder / "val", count=6)
    return folder


@pytest.fixture
def opened(jpeg_folder, tmp_path):
    """What has been opened so far, as (process id, path)."""
    with opened_files(jpeg_folder, tmp_path / "opened") as noted:
        yield noted


def load(folder, *, num_workers=0):
    config = DataConfig(
        name="imagefolder", path=folder, image_size=24, search_images=9, num_workers=num_workers
    )
    return load_splits(config, seed=0)


def passes_of_a_search(splits):
    """Every kind of pass that a search makes: proposals, their recalibration, the final report."""
    for _ in range(3):
        yield eval_batches(splits.train, batch_size=3, limit=6)
        yield eval_batches(splits.search, batch_size=4)
    for _ in range(2):
        yield eval_batches(splits.train, batch_size=3, limit=10)
        yield eval_batches(splits.search, batch_size=4, limit=8)
        yield eval_batches(splits.test, batch_size=5)


def images_of(batches):
    return torch.cat([images for images, _ in batches])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_search_opens_each_file_once_beside_loading(jpeg_folder, opened, num_workers):
    splits = load(jpeg_folder, num_workers=num_workers)
    # Loading looks at images until it meets two sizes, and at the first of each split to know them.
    num_loaded = len(opened())
    assert 2 <= num_loaded <= 4 + 10 + 9 + 12
    for batches in passes_of_a_search(splits):
        assert images_of(batches).shape == (batches.num_images, 3, 24, 24)
    evaluated = Counter(path for _, path in opened()[num_loaded:])
    assert len(evaluated) == 10 + 9 + 12
    assert set(evaluated.values()) == {1}
    assert max(Counter(path for _, path in opened()).values()) <= 3


def test_one_pool_of_workers_serves_all_passes(jpeg_folder, opened, monkeypatch):
    monkeypatch.setattr(reading, "MAX_KEPT_BYTES", 0)
    splits = load(jpeg_folder, num_workers=2)
    num_loaded = len(opened())
    assert not active_children()
    for batches in passes_of_a_search(splits):
        images_of(batches)
        assert len(active_children()) == 2
    workers = {process.pid for process in active_children()}
    assert {process for process, _ in opened()[num_loaded:]} == workers


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_equal_the_whole_transform_of_timm(jpeg_folder, num_workers):
    splits = load(jpeg_folder, num_workers=num_workers)
    whole = create_transform((3, 24, 24), is_training=False, mean=splits.mean, std=splits.std)
    by_content = {}
    for file in jpeg_folder.rglob("*.jpg"):
        with Image.open(file) as image:
            by_content[whole(image).numpy().tobytes()] = file.parent.name
    for split in (splits.train, splits.search, splits.test):
        decoded, kept = eval_batches(split, batch_size=4), eval_batches(split, batch_size=3)
        for images, labels in (*decoded, *kept):
            names = [by_content[image.numpy().tobytes()] for image in images]
            assert names == [splits.class_names[label] for label in labels]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_beyond_the_memory_limit_are_read_by_each_pass(
    jpeg_folder, opened, monkeypatch, num_workers
):
    expected = images_of(eval_batches(load(jpeg_folder).train, batch_size=4))
    monkeypatch.setattr(reading, "MAX_KEPT_BYTES", 3 * IMAGE_BYTES + 1)
    splits = load(jpeg_folder, num_workers=num_workers)
    num_opened = []
    for batch_size in (4, 2, 5):
        before = len(opened())
        assert torch.equal(images_of(eval_batches(splits.train, batch_size=batch_size)), expected)
        num_opened.append(len(opened()) - before)
    assert num_opened == [11, 8, 8]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_image_is_told_in_one_line(jpeg_folder, num_workers):
    splits = load(jpeg_folder, num_workers=num_workers)
    file = jpeg_folder / "val" / "cat" / "003.jpg"
    whole = file.read_bytes()
    file.write_bytes(whole[:300])
    message = (
        rf"row 3 of imagefolder \(test split\) \({re.escape(str(file))}\) cannot be decoded: "
        "it is not a whole image file; replace or remove it"
    )
    for _ in range(2):
        with pytest.raises(DataError, match=f"^{message}$"):
            images_of(eval_batches(splits.test, batch_size=2))
    assert len(images_of(eval_batches(splits.search, batch_size=2))) == 9
    file.write_bytes(whole)
    assert len(images_of(eval_batches(splits.test, batch_size=2))) == 12


@pytest.mark.parametrize("max_bytes", [0, 2**20])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_passes_may_be_abandoned_and_nested(jpeg_folder, monkeypatch, num_workers, max_bytes):
    alone = load(jpeg_folder)
    search = images_of(eval_batches(alone.search, batch_size=2))
    test = images_of(eval_batches(alone.test, batch_size=2))
    monkeypatch.setattr(reading, "MAX_KEPT_BYTES", max_bytes)
    splits = load(jpeg_folder, num_workers=num_workers)
    first, second = (eval_batches(part, batch_size=2) for part in (splits.search, splits.test))
    abandoned = iter(first)
    next(abandoned)
    assert torch.equal(images_of(first), search)
    together = list(zip(first, second, strict=False))
    assert torch.equal(torch.cat([images for (images, _), _ in together]), search)
    assert torch.equal(torch.cat([images for _, (images, _) in together]), test[: 2 * len(first)])
    for number, (images, _) in enumerate(second):
        assert torch.equal(images, test[2 * number : 2 * number + 2])
        assert torch.equal(images_of(first), search)
    assert torch.equal(torch.cat([images for images, _ in abandoned]), search[2:])
    assert len(active_children()) == num_workers


def test_a_pass_works_after_one_whose_worker_failed(jpeg_folder, monkeypatch):
    pixels = EncodedImages.pixels
    fault = jpeg_folder / "fault"

    def pixels_or_fault(images, numbers):
        return pixels(images, numbers) if not fault.exists() else 1 / 0

    monkeypatch.setattr(EncodedImages, "pixels", pixels_or_fault)
    splits = load(jpeg_folder, num_workers=2)
    batches = eval_batches(splits.test, batch_size=2)
    fault.touch()
    with pytest.raises(ZeroDivisionError) as failure:
        images_of(batches)
    # PyTorch's traceback refers to its error; the pool would end only when that is collected.
    failure.value.with_traceback(None)
    del failure
    fault.unlink()
    assert torch.equal(images_of(batches), splits.test.read(range(12))[0])
    assert len(active_children()) == 2


def read_and_kill(batches):
    """Read on while the processes that decode are killed, as for want of memory."""
    for _ in batches:
        for child in active_children():
            os.kill(child.pid, signal.SIGKILL)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pool_whose_process_is_killed_is_said_and_made_anew(jpeg_folder, monkeypatch):
    monkeypatch.setattr(reading, "MAX_KEPT_BYTES", 0)
    expected = images_of(eval_batches(load(jpeg_folder).train, batch_size=2))
    splits = load(jpeg_folder, num_workers=2)
    batches = eval_batches(splits.train, batch_size=2)
    with pytest.raises(DataError, match=r"^a process that decodes images was ended from outside; "):
        read_and_kill(batches)
    assert torch.equal(images_of(batches), expected)


def test_ranks_share_the_batches_of_one(jpeg_folder):
    splits = load(jpeg_folder, num_workers=2)
    alone = list(eval_batches(splits.test, batch_size=5))
    batches = eval_batches(load(jpeg_folder).test, batch_size=5)
    shares = [list(batches.share(rank=rank, world_size=2)) for rank in range(2)]
    for (images, labels), expected in zip(
        (shares[0][0], shares[1][0], shares[0][1]), alone, strict=True
    ):
        assert torch.equal(images, expected[0])
        assert torch.equal(labels, expected[1])


def test_reading_leaves_the_global_generator_alone(jpeg_folder):
    splits = load(jpeg_folder, num_workers=2)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    images_of(eval_batches(splits.test, batch_size=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_split_that_has_been_read_can_be_pickled(jpeg_folder):
    """As it is for training workers where processes are not forked."""
    train = load(jpeg_folder, num_workers=2).train
    images_of(eval_batches(train, batch_size=2))
    copied = pickle.loads(pickle.dumps(train))
    for draw in (None, Draw(seed=0, epoch=0)):
        assert torch.equal(copied.read([2, 0], draw=draw)[0], train.read([2, 0], draw=draw)[0])
    assert torch.equal(images_of(eval_batches(copied, batch_size=2)), train.read(range(11))[0])
