"""Re-estimate batch normalisation statistics of policies from training images, without gradients.

The statistics of a norm's copy were gathered in training, under many policies of the layers before
it; a reported policy gets its own (arXiv 2401.01543, section 4.1: ~7000 images). They are the
average over the batches, weighted by their sizes, and so do not depend on a momentum.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from harness.quant.execution import PolicyInputs
from harness.quant.executor import plans_of
from harness.quant.norms import Statistics
from harness.quant.plan import Plan, run_plan
from harness.quant.supernet import Supernet


@torch.no_grad()
def with_reestimated_statistics(
    supernet: Supernet,
    policies: Sequence[PolicyInputs],
    images: Iterable[Tensor],
    *,
    on_batch: Callable[[], None] | None = None,
) -> list[PolicyInputs]:
    """Return policies with statistics of their own; the supernet stays as it is.

    Policies that compute all alike up to a norm have the same statistics there. It is one tensor,
    by which whoever runs them knows so, unless too many features would have to be kept at once.

    Args:
        supernet: In evaluation mode.
        policies: From its `encode` or `encode_standing`.
        images: Batches (N, C, H, W), each read once for all policies; none of them leaves the
            statistics that the policies came with.
        on_batch: Called after each batch, to show progress.
    """
    moving: _Shared | _Separate | None = None
    num_seen = 0
    for batch in images:
        # A last batch of one image has no variance where features are 1 x 1: it is left out.
        if len(batch) > 1 and policies:
            num_seen += len(batch)
            if moving is None:
                moving = _moving(supernet, policies, batch)
            moving.move(batch, share=len(batch) / num_seen)  # The first batch replaces what was.
        if on_batch is not None:
            on_batch()
    moving = moving or _Separate(supernet, policies)
    pairs = zip(policies, moving.statistics(), strict=True)
    return [inputs._replace(statistics=statistics) for inputs, statistics in pairs]


def _moving(
    supernet: Supernet, policies: Sequence[PolicyInputs], batch: Tensor
) -> "_Shared | _Separate":
    """Return statistics of policies, shared where the network allows it."""
    if len(policies) == 1:
        return _Separate(supernet, policies)
    starts = [supernet.statistics(inputs) for inputs in policies]
    # Policies stay in the groups of the first batch: each group has statistics of its own, and
    # moves them once a batch.
    plans = plans_of(
        supernet,
        policies,
        batch,
        own_statistics=lambda policy, norm: starts[policy][norm].copied(),
    )
    return _Separate(supernet, policies) if plans is None else _Shared(supernet, starts, plans)


class _Separate:
    """Statistics of each policy for itself."""

    def __init__(self, supernet: Supernet, policies: Sequence[PolicyInputs]) -> None:
        self._supernet = supernet
        self._policies = policies
        self._own = [[one.copied() for one in supernet.statistics(inputs)] for inputs in policies]

    def move(self, batch: Tensor, *, share: float) -> None:
        """Move the statistics towards those of a batch by this share."""
        for inputs, own in zip(self._policies, self._own, strict=True):
            moving = [one._replace(momentum=share) for one in own]
            self._supernet(batch, inputs._replace(statistics=moving))

    def statistics(self) -> list[list[Statistics]]:
        """Return each policy's statistics, one for each norm."""
        return self._own


class _Shared:
    """Statistics that are one tensor for all policies that compute alike up to the norm."""

    def __init__(
        self, supernet: Supernet, starts: Sequence[Sequence[Statistics]], plans: Sequence[Plan]
    ) -> None:
        self._supernet = supernet
        self._starts = starts
        self._plans = plans

    def move(self, batch: Tensor, *, share: float) -> None:
        """Move the statistics towards those of a batch by this share."""
        self._supernet.check_images(batch)
        for plan in self._plans:
            slots = set(plan.statistics.values())
            moving = {slot: plan.values[slot]._replace(momentum=share) for slot in slots}
            run_plan(plan, self._supernet.model, batch, changed=moving)

    def statistics(self) -> list[list[Statistics]]:
        """Return each policy's statistics, one for each norm."""
        slots = {
            key: plan.values[slot] for plan in self._plans for key, slot in plan.statistics.items()
        }
        # A norm that evaluation does not reach keeps what it has.
        return [
            [slots.get((policy, norm)) or one.copied() for norm, one in enumerate(own)]
            for policy, own in enumerate(self._starts)
        ]
