"""Real images as files: digits in idx form, cropped photographs in folders and parquet files."""

import datasets
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from unit_data_files import crops, write_class_folders, write_idx

NUM_TRAIN = 60
NUM_TEST = 20


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """Keep what `datasets` prepares out of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def offline_hub(monkeypatch):
    """Point the hub at an address where nothing listens."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture
def idx_folder(tmp_path):
    """The first digits in the files and names of Fashion-MNIST: training gzipped, test raw."""
    digits = load_digits()
    images, labels = digits.images[: NUM_TRAIN + NUM_TEST] * 15, digits.target
    folder = tmp_path / "idx"
    folder.mkdir()
    write_idx(folder / "train-images-idx3-ubyte.gz", images[:NUM_TRAIN])
    write_idx(folder / "train-labels-idx1-ubyte.gz", labels[:NUM_TRAIN])
    write_idx(folder / "t10k-images-idx3-ubyte", images[NUM_TRAIN:])
    write_idx(folder / "t10k-labels-idx1-ubyte", labels[NUM_TRAIN : NUM_TRAIN + NUM_TEST])
    return folder


@pytest.fixture
def image_folder(tmp_path):
    """24 training and 8 validation photographs of 32 x 32, in a folder with an awkward name."""
    folder = tmp_path / "photo[s] x"
    write_class_folders(folder / "train", crops(32, count=12))
    write_class_folders(folder / "val", crops(32, count=4))
    return folder


@pytest.fixture
def varied_folder(image_folder):
    """The same folder with one photograph of another size."""
    (image,) = crops(48, count=1)["cat"]
    Image.fromarray(image).save(image_folder / "train" / "cat" / "large.png")
    return image_folder
