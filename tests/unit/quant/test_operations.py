"""The table of operations: quantized forms, what stays in float, what reads the image."""

import copy

import pytest
import timm
import torch
import torchvision
from timm.layers import Conv2dSame, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn

from harness.errors import ConversionError
from harness.problem.cost import bitops, ledger, same_bits_policy, weight_bytes
from harness.quant.convert import convert, describe_network
from harness.quant.layers import LayerRow, QuantizedLayer
from harness.quant.operations import OPERATIONS, operation_of
from harness.quant.supernet import Supernet
from harness.run.config import QuantConfig


def converted(model: nn.Module, *, size: int = 64, config: QuantConfig | None = None) -> Supernet:
    network = describe_network(
        model,
        name="model",
        input_size=(3, size, size),
        num_classes=10,
        config=config or QuantConfig(),
    )
    return convert(model, network)


def layers() -> list[nn.Module]:
    torch.manual_seed(0)
    return [
        nn.Conv2d(4, 6, 3, 2, 1, groups=2),
        Conv2dSame(4, 6, 3, 2),
        StdConv2d(4, 6, 3, 2),
        StdConv2dSame(4, 6, 3, 2, padding="SAME"),
        ScaledStdConv2d(4, 6, 3, 2),
        ScaledStdConv2dSame(4, 6, 3, 2, padding="SAME"),
        nn.Linear(9, 3),
        timm.layers.Linear(9, 3),
    ]


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: type(layer).__name__)
def test_a_quantized_form_in_float_computes_what_the_float_layer_does(layer: nn.Module) -> None:
    x = torch.randn(2, 4, 9, 9)
    expected = layer(x)
    model = nn.Sequential(copy.deepcopy(layer))
    table_row = operation_of(layer)
    assert table_row is not None
    assert table_row.quantized is not None
    quantized = table_row.quantized.__new__(table_row.quantized)
    nn.Module.__init__(quantized)
    quantized.__dict__.update({k: v for k, v in model[0].__dict__.items() if k != "_modules"})
    quantized.attach_quantizers(weight_candidates=(8, 2), act_candidates=None, act_signed=True)
    assert torch.equal(quantized(x, LayerRow(None, None, 0)), expected)
    # At 8 bits it is near, and the stored weight is on the grid of what is quantized.
    level = quantized.weight_quantizer.level(8)
    on_grid = quantized.quantized_weight(level) / quantized.weight_quantizer.step_size_of(8)
    torch.testing.assert_close(on_grid, on_grid.round(), rtol=0, atol=1e-3)
    near = quantized(x, LayerRow(level, None, 0))
    assert (near - expected).abs().max() < 0.1 * expected.abs().max()


def test_subclasses_stand_before_their_bases_and_forms_are_found_again() -> None:
    for index, row in enumerate(OPERATIONS):
        assert not any(issubclass(row.module, before.module) for before in OPERATIONS[:index])
        if row.quantized is not None:
            assert issubclass(row.quantized, QuantizedLayer)
            assert issubclass(row.quantized, row.module) or row.kind == "linear"


def test_eca_stays_in_float_and_is_accounted_at_32_bits() -> None:
    model = timm.create_model("ecaresnet26t", num_classes=10)
    supernet = converted(model)
    network = supernet.network
    eca = [layer for layer in network.layers if layer.kind == "conv1d"]
    assert len(eca) == 8
    assert all(layer.is_float and layer.is_pinned for layer in eca)
    policy = same_bits_policy(network, weight_bits=2, act_bits=2)
    rows = {row.name: row for row in ledger(network, policy)}
    for layer in eca:
        assert (rows[layer.name].weight_bits, rows[layer.name].act_bits) == (32, 32)
        assert rows[layer.name].bitops == 32 * 32 * layer.macs
        assert isinstance(supernet.model.get_submodule(layer.name), nn.Conv1d)
    assert network.candidates.smallest != network.candidates.largest
    supernet(torch.randn(2, 3, 64, 64), network.candidates.smallest)


def test_what_keep_float_does_not_name_is_refused() -> None:
    config = QuantConfig(keep_float=())
    with pytest.raises(ConversionError, match=r"is a Conv1d, which has no quantized form; name it"):
        converted(timm.create_model("ecaresnet26t", num_classes=10), config=config)
    config = QuantConfig(keep_float=("stages.*.se.*", "*.eca.*", "layer?.?.se.conv"))
    converted(timm.create_model("ecaresnet26t", num_classes=10), config=config)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 2, 2), nn.ConvTranspose2d(4, 5, 3, 2)
        self.head = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.up(torch.relu(self.down(x)))))


def test_a_transposed_convolution_in_float_is_counted_by_its_input() -> None:
    network = converted(Decoder(), size=8, config=QuantConfig(keep_float=("up",))).network
    up = network.layers[1]
    assert (up.kind, up.macs) == ("conv_transpose2d", 4 * 4 * 4 * 5 * 3 * 3)
    assert weight_bytes(network, network.candidates.smallest) == (48 * 8 + 180 * 32 + 10 * 8) // 8


def test_every_layer_that_reads_the_image_is_pinned_and_the_image_left_alone() -> None:
    supernet = converted(timm.create_model("repvgg_a0", num_classes=10))
    stems = [layer.name for layer in supernet.network.layers if layer.name.startswith("stem")]
    assert sorted(stems) == ["stem.conv_1x1.conv", "stem.conv_kxk.conv"]
    for spec, layer in zip(supernet.network.layers, supernet.quantized_layers, strict=True):
        reads_image = spec.name in stems
        assert spec.is_pinned == (reads_image or spec.name == "head.fc")
        assert (layer.act_quantizer is None) == reads_image
    # The image is accounted at 8 bits all the same.
    smallest = supernet.network.candidates.smallest
    assert bitops(supernet.network, smallest) >= sum(
        64 * layer.macs for layer in supernet.network.layers if layer.name in stems
    )


def test_shape_arithmetic_makes_no_input_signed() -> None:
    """Channel shuffles of shufflenet read sizes, which are no tensors with a sign."""
    supernet = converted(torchvision.models.shufflenet_v2_x1_0(num_classes=10))
    lowest: dict[str, float] = {}
    names = {id(supernet.model.get_submodule(la.name)): la.name for la in supernet.network.layers}
    for layer in supernet.quantized_layers:
        layer.register_forward_pre_hook(
            lambda module, inputs: lowest.update({names[id(module)]: inputs[0].min().item()})
        )
    supernet.eval()
    with torch.no_grad():
        supernet(torch.randn(2, 3, 64, 64), supernet.network.candidates.largest)
    for spec, layer in zip(supernet.network.layers, supernet.quantized_layers, strict=True):
        if layer.act_quantizer is not None and not layer.act_quantizer.signed:
            assert lowest[spec.name] >= 0
    signed = [
        spec.name
        for spec, layer in zip(supernet.network.layers, supernet.quantized_layers, strict=True)
        if layer.act_quantizer is not None and layer.act_quantizer.signed
    ]
    # Those behind a depthwise convolution's BatchNorm without activation, and no others.
    assert all(name.endswith((".branch2.5", ".branch1.2")) for name in signed), signed


class Joined(nn.Module):
    """What is given: the image, features, both side by side, or features weighed by the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.features = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.joined, self.gated = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 3, 1)
        self.pooled, self.fc1, self.fc2 = nn.Conv2d(3, 3, 1), nn.Linear(192, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        num_images = x.size(0)
        y = torch.relu(self.features(torch.relu(self.stem(x))))
        y = self.joined(torch.cat([y, x], dim=1))
        y = self.gated(torch.relu(y) * x.mean().sigmoid())
        y = y + self.pooled(torch.nn.functional.avg_pool2d(x, 3, 1, 1))
        return self.fc2(torch.relu(self.fc1(torch.relu(y).view(num_images, -1))))


def test_what_reads_the_image_is_told_from_what_reads_its_size_or_is_weighed_by_it() -> None:
    supernet = converted(Joined(), size=8)
    readers = [
        spec.name
        for spec, layer in zip(supernet.network.layers, supernet.quantized_layers, strict=True)
        if layer.act_quantizer is None
    ]
    assert readers == ["stem", "joined", "pooled"]
    assert [la.name for la in supernet.network.layers if la.is_pinned] == [*readers, "fc2"]


class Rectified(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - 1


def test_a_subclass_that_computes_in_its_own_way_is_unknown() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Rectified(), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1))
    layers = converted(model, size=8).quantized_layers
    assert layers[1].act_quantizer is not None
    assert layers[1].act_quantizer.signed
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
    with pytest.raises(ConversionError, match=r"^1 is a Parametrized.*, which computes otherwise"):
        converted(nn.Sequential(nn.Conv2d(3, 4, 1), normed, nn.Conv2d(4, 2, 1)), size=8)


def test_a_norm_that_averages_over_all_batches_converts() -> None:
    norm = nn.BatchNorm2d(4, momentum=None)
    model = nn.Sequential(norm_free := nn.Conv2d(3, 4, 1), nn.ReLU(), norm, nn.Conv2d(4, 2, 1))
    supernet = converted(model, size=8).train()
    images = torch.randn(3, 3, 8, 8)
    supernet(images, supernet.encode_float())
    seen = torch.relu(norm_free(images))
    torch.testing.assert_close(supernet.model[2].running_mean, seen.mean(dim=(0, 2, 3)))


def test_a_pattern_that_keeps_nothing_in_float_is_said(caplog: pytest.LogCaptureFixture) -> None:
    config = QuantConfig(keep_float=("Conv1d", "0", "nothing.*"))
    converted(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), size=8, config=config)
    said = sorted(record.getMessage() for record in caplog.records)
    assert len(said) == 2
    assert said[0].startswith("quant.keep_float 0 keeps nothing in float: it fits no module")
    assert said[1].startswith("quant.keep_float nothing.* keeps nothing in float")
