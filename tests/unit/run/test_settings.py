"""Which settings decide weights, and how a difference between two configurations is said."""

import json
from pathlib import Path
from typing import Annotated

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from harness.run.config import Config, load_config
from harness.run.settings import (
    Since,
    configuration_format,
    difference,
    flat,
    nested,
    setting_names,
    with_missing,
)

# Whoever adds a setting says here, on purpose, on which side it stands.
DECIDING = {
    "seed", "model.name", "model.pretrained", "model.weights",
    "data.name", "data.image_size", "data.search_images", "data.train_images", "data.test_images",
    "data.crop_padding", "data.horizontal_flip", "data.train_split", "data.test_split",
    "data.split_by", "data.search_share", "data.significant_bits", "data.rand_augment",
    "data.augment_by",
    "quant.weight_candidates", "quant.act_candidates", "quant.depthwise_min_bits",
    "quant.layers", "quant.tie_shared_inputs", "quant.ties", "quant.keep_float",
    "train.mode", "train.epochs", "train.batch_size", "train.num_random_passes",
    "train.min_pass", "train.teacher", "train.teacher_weights",
    "train.learning_rate", "train.momentum", "train.weight_decay", "train.step_learning_rate",
    "train.warmup_epochs", "train.label_smoothing", "train.mixup", "train.cutmix",
    "train.distortion_weight",
    "train.distortion_max_bytes", "train.dampening_weight", "train.dampening_start",
    "train.two_bit_weight_decay", "train.gradient_clip", "train.ema_decay",
    "train.calibration_images", "train.bit_scheduler", "train.scheduler_start_epoch",
}  # fmt: skip
NOT_DECIDING = {
    "data.path", "data.num_workers",
    "train.validate_every_epochs", "train.checkpoint_every_epochs", "train.keep_checkpoints",
    "train.rank_timeout_seconds", "train.trackers", "train.explosion_factor",
    "eval.batch_size", "eval.recalibrate_images",
    "search.error_weight", "search.refine_share", "search.significance", "search.score",
    "search.images", "search.recalibrate_images", "search.finalists",
}  # fmt: skip

NAMES = list(setting_names(Config))
SETTINGS = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3))


def test_every_setting_is_classified_on_purpose():
    assert set(NAMES) == DECIDING | NOT_DECIDING
    assert set(setting_names(Config, deciding_only=True)) == DECIDING
    assert Config().deciding_settings().keys() == DECIDING


def test_deciding_settings_are_json_as_it_is_read_back():
    settings = load_config(None, overrides=["data.path=a/b", "model.weights=c"]).deciding_settings()
    assert json.loads(json.dumps(settings)) == settings


@given(settings=SETTINGS)
def test_flat_is_the_inverse_of_nested(settings):
    assert flat(nested(settings), iter(NAMES)) == settings


@given(settings=SETTINGS, missing=SETTINGS)
def test_missing_settings_never_replace_what_is_there(settings, missing):
    assert flat(with_missing(nested(settings), missing), iter(NAMES)) == {**missing, **settings}


@given(there=SETTINGS, here=SETTINGS)
def test_a_difference_names_some_key_exactly_if_there_is_one(there, here):
    parts = difference(there, here)
    differing = [name for name in NAMES if there.get(name) != here.get(name)]
    assert (parts is None) == (not differing)
    assert parts is None or any(name in parts for name in differing)


def test_a_difference_shows_the_first_few_and_counts_the_rest():
    there = {"seed": 0, "data.path": None, "train.epochs": 1, "train.mode": "float", "a": 1}
    here = {"data.path": [1, 2], "train.epochs": 2, "train.mode": "supernet", "a": 2}
    assert difference(there, here) == (
        "seed is 0 there and absent here, data.path is null there and [1, 2] here, "
        "train.epochs is 1 there and 2 here, and 2 more"
    )


class Part(BaseModel):
    old: int = 1
    second: Annotated[int, Since(format=2, before=20)] = 2
    third: Annotated[str, Since(format=3, before="as before")] = "new"


class Whole(BaseModel):
    part: Part = Part()
    fourth: Annotated[int, Since(format=3, before=40)] = 4


def test_each_format_adds_the_keys_that_it_brought_with_their_old_behaviour() -> None:
    made = configuration_format(Whole)
    assert made.version == 3
    first = made.upgraded({"format": 1, "part": {"old": 5}}, Path("config.yaml"))
    assert first == {
        "format": 3, "part": {"old": 5, "second": 20, "third": "as before"}, "fourth": 40,
    }  # fmt: skip
    second = made.upgraded({"format": 2, "part": {"second": 7}}, Path("config.yaml"))
    assert second == {"format": 3, "part": {"second": 7, "third": "as before"}, "fourth": 40}
    assert configuration_format(BaseModel).version == 1
