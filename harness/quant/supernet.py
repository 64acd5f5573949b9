"""A supernet: a network whose weights serve every bit-width configuration (arXiv 2401.01543).

`convert` reads the float network's torch.fx graph and swaps Conv2d, Linear and the BatchNorm behind
a Conv2d for their quantized and switchable forms; everything else runs as it did.
"""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.errors import ConversionError
from harness.problem.network import PINNED_BITS, LayerSpec, NetworkSpec
from harness.problem.policy import Policy
from harness.quant.graph import LayerNode, functional_products, layer_nodes
from harness.quant.layers import QuantizedLayer, quantize_layer
from harness.quant.lsq import LsqQuantizer
from harness.quant.switchable_bn import SwitchableBatchNorm2d
from harness.run.config import QuantConfig

UNSUPPORTED_MODULES: tuple[type[nn.Module], ...] = (
    nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention,
)  # fmt: skip
"""Modules with products of weights or activations that have no quantized form yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedLayer:
    """A quantized layer and the normalisation that follows its bits."""

    layer: QuantizedLayer
    batch_norm: SwitchableBatchNorm2d | None

    def select(self, weight_bits: int, act_bits: int) -> None:
        """Choose the bits of the next forward passes."""
        self.layer.select(weight_bits, act_bits)
        if self.batch_norm is not None:
            self.batch_norm.select(weight_bits, act_bits)


class Supernet(nn.Module):
    """One set of weights under any policy of its network.

    Attributes:
        model: The converted network; parameter names are those of the float one.
        network: Its quantized layers in order of execution.
        policy: The policy of the next forward passes.
    """

    def __init__(self, model: nn.Module, network: NetworkSpec) -> None:
        super().__init__()
        self.model = model
        self.network = network
        modules = dict(model.named_modules())
        # A ModuleList would repeat every parameter's name; a deepcopy (the EMA) keeps this wired.
        self._switched = [
            _wire(modules, layer, behind)
            for layer, behind in zip(network.layers, _norms_behind(model, network), strict=True)
        ]
        self.set_policy(self.network.candidates.largest)

    @property
    def quantized_layers(self) -> list[QuantizedLayer]:
        """The quantized layers in order of execution."""
        return [switched.layer for switched in self._switched]

    def set_policy(self, policy: Policy) -> None:
        """Choose the bits of every layer for the next forward passes.

        Raises:
            PolicyError: A layer's bits are not among its candidates.
        """
        self.network.candidates.check(policy)
        for switched, (weight_bits, act_bits) in zip(self._switched, policy, strict=True):
            switched.select(weight_bits, act_bits)
        self.policy = policy

    def step_size_parameters(self) -> list[nn.Parameter]:
        """Return the quantizers' step sizes."""
        return [m.step_size for m in self.modules() if isinstance(m, LsqQuantizer)]

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes) under the present policy."""
        return self.model(images)  # type: ignore[no-any-return]


def describe_network(
    model: nn.Module,
    *,
    name: str,
    input_size: tuple[int, int, int],
    num_classes: int,
    config: QuantConfig,
) -> NetworkSpec:
    """Return a float network's quantized layers, MACs and candidates; nothing is converted.

    Args:
        model: The float network, on any device.
        name: Name it was created by.
        input_size: Channels, height and width.
        num_classes: Logits of the last layer.
        config: Candidates.

    Raises:
        ConversionError: The network cannot be traced or run, or has no Conv2d and Linear.
    """
    nodes = layer_nodes(model, input_size)
    if not nodes:
        raise ConversionError(f"{name} has no Conv2d or Linear layer; choose another network")
    ends = {nodes[0].name, nodes[-1].name}
    layers = tuple(_layer_spec(node, pinned=node.name in ends, config=config) for node in nodes)
    return NetworkSpec(
        model_name=name, input_size=input_size, num_classes=num_classes, layers=layers
    )


def convert(model: nn.Module, network: NetworkSpec) -> Supernet:
    """Turn a float network into a supernet, in place: it takes over the modules and weights.

    Args:
        model: The float network that `network` describes.
        network: From `describe_network`.

    Raises:
        ConversionError: A module has no quantized form; the message names it and says why.
    """
    nodes = layer_nodes(model, network.input_size)
    modules = dict(model.named_modules())
    _check_convertible(model, nodes)
    for index, (node, layer) in enumerate(zip(nodes, network.layers, strict=True)):
        quantized = quantize_layer(
            modules[node.name],
            weight_candidates=layer.weight_candidates,
            # The image itself is not quantized (accounted at 8 bits).
            act_candidates=None if index == 0 else layer.act_candidates,
            act_signed=node.input_can_be_negative,
        )
        _replace(model, node.name, quantized)
        if node.batch_norm is not None and _is_switchable(modules[node.batch_norm]):
            pairs = list(product(layer.weight_candidates, layer.act_candidates))
            bn = modules[node.batch_norm]
            assert isinstance(bn, _BatchNorm)
            switchable = SwitchableBatchNorm2d(bn, pairs)
            switchable.train(bn.training)
            switchable.layer_name = node.name
            _replace(model, node.batch_norm, switchable)
    return Supernet(model, network)


@torch.no_grad()
def observe_magnitudes(supernet: Supernet, images: Tensor) -> Tensor:
    """Run images through the float network and return mean |x| of every layer's input, (layers,).

    Batch normalisation and dropout behave as the module's training flag says.
    """
    layers = supernet.quantized_layers
    try:
        for layer in layers:
            layer.is_observing = True
        supernet(images)
        return torch.stack([_observed(layer) for layer in layers])
    finally:
        for layer in layers:
            layer.is_observing = False
            layer.observed_magnitude = None


@torch.no_grad()
def fit_step_sizes(supernet: Supernet, images: Tensor) -> None:
    """Move every step from its initial value to the least squared error on weights and images.

    For networks that start from trained weights. Call it after the activation steps were set.

    Args:
        supernet: Behaves as its training flag says; only its steps change in evaluation mode.
        images: Some training images, (N, C, H, W).
    """
    hooks = []
    for layer in supernet.quantized_layers:
        layer.weight_quantizer.fit_step_sizes(layer.weight)
        hooks.append(layer.register_forward_pre_hook(_fit_act_step_sizes))
    try:
        observe_magnitudes(supernet, images)
    finally:
        for hook in hooks:
            hook.remove()


def _fit_act_step_sizes(layer: nn.Module, inputs: tuple[Tensor]) -> None:
    assert isinstance(layer, QuantizedLayer)
    if layer.act_quantizer is not None:
        layer.act_quantizer.fit_step_sizes(inputs[0])


def _observed(layer: QuantizedLayer) -> Tensor:
    assert layer.observed_magnitude is not None, "a layer of the graph did not run"
    return layer.observed_magnitude


def _layer_spec(node: LayerNode, *, pinned: bool, config: QuantConfig) -> LayerSpec:
    floor = config.depthwise_min_bits if node.is_depthwise else 0
    pins = (PINNED_BITS,)
    weights = pins if pinned else tuple(b for b in config.weight_candidates if b >= floor)
    acts = pins if pinned else tuple(b for b in config.act_candidates if b >= floor)
    return LayerSpec(
        name=node.name,
        kind=node.kind,
        macs=node.macs,
        weight_count=node.weight_count,
        is_depthwise=node.is_depthwise,
        is_pinned=pinned,
        weight_candidates=weights,
        act_candidates=acts,
    )


def _check_convertible(model: nn.Module, nodes: list[LayerNode]) -> None:
    modules = dict(model.named_modules())
    for name, module in modules.items():
        if isinstance(module, UNSUPPORTED_MODULES):
            raise ConversionError(
                f"{name} is a {type(module).__name__}, only Conv2d and Linear have a quantized "
                "form; choose a network without it"
            )
    for node in nodes:
        layer = modules[node.name]
        plain = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
        # timm's own Linear differs from torch's under torch.jit only.
        kind = f"{type(layer).__module__}.{type(layer).__name__}"
        is_plain = type(layer).forward is plain.forward or kind == "timm.layers.linear.Linear"
        if not is_plain:
            raise ConversionError(
                f"{node.name} is a {type(layer).__name__}, which computes otherwise than "
                f"{plain.__name__} and has no quantized form; choose a network with plain layers"
            )
        if node.num_calls > 1:
            raise ConversionError(
                f"{node.name} runs {node.num_calls} times in one pass, a quantized layer has "
                "one set of step sizes; choose a network without shared layers"
            )
    products = functional_products(model)
    if products:
        raise ConversionError(
            f"{products[0]} multiplies tensors outside a Conv2d or Linear module and has no "
            "quantized form; choose a convolutional network"
        )


def _is_switchable(bn: nn.Module) -> bool:
    return (
        isinstance(bn, _BatchNorm)
        and bn.weight is not None
        and bn.bias is not None
        and bn.running_mean is not None
    )


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _norms_behind(model: nn.Module, network: NetworkSpec) -> list[SwitchableBatchNorm2d | None]:
    norms = {m.layer_name: m for m in model.modules() if isinstance(m, SwitchableBatchNorm2d)}
    return [norms.get(layer.name) for layer in network.layers]


def _wire(
    modules: dict[str, nn.Module], layer: LayerSpec, batch_norm: SwitchableBatchNorm2d | None
) -> SwitchedLayer:
    quantized = modules[layer.name]
    assert isinstance(quantized, QuantizedLayer)
    return SwitchedLayer(layer=quantized, batch_norm=batch_norm)
