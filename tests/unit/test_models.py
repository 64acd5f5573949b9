"""Networks by name."""

import math

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from harness.errors import ModelError
from harness.models import create_model, default_input_size
from harness.problem.network import NetworkSpec
from harness.quant.convert import convert, describe_network
from harness.run.config import ModelConfig, QuantConfig


@pytest.mark.parametrize(
    ("name", "num_layers"), [("resnet8", 10), ("resnet20", 22), ("mobilenetv2_small", 20)]
)
def test_built_in_networks_have_their_depth_and_shapes(name: str, num_layers: int) -> None:
    model = create_model(ModelConfig(name=name), num_classes=7, in_channels=1)
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == num_layers  # Two of those of a residual network are shortcuts.
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 7)
    assert default_input_size(name) == (3, 32, 32)
    assert default_input_size("resnet18") == (3, 224, 224)


def mobilenet_network(size: int = 28, **quant: int) -> NetworkSpec:
    return describe_network(
        create_model(ModelConfig(name="mobilenetv2_small"), num_classes=10, in_channels=1),
        name="mobilenetv2_small",
        input_size=(1, size, size),
        num_classes=10,
        config=QuantConfig(**quant),
    )


@pytest.mark.parametrize(("size", "last"), [(28, 7), (32, 8)])
def test_mobilenet_halves_the_image_twice(size: int, last: int) -> None:
    by_name = {layer.name: layer for layer in mobilenet_network(size).layers}
    assert by_name["head.0"].macs == last**2 * 80 * 256
    # The arithmetic of arXiv 1801.04381, table 1: h w d t, k^2 h w t d, h w t d d'.
    block, middle = "blocks.2", (size // 2) ** 2
    assert by_name[f"{block}.expand.0"].macs == middle * 24 * 144
    assert by_name[f"{block}.depthwise.0"].macs == middle * 144 * 9
    assert by_name[f"{block}.project"].macs == middle * 144 * 24


def test_mobilenet_has_shortcuts_between_linear_bottlenecks() -> None:
    model = create_model(ModelConfig(name="mobilenetv2_small"), num_classes=10, in_channels=1)
    assert [block.has_shortcut for block in model.blocks] == [False, False, True, False, True,
                                                              False]  # fmt: skip
    block = model.blocks[2].eval()
    x = torch.randn(2, 24, 14, 14)
    with torch.no_grad():
        nn.init.zeros_(block.project.weight)
        assert torch.equal(block(x), x)  # No activation stands behind the sum.
        assert block.expand(x).min() == 0
        assert block.expand(100 * x).max() == 6


def test_depthwise_layers_of_mobilenet_take_two_bits_where_the_setting_says_so() -> None:
    for least in (2, 3):
        network = mobilenet_network(depthwise_min_bits=least)
        depthwise = [layer for layer in network.layers if layer.is_depthwise]
        assert len(depthwise) == 6
        for layer in depthwise:
            assert min(layer.weight_candidates) == min(layer.act_candidates) == least
    model = create_model(ModelConfig(name="mobilenetv2_small"), num_classes=10, in_channels=1)
    network = mobilenet_network(depthwise_min_bits=2)
    supernet = convert(model, network).eval()
    assert len(supernet.layers) == 20
    for spec, layer in zip(network.layers, supernet.layers, strict=True):
        if spec.is_depthwise:
            assert 2 < len(layer.standing_weight(2).unique()) <= 4
            assert 4 < len(layer.standing_weight(3).unique()) <= 8
    with torch.no_grad():
        assert supernet(torch.randn(2, 1, 28, 28), network.candidates.smallest).isfinite().all()


def test_an_unknown_name_gets_suggestions() -> None:
    with pytest.raises(
        ModelError, match=r"model resnet81 is neither built in nor in timm; did you mean .*resnet"
    ):
        create_model(ModelConfig(name="resnet81"), num_classes=2, in_channels=3)
    with pytest.raises(ModelError, match=r"nor in timm; see timm.list_models\(\)"):
        create_model(ModelConfig(name="$$$"), num_classes=2, in_channels=3)


def test_a_built_in_network_has_no_pretrained_weights() -> None:
    with pytest.raises(
        ModelError, match=r"resnet8 has no pretrained weights; set model.pretrained"
    ):
        create_model(ModelConfig(pretrained=True), num_classes=2, in_channels=3)


def test_pretrained_weights_that_are_no_numbers_are_refused(tmp_path, monkeypatch) -> None:
    """As a cache of the hub may hold them that was damaged."""
    name = "mobilenetv3_small_050.lamb_in1k"
    weights = timm.create_model(name).state_dict()
    weights["conv_head.bias"][3] = math.nan
    folder = tmp_path / "models--timm--mobilenetv3_small_050.lamb_in1k"
    (folder / "snapshots/abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("abc")
    save_file(weights, folder / "snapshots/abc/model.safetensors", metadata={"format": "pt"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = ModelConfig(name=name, pretrained=True)
    message = (
        rf"the pretrained weights of {name}: conv_head.bias holds 1 of 1024 values that are no "
        r"finite numbers; remove them from the cache of the hub, or set model.pretrained to false"
    )
    with pytest.raises(ModelError, match=message):
        create_model(config, num_classes=10, in_channels=3)
    weights["conv_head.bias"][3] = 0.0
    save_file(weights, folder / "snapshots/abc/model.safetensors", metadata={"format": "pt"})
    loaded = create_model(config, num_classes=10, in_channels=3)
    assert torch.equal(loaded.state_dict()["conv_head.weight"], weights["conv_head.weight"])
