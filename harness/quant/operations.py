"""The table of operations that have weights: how each is counted, and its quantized form.

Everything that must know a convolution from a fully connected layer reads it here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.linear import Linear as TimmLinear
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn

from harness.quant.layers import (
    QuantConv2d,
    QuantConv2dSame,
    QuantizedLayer,
    QuantLinear,
    QuantScaledStdConv2d,
    QuantScaledStdConv2dSame,
    QuantStdConv2d,
    QuantStdConv2dSame,
)

CountMacs = Callable[[Tensor, int, int], int]
"""Maps the weight and the elements of input and output, for one image, to multiply-accumulates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One row of the table."""

    kind: str
    """What the ledger calls it."""
    module: type[nn.Module]
    """The float module; a subclass with a forward of its own is another operation."""
    count_macs: CountMacs
    quantized: type[QuantizedLayer] | None
    """None where there is no quantized form: the module can only stay in float."""


def _macs_per_output(weight: Tensor, _: int, num_outputs: int) -> int:
    """Each output element takes C_in/groups x k_h x k_w products, a Linear in_features."""
    return num_outputs * weight[0].numel()


def _macs_per_input(weight: Tensor, num_inputs: int, _: int) -> int:
    """A transposed convolution spreads each input element over C_out/groups x k_h x k_w outputs."""
    return num_inputs * weight[0].numel()


def _row(
    kind: str,
    module: type[nn.Module],
    quantized: type[QuantizedLayer] | None,
    *,
    count_macs: CountMacs = _macs_per_output,
) -> Operation:
    return Operation(
        kind=kind,
        module=module,
        count_macs=count_macs,
        quantized=quantized,
    )


OPERATIONS = (
    _row("conv", Conv2dSame, QuantConv2dSame),
    _row("conv", StdConv2d, QuantStdConv2d),
    _row("conv", StdConv2dSame, QuantStdConv2dSame),
    _row("conv", ScaledStdConv2d, QuantScaledStdConv2d),
    _row("conv", ScaledStdConv2dSame, QuantScaledStdConv2dSame),
    _row("conv", nn.Conv2d, QuantConv2d),
    # timm's own Linear differs from torch's under torch.jit only.
    _row("linear", TimmLinear, QuantLinear),
    _row("linear", nn.Linear, QuantLinear),
    _row("conv1d", nn.Conv1d, None),
    _row("conv3d", nn.Conv3d, None),
    _row("conv_transpose1d", nn.ConvTranspose1d, None, count_macs=_macs_per_input),
    _row("conv_transpose2d", nn.ConvTranspose2d, None, count_macs=_macs_per_input),
    _row("conv_transpose3d", nn.ConvTranspose3d, None, count_macs=_macs_per_input),
)
"""Subclasses stand before the classes they derive from."""


PRODUCTS = {
    "conv1d", "conv2d", "conv3d", "linear", "matmul", "bmm", "einsum", "baddbmm",
    "conv_transpose2d", "scaled_dot_product_attention", "mm", "addmm",
}  # fmt: skip
"""Functions that multiply tensors and are no module of the table, as attention does. They have no
quantized form yet."""


def operation_of(module: nn.Module) -> Operation | None:
    """Return the row of a module; None where it is no operation with weights.

    A subclass that computes otherwise than any row (its forward is its own) is given the row of its
    base without a quantized form.
    """
    if isinstance(module, QuantizedLayer):
        return next(row for row in OPERATIONS if row.quantized is type(module))
    bases = [row for row in OPERATIONS if isinstance(module, row.module)]
    if not bases:
        return None
    nearest = bases[0]
    return nearest if _computes_as(module, nearest.module) else replace(nearest, quantized=None)


def _computes_as(module: nn.Module, plain: type[nn.Module]) -> bool:
    """Return whether a module computes what a class of the table does.

    A parametrization (weight norm, say) makes the weight anew in a module of its own.
    """
    methods = ("forward", "_conv_forward")
    kind = type(module)
    is_plain = all(getattr(kind, name, 0) is getattr(plain, name, 0) for name in methods)
    return is_plain and not any(True for _ in module.children())


def is_convolution(module: nn.Module) -> bool:
    """Return whether a module, in float or quantized, is a two-dimensional convolution."""
    row = operation_of(module)
    return row is not None and row.kind == "conv"


def is_depthwise(module: nn.Module) -> bool:
    """Return whether each group of a two-dimensional convolution reads one channel."""
    if not is_convolution(module):
        return False
    assert isinstance(module, nn.Conv2d)
    return 1 < module.groups == module.in_channels
