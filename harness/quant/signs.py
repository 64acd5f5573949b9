"""Which values of a network cannot be negative: they are quantized without a sign, a bit finer."""

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from harness.quant.tracing import VALUES

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
"""Numbers among their arguments are dimensions and sizes. torch names its functions for max pooling
`boolean_dispatch`."""

ARITHMETIC_NAMES = {"add", "iadd", "add_", "mul", "imul", "mul_", "pad"}
"""Keep the sign unless a negative number is among their arguments."""

OVERSHOOTING_MODE = "bicubic"
"""Interpolation that gives negative values between non-negative ones."""

SIGN_KEEPING_CLASSES = {"DropPath", "SelectAdaptivePool2d", "BlurPool2d", "FastAdaptiveAvgPool2d",
                        "FastAdaptiveAvgPool", "AvgPool2dSame", "MaxPool2dSame"}  # fmt: skip
"""timm's modules that keep the sign, by name."""


def can_be_negative(graph: fx.Graph, modules: dict[str, nn.Module]) -> dict[fx.Node, bool]:
    """Return for every node whether its value can be negative; unknown operations can.

    Args:
        graph: From `tracing.trace`.
        modules: The modules it calls, by path.
    """
    negative: dict[fx.Node, bool] = {}
    for node in graph.nodes:
        inputs = any(negative[source] for source in node.all_input_nodes)
        if not is_tensor(node):  # Sizes are no activations.
            negative[node] = False
        elif node.op == "call_module":
            negative[node] = _module_can_be_negative(modules[str(node.target)], inputs=inputs)
        elif node.op in ("call_function", "call_method"):
            negative[node] = _call_can_be_negative(node, inputs=inputs)
            if negative[node] and node.all_input_nodes and is_in_place(node):
                negative[node.all_input_nodes[0]] = True  # Later readers of it read the result.
        else:  # The input image, parameters and constants.
            negative[node] = node.op != "output"
    return negative


def _module_can_be_negative(module: nn.Module, *, inputs: bool) -> bool:
    kind = type(module).__name__
    # A subclass that computes in its own way is unknown.
    if _is_plain(module, NON_NEGATIVE_MODULES) or kind in ("Sigmoid", "HardSigmoid"):
        return False
    if _is_plain(module, (nn.Hardtanh,)):  # ReLU6 is one.
        assert isinstance(module, nn.Hardtanh)
        return module.min_val < 0
    if isinstance(module, _BatchNorm):  # timm's BatchNormAct2d ends in its activation.
        act = getattr(module, "act", None)
        return act is None or _module_can_be_negative(act, inputs=True)
    if isinstance(module, nn.Upsample) and module.mode == OVERSHOOTING_MODE:
        return True
    if _is_plain(module, SIGN_KEEPING_MODULES) or kind in SIGN_KEEPING_CLASSES:
        return inputs
    return True


def _is_plain(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    forward = type(module).forward
    return any(isinstance(module, kind) and forward is kind.forward for kind in kinds)


def _call_can_be_negative(node: fx.Node, *, inputs: bool) -> bool:
    name = target_name(node)
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


def is_tensor(node: fx.Node) -> bool:
    """Return whether a node computes tensors, and no size, type or device."""
    if VALUES not in node.meta:  # A constant or buffer.
        return True
    leaves = pytree.tree_leaves(node.meta[VALUES][0])
    return any(isinstance(leaf, torch.Tensor) for leaf in leaves)


def is_in_place(node: fx.Node) -> bool:
    """Return whether an operation changes its first argument."""
    if node.op not in ("call_function", "call_method"):
        return False
    name = target_name(node)
    return name in ("iadd", "imul", "isub") or (name.endswith("_") and not name.endswith("__"))


def target_name(node: fx.Node) -> str:
    """Return the name of the function or method that a node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
