"""Training under RandAugment and mixup: a run that goes on equals one that was not stopped."""

import signal
from pathlib import Path

import numpy as np
import pytest
from journey_runs import QUICK, quick_config, signal_in_step
from PIL import Image

from harness.errors import ConfigError, Stopped
from harness.run.checkpoint_folder import newest_checkpoint
from harness.run.config import load_config, load_run_config
from harness.run.files import read_bytes
from harness.training.trainer import train

GOLDEN = Path(__file__).parents[1] / "golden/runs"
BOTH = ("data.rand_augment=rand-m9-mstd0.5-inc1", "train.mixup=0.4", "train.cutmix=1.0")


def weights_file(run):
    return read_bytes(newest_checkpoint(run) / "model.safetensors", limit=None)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, trained_run):
    whole = train(quick_config(*BOTH), out=tmp_path / "whole")
    with signal_in_step(signal.SIGUSR1, 3), pytest.raises(Stopped, match="at step 3 of 16"):
        train(quick_config(*BOTH), out=tmp_path / "stopped")
    # Other worker processes, too, change nothing.
    resumed = train(quick_config(*BOTH, "data.num_workers=1"), out=tmp_path / "stopped")
    assert weights_file(resumed) == weights_file(whole)
    assert weights_file(whole) != weights_file(trained_run)
    for one in BOTH:
        assert one.partition("=")[0] in whole.load_config().deciding_settings()


def test_a_resumed_run_on_decoded_images_equals_an_uninterrupted_one(tmp_path):
    generator = np.random.default_rng(0)
    for label, number in np.ndindex(2, 30):
        folder = tmp_path / f"images/train/class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (20 + number, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    sets = (
        *BOTH, "data.name=imagefolder", f"data.path={tmp_path / 'images'}", "data.image_size=16",
        "data.train_images=null", "data.test_images=null", "data.search_images=6",
        "train.batch_size=8", "train.calibration_images=8", "eval.recalibrate_images=8",
    )  # fmt: skip
    whole = train(quick_config(*sets), out=tmp_path / "whole")
    with signal_in_step(signal.SIGUSR1, 2), pytest.raises(Stopped, match="at step 2 of "):
        train(quick_config(*sets), out=tmp_path / "stopped")
    resumed = train(quick_config(*sets), out=tmp_path / "stopped")
    assert weights_file(resumed) == weights_file(whole)
    pillow = train(quick_config(*sets, "data.augment_by=pillow"), out=tmp_path / "pillow")
    assert weights_file(pillow) != weights_file(whole)


@pytest.mark.parametrize("policy", ["rand-x9", "m9", "augmix-m3", "rand-n0", "rand-p2", "rand-m9-"])
def test_what_timm_would_misread_is_refused(policy):
    message = rf"data.rand_augment = '{policy}': this is no RandAugment of timm, .*; write it as ra"
    with pytest.raises(ConfigError, match=message):
        load_config(None, overrides=[*QUICK, f"data.rand_augment={policy}"])


@pytest.mark.parametrize("setting", ["train.mixup=0.2", "train.cutmix=1.0"])
def test_odd_batches_are_not_mixed(setting):
    message = (
        r"batch_size 51 is odd, train.mixup and train.cutmix mix pairs of images; make it even"
    )
    with pytest.raises(ConfigError, match=message):
        load_config(None, overrides=[*QUICK, "train.batch_size=51", setting])


def test_a_run_of_an_older_version_goes_on_as_it_began():
    config = load_run_config(GOLDEN / "format4/stopped/config.yaml")
    assert (config.data.augment_by, config.data.rand_augment) == ("pillow", None)
    assert (config.train.mixup, config.train.cutmix) == (0, 0)
    assert load_config(None).data.augment_by == "torchvision"
