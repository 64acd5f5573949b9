"""A seeded sample of timm's networks: BitOPs against hooks, and which of them convert."""

import random
from collections import Counter
from functools import cache

import pytest
import timm
import torch
from torch import Tensor, nn

from harness.errors import ConversionError
from harness.quant.convert import convert, describe_network
from harness.run.config import QuantConfig

NUM_NETWORKS = 160
NAMES = sorted(random.Random(0).sample(timm.list_models(), NUM_NETWORKS))
CHUNKS = [NAMES[start : start + 16] for start in range(0, NUM_NETWORKS, 16)]

PRODUCTS = "multiplies tensors outside a Conv2d or Linear module"
"""Attention, and what computes like it: products of two activations have no quantized form yet."""
RECURRENT = ("LSTM", "GRU", "RNN")
MAX_UNTRACEABLE = 0.03
"""Share of networks that decide by numbers or write into slices, where torch.fx cannot follow."""


@cache
def swept(name: str) -> str:
    """Return `converts`, or why not; the MACs must be those that hooks count."""
    with torch.device("meta"):
        model = timm.create_model(name).eval()
    size = tuple(model.default_cfg.get("input_size", (3, 224, 224)))
    try:
        network = describe_network(
            model, name=name, input_size=size, num_classes=1000, config=QuantConfig()
        )
        assert {layer.name: layer.macs for layer in network.layers} == counted(model, size), name
        with torch.device("meta"):
            convert(model, network)
    except ConversionError as refusal:
        return str(refusal)
    return "converts"


def counted(model: nn.Module, size: tuple[int, ...]) -> Counter[str]:
    """Count multiply-accumulates of one image by hooks on whatever has a weight to multiply."""
    macs: Counter[str] = Counter()

    def count(path: str):
        def hook(layer: nn.Module, _: object, output: Tensor) -> None:
            macs[path] += output.numel() * layer.weight[0].numel()

        return hook

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    hooks = [
        layer.register_forward_hook(count(path))
        for path, layer in model.named_modules()
        if isinstance(layer, kinds)
    ]
    with torch.no_grad():
        model(torch.empty(1, *size, device="meta"))
    for hook in hooks:
        hook.remove()
    return macs


@pytest.mark.parametrize("names", CHUNKS, ids=lambda names: f"{names[0]}..{names[-1]}")
def test_networks_are_counted_as_hooks_count_and_convert_unless_they_attend(names) -> None:
    for name in names:
        outcome = swept(name)
        is_known = PRODUCTS in outcome or any(kind in outcome for kind in RECURRENT)
        assert outcome == "converts" or is_known or "followed by torch.fx" in outcome, (
            name,
            outcome,
        )


@pytest.mark.timeout(900)
def test_nearly_all_can_be_followed() -> None:
    outcomes = {name: swept(name) for name in NAMES}
    untraceable = {name: why for name, why in outcomes.items() if "followed by torch.fx" in why}
    assert len(untraceable) <= MAX_UNTRACEABLE * NUM_NETWORKS, untraceable
    attending = sum(PRODUCTS in why for why in outcomes.values())
    converting = sum(why == "converts" for why in outcomes.values())
    assert converting >= 0.95 * (NUM_NETWORKS - attending), outcomes
