"""Step sizes from a look at images: from the mean magnitude, or fitted to the least error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.quant.layers import QuantizedLayer
from harness.quant.supernet import Supernet


@torch.no_grad()
def observe_magnitudes(supernet: Supernet, images: Tensor) -> Tensor:
    """Run images through the float network and return mean |x| of each quantized layer's input.

    Args:
        supernet: Left as it is. Dropout behaves as its training flag says; in training, batches are
            normalised with their own statistics.
        images: (N, C, H, W).

    Returns:
        One magnitude for each of `supernet.quantized_layers`.
    """
    magnitudes: dict[nn.Module, Tensor] = {}

    def observe(layer: QuantizedLayer, x: Tensor) -> None:
        magnitudes[layer] = x.detach().abs().mean()

    with _watched(supernet, observe):
        _run_float(supernet, images)
    return torch.stack([magnitudes[layer] for layer in supernet.quantized_layers])


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
        layer.weight_quantizer.fit_step_sizes(layer.effective_weight())

    def fit(layer: QuantizedLayer, x: Tensor) -> None:
        if layer.act_quantizer is not None:
            layer.act_quantizer.fit_step_sizes(x)

    with _watched(supernet, fit):
        _run_float(supernet, images)


def _run_float(supernet: Supernet, images: Tensor) -> None:
    # What an input looks like before any quantizer is set can only be seen in float.
    inputs = supernet.encode_float()
    if supernet.training:
        # The momentum only says that the batch's own statistics are used; the copies are dropped.
        statistics = [
            one._replace(mean=one.mean.clone(), var=one.var.clone(), momentum=0.0)
            for one in supernet.statistics(inputs)
        ]
        inputs = inputs._replace(statistics=statistics)
    supernet(images, inputs)


@contextmanager
def _watched(supernet: Supernet, look: Callable[[QuantizedLayer, Tensor], None]) -> Iterator[None]:
    """Show each quantized layer's input to `look` inside the block."""

    def hook(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(layer, QuantizedLayer)
        look(layer, inputs[0])

    hooks = [layer.register_forward_pre_hook(hook) for layer in supernet.quantized_layers]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()
