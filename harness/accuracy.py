"""Wrong images of many policies on one split, exact and repeatable over ranks.

Images are read once for all policies: the loop is batches outside, policies inside. The batches are
fixed by the data and the batch size alone. Each rank evaluates whole batches, and counts of wrong
images are added as integers; so a policy's count never depends on how many policies, ranks or
workers share the work.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from harness.data import EvalBatches, one_line_for_lost_workers
from harness.errors import NotFiniteError
from harness.problem.policy import Policy
from harness.quant.execution import PolicyInputs
from harness.quant.recalibrate import with_reestimated_statistics
from harness.quant.supernet import Supernet

MAX_POLICIES = 256
"""At most this many policies take turns on a batch: each holds some hundred kB of statistics."""

OnProgress = Callable[[float], None]
"""Takes how many policies' worth of work was done since the last call."""


@one_line_for_lost_workers()
@torch.no_grad()
def count_wrong_by_policy(
    supernet: Supernet,
    policies: Sequence[Policy],
    batches: EvalBatches,
    *,
    recalibration: EvalBatches | None = None,
    on_progress: OnProgress | None = None,
) -> list[int]:
    """Return how many images each policy classifies wrongly, summed over ranks.

    Args:
        supernet: Left in evaluation mode.
        policies: Policies of its network.
        batches: The whole split; every rank is given all of it and takes its share.
        recalibration: Training images that re-estimate BN statistics for each policy, on every
            rank alike; None leaves the trained statistics.
        on_progress: Called after each batch of images; what it is given adds up to the number of
            policies.

    Raises:
        NotFiniteError: A policy's logits are infinite or no numbers: the largest of them is class 0
            then, or any other, and the count would say nothing.
    """
    supernet.eval()
    counts: list[Tensor] = []
    for start in range(0, len(policies), MAX_POLICIES):
        some = policies[start : start + MAX_POLICIES]
        # Recalibration and counting go over different images, but progress is one number.
        on_batch = _progress_of_batches(len(some), batches, recalibration, on_progress)
        inputs = supernet.encode_standing(some)
        if recalibration is not None:
            images = _images(recalibration, _device(supernet))
            inputs = with_reestimated_statistics(supernet, inputs, images, on_batch=on_batch)
        counts.append(_wrong_of_rank(supernet, inputs, batches, on_batch=on_batch))
    return _checked(_sum_over_ranks(counts), lambda index: _words(supernet, policies[index]))


@one_line_for_lost_workers()
@torch.no_grad()
def count_wrong(model: nn.Module, batches: EvalBatches) -> int:
    """Return how many images a plain model classifies wrongly, summed over ranks.

    Raises:
        NotFiniteError: Its logits are infinite or no numbers.
    """
    model.eval()
    counts = _sum_over_ranks([_wrong_of_rank(model, [None], batches)])
    return _checked(counts, lambda _: "the float network")[0]


def _wrong_of_rank(
    model: nn.Module,
    policies: Sequence[PolicyInputs | None],
    batches: EvalBatches,
    *,
    on_batch: Callable[[], None] | None = None,
) -> Tensor:
    """Return the wrong images in this rank's share of the batches, on the device.

    Returns:
        (policies, 2): wrong images, and images whose logits are not finite.
    """
    device = _device(model)
    # On the device: reading a count here would wait for it after every policy.
    counts = torch.zeros(len(policies), 2, dtype=torch.int64, device=device)
    rank, world_size = _rank_and_world_size()
    for images, labels in batches.share(rank=rank, world_size=world_size):
        x, expected = images.to(device), labels.to(device)
        for index, policy in enumerate(policies):
            logits = model(x) if policy is None else model(x, policy)
            counts[index, 0] += (logits.argmax(dim=1) != expected).sum()
            counts[index, 1] += (~logits.isfinite().all(dim=1)).sum()
        if on_batch is not None:
            on_batch()
    return counts


def _checked(counts: Sequence[Sequence[int]], name: Callable[[int], str]) -> list[int]:
    """Return the wrong images of each policy, all of whose logits must be finite."""
    for index, (_, num_spoiled) in enumerate(counts):
        if num_spoiled:
            raise NotFiniteError(
                f"the logits of {name(index)} are no finite numbers on {num_spoiled} images, so "
                "they name no class; train again with a lower train.learning_rate, or check "
                "the images"
            )
    return [wrong for wrong, _ in counts]


def _words(supernet: Supernet, policy: Policy) -> str:
    uniform = supernet.network.candidates.uniform_policies
    label = next((label for label, other in uniform.items() if other == policy), None)
    return f"policy {label or ' '.join(f'{weight}/{act}' for weight, act in policy)}"


def _progress_of_batches(
    num_policies: int,
    batches: EvalBatches,
    recalibration: EvalBatches | None,
    on_progress: OnProgress | None,
) -> Callable[[], None] | None:
    """Return what to call after each batch of images, recalibration included."""
    if on_progress is None:
        return None
    rank, world_size = _rank_and_world_size()
    num_batches = len(range(rank, len(batches), world_size)) + len(recalibration or ())
    return lambda: on_progress(num_policies / num_batches)


def _rank_and_world_size() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _images(batches: EvalBatches, device: torch.device) -> Iterator[Tensor]:
    return (images.to(device) for images, _ in batches)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _sum_over_ranks(counts: Iterable[Tensor]) -> list[list[int]]:
    chunks = list(counts)
    if not chunks:
        return []
    total = torch.cat(chunks)
    if dist.is_initialized():
        dist.all_reduce(total)
    summed: list[list[int]] = total.tolist()
    return summed
