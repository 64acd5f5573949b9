"""Settings that change nothing are said, and those that change something are not."""

import pytest
from accelerate import Accelerator
from supernet_tasks import task_of

from harness.data import load_splits
from harness.run.config import load_config
from harness.training.assemble import create_task

ONE = ("quant.weight_candidates=[4]", "quant.act_candidates=[4]")
TIED = 'quant.ties=["stages.*"]'
SUPERNET = [
    ((), None),
    (("train.num_random_passes=0", "train.distortion_weight=0.1"), "train.distortion_weight has"),
    (
        ("train.num_random_passes=0", "train.dampening_weight=1", "train.two_bit_weight_decay=0"),
        "train.dampening_weight, train.two_bit_weight_decay have no effect: train.num_random_passe",
    ),
    (
        ("train.num_random_passes=0", "train.min_pass=true", "train.distortion_weight=0.1"),
        None,
    ),
    ((*ONE, "train.dampening_weight=1"), "no effect: no layer has two weight candidates"),
    (("train.dampening_weight=1", "train.distortion_weight=1"), None),
    (("quant.weight_candidates=[4,3]", "train.two_bit_weight_decay=0"), "no layer has 2 bits as"),
    (("train.two_bit_weight_decay=0",), None),
    (("train.scheduler_start_epoch=2",), "has no effect: train.bit_scheduler is off"),
    (("train.bit_scheduler=true", *ONE), "freezes nothing: no layer has two weight candidates"),
    (("train.bit_scheduler=true", TIED), "and of 8 that have two weight candidates all are dec"),
    (("train.bit_scheduler=true", "train.scheduler_start_epoch=2"), None),
]


@pytest.mark.parametrize(("overrides", "words"), SUPERNET)
def test_a_supernet_says_what_has_no_effect(caplog, overrides, words):
    task_of(2, *overrides)
    messages = [one for one in caplog.messages if "no effect" in one or "nothing" in one]
    if words is None:
        assert messages == []
    else:
        (message,) = messages
        assert words in message


@pytest.mark.parametrize("with_settings", [True, False])
def test_a_float_run_says_what_only_a_supernet_has_a_use_for(caplog, with_settings):
    settings = ["train.bit_scheduler=true", "train.teacher=resnet8", "train.distortion_weight=0.1"]
    config = load_config(
        None, overrides=["train.mode=float", *(settings if with_settings else ["train.mixup=0.1"])]
    )
    create_task(config, load_splits(config.data, seed=0), Accelerator(cpu=True))
    expected = "train.teacher, train.distortion_weight, train.bit_scheduler have no effect: train.m"
    assert (expected in caplog.text) == ("no effect" in caplog.text) == with_settings
