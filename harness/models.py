"""Networks by name: any timm model, and three built-in ones for small images.

Those are two CIFAR-style residual networks and a MobileNetV2 with depthwise convolutions.
"""

import difflib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import ModelError
from harness.quant.finite import first_unusable
from harness.run.config import ModelConfig


class NetworkSettings(NamedTuple):
    """What the user calls the settings that a network comes from, for messages."""

    name: str
    """Its name."""
    weights: str
    """Its weights."""
    is_pretrained: str
    """When it takes timm's pretrained weights."""
    otherwise: str
    """What to do where those cannot be had or used."""


MODEL_SETTINGS = NetworkSettings(
    name="model",
    weights="model.weights",
    is_pretrained="model.pretrained is true",
    otherwise="set model.pretrained to false, or model.weights to a float run",
)
"""Of the network that is trained."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, projected by a 1x1 convolution where shapes change."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class SmallResNet(nn.Module):
    """Residual network for small images (arXiv 1512.03385, section 4.2): depth 6 n + 2.

    Three stages of n blocks with 16, 32 and 64 channels. With n = 1 and projected shortcuts it is
    the ResNet-8 of MLPerf Tiny.
    """

    def __init__(self, *, blocks_per_stage: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        self.stages = nn.Sequential()
        for stage, width in enumerate((16, 32, 64), start=1):
            blocks = []
            for index in range(blocks_per_stage):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(BasicBlock(channels, width, stride=stride))
                channels = width
            self.stages.append(nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.stages(x)
        return self.fc(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """Expansion, depthwise 3x3 and a linear bottleneck (arXiv 1801.04381, table 1).

    The shortcut joins bottlenecks, where their shapes are the same. An expansion by 1 has no
    convolution of its own.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        width = in_channels * expansion
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.expand: nn.Module = nn.Identity()
        if expansion != 1:
            self.expand = _conv_bn_relu6(in_channels, width, kernel_size=1)
        self.depthwise = _conv_bn_relu6(width, width, kernel_size=3, stride=stride, groups=width)
        self.project = nn.Conv2d(width, out_channels, 1, bias=False)
        self.project_bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        out: Tensor = self.project_bn(self.project(self.depthwise(self.expand(x))))
        return x + out if self.has_shortcut else out


class SmallMobileNetV2(nn.Module):
    """MobileNetV2 (arXiv 1801.04381, table 2) for images of 28 to 32 pixels: 20 layers of weights.

    As is usual at this size, the stem keeps the resolution; two blocks halve it, and there are
    six blocks in place of seventeen.
    """

    BLOCKS = ((1, 16, 2), (6, 24, 1), (6, 24, 1), (6, 40, 2), (6, 40, 1), (6, 80, 1))
    """Expansion, output channels and stride of each block."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = _conv_bn_relu6(in_channels, 16, kernel_size=3)
        channels = 16
        self.blocks = nn.Sequential()
        for expansion, width, stride in self.BLOCKS:
            self.blocks.append(
                InvertedResidual(channels, width, stride=stride, expansion=expansion)
            )
            channels = width
        self.head = _conv_bn_relu6(channels, 256, kernel_size=1)
        self.fc = nn.Linear(256, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        x = self.head(self.blocks(self.stem(x)))
        return self.fc(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def _conv_bn_relu6(
    in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    )


BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "resnet8": partial(SmallResNet, blocks_per_stage=1),
    "resnet20": partial(SmallResNet, blocks_per_stage=3),
    "mobilenetv2_small": SmallMobileNetV2,
}
"""The built-in networks; each takes `num_classes` and `in_channels`."""


def create_model(
    config: ModelConfig,
    *,
    num_classes: int,
    in_channels: int,
    device: str = "cpu",
    settings: NetworkSettings = MODEL_SETTINGS,
) -> nn.Module:
    """Return a float network.

    Args:
        config: Its name and whether it is pretrained.
        num_classes: Logits of the last layer.
        in_channels: Channels of the input image.
        device: Where to create it; `meta` allocates nothing.
        settings: What the user calls them, for messages.

    Raises:
        ModelError: There is no such model, or its pretrained weights cannot be had.
    """
    with torch.device(device):
        if config.name in BUILT_IN:
            if config.pretrained:
                raise ModelError(
                    f"{settings.name} {config.name} has no pretrained weights; {settings.otherwise}"
                )
            return BUILT_IN[config.name](num_classes=num_classes, in_channels=in_channels)
        return _create_timm_model(
            config, num_classes=num_classes, in_channels=in_channels, settings=settings
        )


def num_pretrained_classes(name: str) -> int | None:
    """Return how many classes timm's pretrained weights of a network know, without loading them.

    timm gives a network that is created for other classes a random last layer.

    Returns:
        0 where they have no last layer; None where there are no such weights.
    """
    facts = timm.get_pretrained_cfg(name)
    return int(facts.num_classes) if facts is not None and facts.has_weights else None


def default_input_size(name: str) -> tuple[int, int, int]:
    """Return (channels, height, width) the model is usually run at: 32 x 32 for the built-in."""
    return (3, 32, 32) if name in BUILT_IN else (3, 224, 224)


def _create_timm_model(
    config: ModelConfig, *, num_classes: int, in_channels: int, settings: NetworkSettings
) -> nn.Module:
    if config.name.split(".")[0] not in timm.list_models():
        near = difflib.get_close_matches(config.name, [*BUILT_IN, *timm.list_models()], n=3)
        hint = f"; did you mean {' or '.join(near)}" if near else "; see timm.list_models()"
        raise ModelError(f"{settings.name} {config.name} is neither built in nor in timm{hint}")
    try:
        model: nn.Module = timm.create_model(
            config.name,
            pretrained=config.pretrained,
            num_classes=num_classes,
            in_chans=in_channels,
        )
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{settings.name} {config.name} cannot be created ({reason}); "
            f"check the name, or the connection if {settings.is_pretrained}"
        ) from error
    problem = first_unusable(model.state_dict()) if config.pretrained else None
    if problem is not None:
        raise ModelError(
            f"the pretrained weights of {config.name}: {problem}; remove them from the cache of "
            f"the hub, or {settings.otherwise}"
        )
    return model
