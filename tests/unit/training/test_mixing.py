"""Mixup and CutMix: timm's, a pure function of (seed, step, rank), smoothed once."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from timm.data.mixup import Mixup

from harness.run.config import TrainConfig, load_config
from harness.run.folder import RunDir
from harness.runtime import StopFlag
from harness.training.assemble import assemble
from harness.training.losses import PassContext, cross_entropy
from harness.training.mixing import BatchMixing

WAYS = {
    "mixup": {"mixup": 0.8},
    "cutmix": {"cutmix": 1.0},
    "both": {"mixup": 0.8, "cutmix": 1.0},
}


def mixing(*, seed=0, rank=0, **settings):
    return BatchMixing(TrainConfig(**settings), num_classes=10, seed=seed, rank=rank)


def test_nothing_is_mixed_by_default(batch):
    mixed = mixing()(*batch, step=0)
    assert (mixed[0] is batch[0], mixed[1] is batch[1]) == (True, True)


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_is_mixed_with_itself_in_reverse(batch, way):
    images, labels = batch
    before = images.clone()
    mixed, shares = mixing(**WAYS[way])(images, labels, step=3)
    assert torch.equal(images, before)
    assert not torch.equal(mixed, images)
    assert (shares.shape, shares.dtype) == ((6, 10), torch.float32)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(6))
    share = shares[0, labels[0]]
    assert torch.equal(shares[torch.arange(6), labels], share.expand(6))
    assert torch.equal(shares[torch.arange(6), labels.flip(0)], shares[0, labels[5]].expand(6))
    if way == "mixup":
        torch.testing.assert_close(mixed, share * images + (1 - share) * images.flip(0))
    if way == "cutmix":
        is_own = (mixed == images).all(dim=1)
        assert torch.equal(mixed, torch.where(is_own.unsqueeze(1), images, images.flip(0)))
        torch.testing.assert_close(is_own.float().mean(), share)


@pytest.mark.parametrize("way", WAYS)
def test_the_draw_is_a_function_of_seed_step_and_rank(batch, way):
    first = mixing(**WAYS[way])(*batch, step=3)
    np.random.random(5)  # noqa: NPY002 - what others draw does not matter.
    assert all(map(torch.equal, first, mixing(**WAYS[way])(*batch, step=3)))
    others = [
        mixing(**WAYS[way])(*batch, step=4),
        mixing(**WAYS[way], seed=1)(*batch, step=3),
        mixing(**WAYS[way], rank=1)(*batch, step=3),
    ]
    assert len({images.numpy().tobytes() for images, _ in (first, *others)}) == 4


def numpy_state():
    return np.random.get_state()[1].tolist()  # noqa: NPY002


def test_the_global_generator_is_left_alone(batch):
    states = numpy_state(), torch.get_rng_state()
    mixing(**WAYS["both"])(*batch, step=0)
    assert numpy_state() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


def test_both_ways_are_taken_over_the_steps(batch):
    mix = mixing(**WAYS["both"])
    is_pasted = []
    for step in range(40):
        mixed, _ = mix(*batch, step=step)
        of_either = (mixed == batch[0]) | (mixed == batch[0].flip(0))
        is_pasted.append(bool(of_either.all()))
    assert 10 < sum(is_pasted) < 30


def test_labels_are_smoothed_once_as_timm_does(batch):
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(5))
    _, shares = mixing(mixup=0.8)(*batch, step=1)
    context = PassContext(logits=logits, labels=shares)
    key = np.random.SeedSequence([7, 0, 1, 0])
    np.random.seed(key.generate_state(1))  # noqa: NPY002
    theirs = Mixup(mixup_alpha=0.8, label_smoothing=0.1, num_classes=10)
    _, smoothed = theirs(batch[0].clone(), batch[1])
    expected = F.cross_entropy(logits, smoothed)
    torch.testing.assert_close(cross_entropy(context, smoothing=0.1), expected)
    unsmoothed = -(shares * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(cross_entropy(context), unsmoothed)
    assert (expected - unsmoothed).abs() > 0.001


@pytest.mark.parametrize("mode", ["float", "supernet"])
def test_a_step_trains_on_the_mixed_batch(batch, mode, tmp_path):
    """All its passes on the same one."""
    overrides = [f"train.mode={mode}", "data.train_images=30", "data.search_images=20",
                 "train.batch_size=6", "train.mixup=0.8"]  # fmt: skip
    config = load_config(None, overrides=overrides)
    loop = assemble(config, RunDir(tmp_path / "run"), Accelerator(cpu=True), checkpoint=None)
    model = loop.state.task.model.train()
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    with StopFlag() as stop:
        losses, _ = loop.take_step(*batch, stop)
    mixed, _ = mixing(mixup=0.8)(*batch, step=0)
    assert not torch.equal(mixed, batch[0])
    assert len(seen) == (1 if mode == "float" else 1 + config.train.num_random_passes)
    assert all(torch.equal(images, mixed) for images in seen)
    assert all(value.isfinite() for value in losses.values())
