"""Every kind of source becomes three splits; every fault becomes one line."""

import shutil
import time

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from unit_data_files import crops, write_idx

from harness.data import load_splits, sources
from harness.errors import DataError
from harness.run.config import DataConfig


def config(name, path=None, **changes):
    return DataConfig(**{"name": name, "path": path, "search_images": 5, **changes})


def test_digits_hold_out_about_a_fifth_as_test():
    splits = load_splits(DataConfig(), seed=0)
    assert (len(splits.train), len(splits.search), len(splits.test)) == (1144, 300, 353)
    assert (splits.num_classes, splits.in_channels, splits.image_size) == (10, 1, (8, 8))
    assert splits.class_names == tuple("0123456789")


def test_digits_use_the_whole_range_of_a_byte():
    pixels = load_splits(DataConfig(), seed=0).train.pixels
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_fashion_mnist_is_read_from_idx_files(idx_folder):
    splits = load_splits(config("fashion_mnist", idx_folder), seed=0)
    assert (len(splits.train), len(splits.search), len(splits.test)) == (55, 5, 20)
    assert splits.class_names[0] == "T-shirt/top"
    expected = sorted(sources.read_idx(idx_folder / "t10k-labels-idx1-ubyte", num_dimensions=1))
    assert sorted(splits.test.labels.tolist()) == expected


@pytest.mark.skipif(
    not sources.FASHION_MNIST_FOLDER.is_dir(),
    reason="Fashion-MNIST is not installed; run `make system-packages`",
)
def test_fashion_mnist_of_debian_is_whole():
    splits = load_splits(config("fashion_mnist", search_images=5000), seed=0)
    assert (len(splits.train), len(splits.search), len(splits.test)) == (55000, 5000, 10000)
    assert torch.bincount(splits.test.labels).tolist() == [1000] * 10
    assert splits.mean[0] == pytest.approx(0.2860, abs=1e-3)
    assert splits.std[0] == pytest.approx(0.3530, abs=1e-3)


def test_fashion_mnist_says_how_to_get_it_when_absent(offline_hub, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FASHION_MNIST_FOLDER", tmp_path / "absent")
    message = (
        r"^fashion_mnist: \S+absent is not there and zalando-datasets/fashion_mnist cannot be "
        r"loaded: [^\n;]*; run `make system-packages` or set data.path to the folder of the idx"
    )
    with pytest.raises(DataError, match=message):
        load_splits(config("fashion_mnist"), seed=0)


def test_fashion_mnist_refuses_a_path_that_is_no_folder(tmp_path):
    with pytest.raises(DataError, match=r"data\.path \S+absent is not a folder; run `make system"):
        load_splits(config("fashion_mnist", tmp_path / "absent"), seed=0)


def test_fashion_mnist_names_the_file_that_is_missing(idx_folder):
    (idx_folder / "t10k-labels-idx1-ubyte").unlink()
    message = r"has neither t10k-labels-idx1-ubyte\.gz nor t10k-labels-idx1-ubyte; run `make"
    with pytest.raises(DataError, match=message):
        load_splits(config("fashion_mnist", idx_folder), seed=0)


def test_fashion_mnist_refuses_images_without_labels(idx_folder):
    write_idx(idx_folder / "t10k-labels-idx1-ubyte", np.zeros(19))
    message = "holds 20 images, but t10k-labels-idx1-ubyte holds 19 labels; fetch both again"
    with pytest.raises(DataError, match=message):
        load_splits(config("fashion_mnist", idx_folder), seed=0)


def test_fashion_mnist_refuses_a_label_beyond_its_classes(idx_folder):
    write_idx(idx_folder / "t10k-labels-idx1-ubyte", np.full(20, 10))
    with pytest.raises(DataError, match="holds label 10, the largest is 9; fetch it again"):
        load_splits(config("fashion_mnist", idx_folder), seed=0)


def test_image_folder_takes_val_as_test(image_folder):
    splits = load_splits(config("imagefolder", image_folder), seed=0)
    assert (len(splits.train), len(splits.search), len(splits.test)) == (19, 5, 8)
    assert (splits.in_channels, splits.image_size) == (3, (32, 32))
    assert splits.class_names == ("cat", "coffee")
    assert torch.bincount(splits.test.labels).tolist() == [4, 4]


def test_image_folder_keeps_pixels_and_labels_together(image_folder):
    splits = load_splits(config("imagefolder", image_folder), seed=0)
    for pixels, label in zip(splits.test.pixels, splits.test.labels, strict=True):
        photographs = crops(32, count=4)[splits.class_names[label]]
        assert any(np.array_equal(pixels.permute(1, 2, 0), crop) for crop in photographs)


def test_image_folder_holds_out_a_test_split_where_there_is_none(image_folder):
    (image_folder / "val").rename(image_folder / "elsewhere")
    splits = load_splits(config("imagefolder", image_folder), seed=0)
    assert (len(splits.train), len(splits.search), len(splits.test)) == (13, 5, 6)


def test_image_folder_brings_images_to_size(image_folder):
    splits = load_splits(config("imagefolder", image_folder, image_size=16), seed=0)
    assert splits.image_size == (16, 16)
    assert splits.train[0][0].shape == (3, 16, 16)


def test_image_folder_of_several_sizes_is_decoded_to_size(varied_folder):
    splits = load_splits(config("imagefolder", varied_folder, image_size=24), seed=0)
    images, labels = splits.test.read([0, 1, 2])
    assert (images.shape, images.dtype) == ((3, 3, 24, 24), torch.float32)
    assert labels.dtype == torch.int64
    assert splits.image_size == (24, 24)


def test_image_folder_of_several_sizes_asks_for_a_size(varied_folder):
    message = "^imagefolder: data.image_size is null, but the images are of several sizes or too "
    with pytest.raises(DataError, match=message):
        load_splits(config("imagefolder", varied_folder), seed=0)


def test_gray_images_among_coloured_ones_become_coloured(image_folder):
    file = image_folder / "train" / "cat" / "000.png"
    Image.open(file).convert("L").save(file)
    assert load_splits(config("imagefolder", image_folder), seed=0).in_channels == 3


def test_gray_images_keep_one_channel(image_folder):
    for file in image_folder.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    assert load_splits(config("imagefolder", image_folder), seed=0).in_channels == 1


def test_16_bit_gray_images_keep_their_high_bytes(image_folder):
    expected = {}
    for file in image_folder.rglob("*.png"):
        gray = np.asarray(Image.open(file).convert("L"))
        expected[gray.tobytes()] = True
        Image.fromarray(gray.astype(np.uint16) * 256 + 77).save(file)
    splits = load_splits(config("imagefolder", image_folder, significant_bits=16), seed=0)
    assert all(pixels.numpy().tobytes() in expected for pixels in splits.test.pixels)


def test_image_folder_names_the_image_that_is_damaged(image_folder):
    file = image_folder / "train" / "cat" / "003.png"
    file.write_bytes(file.read_bytes()[:200])
    message = r"row \d+ of imagefolder \(\w+ split\) \(.*003\.png\) cannot be decoded: .*; replace"
    with pytest.raises(DataError, match=message):
        load_splits(config("imagefolder", image_folder), seed=0)


def test_image_folder_needs_its_training_folder(image_folder):
    (image_folder / "train").rename(image_folder / "training")
    with pytest.raises(DataError, match=r"has no folder train/ with one folder of images per cla"):
        load_splits(config("imagefolder", image_folder), seed=0)
    splits = load_splits(config("imagefolder", image_folder, train_split="training"), seed=0)
    assert len(splits.train) == 19


def test_image_folder_of_one_class_is_refused(image_folder):
    for folder in ("train", "val"):
        shutil.rmtree(image_folder / folder / "coffee")
    with pytest.raises(DataError, match="column label holds 1 class, the least is 2; check data"):
        load_splits(config("imagefolder", image_folder), seed=0)


@pytest.mark.parametrize("name", ["imagefolder", "parquet"])
def test_local_sets_need_a_path(name, tmp_path):
    with pytest.raises(DataError, match=f"^{name}: data.path is not set; set it to the folder"):
        load_splits(config(name), seed=0)
    with pytest.raises(
        DataError, match=f"^{name}: data.path .*absent is not there; give --data-path"
    ):
        load_splits(config(name, tmp_path / "absent"), seed=0)


def photograph_rows(folder, *, count):
    rows = {"image": [], "label": []}
    for label, images in enumerate(crops(32, count=count).values()):
        for image in images:
            file = folder / "one.png"
            Image.fromarray(image).save(file)
            rows["image"].append({"bytes": file.read_bytes(), "path": None})
            rows["label"].append(label)
            file.unlink()
    return rows


@pytest.fixture
def parquet_folder(tmp_path):
    """24 training and 8 test photographs as parquet files that `datasets` did not write."""
    import pyarrow as pa
    from pyarrow import parquet

    folder = tmp_path / "parquet"
    folder.mkdir()
    for split, count in (("train", 12), ("test", 4)):
        rows = photograph_rows(tmp_path, count=count)
        parquet.write_table(pa.table(rows), folder / f"{split}-00000-of-00001.parquet")
    return folder


def test_parquet_folder_is_read_without_metadata(parquet_folder):
    splits = load_splits(config("parquet", parquet_folder), seed=0)
    assert (len(splits.train), len(splits.search), len(splits.test)) == (19, 5, 8)
    assert (splits.in_channels, splits.class_names) == (3, ("0", "1"))


def test_parquet_file_alone_holds_out_its_test_split(parquet_folder):
    file = next(parquet_folder.glob("train*"))
    splits = load_splits(config("parquet", file), seed=0)
    assert (len(splits.train), len(splits.search), len(splits.test)) == (17, 5, 2)


def test_parquet_takes_class_names_from_text_labels(parquet_folder, tmp_path):
    rows = photograph_rows(tmp_path, count=12)
    names = ["cat" if label == 0 else "coffee" for label in rows["label"]]
    file = tmp_path / "train.parquet"
    features = datasets.Features({"img": datasets.Image(), "fine_label": datasets.Value("string")})
    columns = {"img": rows["image"], "fine_label": names}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(file)
    splits = load_splits(config("parquet", file), seed=0)
    assert splits.class_names == ("cat", "coffee")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("text", "label"), "none of the columns text, label holds images; choose an image class"),
        (("image", "size"), "none of the columns image, size holds labels; choose an image class"),
    ],
)
def test_parquet_without_a_needed_column_is_refused(tmp_path, columns, message):
    rows = photograph_rows(tmp_path, count=12)
    rows["text"] = rows["size"] = ["7"] * 24
    file = tmp_path / "train.parquet"
    datasets.Dataset.from_dict({name: rows[name] for name in columns}).to_parquet(file)
    with pytest.raises(DataError, match=message):
        load_splits(config("parquet", file), seed=0)


def test_parquet_test_split_with_other_columns_is_refused(parquet_folder, tmp_path):
    rows = photograph_rows(tmp_path, count=4)
    file = next(parquet_folder.glob("test*"))
    datasets.Dataset.from_dict({"image": rows["image"]}).to_parquet(file)
    with pytest.raises(DataError, match=r"parquet.*label"):
        load_splits(config("parquet", parquet_folder), seed=0)


def test_parquet_with_an_unlabelled_test_split_is_refused(parquet_folder, tmp_path):
    rows = photograph_rows(tmp_path, count=4)
    rows["label"] = [-1] * 8
    datasets.Dataset.from_dict(rows).to_parquet(next(parquet_folder.glob("test*")))
    message = "the test split holds label -1, outside the 2 classes of the training images; choose"
    with pytest.raises(DataError, match=message):
        load_splits(config("parquet", parquet_folder), seed=0)


def write_labels(parquet_folder, tmp_path, label_of, *, test_label_of=None):
    """Write the photographs with other labels; returns nothing."""
    for split, count, function in (
        ("train", 12, label_of),
        ("test", 4, test_label_of or label_of),
    ):
        rows = photograph_rows(tmp_path, count=count)
        rows["label"] = [function(n) for n in range(2 * count)]
        datasets.Dataset.from_dict(rows).to_parquet(next(parquet_folder.glob(f"{split}*")))


def test_whole_numbers_as_labels_make_one_class_each(parquet_folder, tmp_path):
    write_labels(parquet_folder, tmp_path, lambda n: (5000, 7, 300)[n % 3])
    splits = load_splits(config("parquet", parquet_folder), seed=0)
    assert (splits.num_classes, splits.class_names) == (3, ("7", "300", "5000"))
    assert sorted(set(splits.test.labels.tolist())) == [0, 1, 2]


def test_a_whole_number_that_no_training_image_has_is_refused(parquet_folder, tmp_path):
    write_labels(parquet_folder, tmp_path, lambda n: 7 * (n % 2), test_label_of=lambda n: n % 2)
    message = "the test split holds label 1, outside the 2 classes of the training images; choose a"
    with pytest.raises(DataError, match=message):
        load_splits(config("parquet", parquet_folder), seed=0)


def test_labels_that_are_no_whole_numbers_are_refused(parquet_folder, tmp_path):
    write_labels(parquet_folder, tmp_path, lambda n: n % 2 + 0.5)
    message = r"column label holds [01]\.5, a label is a text or a whole number; choose an image"
    with pytest.raises(DataError, match=message):
        load_splits(config("parquet", parquet_folder), seed=0)


def test_splits_that_number_their_classes_otherwise_are_refused(parquet_folder, tmp_path):
    rows = datasets.Dataset.from_dict(photograph_rows(tmp_path, count=12))
    for split, names in (("train", ["cat", "coffee"]), ("test", ["coffee", "cat"])):
        features = {"image": rows.features["image"], "label": datasets.ClassLabel(names=names)}
        file = next(parquet_folder.glob(f"{split}*"))
        rows.cast(datasets.Features(features)).to_parquet(file)
    with pytest.raises(DataError, match=r"parquet"):
        load_splits(config("parquet", parquet_folder), seed=0)


@pytest.mark.parametrize("name", ["p[1]", "p*", "p?"])
def test_parquet_folder_is_no_pattern(parquet_folder, tmp_path, name):
    """`p[1]` as a pattern is the folder `p1`, whose images are others."""
    neighbour = parquet_folder.rename(tmp_path / "p1")
    folder = tmp_path / name
    shutil.copytree(neighbour, folder)
    rows = photograph_rows(tmp_path, count=3)
    datasets.Dataset.from_dict(rows).to_parquet(next(neighbour.glob("train*")))
    splits = load_splits(config("parquet", folder), seed=0)
    assert (len(splits.train), len(splits.search), len(splits.test)) == (19, 5, 8)


@pytest.mark.parametrize("name", ["digits", "someone/some_set"])
def test_sets_that_take_no_path_refuse_one(name, tmp_path):
    with pytest.raises(
        DataError, match=f"is set, but {name} takes none; set it to null, or data.n"
    ):
        load_splits(config(name, tmp_path), seed=0)


def test_parquet_folder_without_training_files_is_refused(parquet_folder):
    message = r"has no sample\*\.parquet; set data\.path or data\.train_split$"
    with pytest.raises(DataError, match=message):
        load_splits(config("parquet", parquet_folder, train_split="sample"), seed=0)


def test_damaged_parquet_file_is_one_line(parquet_folder):
    file = next(parquet_folder.glob("train*"))
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"^parquet cannot be loaded: [^\n]*; check data\.path$"):
        load_splits(config("parquet", parquet_folder), seed=0)


def test_hub_set_is_loaded_by_its_name(monkeypatch, parquet_folder):
    """A folder stands for a repository of the hub: `datasets` loads both by the same call."""
    monkeypatch.setattr(sources, "_is_hub_reachable", lambda name: True)
    splits = load_splits(config(str(parquet_folder)), seed=0)
    assert (len(splits.train), len(splits.search), len(splits.test)) == (19, 5, 8)


def test_hub_set_without_the_named_split_lists_those_it_has(monkeypatch, parquet_folder):
    monkeypatch.setattr(sources, "_is_hub_reachable", lambda name: True)
    message = "has no split extra; its splits are train, test; set data.train_split"
    with pytest.raises(DataError, match=message):
        load_splits(config(str(parquet_folder), train_split="extra"), seed=0)


def test_hub_set_fails_quickly_when_offline(offline_hub):
    start = time.monotonic()
    message = r"^someone/some_set cannot be loaded: [^\n]*; check data\.name, or go online$"
    with pytest.raises(DataError, match=message):
        load_splits(config("someone/some_set"), seed=0)
    assert time.monotonic() - start < 10
    assert not datasets.config.HF_HUB_OFFLINE
