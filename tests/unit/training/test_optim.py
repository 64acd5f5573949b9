"""Optimizer and schedule: what decays, what rises and falls, what is clipped."""

import copy

import pytest
import torch
from torch import nn

from harness.models import create_model
from harness.quant.convert import convert, describe_network
from harness.quant.lsq import LsqQuantizer
from harness.run.config import ModelConfig, QuantConfig, TrainConfig
from harness.training.optim import create_optimizer, learning_rate_factor, set_learning_rates


@pytest.fixture
def supernet():
    model = create_model(ModelConfig(), num_classes=10, in_channels=3)
    network = describe_network(
        model, name="resnet8", input_size=(3, 8, 8), num_classes=10, config=QuantConfig()
    )
    return convert(model, network)


def groups_of(optimizer):
    return {group["name"]: group for group in optimizer.param_groups}


def test_only_convolution_weights_decay_and_step_sizes_are_a_group_of_their_own(supernet):
    config = TrainConfig()
    optimizer = create_optimizer(supernet, config)
    groups = groups_of(optimizer)
    convolutions = {id(m.weight) for m in supernet.modules() if isinstance(m, nn.Conv2d)}
    step_sizes = {id(m.step_size) for m in supernet.modules() if isinstance(m, LsqQuantizer)}
    assert {id(p) for p in groups["convolutions"]["params"]} == convolutions
    decays = {name: group["weight_decay"] for name, group in groups.items()}
    assert decays == {"convolutions": config.weight_decay, "others": 0, "step_sizes": 0}
    assert {id(p) for p in groups["step_sizes"]["params"]} == step_sizes
    grouped = [p for group in groups.values() for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(supernet.parameters()))
    names = {id(p): name for name, p in supernet.named_parameters()}
    for group in groups.values():
        assert group["param_names"] == [names[id(p)] for p in group["params"]]
    set_learning_rates(optimizer, config, factor=0.5)
    assert [group["lr"] for group in groups.values()] == [0.02, 0.02, 1e-4]


def test_a_float_network_has_no_group_of_step_sizes():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Linear(3, 2))
    assert set(groups_of(create_optimizer(model, TrainConfig()))) == {"convolutions", "others"}


def test_each_group_takes_the_steps_of_its_own_algorithm(supernet):
    """To the last bit those of two optimizers of torch."""
    config, twin = TrainConfig(), copy.deepcopy(supernet)
    optimizer = create_optimizer(supernet, config)
    by_name = dict(twin.named_parameters())
    of_twin = {
        name: [by_name[n] for n in group["param_names"]]
        for name, group in groups_of(optimizer).items()
    }
    sgd = torch.optim.SGD(
        [
            {"params": of_twin["convolutions"], "weight_decay": config.weight_decay},
            {"params": of_twin["others"], "weight_decay": 0.0},
        ],
        lr=config.learning_rate, momentum=config.momentum, nesterov=True,
    )  # fmt: skip
    adam = torch.optim.Adam(of_twin["step_sizes"], lr=config.step_learning_rate)
    for step in range(4):
        torch.manual_seed(step)
        for parameter, other in zip(supernet.parameters(), twin.parameters(), strict=True):
            parameter.grad = 3 * torch.randn_like(parameter)
            other.grad = parameter.grad.clamp(-config.gradient_clip, config.gradient_clip)
        optimizer.step()
        sgd.step()
        adam.step()
        pairs = zip(supernet.parameters(), twin.parameters(), strict=True)
        assert all(torch.equal(parameter, other) for parameter, other in pairs)


def test_a_state_is_taken_up_by_name(supernet):
    optimizer = create_optimizer(supernet, TrainConfig())
    assert optimizer.named_state() == {}
    for parameter in supernet.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    saved = optimizer.named_state()
    assert saved.keys() == dict(supernet.named_parameters()).keys()
    twin = copy.deepcopy(supernet)
    other = create_optimizer(twin, TrainConfig())
    other.load_named_state(saved)
    for parameter, same in zip(supernet.parameters(), twin.parameters(), strict=True):
        same.grad = parameter.grad.clone()
    optimizer.step()
    other.step()
    pairs = zip(supernet.parameters(), twin.parameters(), strict=True)
    assert all(torch.equal(parameter, same) for parameter, same in pairs)


def test_a_state_of_another_network_is_refused(supernet):
    optimizer = create_optimizer(supernet, TrainConfig())
    for parameter in supernet.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    saved = optimizer.named_state()
    with pytest.raises(KeyError, match=r"model\.conv1\.weight"):
        optimizer.load_named_state({k: v for k, v in saved.items() if k != "model.conv1.weight"})
    wrong = {**saved, "model.conv1.weight": {"momentum_buffer": torch.zeros(3)}}
    with pytest.raises(ValueError, match=r"a moment is \(3,\), its weight \(16, 3, 3, 3\)"):
        optimizer.load_named_state(wrong)


def test_the_schedule_rises_to_one_and_falls_to_zero() -> None:
    factors = [learning_rate_factor(s, total_steps=110, warmup_steps=10) for s in range(111)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1
    assert factors[60] == pytest.approx(0.5)
    assert factors[110] == pytest.approx(0)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert learning_rate_factor(0, total_steps=1, warmup_steps=0) == 1
