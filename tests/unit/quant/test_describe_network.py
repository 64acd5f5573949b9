"""MACs and layers by graph, held against the paper's table and against forward hooks."""

import json
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from harness.errors import ConversionError
from harness.problem.conventions import CONVENTIONS
from harness.problem.cost import (
    ACT_BYTES_PEAK,
    ACT_BYTES_SUM,
    bitops,
    policy_cost,
    same_bits_policy,
    weight_bytes,
)
from harness.problem.network import NetworkSpec
from harness.problem.units import MB, G
from harness.quant.convert import describe_network
from harness.run.config import QuantConfig

FOLDER = Path(__file__).parents[2] / "golden"
GOLDEN = json.loads((FOLDER / "bitops.json").read_text())["models"]
BY_CONVENTION = json.loads((FOLDER / "conventions.json").read_text())["models"]
MODELS = [
    *GOLDEN, "resnet50", "regnetx_002", "mobilenetv3_large_100", "efficientnet_b0",
    "convnext_tiny", "densenet121", "mobilenetv4_conv_small",
]  # fmt: skip


def describe(name: str) -> NetworkSpec:
    with torch.device("meta"):
        model = timm.create_model(name)
    return describe_network(
        model, name=name, input_size=(3, 224, 224), num_classes=1000, config=QuantConfig()
    )


@pytest.fixture(scope="module", params=GOLDEN)
def golden_network(request: pytest.FixtureRequest) -> NetworkSpec:
    return describe(request.param)


def test_bitops_equal_the_table(golden_network: NetworkSpec) -> None:
    expected = GOLDEN[golden_network.model_name]
    assert len(golden_network.layers) == expected["num_layers"]
    for bits, amount in expected["gigabitops"].items():
        policy = same_bits_policy(golden_network, weight_bits=int(bits), act_bits=int(bits))
        assert bitops(golden_network, policy) / G == pytest.approx(amount, rel=1e-3)


def test_size_equals_the_table(golden_network: NetworkSpec) -> None:
    policy = same_bits_policy(golden_network, weight_bits=4, act_bits=4)
    megabytes = weight_bytes(golden_network, policy) / MB
    assert megabytes == pytest.approx(GOLDEN[golden_network.model_name]["megabytes_at_4"], rel=1e-3)


def test_every_convention_equals_a_count_without_the_graph(golden_network: NetworkSpec) -> None:
    expected = BY_CONVENTION[golden_network.model_name]
    for bits, amounts in expected["bitops"].items():
        policy = same_bits_policy(golden_network, weight_bits=int(bits), act_bits=int(bits))
        assert {one.name: one.bitops(golden_network, policy) for one in CONVENTIONS} == amounts
    policy = same_bits_policy(golden_network, weight_bits=4, act_bits=4)
    read = {"sum": ACT_BYTES_SUM, "peak": ACT_BYTES_PEAK}
    assert expected["act_bytes_at_4"] == {
        name: one.in_unit(policy_cost(golden_network, policy, one)) for name, one in read.items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_layers_and_macs_equal_a_count_by_forward_hooks(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name).eval()
    counted: list[tuple[str, int, int]] = []

    def count(layer_name: str):
        def hook(layer: nn.Module, _: object, output: torch.Tensor) -> None:
            macs = output.numel() * layer.weight[0].numel()
            counted.append((layer_name, macs, layer.weight.numel()))

        return hook

    for layer_name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count(layer_name))
    with torch.no_grad():
        model(torch.empty(1, 3, 224, 224, device="meta"))
    layers = describe(name).layers
    assert [(layer.name, layer.macs, layer.weight_count) for layer in layers] == counted
    assert [layer.is_pinned for layer in layers] == [
        index in (0, len(layers) - 1) for index in range(len(layers))
    ]


def test_describing_leaves_the_model_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    describe_network(model, name="small", input_size=(3, 4, 4), num_classes=2, config=QuantConfig())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_module_that_never_runs_is_not_counted() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.spare(x)  # Computed, and read by nothing.
            return self.used(x)

    network = describe_network(
        Spare(), name="spare", input_size=(3, 4, 4), num_classes=2, config=QuantConfig()
    )
    assert [layer.name for layer in network.layers] == ["used"]


def test_depthwise_layers_have_no_candidate_below_the_floor() -> None:
    network = describe("mobilenetv2_100")
    depthwise = [layer for layer in network.layers if layer.is_depthwise]
    assert len(depthwise) == 17
    assert {layer.weight_candidates for layer in depthwise} == {(6, 5, 4, 3)}
    assert {layer.act_candidates for layer in depthwise} == {(6, 5, 4, 3)}
    free = [layer for layer in network.layers if not layer.is_depthwise and not layer.is_pinned]
    assert {layer.weight_candidates for layer in free} == {(6, 5, 4, 3, 2)}


def test_a_grouped_convolution_is_not_depthwise() -> None:
    assert not any(layer.is_depthwise for layer in describe("regnetx_002").layers)


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"^plain has no Conv2d or Linear layer; choose"):
        describe_network(
            nn.ReLU(), name="plain", input_size=(3, 8, 8), num_classes=2, config=QuantConfig()
        )


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (
            "inception_v4",
            32,
            r"^features\.10\.branch0\.conv \(Conv2d\) cannot run on 384 x 1 x 1, which it is given "
            r"for an image of 3 x 32 x 32: .*Kernel size can't be greater .*; give another input",
        ),
        ("vgg11", 8, r"^features\.15 \(MaxPool2d\) cannot run on 512 x 1 x 1, which it is given "),
        ("levit_128", 32, r"^add in stages\.0\.blocks\.0\.attn \(Attention\) cannot run on 4 x 4"),
        ("vit_tiny_patch16_224", 100, r"^patch_embed \(PatchEmbed\) .* of 3 x 100 x 100: Input "),
    ],
)
def test_an_input_too_small_names_the_layer_and_why(name: str, size: int, message: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    shape = (3, size, size)
    with pytest.raises(ConversionError, match=message):
        describe_network(model, name=name, input_size=shape, num_classes=2, config=QuantConfig())
