"""Step sizes from a look at images: from the mean magnitude, or fitted to the least error."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.quant.layers import QuantizedLayer
from harness.quant.lsq import LsqQuantizer
from harness.quant.supernet import Supernet


@torch.no_grad()
def observe_magnitudes(supernet: Supernet, images: Tensor) -> Tensor:
    """Run images through the float network and return mean |x| of what the layers are given.

    Args:
        supernet: Left as it is. Dropout behaves as its training flag says; in training, batches are
            normalised with their own statistics.
        images: (N, C, H, W).

    Returns:
        One magnitude for each of `supernet.input_quantizers`.
    """
    magnitudes: dict[nn.Module, Tensor] = {}

    def observe(quantizer: LsqQuantizer, x: Tensor) -> None:
        magnitudes[quantizer] = x.detach().abs().mean()

    watched_inputs(supernet, images, observe)
    return torch.stack([magnitudes[quantizer] for quantizer in supernet.input_quantizers])


@torch.no_grad()
def fit_step_sizes(supernet: Supernet, images: Tensor) -> None:
    """Move every step size from its initial value to the least squared error on weights and images.

    For networks that start from trained weights. Call it after the activations' step sizes were
    set.

    Args:
        supernet: Only its step sizes change.
        images: Some training images, (N, C, H, W).
    """
    for layer in supernet.quantized_layers:
        layer.fit_weight()
    watched_inputs(supernet, images, LsqQuantizer.fit_step_sizes)


def watched_inputs(
    supernet: Supernet, images: Tensor, look: Callable[[LsqQuantizer, Tensor], None]
) -> None:
    """Run images through the float network, and show each quantizer of an input that input.

    What an input looks like before any quantizer is set can only be seen in float.
    """
    inputs = supernet.encode_float()
    if supernet.training:
        # The momentum only says that the batch's own statistics are used; the copies are dropped.
        statistics = [one.copied(momentum=0.0) for one in supernet.statistics(inputs)]
        inputs = inputs._replace(statistics=statistics)

    def hook(layer: nn.Module, given: tuple[Any, ...]) -> None:
        assert isinstance(layer, QuantizedLayer)
        # What a layer is given comes before what a policy says of it.
        for quantizer, x in zip(layer.input_quantizers, given, strict=False):
            look(quantizer, x)

    hooks = [layer.register_forward_pre_hook(hook) for layer in supernet.quantized_layers]
    try:
        supernet(images, inputs)
    finally:
        for handle in hooks:
            handle.remove()
