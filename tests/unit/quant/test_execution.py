"""A policy is data: tensors serve where numbers do, and one compiled graph serves every policy."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from harness.errors import ConversionError
from harness.models import create_model
from harness.problem.policy import Policy
from harness.quant.convert import convert, describe_network
from harness.quant.supernet import Supernet
from harness.run.config import ModelConfig, QuantConfig
from harness.training.policy_sampler import sample_policy

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3])


def supernet_of(model: nn.Module, *, size: int = 32) -> Supernet:
    network = describe_network(
        model, name="model", input_size=(3, size, size), num_classes=10, config=QuantConfig()
    )
    return convert(model, network)


def resnet8() -> Supernet:
    torch.manual_seed(0)
    return supernet_of(create_model(ModelConfig(), num_classes=10, in_channels=3))


def policies(supernet: Supernet, count: int) -> list[Policy]:
    candidates = supernet.network.candidates
    return [sample_policy(candidates, seed=0, step=0, pass_index=k) for k in range(count)]


def step(supernet: Supernet, inputs: object) -> dict[str, Tensor]:
    """Return logits, gradients and statistics after one pass in training."""
    supernet.zero_grad()
    logits = supernet(IMAGES, inputs)
    F.cross_entropy(logits, LABELS).backward()
    gradients = {f"{k}.grad": p.grad.clone() for k, p in supernet.named_parameters()}
    return {"logits": logits.detach(), **gradients, **dict(supernet.named_buffers())}


@pytest.mark.parametrize("name", ["resnet8", "mobilenetv2_050", "densenet121"])
def test_tensors_give_the_same_bits_as_numbers(name: str) -> None:
    def create() -> Supernet:
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=10) if name != "resnet8" else None
        return resnet8() if model is None else supernet_of(model)

    one, other = create().train(), create().train()
    chosen = policies(one, 3)
    for policy, tensors in zip(chosen, other.encode_as_tensors(chosen), strict=True):
        expected, found = step(one, policy), step(other, tensors)
        assert expected.keys() == found.keys()
        assert [key for key in expected if not torch.equal(expected[key], found[key])] == []


def test_one_compiled_graph_serves_every_policy() -> None:
    supernet = resnet8().eval()
    counter = CompileCounter()
    compiled = torch.compile(supernet, backend=counter, fullgraph=True)
    chosen = policies(supernet, 6)
    with torch.no_grad():
        for policy, inputs in zip(chosen, supernet.encode_as_tensors(chosen), strict=True):
            assert torch.equal(compiled(IMAGES, inputs), supernet(IMAGES, policy))
    assert counter.frame_count == 1


def test_standing_policies_share_weights_and_give_the_same_bits() -> None:
    supernet = resnet8().eval()
    chosen = policies(supernet, 8)
    with torch.no_grad():
        standing = supernet.encode_standing(chosen)
        for policy, inputs in zip(chosen, standing, strict=True):
            assert torch.equal(supernet(IMAGES, inputs), supernet(IMAGES, policy))
    for layer in range(len(supernet.network.layers)):
        tensors = {id(inputs.weights[layer]) for inputs in standing}
        assert len(tensors) == len({policy.bits[layer][0] for policy in chosen})


class Dropping(nn.Module):
    """Its dropout is a function, so that torch.fx fixes whether it drops."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x)).mean(dim=(2, 3))
        return self.fc(F.dropout(x, 0.5, training=self.training))


def test_what_differs_in_training_does_so_in_the_supernet() -> None:
    supernet = supernet_of(Dropping())
    largest = supernet.network.candidates.largest
    supernet.eval()
    assert torch.equal(supernet(IMAGES, largest), supernet(IMAGES, largest))
    supernet.train()
    assert not torch.equal(supernet(IMAGES, largest), supernet(IMAGES, largest))


class Constant(nn.Module):
    """Adds a constant that its forward makes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).mean(dim=(2, 3))
        return self.fc(x + torch.arange(4.0))


def test_a_constant_made_in_forward_is_kept() -> None:
    torch.manual_seed(0)
    model = Constant()
    with torch.no_grad():
        expected = model(IMAGES)
        supernet = supernet_of(model)
        assert torch.equal(supernet(IMAGES, supernet.encode_float()), expected)


def test_images_of_another_size_than_converted_for_are_refused() -> None:
    supernet = resnet8()
    with pytest.raises(
        ConversionError, match=r"images are 3 x 8 x 8, the network was converted for 3 x 32 x 32; b"
    ):
        supernet(torch.randn(2, 3, 8, 8), supernet.network.candidates.largest)


class ByName(nn.Module):
    """Calls its modules by the names of their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(input=self.conv(input=x))
        return self.fc(input=x.mean(dim=(2, 3)))


def test_modules_that_are_called_by_name_are_given_their_part_too() -> None:
    torch.manual_seed(0)
    model = ByName().eval()
    expected = model(IMAGES)
    supernet = supernet_of(model)
    assert torch.equal(supernet(IMAGES, supernet.encode_float()), expected)
    assert supernet(IMAGES, supernet.network.candidates.smallest).isfinite().all()
