"""Layers whose weight and input are fake-quantized at bit-widths that arrive with the input.

They subclass the float layers, so names in the state dict stay and float weights load by name.
Which float layer has which quantized form stands in `operations.py`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame, conv2d_same
from timm.layers.padding import pad_same
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn

from harness.quant.fake_quantize import Level, Recipe, RemadeInBackward
from harness.quant.lsq import LsqQuantizer, initial_weight_step_size


class LayerRow(NamedTuple):
    """What a policy says of one layer: the row that the layer and the norm behind it are given."""

    weight: Level | None
    """Bit-width of the weight; None computes in float."""
    act: Level | None
    """Bit-width of the input; None takes it as it comes."""
    norm: int | Tensor
    """Which copy of the normalisation behind the layer is used."""
    look: Callable[[Tensor], None] | None = None
    """Is shown what that normalisation computes, before its activation; None where nobody looks."""
    look_at_weight: "Callable[[QuantizedLayer, Tensor, Level], None] | None" = None
    """Is shown the layer, the weight that it quantizes and its level; None where nobody looks."""


class QuantizedLayer(nn.Module):
    """What all quantized layers share: a weight and an activation quantizer.

    Attributes:
        weight_quantizer: LSQ step sizes of the weight, one per candidate.
        act_quantizer: LSQ step sizes of the input; None where the input is the image.
    """

    weight: Tensor
    bias: Tensor | None
    weight_quantizer: LsqQuantizer
    act_quantizer: LsqQuantizer | None

    def attach_quantizers(
        self,
        *,
        weight_candidates: Sequence[int],
        act_candidates: Sequence[int] | None,
        act_signed: bool,
    ) -> None:
        """Add the quantizers and set the step sizes of the weight from the weights."""
        self.weight_quantizer = LsqQuantizer(weight_candidates, signed=True)
        self.act_quantizer = (
            None if act_candidates is None else LsqQuantizer(act_candidates, signed=act_signed)
        )
        self.reset_weight_step_sizes()

    def reset_weight_step_sizes(self) -> None:
        """Set every step size of the weight to its initial value for the present weights."""
        weight = self.effective_weight()
        for bits in self.weight_quantizer.candidates:
            step_size = initial_weight_step_size(weight, bits, std_of_zeros=self.std_of_zeros())
            self.weight_quantizer.set_step_size(bits, step_size)

    def std_of_zeros(self) -> float | Tensor | None:
        """Return the standard deviation that a weight of zeros will soon have, None if unknown."""
        return None

    @property
    def input_quantizers(self) -> list[LsqQuantizer]:
        """The quantizers of what the layer is given, in the order in which it is given."""
        return [] if self.act_quantizer is None else [self.act_quantizer]

    def fit_weight(self) -> None:
        """Move the step sizes of the weight to the least squared error on the present weights."""
        self.weight_quantizer.fit_step_sizes(self.effective_weight())

    def standing_weight(self, bits: int) -> Tensor | None:
        """Return the weight at a bit-width, to be used while weights stand still."""
        return self.quantized_weight(self.weight_quantizer.level(bits))

    def row(self, weight_bits: int, act_bits: int, *, norm: int) -> LayerRow:
        """Return what a policy's pair of bits says of this layer.

        Args:
            weight_bits: A weight candidate.
            act_bits: An activation candidate.
            norm: Copy of the normalisation behind the layer that belongs to the pair.
        """
        act = None if self.act_quantizer is None else self.act_quantizer.level(act_bits)
        return LayerRow(self.weight_quantizer.level(weight_bits), act, norm)

    def effective_weight(self) -> Tensor:
        """Return the weight that is quantized; here the parameter itself."""
        return self.weight

    def quantized_weight(self, level: Level | None) -> Tensor:
        """Return the weight at a bit-width, in float for None."""
        return self.weight_at(self.effective_weight(), level)

    def weight_at(self, weight: Tensor, level: Level | None) -> Tensor:
        """Return an effective weight at a bit-width, as it is for None."""
        if level is None:
            return weight
        quantized: Tensor = self.weight_quantizer(weight, level, num_features=weight.numel())
        return quantized

    def quantized_input(self, x: Tensor, level: Level | None) -> Tensor:
        """Return the input at a bit-width, as it comes for None."""
        if level is None or self.act_quantizer is None:
            return x
        quantized: Tensor = self.act_quantizer(x, level, num_features=x[0].numel())
        return quantized

    def forward(self, x: Tensor, row: LayerRow, weight: Tensor | None = None) -> Tensor:
        """Compute the layer at the bit-widths of a row.

        Args:
            x: Input, shaped as the float layer takes it.
            row: The bit-widths.
            weight: The weight quantized before, while weights stand still; None quantizes it now.
        """
        made: list[tuple[Tensor, Recipe]] = []
        if weight is None:
            whole = self.effective_weight()
            weight = self.weight_at(whole, row.weight)
            if row.weight is not None:
                recipe = Recipe(whole, self.weight_quantizer.step_size, row.weight)
                made.append((weight, recipe))
                if row.look_at_weight is not None:
                    row.look_at_weight(self, whole, row.weight)
        quantized = self.quantized_input(x, row.act)
        if row.act is not None and self.act_quantizer is not None:
            made.append((quantized, Recipe(x, self.act_quantizer.step_size, row.act)))
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.apply_operation(quantized, weight)
        with RemadeInBackward(made):
            return self.apply_operation(quantized, weight)

    def apply_operation(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return what the float layer computes from x with another weight."""
        raise NotImplementedError


class QuantConv2d(QuantizedLayer, nn.Conv2d):  # type: ignore[misc]  # another forward
    """A quantized convolution, (N, C, H, W) to (N, C', H', W')."""

    def apply_operation(self, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve x with the weight."""
        convolved: Tensor = self._conv_forward(x, weight, self.bias)
        return convolved


class QuantLinear(QuantizedLayer, nn.Linear):  # type: ignore[misc]
    """A quantized fully connected layer, (N, ..., C) to (N, ..., C')."""

    def apply_operation(self, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply x with the weight."""
        return F.linear(x, weight, self.bias)


class QuantConv2dSame(QuantizedLayer, Conv2dSame):  # type: ignore[misc]
    """A convolution that pads its input as TensorFlow does, as timm's `tf_*` networks have it."""

    def apply_operation(self, x: Tensor, weight: Tensor) -> Tensor:
        """Pad x and convolve it with the weight; zeros are on every grid."""
        convolved: Tensor = conv2d_same(
            x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )
        return convolved


class QuantStdConv2d(QuantConv2d, StdConv2d):  # type: ignore[misc]
    """A convolution that standardises its weight per output channel (arXiv 1903.10520).

    The standardised weight is quantized: it is what a deployed network stores.
    """

    eps: float

    def effective_weight(self) -> Tensor:
        """Return the standardised weight."""
        return _standardised(self.weight, None, self.eps)

    def std_of_zeros(self) -> float | Tensor | None:
        """Return 1, the deviation of any weight that is not constant."""
        return 1.0


class QuantScaledStdConv2d(QuantConv2d, ScaledStdConv2d):  # type: ignore[misc]
    """A convolution that standardises and scales its weight (arXiv 2101.08692)."""

    eps: float
    gain: Tensor
    scale: float

    def effective_weight(self) -> Tensor:
        """Return the standardised weight times gain and scale."""
        return _standardised(self.weight, (self.gain * self.scale).view(-1), self.eps)

    def std_of_zeros(self) -> float | Tensor | None:
        """Return the mean of gain times scale, the deviation of weights that are not constant."""
        return (self.gain.detach() * self.scale).abs().mean()


class QuantStdConv2dSame(QuantStdConv2d, StdConv2dSame):  # type: ignore[misc]
    """`QuantStdConv2d` with the padding of TensorFlow."""

    same_pad: bool

    def apply_operation(self, x: Tensor, weight: Tensor) -> Tensor:
        """Pad x and convolve it with the weight."""
        return super().apply_operation(_padded(self, x), weight)


class QuantScaledStdConv2dSame(QuantScaledStdConv2d, ScaledStdConv2dSame):  # type: ignore[misc]
    """`QuantScaledStdConv2d` with the padding of TensorFlow."""

    same_pad: bool

    def apply_operation(self, x: Tensor, weight: Tensor) -> Tensor:
        """Pad x and convolve it with the weight."""
        return super().apply_operation(_padded(self, x), weight)


def _standardised(weight: Tensor, gain: Tensor | None, eps: float) -> Tensor:
    """Return the weight with mean 0 and variance 1 per output channel, times the gain."""
    flat = weight.reshape(1, len(weight), -1)
    standard = F.batch_norm(flat, None, None, gain, training=True, momentum=0.0, eps=eps)
    return standard.reshape_as(weight)


def _padded(layer: "QuantStdConv2dSame | QuantScaledStdConv2dSame", x: Tensor) -> Tensor:
    if not layer.same_pad:  # The padding does not depend on the input and is the convolution's own.
        return x
    padded: Tensor = pad_same(x, layer.kernel_size, layer.stride, layer.dilation)
    return padded
