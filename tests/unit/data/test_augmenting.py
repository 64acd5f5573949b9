"""Both ways to augment give the same crops; RandAugment is timm's, and a function of the image."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image
from test_decoding import encoded
from timm.data.auto_augment import AugmentOp
from torchvision.transforms.v2.functional import pil_to_tensor
from unit_data_files import crops, write_varied_jpegs

from harness.data import Draw, load_splits, train_batches
from harness.data.augmenting import augment_arrays, rand_augment
from harness.data.decoding import decode_image, decode_tensor
from harness.errors import DataError
from harness.run.config import DataConfig

POLICY = "rand-m9-mstd0.5-inc1"
EVERY_OPERATION = "rand-m9-n9-p1-mstd3-inc1"
LEVEL = 1 / 255 / 0.224
"""One of 255 levels, normalised by the least deviation of ImageNet's channels."""


@pytest.fixture
def jpeg_folder(tmp_path):
    write_varied_jpegs(tmp_path / "jpegs" / "train", count=12)
    return tmp_path / "jpegs"


def training_images(folder, **settings):
    config = DataConfig(
        name="imagefolder", path=folder, image_size=20, search_images=4, horizontal_flip=True,
        **settings,
    )  # fmt: skip
    return load_splits(config, seed=0).train


@pytest.mark.parametrize("policy", [None, "rand-m9-n1-p1-tweights"])
def test_both_ways_draw_the_same_crops_and_flips(jpeg_folder, policy):
    """An interpolation that rounds otherwise moves a pixel by a level; other draws move them all.

    After it, some operations of RandAugment tear levels apart.
    """
    draw = Draw(seed=3, epoch=1)
    tensors, pillow = (
        training_images(jpeg_folder, augment_by=by, rand_augment=policy).read(range(12), draw=draw)
        for by in ("torchvision", "pillow")
    )
    assert torch.equal(tensors[1], pillow[1])
    assert tensors[0].shape == (12, 3, 20, 20)
    distance = (tensors[0] - pillow[0]).abs()
    near = (distance < 1.01 * LEVEL).float().mean(dim=(1, 2, 3))
    assert near.median() > 0.99
    if policy is None:
        assert distance.max() < 1.01 * LEVEL
        assert (distance < LEVEL / 2).float().mean() > 0.95


def test_the_way_without_tensors_is_that_of_timm(jpeg_folder):
    from timm.data import create_transform

    train = training_images(jpeg_folder, augment_by="pillow")
    read, _ = train.read(range(3), draw=Draw(seed=0, epoch=2))
    transform = create_transform((3, 20, 20), is_training=True, hflip=0.5, color_jitter=None)
    keys = np.random.PCG64(np.random.SeedSequence([6, 0, 2])).random_raw(len(train)) >> np.uint64(1)
    for image, seed, found in zip(train._images.decode(range(3)), keys, read, strict=False):
        random.seed(int(seed))
        torch.manual_seed(int(seed))
        assert torch.equal(transform(image), found)


@pytest.mark.parametrize("by", ["torchvision", "pillow"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_decoded_images_repeat_under_rand_augment(jpeg_folder, by, num_workers):
    train = training_images(
        jpeg_folder, rand_augment=POLICY, augment_by=by, num_workers=num_workers
    )
    check_repeats(train, epoch=4)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_in_memory_repeat_under_rand_augment(num_workers):
    config = DataConfig(rand_augment=POLICY, num_workers=num_workers, train_images=60)
    train = load_splits(config, seed=0).train
    assert train.num_workers == num_workers
    assert load_splits(DataConfig(num_workers=2), seed=0).train.num_workers == 0
    check_repeats(train, epoch=4)
    plain = load_splits(DataConfig(train_images=60), seed=0).train
    draw = Draw(seed=0, epoch=4)
    augmented, unaltered = train.read(range(60), draw=draw)[0], plain.read(range(60), draw=draw)[0]
    share = (augmented != unaltered).any(dim=3).any(dim=2).float().mean()
    assert 0.4 < share < 0.95  # Two operations, each by half.
    assert torch.equal(train.read(range(60))[0], plain.read(range(60))[0])


def numpy_state():
    return np.random.get_state()[1].tolist()  # noqa: NPY002


def check_repeats(train, *, epoch):
    """Each image comes out alike alone, in batches, and from workers; global draws stay."""
    states = random.getstate(), numpy_state(), torch.get_rng_state()
    loader = train_batches(train, batch_size=6, seed=0)
    loader.batch_sampler.sampler.set_epoch(epoch)
    order = [key - epoch * len(train) for keys in loader.batch_sampler for key in keys]
    images = torch.cat([images for images, _ in loader])
    draw = Draw(seed=0, epoch=epoch)
    alone = torch.cat([train.read([index], draw=draw)[0] for index in order])
    assert torch.equal(images, alone)
    other = Draw(seed=0, epoch=epoch + 1)
    assert not torch.equal(train.read(order, draw=other)[0], alone)
    assert random.getstate() == states[0]
    assert numpy_state() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "policy",
    [
        EVERY_OPERATION,
        "rand-m1-n9-p1",
        "rand-m30-mmax30-n9-p1-inc1",
        "rand-n9-p1-t3aw",
        "rand-p1-t3a",
    ],
)
def test_every_operation_takes_gray_and_coloured_images(channels, policy):
    """Among them posterizing to no bits, which timm asks of Pillow and Pillow refuses."""
    photographs = np.stack(crops(24, count=60)["cat"]).transpose(0, 3, 1, 2)[:, :channels]
    transform = rand_augment(policy, image_size=(24, 24), mean=[0.5] * channels)
    seeds = np.arange(60, dtype=np.uint64)
    augmented = augment_arrays(photographs, seeds, transform)
    assert (augmented.shape, augmented.dtype) == (photographs.shape, np.uint8)
    assert (augmented != photographs).any(axis=(1, 2, 3)).mean() > 0.5


def test_rand_augment_is_that_of_timm():
    from timm.data.auto_augment import rand_augment_transform

    image = Image.fromarray(crops(32, count=1)["coffee"][0])
    fill = (124, 116, 104)
    settings = {"translate_const": 14, "img_mean": fill, "interpolation": Image.Resampling.BILINEAR}
    ours = rand_augment(POLICY, image_size=(32, 40), mean=[x / 255 for x in fill])
    theirs = rand_augment_transform(POLICY, settings)
    for seed in range(20):
        found = []
        for transform in (ours, theirs):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - timm draws from the global one.
            found.append(np.asarray(transform(image)))
        assert np.array_equal(*found)
    assert rand_augment(None, image_size=(32, 32), mean=fill) is None


@pytest.mark.parametrize("level", [0, 4, 10])
def test_posterizing_to_no_bits_is_black(level):
    pixels = np.full((1, 3, 4, 4), 201, np.uint8)
    transform = rand_augment(f"rand-m{level}-p1-inc1", image_size=(4, 4), mean=[0.5] * 3)
    (operation,) = [op for op in transform.ops if op.name == "PosterizeIncreasing"]
    assert isinstance(operation, AugmentOp)
    transform.ops = [operation]
    kept = {0: 192, 4: 192, 10: 0}  # Of 4, 3 and no bits.
    augmented = augment_arrays(pixels, np.zeros(1, np.uint64), transform)
    assert set(augmented.flatten()) == {kept[level]}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("quality", [20, 90])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tensor_holds_the_pixels_of_pillow(mode, quality, orientation):
    photograph = Image.fromarray(crops(37, count=1)["cat"][0][:, :29]).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    photograph.save(buffer, "JPEG", quality=quality, exif=exif, progressive=quality > 50)
    entry = {"bytes": buffer.getvalue(), "path": None}
    image = decode_image(entry, place="row 0", significant_bits=None).convert("RGB")
    pixels = decode_tensor(entry, place="row 0", significant_bits=None)
    assert torch.equal(pixels, pil_to_tensor(image))


def test_a_tensor_holds_the_pixels_of_other_files(tmp_path):
    entry = encoded(Image.fromarray(crops(9, count=1)["cat"][0]))
    path = tmp_path / "a.png"
    path.write_bytes(entry["bytes"])
    image = decode_image(entry, place="row 0", significant_bits=None)
    for one in (entry, {"bytes": None, "path": str(path)}):
        pixels = decode_tensor(one, place="row 0", significant_bits=None)
        assert torch.equal(pixels, pil_to_tensor(image))


@pytest.mark.parametrize("entry", [None, {}, {"bytes": b""}, {"path": "gone.jpg"}, "cut"])
def test_a_tensor_is_refused_in_the_words_of_pillow(entry):
    if entry == "cut":
        whole = encoded(Image.fromarray(crops(64, count=1)["cat"][0]), "JPEG")["bytes"]
        entry = {"bytes": whole[: len(whole) // 2], "path": None}
    refusals = []
    for decode in (decode_image, decode_tensor):
        with pytest.raises(DataError, match=r"^row 0.* cannot be decoded: ") as refused:
            decode(entry, place="row 0", significant_bits=None)
        refusals.append(str(refused.value))
    assert refusals[0] == refusals[1]


def test_damaged_training_images_are_named_by_both_ways(jpeg_folder):
    ways = [training_images(jpeg_folder, augment_by=by) for by in ("torchvision", "pillow")]
    for path in jpeg_folder.rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:300])
    for train in ways:
        with pytest.raises(DataError, match=r"\.jpg\) cannot be decoded: it is not a whole image"):
            train.read([0], draw=Draw(seed=0, epoch=0))
