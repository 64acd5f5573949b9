"""Small networks that part and join in every way that the executor must follow."""

import itertools
from collections.abc import Callable

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models import create_model
from harness.problem.policy import Policy
from harness.quant.calibrate import observe_magnitudes
from harness.quant.convert import convert, describe_network
from harness.quant.supernet import Supernet
from harness.run.config import ModelConfig, QuantConfig

SIZE = 16


def conv(inputs: int, outputs: int, kernel: int = 3, *, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)


class Mobile(nn.Module):
    """Two inverted residuals, the second with a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = conv(3, 8), nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList()
        for _ in range(2):
            layers = [conv(8, 16, 1), nn.BatchNorm2d(16), nn.ReLU6(inplace=True),
                      conv(16, 16, groups=16), nn.BatchNorm2d(16), nn.ReLU6(inplace=True),
                      conv(16, 8, 1), nn.BatchNorm2d(8)]  # fmt: skip
            self.blocks.append(nn.Sequential(*layers))
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem_norm(self.stem(x)))
        x = self.blocks[0](x)
        x = x + self.blocks[1](x)
        return self.fc(x.mean(dim=(2, 3)))


class Dense(nn.Module):
    """Each block reads all features before it; its norm is behind no one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 4)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4 + 4 * at) for at in range(4))
        self.convs = nn.ModuleList(conv(4 + 4 * at, 4) for at in range(3))
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for at, layer in enumerate(self.convs):
            features.append(layer(F.relu(self.norms[at](torch.cat(features, 1)), inplace=True)))
        x = F.relu(self.norms[3](torch.cat(features, 1)))
        return self.fc(x.mean(dim=(2, 3)))


class Squeezed(nn.Module):
    """Squeeze and excitation in a residual branch, beside a projected shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = conv(3, 8), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = conv(8, 12), nn.BatchNorm2d(12)
        self.reduce, self.expand = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.conv2, self.norm2 = conv(12, 12), nn.BatchNorm2d(12)
        self.shortcut, self.shortcut_norm = conv(8, 12, 1), nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        y = F.relu(self.norm1(self.conv1(x)))
        gate = self.expand(F.relu(self.reduce(y.mean(dim=(2, 3), keepdim=True)))).sigmoid()
        y = self.norm2(self.conv2(y * gate))
        y = F.relu(y + self.shortcut_norm(self.shortcut(x)))
        return self.fc(y.mean(dim=(2, 3)).flatten(1))


class InPlace(nn.Module):
    """Changes in place what other policies read too: both sides of a sum, and views of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = conv(3, 8), nn.BatchNorm2d(8)
        self.left, self.left_norm = conv(8, 8), nn.BatchNorm2d(8)
        self.right, self.right_norm = conv(8, 8), nn.BatchNorm2d(8)
        self.last = conv(4, 8)
        self.drop, self.act = nn.Dropout(0.5), nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem_norm(self.stem(x)))
        left = self.drop(self.left_norm(self.left(x)))  # Hands on what it is given.
        right = self.right_norm(self.right(x))
        first, second = self.act(left.add_(right)).chunk(2, dim=1)
        x = self.last(first + second)
        return self.fc(x.mean(dim=(2, 3)))


def images_of(count: int, *, seed: int) -> Tensor:
    """Return images of different colours: the means of noise alone would be much alike."""
    generator = torch.Generator().manual_seed(seed)
    colours = 2 * torch.randn(count, 3, 1, 1, generator=generator)
    return colours + torch.randn(count, 3, SIZE, SIZE, generator=generator)


def resnet8() -> nn.Module:
    return create_model(ModelConfig(), num_classes=10, in_channels=3)


def mobilenetv2() -> nn.Module:
    return timm.create_model("mobilenetv2_050", num_classes=10)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet8": resnet8, "mobilenetv2_050": mobilenetv2, "mobile": Mobile, "dense": Dense,
    "squeezed": Squeezed, "in place": InPlace,
}  # fmt: skip


def supernet_of(model: nn.Module, *, name: str = "model") -> Supernet:
    """Return a supernet in which copies of a norm differ, and grids fit what they quantize."""
    network = describe_network(
        model, name=name, input_size=(3, SIZE, SIZE), num_classes=10, config=QuantConfig()
    )
    supernet = convert(model, network).eval()
    with torch.no_grad():
        for norm in supernet.norms:
            norm.running_mean.uniform_(-0.2, 0.2)
            norm.running_var.uniform_(0.5, 1.5)
    magnitudes = observe_magnitudes(supernet, images_of(8, seed=9))
    for quantizer, magnitude in zip(supernet.input_quantizers, magnitudes, strict=True):
        quantizer.start_step_sizes(magnitude)
    return supernet


def created(name: str) -> Supernet:
    torch.manual_seed(0)
    return supernet_of(NETWORKS[name]())


def moves_from(supernet: Supernet, base: Policy) -> list[Policy]:
    """Return all policies that differ from one in the bits of one layer's weight or input."""
    found = []
    for at, layer in enumerate(supernet.network.layers):
        weight, act = base.bits[at]
        pairs = [(bits, act) for bits in layer.weight_candidates if bits != weight]
        pairs += [(weight, bits) for bits in layer.act_candidates if bits != act]
        found += [Policy([*base.bits[:at], pair, *base.bits[at + 1 :]]) for pair in pairs]
    return found


def nested_policies(supernet: Supernet, *, places: int = 4) -> list[Policy]:
    """Return policies of which half part at each of the first free layers, so that many wait."""
    base = supernet.network.candidates.uniform(weight_bits=4, act_bits=4)
    free = [at for at, layer in enumerate(supernet.network.layers) if not layer.is_pinned]
    found = []
    for choice in itertools.product(((4, 4), (3, 3)), repeat=min(places, len(free))):
        bits = list(base.bits)
        for at, pair in zip(free, choice, strict=False):
            bits[at] = pair
        found.append(Policy(bits))
    return found
