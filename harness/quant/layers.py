"""Conv2d and Linear whose weight and input are fake-quantized at a bit-width chosen per pass.

They subclass the float layers, so names in the state dict stay and float weights load by name.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.quant.lsq import LsqQuantizer, initial_act_step_size, initial_weight_step_size


class QuantizedLayer(nn.Module):
    """What QuantConv2d and QuantLinear share: a weight and an activation quantizer.

    Attributes:
        weight_quantizer: LSQ steps of the weight, one per candidate.
        act_quantizer: LSQ steps of the input; None where the input is not quantized (first layer).
        weight_cache: Quantized weights by bit-width while weights stand still; None in training.
        is_observing: Whether the layer runs in float and notes the magnitude of its input.
        observed_magnitude: Mean |x| of the input last observed.
    """

    weight: Tensor
    bias: Tensor | None
    weight_quantizer: LsqQuantizer
    act_quantizer: LsqQuantizer | None
    observed_magnitude: Tensor | None
    is_observing: bool
    weight_cache: dict[int, Tensor] | None

    def attach_quantizers(
        self,
        *,
        weight_candidates: Sequence[int],
        act_candidates: Sequence[int] | None,
        act_signed: bool,
    ) -> None:
        """Add the quantizers and set the weight steps from the weights."""
        self.weight_quantizer = LsqQuantizer(weight_candidates, signed=True)
        self.act_quantizer = (
            None if act_candidates is None else LsqQuantizer(act_candidates, signed=act_signed)
        )
        self.is_observing = False
        self.observed_magnitude = None
        self.weight_cache = None
        self.reset_weight_step_sizes()

    def reset_weight_step_sizes(self) -> None:
        """Set every weight step to its initial value for the present weights."""
        for bits in self.weight_quantizer.candidates:
            self.weight_quantizer.set_step_size(bits, initial_weight_step_size(self.weight, bits))

    def set_act_step_sizes(self, mean_magnitude: Tensor) -> None:
        """Set every activation step to its initial value for inputs of this mean |x|."""
        if self.act_quantizer is not None:
            signed = self.act_quantizer.signed
            for bits in self.act_quantizer.candidates:
                step = initial_act_step_size(mean_magnitude, bits, signed=signed)
                self.act_quantizer.set_step_size(bits, step)

    def select(self, weight_bits: int, act_bits: int) -> None:
        """Choose the bit-widths of the next forward passes."""
        self.weight_quantizer.select(weight_bits)
        if self.act_quantizer is not None:
            self.act_quantizer.select(act_bits)

    def quantized_weight(self) -> Tensor:
        """Return the weight at the selected bit-width, float while observing."""
        if self.is_observing:
            return self.weight
        bits = self.weight_quantizer.bits
        if self.weight_cache is not None and bits in self.weight_cache:
            return self.weight_cache[bits]
        weight: Tensor = self.weight_quantizer(self.weight, num_features=self.weight.numel())
        if self.weight_cache is not None:
            self.weight_cache[bits] = weight
        return weight

    def quantized_input(self, x: Tensor) -> Tensor:
        """Return the input at the selected bit-width; float while observing."""
        if self.is_observing:
            self.observed_magnitude = x.detach().abs().mean()
            return x
        if self.act_quantizer is None:
            return x
        quantized: Tensor = self.act_quantizer(x, num_features=x[0].numel())
        return quantized


class QuantConv2d(QuantizedLayer, nn.Conv2d):
    """A quantized convolution. Shapes as in nn.Conv2d."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve the quantized input with the quantized weight."""
        x, weight = self.quantized_input(input), self.quantized_weight()
        output: Tensor = self._conv_forward(x, weight, self.bias)
        return output


class QuantLinear(QuantizedLayer, nn.Linear):  # type: ignore[misc]  # torch types weight
    """A quantized fully connected layer. Shapes as in nn.Linear."""

    def forward(self, input: Tensor) -> Tensor:
        """Multiply the quantized input with the quantized weight."""
        return F.linear(self.quantized_input(input), self.quantized_weight(), self.bias)


def quantize_layer(
    layer: nn.Module,
    *,
    weight_candidates: Sequence[int],
    act_candidates: Sequence[int] | None,
    act_signed: bool,
) -> QuantizedLayer:
    """Return the quantized form of a Conv2d or Linear; it takes over the layer's parameters.

    Args:
        layer: A plain nn.Conv2d or nn.Linear.
        weight_candidates: Weight bit-widths, largest first.
        act_candidates: Activation bit-widths, largest first; None leaves the input as it is.
        act_signed: Whether the input can be negative.
    """
    kind = QuantConv2d if isinstance(layer, nn.Conv2d) else QuantLinear
    with torch.no_grad():
        quantized: QuantizedLayer = kind.__new__(kind)
        nn.Module.__init__(quantized)
        # Takes over hyper-parameters, parameters and buffers alike; the float layer is dropped.
        quantized.__dict__.update(
            {key: value for key, value in layer.__dict__.items() if key != "_modules"}
        )
        quantized.attach_quantizers(
            weight_candidates=weight_candidates,
            act_candidates=act_candidates,
            act_signed=act_signed,
        )
    return quantized
