"""Networks by name."""

import math

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from harness.errors import ModelError
from harness.models import create_model, default_input_size
from harness.run.config import ModelConfig


@pytest.mark.parametrize(("name", "num_layers"), [("resnet8", 10), ("resnet20", 22)])
def test_built_in_networks_have_their_depth_and_shapes(name: str, num_layers: int) -> None:
    model = create_model(ModelConfig(name=name), num_classes=7, in_channels=1)
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == num_layers  # Two of them are projected shortcuts.
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 7)
    assert default_input_size(name) == (3, 32, 32)
    assert default_input_size("resnet18") == (3, 224, 224)


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
