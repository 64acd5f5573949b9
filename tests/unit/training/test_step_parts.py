"""The parts of an optimizer step: losses, random policies, optimizers, schedule."""

from collections import Counter

import pytest
import torch
from torch import nn

from harness.models import create_model
from harness.problem.candidates import Candidates, LayerCandidates
from harness.quant.convert import convert, describe_network
from harness.quant.lsq import LsqQuantizer
from harness.run.config import ModelConfig, QuantConfig, TrainConfig
from harness.training.losses import distillation_loss
from harness.training.optim import (
    clip_gradients,
    create_optimizers,
    learning_rate_factor,
    set_learning_rates,
)
from harness.training.policy_sampler import sample_policy

CANDIDATES = Candidates(
    (
        LayerCandidates(name="stem", weight=(8,), act=(8,), is_pinned=True),
        *[LayerCandidates(name="conv", weight=(6, 5, 4, 3, 2), act=(4, 3))] * 50,
    )
)


def test_kl_equals_the_formula() -> None:
    student, teacher = torch.randn(2, 6, 10, generator=torch.Generator().manual_seed(0))
    p, q = teacher.softmax(dim=1), student.softmax(dim=1)
    expected = (p * (p / q).log()).sum(dim=1).mean()
    torch.testing.assert_close(distillation_loss(student, teacher), expected)
    assert distillation_loss(student, student).abs() < 1e-6


def test_a_policy_is_a_pure_function_of_seed_step_and_pass() -> None:
    keys = [(seed, step, k) for seed in (0, 1) for step in (0, 1) for k in (0, 1)]
    draws = [
        sample_policy(CANDIDATES, seed=seed, step=step, pass_index=k) for seed, step, k in keys
    ]
    assert len(set(draws)) == len(keys)
    torch.manual_seed(5)
    seed, step, k = keys[3]
    assert sample_policy(CANDIDATES, seed=seed, step=step, pass_index=k) == draws[3]


def test_policies_are_uniform_over_the_candidates() -> None:
    counts: Counter = Counter()
    for step in range(100):
        policy = sample_policy(CANDIDATES, seed=0, step=step, pass_index=0)
        assert policy.bits[0] == (8, 8)
        counts.update(policy.bits[1:])
    assert set(counts) == {(w, a) for w in (6, 5, 4, 3, 2) for a in (4, 3)}
    assert all(400 < count < 600 for count in counts.values())  # 500 +- 4.7 standard deviations.


def test_only_convolution_weights_decay_and_steps_have_their_own_optimizer() -> None:
    model = create_model(ModelConfig(), num_classes=10, in_channels=3)
    network = describe_network(
        model, name="resnet8", input_size=(3, 8, 8), num_classes=10, config=QuantConfig()
    )
    supernet = convert(model, network)
    config = TrainConfig()
    optimizers = create_optimizers(supernet, config)
    decayed, others = optimizers["weights"].param_groups
    convolutions = {id(m.weight) for m in supernet.modules() if isinstance(m, nn.Conv2d)}
    steps = {id(m.step_size) for m in supernet.modules() if isinstance(m, LsqQuantizer)}
    assert {id(p) for p in decayed["params"]} == convolutions
    assert (decayed["weight_decay"], others["weight_decay"]) == (config.weight_decay, 0)
    assert {id(p) for p in optimizers["steps"].param_groups[0]["params"]} == steps
    grouped = [p for o in optimizers.values() for group in o.param_groups for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(supernet.parameters()))
    set_learning_rates(optimizers, config, factor=0.5)
    assert decayed["lr"] == others["lr"] == 0.02
    assert optimizers["steps"].param_groups[0]["lr"] == 1e-4


def test_a_float_network_has_one_optimizer() -> None:
    assert set(create_optimizers(nn.Conv2d(3, 3, 1), TrainConfig())) == {"weights"}


def test_the_schedule_rises_to_one_and_falls_to_zero() -> None:
    factors = [learning_rate_factor(s, total_steps=110, warmup_steps=10) for s in range(111)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1
    assert factors[60] == pytest.approx(0.5)
    assert factors[110] == pytest.approx(0)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert learning_rate_factor(0, total_steps=1, warmup_steps=0) == 1


def test_gradients_are_clipped_element_wise() -> None:
    layer = nn.Linear(1, 3, bias=False)
    layer.weight.grad = torch.tensor([[-5.0], [0.5], [5.0]])
    clip_gradients(layer, 1.0)
    assert layer.weight.grad.flatten().tolist() == [-1, 0.5, 1]
