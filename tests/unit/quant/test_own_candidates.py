"""Which layers read one tensor, how much each reads, and what is set for single layers."""

import logging

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from harness.errors import ConfigError, PolicyError
from harness.models import create_model
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.quant.convert import convert, describe_network
from harness.run.config import ModelConfig, QuantConfig
from harness.run.quant_config import LayerBits

SHARED = QuantConfig(tie_shared_inputs=True)


def described(model: nn.Module, config: QuantConfig, size: int = 8) -> NetworkSpec:
    return describe_network(
        model, name="made", input_size=(3, size, size), num_classes=2, config=config
    )


def of_timm(name: str, config: QuantConfig = SHARED, size: int = 224) -> NetworkSpec:
    with torch.device("meta"):
        return described(timm.create_model(name), config, size)


def tied_names(network: NetworkSpec) -> list[set[str]]:
    return [{network.layers[index].name for index, _ in group} for group in network.ties]


def shared_by_identity(name: str, size: int) -> list[set[str]]:
    """Return groups of convolutions that are given the very same tensor when the network runs.

    Without the graph: hooks compare Python objects; ReLU in place is turned off so that a tensor
    has one value only.
    """
    with torch.device("meta"):
        model = timm.create_model(name).eval()
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    given: list[tuple[str, torch.Tensor]] = []

    def note(path: str):
        return lambda _, inputs: given.append((path, inputs[0]))

    for path, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_pre_hook(note(path))
    with torch.no_grad():
        model(torch.empty(1, 3, size, size, device="meta"))
    groups: dict[int, set[str]] = {}
    for path, tensor in given:
        groups.setdefault(id(tensor), set()).add(path)
    return [group for group in groups.values() if len(group) > 1]


NETWORKS = [
    "resnet18",
    "resnet50d",
    "inception_v3",
    "densenet121",
    "mobilenetv2_100",
    "ghostnet_100",
]


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_are_tied_that_are_given_the_same_tensor(name: str) -> None:
    size = 224 if "inception" not in name else 299
    network = of_timm(name, size=size)
    assert all(side == "act" for group in network.ties for _, side in group)
    expected = shared_by_identity(name, size)
    assert sorted(map(sorted, tied_names(network))) == sorted(map(sorted, expected))
    assert bool(expected) == (name not in ("densenet121", "mobilenetv2_100"))
    assert of_timm(name, QuantConfig(), size).ties == ()


def test_the_downsampling_of_resnet18_is_tied_to_the_block_it_stands_beside() -> None:
    assert tied_names(of_timm("resnet18")) == [
        {f"layer{stage}.0.conv1", f"layer{stage}.0.downsample.0"} for stage in (2, 3, 4)
    ]


class Branches(nn.Module):
    """A stem, then two convolutions that read its output in ways to be told apart."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.stem, self.a, self.b = (nn.Conv2d(c, 4, 1) for c in (3, 4, 4))
        self.keep, self.drop, self.relu = nn.Identity(), nn.Dropout(0.5), nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        early = self.a(x) if self.way == "before it is changed in place" else None
        y = {
            "identity": self.keep,
            "dropout": self.drop,
            "module in place": self.relu,
            "before it is changed in place": self.relu,
            "function in place": lambda t: F.relu(t, inplace=True),
            "function in place by position": lambda t: F.relu(t, True),
            "method in place": lambda t: t.relu_(),
            "another tensor": F.relu,
        }[self.way](x)
        a = early if early is not None else self.a(y)
        return self.fc((a + self.b(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("way", "is_shared"),
    [
        ("identity", True),
        ("dropout", True),
        ("module in place", True),
        ("function in place", True),
        ("function in place by position", True),
        ("method in place", True),
        ("before it is changed in place", False),
        ("another tensor", False),
    ],
)
def test_a_tensor_is_known_by_whatever_name(way: str, is_shared: bool) -> None:
    assert tied_names(described(Branches(way), SHARED)) == ([{"a", "b"}] if is_shared else [])


@pytest.mark.parametrize("way", ["before it is changed in place", "module in place"])
def test_what_is_changed_in_place_and_read_by_its_old_name_is_computed(way: str) -> None:
    """The graph must not drop a ReLU in place whose result nothing reads by name."""
    torch.manual_seed(0)
    model = Branches(way).eval()
    images = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        expected = model(images)
        network = described(model, SHARED)
        supernet = convert(model, network).eval()
        found = supernet(images, supernet.encode_float())
    assert torch.equal(found, expected)


def test_layers_that_keep_their_bits_are_tied_to_none() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.mid = (
                nn.Conv2d(3, 4, 1),
                nn.Conv2d(3, 4, 1),
                nn.Conv2d(4, 4, 1),
            )
            self.fc = nn.Conv2d(4, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.one(x) + self.two(x)  # Both read the image.
            return self.mid(x).mean((1, 2, 3))[:, None] + self.fc(x).mean((2, 3))

    network = described(TwoHeads(), SHARED)
    assert network.ties == ()
    assert [layer.place for layer in network.layers] == ["first", "first", "inside", "last"]


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100", "densenet121", "convnext_tiny"])
def test_sizes_of_inputs_equal_a_count_by_forward_hooks(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name).eval()
    counted: list[tuple[str, int]] = []

    def note(path: str):
        return lambda _, inputs: counted.append((path, inputs[0].numel()))

    for path, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_pre_hook(note(path))
    with torch.no_grad():
        model(torch.empty(1, 3, 224, 224, device="meta"))
    layers = of_timm(name).layers
    assert [(layer.name, layer.input_count) for layer in layers] == counted
    places = ["first", *["inside"] * (len(layers) - 2), "last"]
    assert [layer.place for layer in layers] == places


def test_layers_take_candidates_of_their_own() -> None:
    config = QuantConfig(
        layers={
            "layer4.*": LayerBits(weight_candidates=(4, 8)),
            "layer4.0.conv1": LayerBits(act_candidates=(8,)),
        }
    )
    network = of_timm("resnet18", config)
    for layer in network.layers:
        is_own = layer.name.startswith("layer4.")
        default = (8,) if layer.is_pinned else (6, 5, 4, 3, 2)
        assert layer.weight_candidates == ((8, 4) if is_own else default)
        assert layer.act_candidates == ((8,) if layer.name == "layer4.0.conv1" else default)
    two = network.candidates.uniform(weight_bits=2, act_bits=2)
    assert two == network.candidates.smallest
    assert network.fingerprint == of_timm("resnet18").fingerprint


def test_own_candidates_go_before_the_floor_of_depthwise_layers() -> None:
    own = {"blocks.1.0.conv_dw": LayerBits(weight_candidates=(2,))}
    network = of_timm("mobilenetv2_100", QuantConfig(layers=own))
    floors = {layer.weight_candidates for layer in network.layers if layer.is_depthwise}
    assert floors == {(6, 5, 4, 3), (2,)}


def test_layers_that_fit_a_pattern_are_tied_on_both_sides() -> None:
    config = QuantConfig(
        ties=("layer1.*", "layer2.?.conv1"),
        tie_shared_inputs=True,
        layers={"layer1.0.conv1": LayerBits(weight_candidates=(5, 3))},
    )
    network = of_timm("resnet18", config)
    names = [layer.name for layer in network.layers]
    groups = [[(names[index], side) for index, side in group] for group in network.ties]
    one = [f"layer1.{block}.conv{conv}" for block in (0, 1) for conv in (1, 2)]
    # The second pattern and the shared input meet in one convolution: all three are one group.
    two = ["layer2.0.conv1", "layer2.0.downsample.0", "layer2.1.conv1"]
    assert groups[0] == [(name, "weight") for name in one]
    assert groups[1] == [(name, "act") for name in one]
    assert [(name, "weight") for name in (two[0], two[2])] in groups
    assert [(name, "act") for name in two] in groups
    assert {network.layers[names.index(name)].weight_candidates for name in one} == {(5, 3)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"ties": ("layer9.*",)},
            r"^quant\.ties layer9\.\* fits no layer, the first is conv1; mend",
        ),
        (
            {"ties": ("conv1",)},
            r"^quant\.ties conv1 fits only conv1, which keeps its bits: it reads",
        ),
        (
            {"ties": ("layer1.0.conv1",)},
            r"^quant\.ties layer1\.0\.conv1 fits layer1\.0\.conv1 alone",
        ),
        (
            {"layers": {"fc": LayerBits(act_candidates=(4,))}},
            r"^quant\.layers fc fits only fc, which keeps its bits: .*; mend or remove the pattern",
        ),
        (
            {
                "layers": {
                    "layer1.*": LayerBits(act_candidates=(4,)),
                    "*.conv2": LayerBits(act_candidates=(4, 3)),
                }
            },
            r"^quant\.layers layer1\.\* and \*\.conv2 both give the act candidates of "
            r"layer1\.0\.conv2; let one pattern give them$",
        ),
        (
            {
                "ties": ("layer1.0.*",),
                "layers": {
                    "layer1.0.conv1": LayerBits(act_candidates=(4,)),
                    "layer1.0.conv2": LayerBits(act_candidates=(3,)),
                },
            },
            r"^tied layers have no bit-width in common: activations of layer1\.0\.conv1 4, activ",
        ),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_settings_that_contradict_the_network_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        of_timm("resnet18", QuantConfig(**settings))


def test_a_supernet_keeps_to_its_ties() -> None:
    model = create_model(ModelConfig(name="resnet8"), num_classes=10, in_channels=3)
    network = described(model, SHARED, 32)
    supernet = convert(model, network).eval()
    names = [layer.name for layer in network.layers]
    index, other = (names.index(f"stages.1.0.{part}") for part in ("conv1", "downsample.0"))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert supernet(images, network.candidates.largest).isfinite().all()
        bits = list(network.candidates.largest)
        bits[other] = (6, 2)
        message = rf"activations of {names[index]} and activations of {names[other]} are tied and"
        with pytest.raises(PolicyError, match=message):
            supernet(images, Policy(bits))


def test_shared_inputs_that_are_not_there_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        of_timm("resnet18", QuantConfig(ties=("layer1.*",), tie_shared_inputs=True))
        assert caplog.records == []
        of_timm("mobilenetv2_100", SHARED)
    assert [record.getMessage() for record in caplog.records] == [
        "quant.tie_shared_inputs ties nothing: no two free layers read one tensor; leave it out"
    ]
