"""The loader's benchmark counts images of every form, and of workers their time too."""

import time

import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.loader import compare, folder_split, markdown, measure_parts, write_images
from harness.data import Draw


class Busy(Dataset):
    """Twenty images that each take a while of the processor."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        end = time.process_time() + 0.01
        while time.process_time() < end:
            pass
        return torch.zeros(1), 0


def test_the_time_of_workers_counts():
    forms = {
        "here": lambda: DataLoader(Busy(), 5),
        "by a worker": lambda: DataLoader(Busy(), 5, num_workers=1, persistent_workers=True),
    }
    here, worker = compare("busy images", forms, rounds=2)
    assert here["ratio"] == 1
    assert 50 < here["images_per_second"] < 100
    assert worker["images_per_second"] < 100


def test_a_table_shows_every_form_and_the_pixels(tmp_path):
    write_images(tmp_path)
    split = folder_split(tmp_path)
    images, _ = split.read([0], draw=Draw(seed=0, epoch=0))
    assert images.shape == (1, 3, 224, 224)
    results = measure_parts(tmp_path, rounds=1)
    assert results[-1]["decoded_share"] == 0
    assert 0 < results[-1]["cropped_share"] < 0.03
    assert results[-1]["cropped_levels"] == 1
    text = markdown(results)
    assert all(f"| {one['form']} |" in text for one in results[:-1])
    assert "decode 0.00 % of the values" in text
