"""What a network's torch.fx graph says: its layers in order of execution and how they are wired.

One graph path serves accounting and conversion; there are no per-network tables.
"""

import inspect
from dataclasses import dataclass

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.quant.operations import PRODUCTS, is_depthwise, operation_of
from harness.quant.signs import can_be_negative, is_in_place, is_tensor, target_name
from harness.quant.tracing import IMAGES, constants_of, num_elements, trace

JOINS = {"cat", "concat", "stack", "hstack", "vstack"}
"""Functions whose result holds each of its tensors as it was."""

UNCHANGING_MODULES: tuple[type[nn.Module], ...] = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
"""Modules that hand on what they are given, in evaluation. timm's DropPath goes by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNode:
    """An operation with weights in the graph."""

    name: str
    """Module path."""
    kind: str
    """As in the table of operations: `conv`, `linear` ..."""
    macs: int
    """Multiply-accumulates for one input, over all calls."""
    weight_count: int
    is_depthwise: bool
    input_can_be_negative: bool
    reads_image: bool
    """Whether no other operation with weights lies between the image and this one."""
    input_count: int
    """Elements read for one input, over all calls."""
    input_name: str
    """Of the tensor that the first call reads; who reads the same one has the same name here."""
    num_calls: int
    batch_norm: str | None
    """Module path of the BatchNorm that alone reads the output; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkGraph:
    """A network followed at one input size."""

    graph: fx.Graph
    """Its operations in order; those that nothing reads are left out."""
    modules: dict[str, nn.Module]
    """The modules that it calls, without numbers, by path."""
    layers: list[LayerNode]
    """The operations with weights, in order of first execution."""
    constants: dict[str, Tensor]
    """Tensors that the network's own forward makes, by the names that the graph reads."""


def network_graph(
    model: nn.Module, input_size: tuple[int, int, int], *, training: bool = False
) -> NetworkGraph:
    """Return how a float network computes.

    Args:
        model: Float model on any device; it is not changed.
        input_size: Channels, height and width of one input.
        training: Whether as in training; networks may compute otherwise there than in evaluation.

    Raises:
        ConversionError: The model cannot be traced, or not run at this input size.
    """
    graph, on_meta = trace(model, input_size, training=training)
    # The graph must know its modules to tell which operations change something.
    alive = fx.GraphModule(on_meta, graph).graph
    modules = dict(on_meta.named_modules())
    alive.eliminate_dead_code(
        lambda node: node.is_impure() or _changes_what_others_read(node, modules)
    )
    # From here on only what the output depends on: spare heads are neither counted nor pinned.
    negative = can_be_negative(alive, modules)
    readers = _image_readers(alive, modules)
    tensors = _tensors_read(alive, modules)
    calls: dict[str, list[fx.Node]] = {}
    for node in alive.nodes:
        if _calls_operation(node, modules):
            calls.setdefault(str(node.target), []).append(node)
    layers = [
        _describe(name, modules, nodes, negative=negative, readers=readers, tensors=tensors)
        for name, nodes in calls.items()
    ]
    return NetworkGraph(
        graph=alive, modules=modules, layers=layers, constants=constants_of(on_meta)
    )


def products_outside_modules(graph: fx.Graph) -> list[str]:
    """Return each product of tensors that no module of the table computes, and where it is."""
    return [
        f"{target_name(node)} in {_module_around(node)}"
        for node in graph.nodes
        if node.op in ("call_function", "call_method") and target_name(node) in PRODUCTS
    ]


def _module_around(node: fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if not stack:
        return "the network's own forward"
    path, kind = stack[-1]
    return f"{path} ({getattr(kind, '__name__', kind)})"


def _calls_operation(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    return node.op == "call_module" and operation_of(modules[str(node.target)]) is not None


def _image_readers(graph: fx.Graph, modules: dict[str, nn.Module]) -> set[fx.Node]:
    """Return the operations with weights that are given the image, as it is or brought to shape.

    What is computed from features and the image is no image any more, save where both stand side by
    side in one tensor.
    """
    is_image: dict[fx.Node, bool] = {}
    readers: set[fx.Node] = set()
    for node in graph.nodes:
        # Sizes and devices are read off the image too, and are none.
        sources = [is_image[source] for source in node.all_input_nodes if is_tensor(source)]
        joins = target_name(node) in JOINS
        is_image[node] = any(sources) if joins else bool(sources) and all(sources)
        if node.op == "placeholder":
            is_image[node] = node.target == IMAGES
        elif _calls_operation(node, modules):
            if is_image[node]:
                readers.add(node)
            is_image[node] = False  # It makes features of it.
    return readers


def _tensors_read(graph: fx.Graph, modules: dict[str, nn.Module]) -> dict[fx.Node, str]:
    """Return for each operation with weights the name of the tensor that it reads.

    What hands on a tensor unchanged gives it no new name; what changes it in place does, for all
    who read it from then on, by whichever name.
    """
    name_of: dict[fx.Node, fx.Node] = {}
    changed: dict[fx.Node, fx.Node] = {}
    read: dict[fx.Node, str] = {}
    for node in graph.nodes:
        sources = node.all_input_nodes
        name_of[node] = node
        if not sources:
            continue
        source = name_of[sources[0]]
        present = changed.get(source, source)
        if _calls_operation(node, modules):
            read[node] = present.name
        elif _hands_on(node, modules):
            name_of[node] = source
        elif _changes_its_input(node, modules):
            changed[source] = node
            name_of[node] = source
    return read


def _hands_on(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op != "call_module":
        return False
    module = modules[str(node.target)]
    return isinstance(module, UNCHANGING_MODULES) or type(module).__name__ == "DropPath"


def _changes_what_others_read(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Return whether an operation counts though nothing reads its result by the result's name."""
    if is_in_place(node):
        return True
    sources = node.all_input_nodes
    return bool(sources) and len(sources[0].users) > 1 and _changes_its_input(node, modules)


def _changes_its_input(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    return is_in_place(node) or _is_told_in_place(node)


def _is_told_in_place(node: fx.Node) -> bool:
    """Return whether a function is given `inplace`, by name or by place."""
    if node.op != "call_function" or not callable(node.target):
        return False
    try:
        given = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    except (TypeError, ValueError):  # Built in: those that change their input go by name.
        return False
    return given.arguments.get("inplace") is True


def _describe(
    name: str,
    modules: dict[str, nn.Module],
    nodes: list[fx.Node],
    *,
    negative: dict[fx.Node, bool],
    readers: set[fx.Node],
    tensors: dict[fx.Node, str],
) -> LayerNode:
    layer = modules[name]
    operation = operation_of(layer)
    assert operation is not None, "only calls of operations are described"
    weight = layer.weight
    assert isinstance(weight, Tensor)
    inputs = [node.all_input_nodes[0] for node in nodes]
    macs = sum(
        operation.count_macs(weight, num_elements(source), num_elements(node))
        for node, source in zip(nodes, inputs, strict=True)
    )
    return LayerNode(
        name=name,
        kind=operation.kind,
        macs=macs,
        weight_count=weight.numel(),
        is_depthwise=is_depthwise(layer),
        input_can_be_negative=any(negative[source] for source in inputs),
        reads_image=any(node in readers for node in nodes),
        input_count=sum(num_elements(source) for source in inputs),
        input_name=tensors[nodes[0]],
        num_calls=len(nodes),
        batch_norm=_batch_norm_of(nodes, modules) if operation.kind == "conv" else None,
    )


def _batch_norm_of(nodes: list[fx.Node], modules: dict[str, nn.Module]) -> str | None:
    """Return the BatchNorm that alone reads the layer and reads nothing else."""
    # A second reader would see other statistics than the copies were made for.
    users = [user for node in nodes for user in node.users]
    if len(users) != 1 or users[0].op != "call_module":
        return None
    name = str(users[0].target)
    shared = sum(n.op == "call_module" and n.target == name for n in users[0].graph.nodes) > 1
    return name if isinstance(modules[name], _BatchNorm) and not shared else None
