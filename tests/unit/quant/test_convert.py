"""Conversion by graph: what it keeps, what it pins, which signs it finds, what it refuses."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import ConversionError, PolicyError
from harness.models import create_model
from harness.problem.policy import Policy
from harness.quant.convert import convert, describe_network
from harness.quant.layers import QuantizedLayer
from harness.quant.lsq import quantization_range
from harness.quant.norms import SwitchableBatchNorm2d
from harness.quant.supernet import Supernet
from harness.run.config import ModelConfig, QuantConfig
from harness.training.policy_sampler import sample_policy

CONFIG = QuantConfig(weight_candidates=(4, 3, 2), act_candidates=(4, 3, 2))
MODELS = [
    "resnet18", "mobilenetv2_100", "efficientnet_lite0", "resnet50", "regnetx_002",
    "mobilenetv3_large_100", "efficientnet_b0", "convnext_tiny", "densenet121",
    "mobilenetv4_conv_small", "tf_efficientnet_b0", "tf_mobilenetv3_large_100", "vgg11_bn",
    "ecaresnet26t", "repvgg_a0", "nf_regnet_b0", "resnetv2_50", "nf_resnet26",
]  # fmt: skip


def converted(model: nn.Module, *, size: int = 32, config: QuantConfig = CONFIG) -> Supernet:
    network = describe_network(
        model, name="model", input_size=(3, size, size), num_classes=10, config=config
    )
    return convert(model, network)


def small_supernet() -> Supernet:
    torch.manual_seed(0)
    model = create_model(ModelConfig(name="resnet8"), num_classes=10, in_channels=3)
    return converted(model, size=16)


def random_policy(supernet: Supernet, *, seed: int = 0) -> Policy:
    candidates = supernet.network.candidates
    return sample_policy(candidates, seed=seed, step=0, pass_index=0)


@pytest.mark.parametrize("name", MODELS)
def test_a_random_policy_trains_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10)
    float_state = {key: value.clone() for key, value in model.state_dict().items()}
    supernet = converted(model).train()
    _check_names_and_weights_kept(supernet, float_state)
    logits = supernet(torch.randn(2, 3, 32, 32), random_policy(supernet))
    assert logits.shape == (2, 10)
    F.cross_entropy(logits, torch.tensor([1, 2])).backward()
    without = [
        key
        for key, parameter in supernet.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    assert without == []


def _check_names_and_weights_kept(supernet: Supernet, float_state: dict[str, Tensor]) -> None:
    state = supernet.model.state_dict()
    for key, value in float_state.items():
        if key.endswith("num_batches_tracked"):  # A switchable BN keeps no count.
            continue
        copies = state[key] if state[key].ndim > value.ndim else state[key][None]
        assert all(torch.equal(one, value) for one in copies), key


def test_first_and_last_layer_are_pinned_and_the_image_is_not_quantized() -> None:
    supernet = small_supernet()
    layers, specs = supernet.quantized_layers, supernet.network.layers
    assert layers[0].act_quantizer is None
    assert all(layer.act_quantizer is not None for layer in layers[1:])
    for spec in (specs[0], specs[-1]):
        assert spec.is_pinned
        assert (spec.weight_candidates, spec.act_candidates) == ((8,), (8,))
    for policy in (supernet.network.candidates.largest, supernet.network.candidates.smallest):
        assert policy.bits[0] == policy.bits[-1] == (8, 8)


def test_depthwise_layers_stop_at_three_bits() -> None:
    supernet = converted(timm.create_model("mobilenetv2_100", num_classes=10))
    for spec, (weight, act) in zip(
        supernet.network.layers, supernet.network.candidates.smallest, strict=True
    ):
        assert (weight, act) == (
            (8, 8) if spec.is_pinned else (3, 3) if spec.is_depthwise else (2, 2)
        )


def signed_inputs(supernet: Supernet) -> list[str]:
    return [
        spec.name
        for spec, layer in zip(supernet.network.layers, supernet.quantized_layers, strict=True)
        if layer.act_quantizer is not None and layer.act_quantizer.signed
    ]


def test_mobilenetv2_inputs_are_signed_behind_linear_bottlenecks_only() -> None:
    supernet = converted(timm.create_model("mobilenetv2_100", num_classes=10))
    # Every inverted residual expands (conv_pw) from a linear bottleneck, blocks.0.0 has no
    # expansion, and conv_head reads the last bottleneck.
    blocks = [(stage, block) for stage, n in enumerate((1, 2, 3, 4, 3, 3, 1)) for block in range(n)]
    expected = [f"blocks.{stage}.{block}.conv_pw" for stage, block in blocks if stage > 0]
    assert signed_inputs(supernet) == [*expected, "conv_head"]


def test_resnet18_inputs_are_all_unsigned() -> None:
    assert signed_inputs(converted(timm.create_model("resnet18", num_classes=10))) == []


class Signed(nn.Module):
    """A convolution behind an operation on non-negative values."""

    def __init__(self, operation) -> None:
        super().__init__()
        self.stem, self.conv, self.head = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(self.operation(F.relu(self.stem(x))))))


def lowered_in_place(x: Tensor) -> Tensor:
    x.add_(-1)
    return x


@pytest.mark.parametrize(
    ("operation", "is_signed"),
    [
        (lowered_in_place, True),
        (lambda x: x * -1, True),
        (lambda x: torch.mul(x, -1), True),
        (lambda x: x.mul(-0.5), True),
        (lambda x: x.add(-1), True),
        (lambda x: torch.add(x, x, alpha=-2), True),
        (lambda x: torch.add(x, other=-3), True),
        (lambda x: x - 1, True),
        (lambda x: F.pad(x, (1, 1), value=-1.0), True),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), True),
        (nn.Upsample(scale_factor=2, mode="bicubic"), True),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), False),
        (nn.Upsample(scale_factor=2), False),
        (lambda x: F.pad(x, (1, 1)), False),
        (lambda x: torch.add(x, x, alpha=2), False),
        (lambda x: x.mean(-1, keepdim=True), False),
        (lambda x: x * 2 + 1, False),
    ],
)
def test_signs_follow_operations_on_non_negative_values(operation, is_signed: bool) -> None:
    supernet = converted(Signed(operation), size=8)
    assert ("conv" in signed_inputs(supernet)) == is_signed


def test_signs_hold_on_a_real_forward_pass() -> None:
    torch.manual_seed(0)
    supernet = converted(timm.create_model("mobilenetv3_large_100", num_classes=10)).eval()
    unsigned = [
        layer
        for layer in supernet.quantized_layers
        if layer.act_quantizer is not None and not layer.act_quantizer.signed
    ]
    lowest: list[float] = []
    for layer in unsigned:
        layer.register_forward_pre_hook(lambda _, inputs: lowest.append(inputs[0].min().item()))
    with torch.no_grad():
        supernet(torch.randn(2, 3, 32, 32), supernet.network.candidates.largest)
    assert len(lowest) == len(unsigned) > 0
    assert min(lowest) >= 0


def test_the_activation_of_batch_norm_act_is_kept() -> None:
    model = timm.create_model("mobilenetv2_100", num_classes=10)
    acts = [type(model.bn1.act), type(model.blocks[1][0].bn3.act)]
    supernet = converted(model)
    norms = [supernet.model.bn1, supernet.model.blocks[1][0].bn3]
    assert all(isinstance(norm, SwitchableBatchNorm2d) for norm in norms)
    assert [type(norm.act) for norm in norms] == acts == [nn.ReLU6, nn.Identity]


def test_a_converted_network_in_float_equals_the_float_network() -> None:
    model = timm.create_model("mobilenetv3_large_100", num_classes=10).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
        supernet = converted(copy.deepcopy(model)).eval()
        torch.testing.assert_close(supernet(images, supernet.encode_float()), expected)


def test_a_policy_reaches_layers_and_norms() -> None:
    supernet = small_supernet()
    policy = random_policy(supernet, seed=3)
    inputs = supernet.encode(policy)
    norms = [norm for norm in supernet.norms if isinstance(norm, SwitchableBatchNorm2d)]
    assert len(norms) == len(policy) - 1  # Every convolution; the Linear has none.
    layers = zip(supernet.quantized_layers, inputs.rows, policy, strict=True)
    for layer, row, (weight_bits, act_bits) in layers:
        assert layer.weight_quantizer.candidates[row.weight.position] == weight_bits
        assert (row.weight.low, row.weight.high) == quantization_range(weight_bits, signed=True)
        if layer.act_quantizer is not None:
            assert layer.act_quantizer.candidates[row.act.position] == act_bits
    stem, other = supernet.model.bn1, supernet.model.stages[0][0].bn2
    seen = supernet.statistics(inputs)
    assert seen[0].mean.data_ptr() == stem.running_mean.data_ptr()  # Pinned: one copy.
    conv2 = [spec.name for spec in supernet.network.layers].index("stages.0.0.conv2")
    copy_index = other.pairs.index(policy.bits[conv2])
    rows = {inputs.rows[conv2].norm, copy_index}
    assert len(rows) == 1


def test_a_policy_with_bits_that_are_no_candidates_is_refused() -> None:
    supernet = small_supernet()
    pairs = list(supernet.network.candidates.largest)
    pairs[1] = (7, 4)
    with pytest.raises(PolicyError, match=r"has 7 weight bits in the policy, its candidates are 4"):
        supernet(torch.randn(2, 3, 16, 16), Policy(pairs))


def test_a_deepcopy_is_independent_in_its_weights() -> None:
    supernet = small_supernet().eval()
    largest = supernet.network.candidates.largest
    images = torch.randn(2, 3, 16, 16)
    twin = copy.deepcopy(supernet)
    before = supernet(images, largest).detach()
    assert torch.equal(twin(images, largest).detach(), before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(supernet(images, largest).detach(), before)
    assert not torch.equal(twin(images, largest).detach(), before)
    assert all(isinstance(layer, QuantizedLayer) for layer in twin.quantized_layers)
    assert not {id(la) for la in twin.quantized_layers} & {
        id(la) for la in supernet.quantized_layers
    }


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum() > 0 else x


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice, self.head = (nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.twice(self.twice(self.stem(x))))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.kernel = nn.Parameter(torch.ones(3, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.conv(x), self.kernel)


class Conv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


REFUSED = [
    (
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), Conv2d(3, 3, 1)),
        r"^1 is a Conv2d, which computes otherwise than Conv2d and has no quantized form; name",
    ),
    (Branching, r"^forward of Branching cannot be followed by torch.fx .*control flow; replace"),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), Branching()),
        r"^1 \(Branching\) cannot be followed by torch.fx .*control flow; replace",
    ),
    (Shared, r"^twice runs 2 times in one pass, a quantized layer has one set .*shared layers$"),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.ConvTranspose2d(3, 3, 2)),
        r"^1 is a ConvTranspose2d, which has no quantized form; name it in quant.keep_float, or",
    ),
    (
        Functional,
        r"^conv2d in the network's own forward multiplies tensors outside .*; choose a conv",
    ),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), Functional()),
        r"^conv2d in 1 \(Functional\) multiplies tensors outside a Conv2d or Linear module",
    ),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten(2), nn.LSTM(1024, 3)),
        r"^2 is a LSTM, which has no quantized form; choose a network without it$",
    ),
]


@pytest.mark.parametrize(("create", "message"), REFUSED)
def test_what_has_no_quantized_form_is_named(create, message: str) -> None:
    with torch.device("meta"), pytest.raises(ConversionError, match=message):
        converted(create())


def test_a_transformer_is_refused_by_the_module_that_attends() -> None:
    with (
        torch.device("meta"),
        pytest.raises(
            ConversionError, match=r"in blocks\.0\.attn \(Attention\) multiplies tensors outside"
        ),
    ):
        converted(timm.create_model("vit_tiny_patch16_224", num_classes=10), size=224)
