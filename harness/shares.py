"""Which policies and batches of images a rank evaluates, and the sum of what ranks found.

Each rank evaluates policies of its own on all images, and so recalibrates no others; where they are
fewer than the ranks, all policies on batches of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor

from harness.data import HeldBatches
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.quant.sharing import split_by_work

OnProgress = Callable[[float], None]
"""Takes how many policies' worth of work was done since the last call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one rank evaluates: some policies on batches `rank`, `rank + world_size`, ..."""

    num_policies: int
    """Of all ranks."""
    places: Sequence[int]
    """Those of this rank, among all."""
    rank: int
    world_size: int

    def progress(
        self,
        on_progress: OnProgress | None,
        batches: HeldBatches,
        recalibration: HeldBatches | None,
    ) -> Callable[[], None] | None:
        """Return what to call after each batch of images, recalibration included."""
        if on_progress is None:
            return None
        num_batches = len(range(self.rank, len(batches), self.world_size))
        num_batches += len(recalibration or ())
        return lambda: on_progress(self.num_policies / num_batches)


def share_of_policies(policies: Sequence[Policy], network: NetworkSpec) -> Share:
    """Return this rank's policies on all batches; of few policies all of them on its batches."""
    rank, world_size = _rank_and_world_size()
    if len(policies) < world_size:
        return share_of_batches(len(policies))
    work = [layer.macs for layer in network.layers]
    parts = split_by_work(policies, work, num_parts=world_size)
    return Share(num_policies=len(policies), places=parts[rank], rank=0, world_size=1)


def share_of_batches(num_policies: int) -> Share:
    """Return all policies on this rank's batches."""
    rank, world_size = _rank_and_world_size()
    places = range(num_policies)
    return Share(num_policies=num_policies, places=places, rank=rank, world_size=world_size)


def over_ranks(results: Tensor) -> Tensor:
    """Return the sum over ranks; exact, of whole numbers or of one number and zeros."""
    if dist.is_initialized():
        dist.all_reduce(results)
    return results


def _rank_and_world_size() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
