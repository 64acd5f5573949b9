"""Layers that compute nothing at a bit-width: all that they multiply is zero, or nearly so.

No gradient may reach such a layer again, and no accuracy says that it is there: the others learn to
do without it.
"""

import torch
from torch import Tensor

from harness.quant.calibrate import watched_inputs
from harness.quant.fake_quantize import MIN_STEP_SIZE
from harness.quant.layers import QuantizedLayer
from harness.quant.lsq import LsqQuantizer
from harness.quant.supernet import Supernet


@torch.no_grad()
def dead_layers(supernet: Supernet, images: Tensor) -> dict[str, str]:
    """Return what is dead about which layer, by the layer's name.

    Args:
        supernet: In evaluation mode; it stays as it is.
        images: Some images, (N, C, H, W), that inputs are looked at with, in the float network.
    """
    inputs: dict[LsqQuantizer, list[str]] = {}

    def look(quantizer: LsqQuantizer, x: Tensor) -> None:
        inputs[quantizer] = _what_is_dead("inputs", quantizer, x)

    watched_inputs(supernet, images, look)
    found = {}
    for spec, layer in zip(supernet.network.layers, supernet.layers, strict=True):
        if isinstance(layer, QuantizedLayer):
            words = _what_is_dead("weights", layer.weight_quantizer, layer.effective_weight())
            for quantizer in layer.input_quantizers:
                words += inputs[quantizer]
            if words:
                found[spec.name] = " and ".join(words)
    return found


def _what_is_dead(name: str, quantizer: LsqQuantizer, x: Tensor) -> list[str]:
    collapsed = [
        bits
        for bits in quantizer.candidates
        if (quantizer.step_size_of(bits) <= MIN_STEP_SIZE).item()
    ]
    zero = [
        bits
        for bits in quantizer.candidates
        if bits not in collapsed
        and not quantizer(x, quantizer.level(bits), num_features=x.numel()).any()
    ]
    words = {f"its {name} are all zero": zero, f"its {name} have no range": collapsed}
    return [f"{what} at {', '.join(map(str, bits))} bits" for what, bits in words.items() if bits]
