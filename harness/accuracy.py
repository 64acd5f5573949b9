"""Errors of many policies on one split, exact and repeatable over ranks.

The batches are fixed by the data and the batch size alone. Each rank evaluates whole batches, and
counts of wrong images are added as integers; so a policy's error count never depends on how many
policies, ranks or workers share the work.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from harness.data import EvalBatches
from harness.problem.policy import Policy
from harness.quant.recalibrate import recalibrated
from harness.quant.supernet import Supernet


@contextmanager
def standing_weights(supernet: Supernet) -> Iterator[None]:
    """Quantize every weight once per bit-width inside the block; the weights must not change."""
    try:
        for layer in supernet.quantized_layers:
            layer.weight_cache = {}
        yield
    finally:
        for layer in supernet.quantized_layers:
            layer.weight_cache = None


@torch.no_grad()
def count_wrong_by_policy(
    supernet: Supernet,
    policies: Sequence[Policy],
    batches: EvalBatches,
    *,
    recalibration: EvalBatches | None = None,
    on_policy: Callable[[], None] | None = None,
) -> list[int]:
    """Return how many images each policy classifies wrongly, summed over ranks.

    Args:
        supernet: Left in evaluation mode under the last policy.
        policies: Policies of its network.
        batches: The whole split; every rank is given all of it and takes its share.
        recalibration: Training images that re-estimate BN statistics for each policy, on every
            rank alike; None leaves the trained statistics.
        on_policy: Called after each policy, to show progress.
    """
    supernet.eval()
    counts = []
    with standing_weights(supernet):
        for policy in policies:
            supernet.set_policy(policy)
            with recalibrated(supernet, _images(recalibration, _device(supernet))):
                counts.append(_wrong_of_rank(supernet, batches))
            if on_policy is not None:
                on_policy()
    return _sum_over_ranks(counts)


@torch.no_grad()
def count_wrong(model: nn.Module, batches: EvalBatches) -> int:
    """Return how many images a plain model classifies wrongly, summed over ranks."""
    model.eval()
    return _sum_over_ranks([_wrong_of_rank(model, batches)])[0]


def _images(batches: EvalBatches | None, device: torch.device) -> Iterable[Tensor]:
    return (images.to(device) for images, _ in batches or ())


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _wrong_of_rank(model: nn.Module, batches: EvalBatches) -> Tensor:
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    device = _device(model)
    wrong = torch.zeros((), dtype=torch.int64, device=device)
    for images, labels in batches.share(rank=rank, world_size=world):
        wrong += (model(images.to(device)).argmax(dim=1) != labels.to(device)).sum()
    return wrong


def _sum_over_ranks(counts: Sequence[Tensor]) -> list[int]:
    if not counts:
        return []
    total = torch.stack(list(counts))
    if dist.is_initialized():
        dist.all_reduce(total)
    return [int(count) for count in total.tolist()]
