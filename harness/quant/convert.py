"""From a float network to its description, and to a supernet.

`describe_network` says which layers there are, what they cost and which bits they may take; nothing
changes. `convert` swaps each of them, and the BatchNorm behind, for its quantized form.
"""

import logging
from fnmatch import fnmatchcase
from itertools import product

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.errors import ConversionError
from harness.problem.network import FLOAT_BITS, PINNED_BITS, LayerSpec, NetworkSpec
from harness.quant.execution import compile_graph
from harness.quant.graph import LayerNode, NetworkGraph, network_graph, products_outside_modules
from harness.quant.layers import QuantizedLayer
from harness.quant.norms import (
    SharedBatchNorm,
    SwitchableBatchNorm2d,
    can_be_given_statistics,
    is_switchable,
)
from harness.quant.operations import OPERATIONS, operation_of
from harness.quant.own_candidates import ties_of, with_own_candidates
from harness.quant.segments import EvaluationGraph
from harness.quant.supernet import Supernet
from harness.run.config import QuantConfig

logger = logging.getLogger(__name__)

UNSUPPORTED_MODULES: tuple[type[nn.Module], ...] = (
    nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention,
)  # fmt: skip
"""Modules of torch with products inside that the table of operations does not know."""


def describe_network(
    model: nn.Module,
    *,
    name: str,
    input_size: tuple[int, int, int],
    num_classes: int,
    config: QuantConfig,
) -> NetworkSpec:
    """Return a float network's layers, MACs, candidates and ties; nothing is converted.

    Pinned are the last layer and every layer that reads the image, mostly one: at 8 bits, the image
    itself not quantized (arXiv 2401.01543, section 4.1). Layers without a quantized form are pinned
    in float where `config.keep_float` names them.

    Args:
        model: The float network, on any device.
        name: Name it was created by.
        input_size: Channels, height and width.
        num_classes: Logits of the last layer.
        config: Candidates, pins and ties, and what stays in float.

    Raises:
        ConversionError: The network cannot be traced or run, or has no layer with weights.
        ConfigError: A pattern of the configuration fits no free layer, or patterns or ties
            contradict each other.
    """
    graph = network_graph(model, input_size)
    if not graph.layers:
        raise ConversionError(f"{name} has no Conv2d or Linear layer; choose another network")
    _warn_of_idle_patterns(graph, config)
    # In order of execution, so the last is the classifier, whatever the network calls it.
    last = graph.layers[-1].name
    layers = tuple(
        _layer_spec(
            node,
            is_last=node.name == last,
            stays_float=_stays_float(node, graph.modules, config),
            config=config,
        )
        for node in graph.layers
    )
    layers = with_own_candidates(layers, config)
    inputs = [node.input_name for node in graph.layers]
    network = NetworkSpec(
        model_name=name,
        input_size=input_size,
        num_classes=num_classes,
        layers=layers,
        ties=ties_of(layers, inputs, config),
    )
    # Tied sides are left with the candidates that all of them have.
    return network.narrowed(network.candidates)


def convert(model: nn.Module, network: NetworkSpec) -> Supernet:
    """Turn a float network into a supernet, in place: it takes over the modules and weights.

    Args:
        model: The float network that `network` describes.
        network: From `describe_network`.

    Raises:
        ConversionError: A module has no quantized form; the message names it and says why.
    """
    # Networks may compute otherwise in training (dropout as a function), so each has its own graph.
    training = network_graph(model, network.input_size, training=True)
    evaluation = network_graph(model, network.input_size)
    # All checks come before the first change: a refused network is left as it was.
    _check_convertible(evaluation, network)
    norms = {node.name: node.batch_norm for node in evaluation.layers}
    modules = dict(model.named_modules())
    for node, layer in zip(evaluation.layers, network.layers, strict=True):
        if layer.is_float:
            continue
        quantized = quantize_layer(modules[node.name], layer, node)
        _replace(model, node.name, quantized)
        # The copies follow this layer's bits, so only a norm that reads nothing else can have them.
        norm = norms[node.name]
        if norm is not None and is_switchable(modules[norm]):
            bn = modules[norm]
            assert isinstance(bn, _BatchNorm)
            pairs = list(product(layer.weight_candidates, layer.act_candidates))
            _replace(model, norm, SwitchableBatchNorm2d(bn, pairs))
    # Every other norm must take statistics as well, or recalibration would miss it.
    for path, module in list(model.named_modules()):
        if can_be_given_statistics(module):
            assert isinstance(module, _BatchNorm)
            _replace(model, path, SharedBatchNorm(module))
    switched = {layer: norm for layer, norm in norms.items() if norm is not None}
    _keep_constants(model, training, prefix="_in_training")
    _keep_constants(model, evaluation, prefix="_in_evaluation")
    return Supernet(
        model,
        network,
        norm_behind=switched,
        in_training=compile_graph(training.graph, model, network, switched),
        in_evaluation=compile_graph(evaluation.graph, model, network, switched),
        # Compiling gives the graph its second input, so this comes behind.
        evaluation_graph=EvaluationGraph(evaluation.graph),
    )


def quantize_layer(module: nn.Module, layer: LayerSpec, node: LayerNode) -> QuantizedLayer:
    """Return the quantized form of a module; it takes over the module's parameters.

    Args:
        module: A module that the table of operations has a quantized form for.
        layer: Its candidates.
        node: Its place in the network: the image is left as it is, and so is an input's sign.
    """
    operation = operation_of(module)
    assert operation is not None
    assert operation.quantized is not None
    quantized = operation.quantized.__new__(operation.quantized)
    nn.Module.__init__(quantized)
    # Takes over hyper-parameters, parameters and buffers alike; the float layer is dropped.
    quantized.__dict__.update(
        {key: value for key, value in module.__dict__.items() if key != "_modules"}
    )
    quantized.attach_quantizers(
        weight_candidates=layer.weight_candidates,
        act_candidates=None if node.reads_image else layer.act_candidates,
        act_signed=node.input_can_be_negative,
    )
    return quantized


def _layer_spec(
    node: LayerNode, *, is_last: bool, stays_float: bool, config: QuantConfig
) -> LayerSpec:
    # A depthwise channel has nine weights to make up for a coarse grid; others have hundreds.
    floor = config.depthwise_min_bits if node.is_depthwise else 0
    weights = tuple(bits for bits in config.weight_candidates if bits >= floor)
    acts = tuple(bits for bits in config.act_candidates if bits >= floor)
    is_end = node.reads_image or is_last
    if is_end or stays_float:
        weights = acts = (FLOAT_BITS if stays_float else PINNED_BITS,)
    return LayerSpec(
        name=node.name,
        kind=node.kind,
        macs=node.macs,
        weight_count=node.weight_count,
        is_depthwise=node.is_depthwise,
        is_pinned=is_end or stays_float,
        weight_candidates=weights,
        act_candidates=acts,
        place="first" if node.reads_image else "last" if is_last else "inside",
        input_count=node.input_count,
    )


def _warn_of_idle_patterns(graph: NetworkGraph, config: QuantConfig) -> None:
    """Say which patterns a user has set that keep nothing in float."""
    for pattern in set(config.keep_float) - set(QuantConfig().keep_float):
        only = config.model_copy(update={"keep_float": (pattern,)})
        kept = [node.name for node in graph.layers if _stays_float(node, graph.modules, only)]
        if not kept:
            logger.warning(
                "quant.keep_float %s keeps nothing in float: it fits no module without a quantized "
                "form; check the pattern",
                pattern,
            )


def _stays_float(node: LayerNode, modules: dict[str, nn.Module], config: QuantConfig) -> bool:
    module = modules[node.name]
    operation = operation_of(module)
    assert operation is not None
    names = (type(module).__name__, node.name)
    is_named = any(fnmatchcase(name, pattern) for name in names for pattern in config.keep_float)
    return is_named and operation.quantized is None


def _check_convertible(network_graph: NetworkGraph, network: NetworkSpec) -> None:
    modules = network_graph.modules
    for name, module in modules.items():
        if isinstance(module, UNSUPPORTED_MODULES):
            raise ConversionError(
                f"{name} is a {type(module).__name__}, which has no quantized form; "
                "choose a network without it"
            )
    products = products_outside_modules(network_graph.graph)
    if products:
        raise ConversionError(
            f"{products[0]} multiplies tensors outside a Conv2d or Linear module and has no "
            "quantized form; choose a convolutional network"
        )
    for node, layer in zip(network_graph.layers, network.layers, strict=True):
        if not layer.is_float:
            _check_layer(node, modules[node.name])


def _check_layer(node: LayerNode, module: nn.Module) -> None:
    operation = operation_of(module)
    assert operation is not None
    kind, base = type(module).__name__, operation.module.__name__
    if operation.quantized is None:
        has_form = any(row.module is operation.module and row.quantized for row in OPERATIONS)
        why = f", which computes otherwise than {base} and has" if has_form else ", which has"
        raise ConversionError(
            f"{node.name} is a {kind}{why} no quantized form; name it in quant.keep_float, "
            "or choose another network"
        )
    if node.num_calls > 1:
        raise ConversionError(
            f"{node.name} runs {node.num_calls} times in one pass, a quantized layer has "
            "one set of step sizes; choose a network without shared layers"
        )


def _keep_constants(model: nn.Module, network_graph: NetworkGraph, *, prefix: str) -> None:
    """Give the model the constants that a graph reads, so that they move to its device with it."""
    for name, value in network_graph.constants.items():
        model.register_buffer(prefix + name, value, persistent=False)
    for node in network_graph.graph.nodes:
        if node.op == "get_attr" and node.target in network_graph.constants:
            node.target = prefix + str(node.target)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
