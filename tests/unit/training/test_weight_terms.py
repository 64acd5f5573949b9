"""Penalties on weights: what each adds up, and for which layers, against numbers counted out."""

import pytest
import torch
from supernet_tasks import engine_of, floats, gradients, task_of
from torch import nn

from harness.run.config import TrainConfig
from harness.training.losses import random_pass_terms
from harness.training.policy_sampler import sample_policy
from harness.training.weight_terms import WeightTerms

DAMPENING, TWO_BIT_DECAY = "random_dampening", "random_two_bit_decay"


def grid(layer, bits):
    """Return the step size and the ends of the grid of a weight, as Python numbers."""
    return layer.weight_quantizer.step_size_of(bits).item(), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def rounded(value, layer, bits):
    step, low, high = grid(layer, bits)
    return step * min(max(round(value / step), low), high)


def counted_out(layer, bits, smallest):
    """Return the dampening and half the squares of one layer, element by element."""
    step, low, high = grid(layer, bits)
    dampening = squares = 0.0
    for value in layer.weight.detach().double().flatten().tolist():
        clipped = min(max(value, step * low), step * high)
        squares += 0.5 * clipped**2
        own, fewest = rounded(value, layer, bits), rounded(value, layer, smallest)
        if abs(own - fewest) >= 0.5 * step:
            dampening += (clipped - own) ** 2
    return dampening, squares


def test_terms_equal_what_is_counted_out(batch):
    task = task_of(1)
    for seed in range(3):
        policy = sample_policy(task.candidates, seed=seed, step=0, pass_index=0)
        terms = WeightTerms(task.candidates, dampens=True, decays=True)
        bits = [weight for weight, _ in policy]
        two = [at for at, own in enumerate(bits) if own == 2]
        task.model(batch[0], terms.watching(task.model.encode(policy), bits, decayed=two))
        dampening = squares = 0.0
        parts = zip(task.model.layers, bits, task.candidates.layers, strict=True)
        for layer, own, candidates in parts:
            smallest = min(candidates.weight)
            one, half = counted_out(layer, own, smallest)
            dampening += one if own > smallest else 0.0
            squares += half if own == 2 else 0.0
        assert len(terms.decay) == bits.count(2)
        assert sum(terms.dampening).item() == pytest.approx(dampening, rel=1e-4)
        assert sum(terms.decay).item() == pytest.approx(squares, rel=1e-4)


def test_weights_are_drawn_to_the_grid_and_the_grid_stands_still(batch):
    task = task_of(1)
    policy = task.candidates.uniform(weight_bits=4, act_bits=4)
    terms = WeightTerms(task.candidates, dampens=True, decays=False)
    bits = [weight for weight, _ in policy]
    task.model(batch[0], terms.watching(task.model.encode(policy), bits, decayed=()))
    sum(terms.dampening).backward()
    layer = task.model.layers[2]
    quantized = layer.quantized_weight(layer.weight_quantizer.level(4)).detach()
    assert layer.weight_quantizer.step_size.grad is None
    gradient = layer.weight.grad
    step, low, high = grid(layer, 4)
    inside = (layer.weight > low * step) & (layer.weight < high * step)
    expected = 2 * (layer.weight - quantized)
    is_moved = gradient != 0
    assert is_moved.any()
    assert inside[is_moved].all()
    torch.testing.assert_close(gradient[is_moved], expected[is_moved].detach())


def test_dampening_begins_late_and_rises(batch):
    train = TrainConfig(dampening_weight=0.1, dampening_start=0.5)

    def weight_at(progress):
        return {one.name: one.weight for one in random_pass_terms(train, progress=progress)}

    assert DAMPENING not in weight_at(0.5)
    assert 0 < weight_at(0.6)[DAMPENING] < weight_at(0.9)[DAMPENING] < 0.1
    task = task_of(2, "train.dampening_weight=0.1", "train.dampening_start=0.5")
    plain = floats(task_of(2).run_passes(engine_of(task_of(2)), *batch, step=5).terms)
    early = floats(task.run_passes(engine_of(task), *batch, step=5, progress=0.2).terms)
    assert early == plain
    late = floats(task.run_passes(engine_of(task), *batch, step=5, progress=0.9).terms)
    assert late.keys() - plain.keys() == {DAMPENING}
    assert late[DAMPENING] > 0


def test_decay_at_two_bits_takes_the_place_of_the_other_once_a_step(batch):
    task = task_of(3, "train.weight_decay=0.01", "train.two_bit_weight_decay=0.0")
    other = task_of(3, "train.weight_decay=0.01")
    losses = task.run_passes(engine_of(task), *batch, step=5).terms
    other.run_passes(engine_of(other), *batch, step=5)
    policies = [sample_policy(task.candidates, seed=3, step=5, pass_index=k) for k in range(3)]
    counts = [sum(policy.bits[at][0] == 2 for policy in policies) for at in range(10)]
    assert {0, 1, 2} <= set(counts)
    for index, layer in enumerate(task.model.layers):
        is_decayed = counts[index] > 0
        clipped = layer.weight.detach()
        step, low, high = grid(layer, 2) if is_decayed else (0.0, 0, 0)
        inside = (clipped > low * step) & (clipped < high * step)
        difference = layer.weight.grad - other.model.layers[index].weight.grad
        expected = -0.01 * is_decayed * clipped * inside
        torch.testing.assert_close(difference, expected, rtol=1e-3, atol=1e-6)
    assert losses[TWO_BIT_DECAY] > 0
    assert len(gradients(task)) == len(gradients(other))


def test_layers_that_the_optimizer_does_not_decay_are_left_alone():
    task = task_of(2)
    is_linear = [isinstance(layer, nn.Linear) for layer in task.model.layers]
    assert is_linear == [*[False] * 9, True]
    assert task._decayed_layers == list(range(9))


def test_the_min_pass_has_lines_of_its_own(batch):
    task = task_of(1, "train.min_pass=true", "train.distortion_weight=0.1")
    losses = floats(task.run_passes(engine_of(task), *batch, step=5).terms)
    assert {"min_ce", "min_kl", "min_distortion", "random_ce", "random_kl"} <= losses.keys()
    assert losses["min_distortion"] > losses["random_distortion"]
    alone = task_of(0, "train.min_pass=true")
    found = floats(alone.run_passes(engine_of(alone), *batch, step=5).terms)
    assert list(found) == ["max_pass_ce", "min_ce", "min_kl"]
