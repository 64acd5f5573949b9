"""What the segments of a network do to memory: seen by running one policy on few images.

Policies may share a value only while nobody changes it, and a network says nowhere which of its
operations change what they read: an activation does so by an argument, a sum as `x += y`, a dropout
in evaluation hands on the very tensor that it got. So it is looked at.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from harness.quant.execution import PolicyInputs
from harness.quant.segments import IMAGES, SegmentedNetwork

Storage = tuple[str, int]
"""A piece of memory: ("source", position) is that of a source, ("new", number) is the segment's."""


class CannotWalkError(Exception):
    """The segments of a network do not compute what the network does, or it cannot be known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What a segment does to memory."""

    storages: tuple[tuple[Storage, ...], ...]
    """The memory that each result lies in."""
    new_bytes: tuple[float, ...]
    """The sizes of its own pieces for one image, by number."""
    changed: tuple[int, ...]
    """Positions of the sources that it changes."""


@torch.inference_mode(mode=False)  # Its tensors do not count how often they were changed.
@torch.no_grad()  # Inside: the line above turns gradients on.
def observed_effects(
    model: nn.Module, network: SegmentedNetwork, inputs: PolicyInputs, images: Tensor
) -> tuple[list[Effects], Tensor]:
    """Return what each segment does to memory, and the logits that the segments compute.

    Args:
        model: The network's module, in evaluation mode.
        network: Its segments.
        inputs: Any policy: which memory is used does not depend on bits.
        images: (N, C, H, W); they are not changed.

    Raises:
        CannotWalkError: A segment draws random numbers, or changes what the network keeps or what
            another segment reads later.
    """
    values: dict[int, Any] = {IMAGES: images.clone()}
    state = [*model.parameters(), *model.buffers()]
    state_before, random_before = _versions(state), _random_state(images.device)
    effects: list[Effects] = []
    changed_by: dict[int, str] = {}  # By the value that is no longer what it was.
    for segment in network.segments:
        for source in segment.sources:
            if source in changed_by:
                raise CannotWalkError(f"{changed_by[source]} changes what {segment.name} reads too")
        sources = [values[source] for source in segment.sources]
        before = [_versions(_tensors(source)) for source in sources]
        given = [getattr(inputs, part)[number] for part, number in segment.given]
        results = segment.function(model, *sources, *given)
        changed = [at for at, one in enumerate(sources) if _versions(_tensors(one)) != before[at]]
        for at in changed:
            if not all(_can_be_copied(tensor) for tensor in _tensors(sources[at])):
                raise CannotWalkError(f"{segment.name} changes a part of a tensor")
            places = _places(sources[at])
            if any(places & _places(one) for other, one in enumerate(sources) if other != at):
                raise CannotWalkError(f"{segment.name} changes one tensor that it reads twice")
            alike = (value for value, held in values.items() if places & _places(held))
            changed_by.update(dict.fromkeys(alike, segment.name))
        effects.append(_effects(sources, results, changed, num_images=len(images)))
        values.update(zip(segment.results, results, strict=True))
    if state_before != _versions(state):
        raise CannotWalkError("it changes what it keeps, also in evaluation")
    if not torch.equal(random_before, _random_state(images.device)):
        raise CannotWalkError("it draws random numbers, also in evaluation")
    return effects, values[network.logits]


def _effects(
    sources: Sequence[Any], results: Sequence[Any], changed: Sequence[int], *, num_images: int
) -> Effects:
    known: dict[int, Storage] = {}
    for at, source in enumerate(sources):
        known.update(dict.fromkeys(_places(source), ("source", at)))
    new_bytes: list[float] = []
    storages = []
    for result in results:
        for tensor in _tensors(result):
            if _place(tensor) not in known:
                known[_place(tensor)] = ("new", len(new_bytes))
                new_bytes.append(tensor.untyped_storage().nbytes() / num_images)
        storages.append(tuple(known[place] for place in sorted(_places(result))))
    return Effects(storages=tuple(storages), new_bytes=tuple(new_bytes), changed=tuple(changed))


def _can_be_copied(tensor: Tensor) -> bool:
    """Return whether a copy is laid out as the tensor is; operations may round by layout."""
    return torch.empty_like(tensor, device="meta").stride() == tensor.stride()


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _versions(tensors: Iterable[Tensor]) -> list[int]:
    return [0 if tensor.is_inference() else tensor._version for tensor in tensors]


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _places(value: Any) -> set[int]:
    return {_place(tensor) for tensor in _tensors(value)}


def _random_state(device: torch.device) -> Tensor:
    state = torch.get_rng_state()
    return torch.cat((state, torch.cuda.get_rng_state(device))) if device.type == "cuda" else state
