"""How a supernet runs: its graph as a function of the images and of what a policy says.

The graph of the float network gets a second input, and hands each quantized layer and each
normalisation its part of it. So no module holds a policy, and any number of policies can take turns
on the same images.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, fx, nn

from harness.problem.network import NetworkSpec
from harness.quant.layers import LayerRow, QuantizedLayer
from harness.quant.norms import SharedBatchNorm, Statistics, SwitchableBatchNorm2d


class PolicyInputs(NamedTuple):
    """The second input of the graph: what a pass needs beside the images.

    Layers are those of the network in order, norms those of `Supernet.norms`.
    """

    rows: Sequence[LayerRow]
    """Each layer's bit-widths."""
    weights: Sequence[Tensor | None]
    """Each layer's quantized weight; None has the layer quantize it."""
    statistics: Sequence[Statistics | None]
    """What each norm uses in place of its own statistics; None leaves it its own."""


POLICY_INPUTS = "policy_inputs"
"""Name of the graph's second input."""

Run = Callable[[nn.Module, Tensor, PolicyInputs], Tensor]
"""Maps the network's module, images and policy inputs to logits."""


def norm_paths(model: nn.Module) -> list[str]:
    """Return the paths of the normalisations that take statistics, in the order of the modules."""
    kinds = (SwitchableBatchNorm2d, SharedBatchNorm)
    return [path for path, module in model.named_modules() if isinstance(module, kinds)]


def compile_graph(
    graph: fx.Graph, model: nn.Module, network: NetworkSpec, norm_behind: Mapping[str, str]
) -> Run:
    """Return the network as a function; it holds no module, and so serves copies of the model.

    Args:
        graph: Of the float network; it is changed.
        model: The network with its layers and norms in their quantized forms.
        network: Its layers.
        norm_behind: Path of the switchable norm behind a layer, by the layer's path.
    """
    # Indices are fixed here, so that running looks up no names.
    parts = _insert_inputs(graph)
    layer_index = {layer.name: index for index, layer in enumerate(network.layers)}
    layer_before = {norm: layer for layer, norm in norm_behind.items()}
    norm_index = {path: index for index, path in enumerate(norm_paths(model))}
    given: tuple[fx.Node, ...]
    for node in list(graph.nodes):
        if node.op != "call_module":
            continue
        path, module = str(node.target), model.get_submodule(str(node.target))
        with graph.inserting_before(node):
            if isinstance(module, QuantizedLayer):
                index = layer_index[path]
                given = (_item(graph, parts["rows"], index), _item(graph, parts["weights"], index))
            elif isinstance(module, SwitchableBatchNorm2d):
                row = _item(graph, parts["rows"], layer_index[layer_before[path]])
                given = (row, _item(graph, parts["statistics"], norm_index[path]))
            elif isinstance(module, SharedBatchNorm):
                given = (_item(graph, parts["statistics"], norm_index[path]),)
            else:
                continue
        # By position, also where the network calls it by name: `self.conv(input=x)`.
        node.args, node.kwargs = (*node.args, *node.kwargs.values(), *given), {}
    return graph_function(graph)


def _insert_inputs(graph: fx.Graph) -> dict[str, fx.Node]:
    """Add the second input and one node for each of its parts."""
    images = next(node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_after(images):
        inputs = graph.placeholder(POLICY_INPUTS)
    parts: dict[str, fx.Node] = {}
    # Each is inserted right behind the input, so the last one inserted comes first.
    for name in reversed(PolicyInputs._fields):
        with graph.inserting_after(inputs):
            parts[name] = graph.call_function(getattr, (inputs, name))
    return parts


def _item(graph: fx.Graph, part: fx.Node, index: int) -> fx.Node:
    return graph.call_function(operator.getitem, (part, index))


def graph_function(graph: fx.Graph) -> Callable[..., Any]:
    """Return a graph's Python code as a function of the network's module and the placeholders."""
    code = graph.python_code("self")
    # The code names functions of torch; where it found them stands in its globals.
    namespace = dict(code.globals)
    exec(compile(code.src, "<the network's graph>", "exec"), namespace)
    function: Callable[..., Any] = namespace["forward"]
    return function
