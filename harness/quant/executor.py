"""Run many policies over the same images, computing once what some of them compute alike.

Policies that give the first layers the same bits share all work up to the layer where they part;
those that part in one branch share the others. The results are those of one policy at a time, bit
for bit, in whatever company and order: each operation is given the very tensors that it would be
given then. Features of several policies are not put into one larger batch: where that is faster,
with few images, convolutions round otherwise (docs/results/evaluation.md).

How: the network is cut into segments (`segments.py`), it is seen on few images what they do to
memory (`storages.py`), and a plan says which segment runs when and what is dropped (`plan.py`).
Nothing in it waits for a device.
"""

import logging
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from harness.quant.execution import PolicyInputs
from harness.quant.plan import OwnStatistics, Plan, make_plan, run_plan
from harness.quant.segments import SegmentedNetwork
from harness.quant.sharing import alike, ordered
from harness.quant.storages import CannotWalkError, Effects, observed_effects
from harness.quant.supernet import Supernet

logger = logging.getLogger(__name__)

MAX_KEPT_BYTES = 2**30
"""The most that the features of all policies take together between two segments. Where one policy
by itself takes more than half of it, twice what that one takes."""

FEW_IMAGES = 2
"""What segments do to memory is seen on this many. One image is told apart: sizes of one change how
tensors are laid out."""


class Executor:
    """Evaluates policies side by side; what they share is worked out with the first batch."""

    def __init__(
        self,
        supernet: Supernet,
        policies: Sequence[PolicyInputs],
        *,
        max_kept_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        """Take the policies.

        Args:
            supernet: In evaluation mode, with weights that stand still.
            policies: From its `encode_standing`, with statistics of their own or without. They
                share what hangs on one tensor; equal tensors are not looked for.
            max_kept_bytes: Policies run in groups that keep no more features than this.
        """
        given = [one for policy in policies for one in policy.statistics if one is not None]
        assert all(one.momentum is None for one in given), "statistics that move are not shared"
        self._supernet = supernet
        self._policies = list(policies)
        self._max_kept_bytes = max_kept_bytes
        # By whether for one image alone; with the number of images that they were made for.
        self._plans: dict[bool, tuple[int, list[Plan] | None]] = {}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the logits (N, num_classes) of each policy, in the order in which they came.

        Policies that are alike to the end are given one tensor.

        Args:
            images: (N, C, H, W), on the device of the weights.

        Raises:
            ConversionError: The images are of another size than the network was converted for.
        """
        supernet = self._supernet
        plans = self._plans_for(images) if len(self._policies) > 1 else None
        if plans is None:
            return [supernet(images, policy) for policy in self._policies]
        logits: dict[int, Tensor] = {}
        for plan in plans:
            held = run_plan(plan, supernet.model, images)
            logits.update({policy: held[slot] for policy, slot in plan.logits.items()})
        return [logits[policy] for policy in range(len(self._policies))]

    def _plans_for(self, images: Tensor) -> list[Plan] | None:
        is_alone = len(images) == 1
        made_for, plans = self._plans.get(is_alone, (0, None))
        if len(images) > made_for:
            plans = plans_of(
                self._supernet, self._policies, images, max_kept_bytes=self._max_kept_bytes
            )
            self._plans[is_alone] = (len(images), plans)
        return plans


def plans_of(
    supernet: Supernet,
    policies: Sequence[PolicyInputs],
    images: Tensor,
    *,
    max_kept_bytes: int = MAX_KEPT_BYTES,
    own_statistics: OwnStatistics | None = None,
) -> list[Plan] | None:
    """Return what to run for policies on batches like this one or smaller, in groups.

    Args:
        supernet: In evaluation mode.
        policies: At least one.
        images: (N, C, H, W).
        max_kept_bytes: The most that is kept between two segments, for these images.
        own_statistics: As `make_plan` takes it.

    Returns:
        None where the network cannot be cut into segments; a warning says why, once.

    Raises:
        ConversionError: The images are of another size than the network was converted for.
    """
    supernet.check_images(images)
    assert not supernet.training, "the segments are those of evaluation"
    network = supernet.segmented
    try:
        if own_statistics is not None:
            _check_norms_run_once(network, supernet.norm_paths)
        effects = _checked_effects(supernet, network, policies[0], images[:FEW_IMAGES])
    except CannotWalkError as error:
        _warn_once(supernet.network.model_name, str(error))
        return None
    shared = alike(network, policies)

    def plan_of(group: Sequence[int]) -> Plan:
        return make_plan(
            network, effects, policies, shared=shared, group=group, own_statistics=own_statistics
        )

    order = ordered(shared.numbers, range(len(policies)))
    limit = max(max_kept_bytes / len(images), 2 * plan_of(order[:1]).kept_bytes)
    plans: list[Plan] = []
    waiting = [order]
    while waiting:
        group = waiting.pop()
        plan = plan_of(group)
        if plan.kept_bytes > limit and len(group) > 1:
            middle = len(group) // 2
            waiting += [group[middle:], group[:middle]]
        else:
            plans.append(plan)
    return plans


def _checked_effects(
    supernet: Supernet, network: SegmentedNetwork, policy: PolicyInputs, images: Tensor
) -> list[Effects]:
    """Return what the segments do to memory; together they must compute what the network does."""
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # What draws goes on as if nobody had looked.
        effects, found = observed_effects(supernet.model, network, policy, images)
        expected = supernet(images, policy)
    # Numbers that are none are not equal to themselves, and are refused by who counts.
    if not ((found == expected) | (found.isnan() & expected.isnan())).all():
        raise CannotWalkError("its parts compute something else than the whole")
    return effects


def _check_norms_run_once(network: SegmentedNetwork, paths: Sequence[str]) -> None:
    if network.repeated_norms:
        # Statistics would move at each run, and each run is shared by other policies.
        name = paths[network.repeated_norms[0]]
        raise CannotWalkError(f"{name} normalises more than once")


@cache
def _warn_once(model_name: str, reason: str) -> None:
    logger.warning(
        "%s is evaluated one policy at a time, which takes longer: %s", model_name, reason
    )
