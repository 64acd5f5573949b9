"""Optimizers and schedule: what decays, what rises and falls, what is clipped."""

import pytest
import torch
from torch import nn

from harness.models import create_model
from harness.quant.convert import convert, describe_network
from harness.quant.lsq import LsqQuantizer
from harness.run.config import ModelConfig, QuantConfig, TrainConfig
from harness.training.optim import (
    clip_gradients,
    create_optimizers,
    learning_rate_factor,
    set_learning_rates,
)


def test_only_convolution_weights_decay_and_step_sizes_have_their_own_optimizer() -> None:
    model = create_model(ModelConfig(), num_classes=10, in_channels=3)
    network = describe_network(
        model, name="resnet8", input_size=(3, 8, 8), num_classes=10, config=QuantConfig()
    )
    supernet = convert(model, network)
    config = TrainConfig()
    optimizers = create_optimizers(supernet, config)
    decayed, others = optimizers["weights"].param_groups
    convolutions = {id(m.weight) for m in supernet.modules() if isinstance(m, nn.Conv2d)}
    step_sizes = {id(m.step_size) for m in supernet.modules() if isinstance(m, LsqQuantizer)}
    assert {id(p) for p in decayed["params"]} == convolutions
    assert (decayed["weight_decay"], others["weight_decay"]) == (config.weight_decay, 0)
    assert {id(p) for p in optimizers["step_sizes"].param_groups[0]["params"]} == step_sizes
    grouped = [p for o in optimizers.values() for group in o.param_groups for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(supernet.parameters()))
    set_learning_rates(optimizers, config, factor=0.5)
    assert decayed["lr"] == others["lr"] == 0.02
    assert optimizers["step_sizes"].param_groups[0]["lr"] == 1e-4


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
