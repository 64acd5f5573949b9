"""Weights and inputs that start at zero: they wake where they can, and are named where not."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers.std_conv import ScaledStdConv2d, StdConv2d
from torch import Tensor, nn

from harness.models import SmallResNet
from harness.quant.calibrate import fit_step_sizes, observe_magnitudes
from harness.quant.convert import convert, describe_network
from harness.quant.dead import dead_layers
from harness.quant.fake_quantize import MIN_STEP_SIZE
from harness.quant.lsq import LsqQuantizer, initial_weight_step_size
from harness.quant.supernet import Supernet
from harness.run.config import QuantConfig, TrainConfig
from harness.training.optim import create_optimizer


def supernet_of(model: nn.Module, size: tuple[int, int, int]) -> Supernet:
    network = describe_network(
        model, name="made", input_size=size, num_classes=10, config=QuantConfig()
    )
    return convert(model, network)


def with_zeros(*names: str) -> nn.Module:
    torch.manual_seed(0)
    model = SmallResNet(blocks_per_stage=1, num_classes=10, in_channels=1)
    with torch.no_grad():
        for name in names:
            model.get_submodule(name).weight.zero_()
    return model


def calibrated(supernet: Supernet, images: Tensor) -> Supernet:
    magnitudes = observe_magnitudes(supernet.train(), images)
    for quantizer, magnitude in zip(supernet.input_quantizers, magnitudes, strict=True):
        quantizer.start_step_sizes(magnitude)
    return supernet


def digits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 10
    patterns = torch.randn(10, 1, 8, 8, generator=generator)
    return patterns[labels] + 0.3 * torch.randn(60, 1, 8, 8, generator=generator), labels


@pytest.mark.parametrize("bits", [2, 4, 6])
@pytest.mark.parametrize("names", [("stages.0.0.conv2", "stages.2.0.conv2"), ("fc",)])
def test_zero_weights_learn_as_the_float_network_does(names, bits):
    supernet = calibrated(supernet_of(with_zeros(*names), (1, 8, 8)), digits()[0])
    losses = trained_losses(supernet, weight_bits=bits)
    assert losses[-1] < 0.1
    for name in names:
        layer = supernet.model.get_submodule(name)
        level = layer.weight_quantizer.level(8 if name == "fc" else bits)
        assert layer.quantized_weight(level).any()
        assert layer.weight_quantizer.step_size.min() > 100 * MIN_STEP_SIZE


def test_step_sizes_that_fell_to_the_smallest_come_back():
    """As a run may have saved them that began before they could."""
    supernet = calibrated(supernet_of(with_zeros("stages.2.0.conv2", "fc"), (1, 8, 8)), digits()[0])
    quantizers = [
        supernet.model.get_submodule(name).weight_quantizer for name in ("stages.2.0.conv2", "fc")
    ]
    for quantizer in quantizers:
        for bits in quantizer.candidates:
            quantizer.set_step_size(bits, 0.0)
    losses = trained_losses(supernet, weight_bits=6)
    assert losses[-1] < 0.5 < losses[0]
    assert all(quantizer.step_size[0] > 1e-4 for quantizer in quantizers)


def trained_losses(supernet: Supernet, *, weight_bits: int) -> list[float]:
    """Train one policy for 60 steps."""
    images, labels = digits()
    policy = supernet.network.candidates.uniform(weight_bits=weight_bits, act_bits=6)
    losses = []
    optimizer = create_optimizer(supernet, TrainConfig())
    for _ in range(60):
        loss = F.cross_entropy(supernet(images, policy), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_step_sizes_of_zeros_start_at_the_scale_of_what_will_be_there():
    weight = torch.zeros(8, 3, 3, 3)
    assert initial_weight_step_size(weight, 4).item() == pytest.approx(3 / 81**0.5 / 8)
    assert initial_weight_step_size(weight + 1e-9, 4).item() == pytest.approx(3 / 81**0.5 / 8)
    for conv, std in ((StdConv2d(3, 8, 3), 1.0), (ScaledStdConv2d(3, 8, 3), 27**-0.5)):
        nn.init.zeros_(conv.weight)
        model = nn.Sequential(nn.Conv2d(3, 3, 1), conv, nn.Flatten(), nn.Linear(512, 10))
        layer = supernet_of(model, (3, 8, 8)).quantized_layers[1]
        found = layer.weight_quantizer.step_size_of(4).item()
        assert found == pytest.approx(3 * std / 8, rel=1e-3)
    for signed, mean in ((True, 0.798), (False, 0.399)):
        quantizer = LsqQuantizer((6, 2), signed=signed)
        quantizer.start_step_sizes(torch.tensor(0.0))
        by_magnitude = LsqQuantizer((6, 2), signed=signed)
        by_magnitude.start_step_sizes(torch.tensor(mean))
        torch.testing.assert_close(quantizer.step_size, by_magnitude.step_size, rtol=2e-3, atol=0)


def test_fitting_to_zeros_leaves_the_start():
    images, _ = digits()
    supernet = calibrated(supernet_of(with_zeros("stages.1.0.conv1"), (1, 8, 8)), images).eval()
    dead = supernet.model.get_submodule("stages.1.0.conv1").weight_quantizer
    behind = supernet.model.get_submodule("stages.1.0.conv2").act_quantizer
    before = [dead.step_size.clone(), behind.step_size.clone()]
    fit_step_sizes(supernet, images)
    assert torch.equal(dead.step_size, before[0])
    assert torch.equal(behind.step_size, before[1])


def test_a_layer_of_zeros_is_named_and_others_are_not():
    images, _ = digits()
    supernet = calibrated(supernet_of(with_zeros(), (1, 8, 8)), images).eval()
    assert dead_layers(supernet, images) == {}
    supernet = calibrated(supernet_of(with_zeros("stages.1.0.conv1"), (1, 8, 8)), images).eval()
    state = {name: value.clone() for name, value in supernet.state_dict().items()}
    assert dead_layers(supernet, images) == {
        "stages.1.0.conv1": "its weights are all zero at 6, 5, 4, 3, 2 bits",
        "stages.1.0.conv2": "its inputs are all zero at 6, 5, 4, 3, 2 bits",
    }
    assert all(torch.equal(value, state[name]) for name, value in supernet.state_dict().items())
    layer = supernet.model.get_submodule("stages.2.0.conv2")
    layer.weight_quantizer.set_step_size(2, 100.0)
    layer.act_quantizer.set_step_size(4, 0.0)
    found = dead_layers(supernet, images)["stages.2.0.conv2"]
    assert found == "its weights are all zero at 2 bits and its inputs have no range at 4 bits"
