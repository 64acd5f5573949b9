"""What a network's torch.fx graph says: its layers in order of execution and how they are wired.

One graph path serves accounting and conversion; there are no per-network tables.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from harness.errors import ConversionError, HarnessError

NON_NEGATIVE_MODULES: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Softplus,
)  # fmt: skip
"""Activations whose output cannot be negative. timm's Sigmoid and HardSigmoid go by name."""

NON_NEGATIVE_NAMES = {"relu", "relu_", "relu6", "sigmoid", "hardsigmoid", "softmax", "abs",
                      "hard_sigmoid", "exp", "square", "softplus"}  # fmt: skip

SIGN_KEEPING_MODULES: tuple[type[nn.Module], ...] = (
    nn.Identity, nn.Flatten, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d, nn.Upsample, nn.ZeroPad2d, nn.ChannelShuffle, nn.PixelShuffle,
    nn.Dropout, nn.Dropout2d,
)  # fmt: skip
"""Modules whose output is negative only where an input is. DropPath and timm's pools go by name."""

SIGN_KEEPING_NAMES = {
    "cat", "concat", "stack", "flatten", "reshape", "view", "mean",
    "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "getitem", "permute", "transpose",
    "contiguous", "chunk", "split", "unsqueeze", "squeeze", "dropout", "sum",
    "clone", "expand", "max", "amax", "boolean_dispatch",
}  # fmt: skip
"""Numbers among their arguments are dimensions and sizes."""

ARITHMETIC_NAMES = {"add", "iadd", "add_", "mul", "imul", "mul_", "pad"}
"""Keep the sign unless a negative number is among their arguments."""

OVERSHOOTING_MODE = "bicubic"
"""Interpolation that gives negative values between non-negative ones."""
SIGN_KEEPING_CLASSES = {"DropPath", "SelectAdaptivePool2d", "BlurPool2d", "FastAdaptiveAvgPool2d",
                        "FastAdaptiveAvgPool", "AvgPool2dSame", "MaxPool2dSame"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNode:
    """A Conv2d or Linear of the graph."""

    name: str
    """Module path."""
    kind: str
    """`conv` or `linear`."""
    macs: int
    """Multiply-accumulates for one input, over all calls."""
    weight_count: int
    is_depthwise: bool
    input_can_be_negative: bool
    num_calls: int
    batch_norm: str | None
    """Module path of the BatchNorm that alone reads the output; None where there is none."""


class SupernetTracer(fx.Tracer):
    """Keeps as leaves whatever the method treats as one operation, timm's BatchNormAct2d included.

    Modules without children and without parameters (activations, DropPath) are leaves as well: what
    they do inside does not matter to the graph and need not be traceable.
    """

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is one node of the graph."""
        if isinstance(m, (nn.Conv2d, nn.Linear, _BatchNorm)):
            return True
        if not any(True for _ in m.children()) and not any(True for _ in m.parameters()):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace one call, and name the innermost module that cannot be traced."""
        try:
            return super().call_module(m, forward, args, kwargs)
        except HarnessError:
            raise
        except Exception as error:
            name = f"{self.path_of_module(m)} ({type(m).__name__})"
            raise _untraceable(name, error) from error


def trace(model: nn.Module) -> fx.GraphModule:
    """Return the model's graph with Conv2d, Linear and BatchNorm as leaves.

    Raises:
        ConversionError: Part of the model cannot be traced; the message names the module.
    """
    tracer = SupernetTracer()
    try:
        graph = tracer.trace(model)
    except HarnessError:
        raise
    except Exception as error:
        raise _untraceable(f"forward of {type(model).__name__}", error) from error
    return fx.GraphModule(model, graph)


def layer_nodes(model: nn.Module, input_size: tuple[int, int, int]) -> list[LayerNode]:
    """Return the Conv2d and Linear layers that reach the output, in order of first execution.

    Args:
        model: Float model on any device; it is not changed.
        input_size: Channels, height and width of one input.

    Raises:
        ConversionError: The model cannot be traced, or not run at this input size.
    """
    on_meta = trace(copy.deepcopy(model).to("meta").eval())
    on_meta.graph.eliminate_dead_code(lambda node: node.is_impure() or _is_in_place(node))
    _propagate_shapes(on_meta, input_size)
    modules = dict(on_meta.named_modules())
    can_be_negative = _sign_analysis(on_meta, modules)
    calls: dict[str, list[fx.Node]] = {}
    for node in on_meta.graph.nodes:
        if node.op == "call_module" and isinstance(
            modules[str(node.target)], (nn.Conv2d, nn.Linear)
        ):
            calls.setdefault(str(node.target), []).append(node)
    return [_describe(name, modules, nodes, can_be_negative) for name, nodes in calls.items()]


def functional_products(model: nn.Module) -> list[str]:
    """Return each product of tensors outside Conv2d and Linear modules, and where it is."""
    graph = trace(model).graph
    names = {"conv1d", "conv2d", "conv3d", "linear", "matmul", "bmm", "einsum", "baddbmm",
             "conv_transpose2d", "scaled_dot_product_attention", "mm", "addmm"}  # fmt: skip
    return [
        f"{_target_name(node)} in {_module_around(node)}"
        for node in graph.nodes
        if node.op in ("call_function", "call_method") and _target_name(node) in names
    ]


def _module_around(node: fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if not stack:
        return "the network's own forward"
    path, kind = stack[-1]
    return f"{path} ({getattr(kind, '__name__', kind)})"


def _untraceable(name: str, error: Exception) -> ConversionError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return ConversionError(
        f"{name} cannot be followed by torch.fx: {reason}; replace the module or choose another"
    )


def _propagate_shapes(graph_module: fx.GraphModule, input_size: tuple[int, int, int]) -> None:
    try:
        with torch.no_grad():
            ShapeProp(graph_module).propagate(torch.empty(1, *input_size, device="meta"))
    except Exception as error:
        shape = "x".join(map(str, input_size))
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else "no reason"
        raise ConversionError(
            f"the network cannot run on one {shape} input: {reason}; change the input size"
        ) from error


def _describe(
    name: str,
    modules: dict[str, nn.Module],
    nodes: list[fx.Node],
    can_be_negative: dict[fx.Node, bool],
) -> LayerNode:
    layer = modules[name]
    outputs = [node.meta["tensor_meta"].shape.numel() for node in nodes]
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    # Products per output element: C_in/groups x k_h x k_w of a Conv2d, in_features of a Linear.
    products = weight[0].numel()
    is_conv = isinstance(layer, nn.Conv2d)
    return LayerNode(
        name=name,
        kind="conv" if is_conv else "linear",
        macs=sum(outputs) * products,
        weight_count=weight.numel(),
        is_depthwise=isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels,
        input_can_be_negative=any(can_be_negative[node.all_input_nodes[0]] for node in nodes),
        num_calls=len(nodes),
        batch_norm=_batch_norm_of(nodes, modules) if is_conv else None,
    )


def _batch_norm_of(nodes: list[fx.Node], modules: dict[str, nn.Module]) -> str | None:
    """Return the BatchNorm that alone reads the layer and reads nothing else."""
    users = [user for node in nodes for user in node.users]
    if len(users) != 1 or users[0].op != "call_module":
        return None
    name = str(users[0].target)
    shared = sum(n.op == "call_module" and n.target == name for n in users[0].graph.nodes) > 1
    return name if isinstance(modules[name], _BatchNorm) and not shared else None


def _sign_analysis(
    graph_module: fx.GraphModule, modules: dict[str, nn.Module]
) -> dict[fx.Node, bool]:
    """Return for every node whether its value can be negative; unknown operations can."""
    negative: dict[fx.Node, bool] = {}
    for node in graph_module.graph.nodes:
        inputs = any(negative[source] for source in node.all_input_nodes)
        if node.op == "call_module":
            negative[node] = _module_can_be_negative(modules[str(node.target)], inputs=inputs)
        elif node.op in ("call_function", "call_method"):
            negative[node] = _call_can_be_negative(node, inputs=inputs)
            if negative[node] and node.all_input_nodes and _is_in_place(node):
                negative[node.all_input_nodes[0]] = True  # Later readers of it read the result.
        else:  # The input image, parameters and constants.
            negative[node] = node.op != "output"
    return negative


def _module_can_be_negative(module: nn.Module, *, inputs: bool) -> bool:
    kind = type(module).__name__
    if isinstance(module, NON_NEGATIVE_MODULES) or kind in ("Sigmoid", "HardSigmoid"):
        return False
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one.
        return module.min_val < 0
    if isinstance(module, _BatchNorm):  # timm's BatchNormAct2d ends in its activation.
        act = getattr(module, "act", None)
        return act is None or _module_can_be_negative(act, inputs=True)
    if isinstance(module, nn.Upsample) and module.mode == OVERSHOOTING_MODE:
        return True
    if isinstance(module, SIGN_KEEPING_MODULES) or kind in SIGN_KEEPING_CLASSES:
        return inputs
    return True


def _call_can_be_negative(node: fx.Node, *, inputs: bool) -> bool:
    name = _target_name(node)
    if name in NON_NEGATIVE_NAMES:
        return False
    if name == "clamp":
        low = node.kwargs.get("min", node.args[1] if len(node.args) > 1 else None)
        return not (isinstance(low, (int, float)) and low >= 0)
    if name in ARITHMETIC_NAMES:
        given = pytree.tree_leaves((node.args, node.kwargs))
        return inputs or any(isinstance(arg, (int, float)) and arg < 0 for arg in given)
    if name == "interpolate":
        return inputs or OVERSHOOTING_MODE in (*node.args, *node.kwargs.values())
    return inputs or name not in SIGN_KEEPING_NAMES


def _is_in_place(node: fx.Node) -> bool:
    if node.op not in ("call_function", "call_method"):
        return False
    name = _target_name(node)
    return name in ("iadd", "imul", "isub") or (name.endswith("_") and not name.endswith("__"))


def _target_name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
