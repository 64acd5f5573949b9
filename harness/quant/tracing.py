"""Follow a network with torch.fx at one input size, with every value's shape known on the way.

torch.fx alone stops where a network decides by a shape (`if x.shape[-1] < 7`), and leaves shape
arithmetic as operations in the graph. Here each operation is also run on the meta device, which has
shapes and no numbers. A size is then a plain number, unless it depends on the number of images:
to tell which do, everything is run with two different numbers of images.
"""

import copy
import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.errors import ConversionError, HarnessError
from harness.quant.operations import operation_of

NUM_IMAGES = (2, 3)
"""Two numbers, to tell which sizes depend on them; and from two on, because batch normalisation in
training takes no less where features are 1 x 1."""

VALUES = "values"
"""Under this key a node's `meta` holds what it computes, once for each of `NUM_IMAGES`."""

IMAGES = "images"
"""Name of the graph's input."""

SIZE_METHODS = ("size", "dim", "numel", "__len__", "ndimension", "stride")


class ShapedProxy(fx.Proxy):
    """A traced value whose sizes can be asked for."""

    @property
    def values(self) -> tuple[Any, ...]:
        """What the node computes, for each number of images."""
        return self.node.meta[VALUES]  # type: ignore[no-any-return]

    @property
    def shape(self) -> tuple[Any, ...]:
        """Sizes: numbers, and traced values where they depend on the number of images."""
        return tuple(self.size(dim) for dim in range(self.values[0].dim()))

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return int(self.values[0].dim())

    def dim(self) -> int:
        """Return the number of dimensions."""
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        """Return one size or all of them."""
        if dim is None:
            return self.shape
        one, other = (value.size(dim) for value in self.values)
        if one == other:
            return one
        return self.tracer.create_proxy("call_method", "size", (self, dim), {})

    def __iter__(self) -> Iterator[Any]:
        """Take a tuple, a list or the rows of a tensor apart."""
        rows = [operator.getitem(self, row) for row in range(len(self))]
        return iter(rows)

    def __len__(self) -> int:
        """Return the length, where it does not depend on the number of images."""
        one, other = (len(value) for value in self.values)
        if one != other:
            raise TypeError("the number of images is not known while the network is followed")
        return one


class SupernetTracer(fx.Tracer):
    """Keeps as leaves whatever the method treats as one operation, timm's BatchNormAct2d included.

    Modules without children and without parameters (activations, DropPath) are leaves as well: what
    they do inside does not matter to the graph and need not be traceable.
    """

    def __init__(self, input_size: tuple[int, int, int]) -> None:
        super().__init__()
        self._input_size = input_size
        self._is_evaluating = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is one node of the graph."""
        if isinstance(m, _BatchNorm) or operation_of(m) is not None:
            return True
        if not any(True for _ in m.children()) and not any(True for _ in m.parameters()):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def create_args_for_root(
        self,
        root_fn: Any,
        is_module: bool,  # noqa: FBT001 - torch's signature.
        concrete_args: Any = None,
    ) -> tuple[Any, list[Any]]:
        """Give the network images alone; what else it may be given keeps its default."""
        return root_fn, [self.root, self.create_proxy("placeholder", IMAGES, (), {})]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the traced value of a node."""
        return ShapedProxy(node, self)

    def create_proxy(self, kind: str, target: Any, *rest: Any, **named: Any) -> Any:
        """Add an operation, run it on the meta device; sizes come back as plain numbers."""
        proxy = super().create_proxy(kind, target, *rest, **named)
        node = proxy.node
        # At once, and not after tracing: what the network does next may depend on the shape.
        if kind != "output":
            node.meta[VALUES] = tuple(self._evaluate(node, which) for which in range(2))
        # A number in place of a traced value is what lets Python decide by it.
        if _is_known_number(node):
            number = node.meta[VALUES][0]
            self.graph.erase_node(node)
            return number
        return proxy

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace one call, and name the innermost module that cannot be traced."""
        # While an operation runs on the meta device, modules inside it are no part of the graph.
        if self._is_evaluating:
            return forward(*args, **kwargs)
        try:
            return super().call_module(m, forward, args, kwargs)
        except HarnessError:
            raise
        except Exception as error:
            name = f"{self.path_of_module(m)} ({type(m).__name__})"
            raise _untraceable(name, error, self._input_size) from error

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Trace a parameter that a module reads, but not while an operation is run."""
        if self._is_evaluating:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def _place(self, node: fx.Node) -> str:
        """Return which layer a node is, or which module calls the function that it is."""
        if node.op == "call_module":
            name = str(node.target)
            return f"{name} ({type(self.root.get_submodule(name)).__name__})"
        callee = getattr(node.target, "__name__", str(node.target))
        *_, (caller, kind) = self.module_stack.values() or [("", type(self.root))]
        return f"{callee} in {caller or 'forward'} ({getattr(kind, '__name__', kind)})"

    def _evaluate(self, node: fx.Node, which: int) -> Any:
        def value(other: fx.Node) -> Any:
            if VALUES not in other.meta:  # torch.fx adds constants and buffers on its own.
                other.meta[VALUES] = tuple(self._evaluate(other, number) for number in range(2))
            return other.meta[VALUES][which]

        args, kwargs = fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)
        target: Any = node.target
        self._is_evaluating = True
        try:
            with torch.no_grad():
                if node.op == "placeholder":
                    return torch.empty(NUM_IMAGES[which], *self._input_size, device="meta")
                if node.op == "get_attr":
                    return operator.attrgetter(target)(self.root).to("meta")
                if node.op == "call_module":
                    return self.root.get_submodule(target)(*args, **kwargs)
                if node.op == "call_method":
                    return getattr(args[0], target)(*args[1:], **kwargs)
                return target(*args, **kwargs)
        except Exception as error:
            given = ", ".join(_shape(x) for x in args if isinstance(x, Tensor)) or "no tensor"
            raise ConversionError(
                f"{self._place(node)} cannot run on {given}, which it is given for an image of "
                f"{_times(self._input_size)}: {_reason(error)}; give another input size, mostly a "
                "larger one"
            ) from error
        finally:
            self._is_evaluating = False


def trace(
    model: nn.Module, input_size: tuple[int, int, int], *, training: bool
) -> tuple[fx.Graph, nn.Module]:
    """Return the model's graph, and the copy on the meta device that its names refer to.

    Args:
        model: The model in float; it is not changed.
        input_size: Channels, height and width.
        training: Whether the graph is that of training or of evaluation.

    Raises:
        ConversionError: Part of the model cannot be traced; the message names the module. Or the
            model cannot run at this input size.
    """
    on_meta = copy_to_meta(model).train(training)
    for module in on_meta.modules():
        if isinstance(module, _BatchNorm) and module.momentum is None:
            module.momentum = 0.1  # Without one it counts its batches, which have no number here.
    tracer = SupernetTracer(input_size)
    try:
        return tracer.trace(on_meta), on_meta
    except HarnessError:
        raise
    except Exception as error:
        raise _untraceable(f"forward of {type(model).__name__}", error, input_size) from error


def copy_to_meta(model: nn.Module) -> nn.Module:
    """Return a copy with shapes and no numbers, without copying the numbers first."""
    # A copy on the CPU that then moves would need the memory of the network twice.
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        on_meta = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(on_meta, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(model, memo)


def num_elements(node: fx.Node) -> int:
    """Return how many elements a node's tensor has for one image.

    Elements grow linearly with the number of images; what does not depend on them is counted once.
    """
    for_two, for_three = (value.numel() for value in node.meta[VALUES])
    return int(2 * for_two - for_three)


def constants_of(on_meta: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that tracing found in the network's own forward, with their numbers."""
    found = {name: value for name, value in vars(on_meta).items() if isinstance(value, Tensor)}
    return {name: value for name, value in found.items() if name.startswith("_tensor_constant")}


def _is_known_number(node: fx.Node) -> bool:
    """Return whether a node computes a size that is the same for any number of images.

    What is read off a tensor otherwise (its device, its type) is left to the real network.
    """
    if node.op not in ("call_function", "call_method") or node.target is getattr:
        return False
    if node.op == "call_method" and node.target not in SIZE_METHODS:
        return False
    one, other = node.meta[VALUES]
    return isinstance(one, int | float) and type(one) is type(other) and one == other


def _untraceable(name: str, error: Exception, input_size: tuple[int, ...]) -> ConversionError:
    return ConversionError(
        f"{name} cannot be followed by torch.fx for an image of {_times(input_size)}: "
        f"{_reason(error)}; replace the module, or choose another network or input size"
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160].rstrip(". ") or type(error).__name__


def _times(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def _shape(x: Tensor) -> str:
    """Return the sizes of what stands for one image."""
    return _times(tuple(x.shape[1:]))
