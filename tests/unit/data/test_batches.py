"""Batches: pure functions of (seed, epoch, image), shared by ranks without overlap."""

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, prepare_data_loader, skip_first_batches

from harness.data import Draw, eval_batches, load_splits, train_batches
from harness.data.images import Changes, MemorySplit
from harness.errors import DataError
from harness.run.config import DataConfig


@pytest.fixture(scope="module")
def digits():
    return load_splits(DataConfig(horizontal_flip=True), seed=0)


def epoch_of(split, *, epoch, seed=0, batch_size=128):
    loader = train_batches(split, batch_size=batch_size, seed=seed)
    loader.batch_sampler.sampler.set_epoch(epoch)
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_training_batches_have_the_promised_form(digits):
    batches = list(train_batches(digits.train, batch_size=128, seed=0))
    assert len(batches) == 1138 // 128
    for images, labels in batches:
        assert (images.shape, images.dtype) == ((128, 1, 8, 8), torch.float32)
        assert (labels.shape, labels.dtype) == ((128,), torch.int64)


def test_training_epoch_repeats_for_the_same_seed_and_epoch(digits):
    first, second = (epoch_of(digits.train, epoch=5) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("other", [{"epoch": 6}, {"epoch": 5, "seed": 1}])
def test_training_epoch_differs_for_another_seed_or_epoch(digits, other):
    assert not torch.equal(epoch_of(digits.train, epoch=5)[1], epoch_of(digits.train, **other)[1])


def test_augmentation_differs_between_epochs_and_seeds(digits):
    draws = [Draw(seed=0, epoch=0), Draw(seed=0, epoch=1), Draw(seed=1, epoch=0)]
    images = [digits.train.read(range(64), draw=draw)[0] for draw in draws]
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_augmentation_of_an_image_does_not_depend_on_its_batch(digits):
    draw = Draw(seed=2, epoch=3)
    alone, _ = digits.train.read([17], draw=draw)
    among, _ = digits.train.read([3, 17, 900], draw=draw)
    assert torch.equal(alone[0], among[1])


def test_augmentation_is_every_shift_and_flip_of_the_padded_image():
    pixels = torch.arange(1, 13, dtype=torch.uint8).reshape(1, 1, 3, 4).repeat(400, 1, 1, 1)
    split = MemorySplit(
        pixels,
        labels=torch.zeros(400, dtype=torch.int64),
        mean=[0.0],
        std=[1 / 255],
        changes=Changes(crop_padding=1, horizontal_flip=True),
    )
    padded = torch.nn.functional.pad(pixels[0], (1, 1, 1, 1))
    windows = [padded[:, y : y + 3, x : x + 4] for y in range(3) for x in range(3)]
    expected = {w.numpy().tobytes() for w in (*windows, *(w.flip(2) for w in windows))}
    images, _ = split.read(range(400), draw=Draw(seed=0, epoch=0))
    found = {image.round().byte().numpy().tobytes() for image in images}
    assert found == expected


def test_augmentation_is_off_without_padding_and_flip():
    train = load_splits(DataConfig(crop_padding=0), seed=0).train
    plain, _ = train.read(range(64))
    assert torch.equal(train.read(range(64), draw=Draw(seed=0, epoch=0))[0], plain)


def test_iterating_leaves_the_global_generator_alone(digits):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(iter(train_batches(digits.train, batch_size=128, seed=0)))
    assert torch.equal(torch.get_rng_state(), before)


def test_train_batches_refuse_a_batch_larger_than_the_split(digits):
    message = "train.batch_size 2000 is more than the 1144 training images; lower it or raise data."
    with pytest.raises(DataError, match=message):
        train_batches(digits.train, batch_size=2000, seed=0)


def shares(split, *, world_size, epoch, batch_size=32):
    """Return each rank's keys, as Accelerate shards the batches."""
    ranks = []
    for rank in range(world_size):
        sampler = train_batches(split, batch_size=batch_size, seed=0).batch_sampler
        sampler.sampler.set_epoch(epoch)
        ranks.append(list(BatchSamplerShard(sampler, world_size, rank)))
    return ranks


def test_two_ranks_share_the_order_of_one(digits):
    (alone,) = shares(digits.train, world_size=1, epoch=4)
    first, second = shares(digits.train, world_size=2, epoch=4)
    assert [batch for pair in zip(first, second, strict=True) for batch in pair] == alone[:34]
    seen = [key for batch in (*first, *second) for key in batch]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("world_size", [1, 2])
def test_prepared_loader_hands_the_epoch_to_the_order(digits, world_size):
    loaders = [
        prepare_data_loader(
            train_batches(digits.train, batch_size=64, seed=0),
            num_processes=world_size,
            process_index=rank,
            put_on_device=False,
        )
        for rank in range(world_size)
    ]
    for loader in loaders:
        loader.set_epoch(7)
    found = [batch for together in zip(*loaders, strict=True) for batch in together]
    images, labels = epoch_of(digits.train, epoch=7, batch_size=64)
    count = 64 * len(found)
    assert torch.equal(torch.cat([batch[0] for batch in found]), images[:count])
    assert torch.equal(torch.cat([batch[1] for batch in found]), labels[:count])


@pytest.mark.parametrize("world_size", [1, 2])
def test_prepared_loader_resumes_in_the_middle_of_an_epoch(digits, world_size):
    loader = prepare_data_loader(
        train_batches(digits.train, batch_size=64, seed=0),
        num_processes=world_size,
        process_index=0,
        put_on_device=False,
    )
    loader.set_epoch(2)
    whole = [labels for _, labels in loader]
    loader.set_epoch(2)
    rest = [labels for _, labels in skip_first_batches(loader, 3)]
    assert all(map(torch.equal, rest, whole[3:]))
    assert len(rest) == len(whole) - 3


def test_eval_batches_keep_the_order_and_the_short_batch(digits):
    batches = eval_batches(digits.test, batch_size=100)
    assert [len(labels) for _, labels in batches] == [100, 100, 100, 53]
    assert len(batches) == 4
    assert torch.equal(torch.cat([labels for _, labels in batches]), digits.test.labels)
    assert torch.equal(torch.cat([x for x, _ in batches]), digits.test.read(range(353))[0])


def test_eval_batches_stop_at_the_limit(digits):
    batches = eval_batches(digits.test, batch_size=100, limit=150)
    assert [len(labels) for _, labels in batches] == [100, 50]
    assert batches.num_images == 150
    assert eval_batches(digits.test, batch_size=100, limit=9999).num_images == 353


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_eval_batches_are_shared_whole(digits, world_size):
    batches = eval_batches(digits.test, batch_size=50)
    found = {}
    for rank in range(world_size):
        share = batches.share(rank=rank, world_size=world_size)
        found |= {rank + n * world_size: labels for n, (_, labels) in enumerate(share)}
    assert sorted(found) == list(range(8))
    assert all(torch.equal(found[n], batches[n][1]) for n in found)


def test_eval_batches_are_found_by_number(digits):
    batches = eval_batches(digits.test, batch_size=100)
    for number, (images, labels) in enumerate(batches):
        assert torch.equal(batches[number][0], images)
        assert torch.equal(batches[number][1], labels)
    with pytest.raises(IndexError):
        batches[4]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_decoded_images_repeat_with_any_number_of_workers(varied_folder, num_workers):
    settings = {"name": "imagefolder", "path": varied_folder, "image_size": 24, "search_images": 5}
    config = DataConfig(**settings, horizontal_flip=True, num_workers=num_workers)
    train = load_splits(config, seed=0).train
    torch.manual_seed(num_workers)
    loader = train_batches(train, batch_size=4, seed=0)
    loader.batch_sampler.sampler.set_epoch(3)
    order = [key - 3 * len(train) for keys in loader.batch_sampler for key in keys]
    before = torch.get_rng_state()
    images = torch.cat([images for images, _ in loader])
    assert torch.equal(torch.get_rng_state(), before)
    draw = Draw(seed=0, epoch=3)
    alone = torch.stack([train.read([index], draw=draw)[0][0] for index in order])
    assert torch.equal(images, alone)
    evaluated = torch.cat([images for images, _ in eval_batches(train, batch_size=6)])
    assert torch.equal(evaluated, train.read(range(len(train)))[0])
    assert not torch.equal(train.read(order)[0], alone)


def test_decoded_augmentation_differs_between_epochs(varied_folder):
    settings = {"name": "imagefolder", "path": varied_folder, "image_size": 24, "search_images": 5}
    train = load_splits(DataConfig(**settings), seed=0).train
    first, second = (train.read([0, 1], draw=Draw(seed=0, epoch=epoch))[0] for epoch in (0, 1))
    assert not torch.equal(first, second)
