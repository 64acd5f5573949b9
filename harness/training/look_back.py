"""Run a pass of a step again, to say in which layer its numbers went wrong.

Only the step that ends a run is looked back at: steps that go well keep nothing for it. What
normalisations gather meanwhile is lost with the run, as is all that the step itself has moved.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.quant.finite import first_unusable
from harness.quant.layers import QuantizedLayer
from harness.quant.norms import SharedBatchNorm, SwitchableBatchNorm2d
from harness.quant.supernet import Supernet

Run = Callable[[Tensor], Tensor]
"""Maps images to logits."""

WHOLE = (QuantizedLayer, SwitchableBatchNorm2d, SharedBatchNorm, _BatchNorm)
"""Modules that are looked at as one, whatever they are made of."""


class Sight(NamedTuple):
    """A tensor of a pass, and the largest absolute value in it: infinite or NaN where it is bad."""

    where: str
    largest: float

    @property
    def is_bad(self) -> bool:
        """Whether a value is no finite number."""
        return not math.isfinite(self.largest)


def look_back(
    model: nn.Module, images: Tensor, passes: Sequence[tuple[str, Run]], *, is_loss_finite: bool
) -> str:
    """Return in words where in the last of some passes numbers first were none; all ranks call it.

    The passes before run as well, so that the last draws what it drew (dropout). They run in the
    mode that the model is in, on every rank: ranks whose weights are partitioned need each other.

    Args:
        model: Their network, not wrapped by an engine.
        images: Of this rank, (N, C, H, W).
        passes: Those of a step up to the one that is looked at: what it is called, and how it runs.
        is_loss_finite: What that pass minimised is a number, only too large a one.

    Returns:
        What one rank saw: the first that has such numbers, else the one with the largest value.
    """
    # Compiled code may run without the hooks.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for _, run in passes[:-1]:
            run(images)
        mine = worst_sight(model, images, passes[-1][1])
    seen: list[Sight] = gather_object([mine])
    rank = max(range(len(seen)), key=lambda one: seen[one].largest)
    rank = next((one for one, sight in enumerate(seen) if sight.is_bad), rank)
    on_rank, worst = f" on process {rank}" if len(seen) > 1 else "", seen[rank]
    if worst.is_bad:
        return f"first in {worst.where}{on_rank}"
    largest = f"the largest {worst.largest:.3g} in {worst.where}{on_rank}"
    cause = "" if is_loss_finite else ": it began in the loss itself"
    return f"whose layers' values are all finite, {largest}{cause}"


def worst_sight(model: nn.Module, images: Tensor, run: Run) -> Sight:
    """Return the first tensor with a number that is none, else the one with the largest value.

    Looked at are images, inputs and outputs of layers in order of execution, and logits; where an
    output is bad, the parameters of its layer too.

    Args:
        model: The network; for as long as it runs its modules have hooks.
        images: (N, C, H, W).
        run: Runs the network once.
    """
    seen = [_sight("the images", images)]
    network = model.model if isinstance(model, Supernet) else model
    with ExitStack() as hooks:
        for name, layer in _layers(network):
            hooks.enter_context(layer.register_forward_hook(partial(_look, seen, name)))
        seen.append(_sight("the logits", run(images)))
    largest = max(seen, key=lambda one: one.largest)
    return next((one for one in seen if one.is_bad), largest)


def _layers(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield what is looked at: modules without parts, quantized layers, normalisations."""
    parts = [] if isinstance(module, WHOLE) else list(module.named_children())
    if not parts:
        yield path, module
    for name, part in parts:
        yield from _layers(part, f"{path}.{name}" if path else name)


def _look(seen: list[Sight], name: str, layer: nn.Module, given: tuple[Any, ...], out: Any) -> None:
    """Note what a layer was given and computed; a forward hook."""
    if given and isinstance(given[0], Tensor):
        seen.append(_sight(f"the input of layer {name}", given[0]))
    if isinstance(out, Tensor):
        seen.append(_sight(f"the output of layer {name}", out))
        if seen[-1].is_bad:
            parameters = {f"{name}.{key}": one for key, one in layer.named_parameters()}
            problem = first_unusable(parameters)
            why = f", where {problem}" if problem else ""
            seen[-1] = seen[-1]._replace(where=f"{seen[-1].where}{why}")


def _sight(where: str, tensor: Tensor) -> Sight:
    return Sight(where, tensor.abs().max().item() if tensor.numel() else 0.0)
