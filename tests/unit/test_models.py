"""Networks by name."""

import pytest
import torch
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
