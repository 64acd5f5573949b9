"""Layers that compute nothing at a bit-width: whatever they are given, all they multiply is zero.

No gradient may reach such a layer again, and no accuracy says that it is there: the others learn to
do without it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from harness.quant.calibrate import watched_inputs
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
    dead_inputs: dict[LsqQuantizer, list[int]] = {}

    def look(quantizer: LsqQuantizer, x: Tensor) -> None:
        dead_inputs[quantizer] = _zero_at(quantizer, x)

    watched_inputs(supernet, images, look)
    found = {}
    for spec, layer in zip(supernet.network.layers, supernet.layers, strict=True):
        if isinstance(layer, QuantizedLayer):
            parts = {"weights are": _zero_at(layer.weight_quantizer, layer.effective_weight())}
            for quantizer in layer.input_quantizers:
                parts["inputs are"] = dead_inputs[quantizer]
            words = _in_words(parts)
            if words:
                found[spec.name] = words
    return found


def _zero_at(quantizer: LsqQuantizer, x: Tensor) -> list[int]:
    """Return the candidates at which nothing of x is left."""
    return [
        bits
        for bits in quantizer.candidates
        if not quantizer(x, quantizer.level(bits), num_features=x.numel()).any()
    ]


def _in_words(parts: Mapping[str, Sequence[int]]) -> str:
    return " and ".join(
        f"its {what} all zero at {', '.join(map(str, bits))} bits"
        for what, bits in parts.items()
        if bits
    )
