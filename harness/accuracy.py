"""Scores and right images of many policies on one split, exact and repeatable over ranks.

Images are read once for all policies: the loop is batches outside, policies inside. The batches
are fixed by the data and the batch size alone. Each rank evaluates policies of its own, which share
most among themselves, or, of fewer policies than ranks, batches of its own; ranks exchange what
each batch gave each policy, zero where it was another's, and add the batches in order. So what a
policy is given never depends, in any bit, on how many policies, ranks or workers share the work.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.data import EvalBatches, HeldBatch, HeldBatches, one_line_for_lost_workers
from harness.data.held import MAX_HELD_BYTES
from harness.errors import NotFiniteError
from harness.problem.policy import Policy
from harness.quant.execution import PolicyInputs
from harness.quant.executor import Executor
from harness.quant.recalibrate import with_reestimated_statistics
from harness.quant.supernet import Supernet
from harness.run.config import Score
from harness.scores import (
    PolicyScores,
    fold_sums,
    log_probabilities,
    num_folds,
    num_wrong_images,
    score_of_images,
)
from harness.shares import OnProgress, Share, over_ranks, share_of_batches, share_of_policies

MAX_POLICIES = 256
"""At most this many policies take turns on a batch: each holds some hundred kB of statistics."""

MAX_RESULT_BYTES = 64 * 2**20
"""And at most so many that what their batches gave fits into this."""

MAX_TEACHER_BYTES = 64 * 2**20
"""Outputs of the max policy that are kept; those of batches beyond are computed in every pass."""

OTHER_SUMS = 3
"""What is summed beside the parts of a score; whole numbers below 2**53, exact as floats."""

Measure = Callable[[HeldBatch, Iterator[Tensor]], None]
"""Takes a batch and the logits of each policy on it, and keeps what is wanted on the device."""


class PolicyScorer:
    """Scores policies of a supernet on the same images, call after call.

    What calls have in common stays on the device within bounds: images, and the outputs of the max
    policy. So the weights must stand still.

    Attributes:
        num_images: How many images score a policy.
    """

    def __init__(
        self,
        supernet: Supernet,
        batches: EvalBatches,
        *,
        score: Score,
        recalibration: EvalBatches | None = None,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        """Say what policies are scored by; nothing is computed yet.

        Args:
            supernet: Every call puts it into evaluation mode.
            batches: The whole split; every rank is given all of it and takes its share.
            score: What is computed of each image.
            recalibration: Training images that re-estimate BN statistics for each policy, the max
                policy among them, on every rank alike; None leaves the trained statistics.
            max_held_bytes: Most bytes of each kind of images that stay on the device.
        """
        self.num_images = batches.num_images
        self._supernet = supernet
        self._score: Score = score
        hold = partial(HeldBatches, device=_device(supernet), max_bytes=max_held_bytes)
        self._batches = hold(batches)
        self._recalibration = None if recalibration is None else hold(recalibration)
        self._teacher: _Teacher | None = None

    @one_line_for_lost_workers()
    @torch.no_grad()
    def score(
        self, policies: Sequence[Policy], *, on_progress: OnProgress | None = None
    ) -> PolicyScores:
        """Return scores by folds of the images and wrong images, the same on every rank.

        Args:
            policies: Policies of the network.
            on_progress: Called after each batch of images; what it is given adds up to the number
                of policies.

        Returns:
            Both of the same logits. A policy's score is the sum of its parts, from left to right,
            over `num_images`.

        Raises:
            NotFiniteError: A policy's logits are infinite or no numbers: the largest of them is
                class 0 then, or any other, and a score would say nothing.
        """
        self._supernet.eval()
        if self._score == "kl" and policies and self._teacher is None:
            self._teacher = _Teacher(self._supernet, self._recalibration)
        folds = num_folds(self.num_images)
        totals = [np.zeros((0, folds + OTHER_SUMS))]
        for some in _groups(policies, result_bytes=8 * (folds + OTHER_SUMS) * len(self._batches)):
            total = self._totals(some, folds=folds, on_progress=on_progress)
            if self._teacher is not None:
                largest = self._supernet.network.candidates.in_words(
                    self._supernet.network.candidates.largest
                )
                _check_finite(total[:1, folds + 2], [largest])
            _check_finite(
                total[:, folds + 1],
                [self._supernet.network.candidates.in_words(policy) for policy in some],
            )
            totals.append(total)
        total = np.concatenate(totals)
        return PolicyScores(parts=total[:, :folds], num_wrong=total[:, folds].astype(np.int64))

    def _totals(
        self, policies: Sequence[Policy], *, folds: int, on_progress: OnProgress | None
    ) -> NDArray[np.float64]:
        """Return (policies, folds + 3): scores, wrong images, and images without finite logits.

        The last column counts those of the max policy.
        """
        share = share_of_policies(policies, self._supernet.network)
        on_batch = share.progress(on_progress, self._batches, self._recalibration)
        own = [policies[place] for place in share.places]
        inputs = _encoded(self._supernet, own, self._recalibration, on_batch=on_batch)
        shape = len(policies), len(self._batches), folds + OTHER_SUMS
        by_batch = torch.zeros(shape, dtype=torch.float64, device=_device(self._supernet))

        def measure(batch: HeldBatch, logits_by_policy: Iterator[Tensor]) -> None:
            teacher = None if self._teacher is None else self._teacher.log_probabilities(batch)
            for place, logits in zip(share.places, logits_by_policy, strict=True):
                row = by_batch[place, batch.index]
                values = score_of_images(self._score, logits, batch.labels, teacher=teacher)
                row[:folds] = fold_sums(values, first=batch.first, folds=folds)
                row[folds] = num_wrong_images(logits, batch.labels)
                row[folds + 1] = _num_spoiled(logits)
                if teacher is not None:
                    row[folds + 2] = _num_spoiled(teacher)

        _evaluate(self._supernet, inputs, self._batches, measure, share=share, on_batch=on_batch)
        sums = over_ranks(by_batch).cpu().numpy()
        # Batch by batch: `sum` adds in an order of its own, and in another one elsewhere.
        total = np.zeros((len(policies), folds + OTHER_SUMS))
        for batch_index in range(len(self._batches)):
            total += sums[:, batch_index]
        return total


class _Teacher:
    """Outputs of the max policy, each batch computed once as long as there is room."""

    def __init__(self, supernet: Supernet, recalibration: HeldBatches | None) -> None:
        """Encode it; with statistics of its own where other policies have them."""
        largest = supernet.network.candidates.largest
        self._supernet = supernet
        self._inputs = _encoded(supernet, [largest], recalibration)
        self._kept: dict[int, Tensor] = {}
        self._free_bytes = MAX_TEACHER_BYTES

    def log_probabilities(self, batch: HeldBatch) -> Tensor:
        """Return them, float64 (N, classes)."""
        if batch.index in self._kept:
            return self._kept[batch.index]
        (logits,) = _together(self._supernet, self._inputs)(batch.images)
        outputs = log_probabilities(logits)
        size_bytes = outputs.numel() * outputs.element_size()
        if size_bytes <= self._free_bytes:
            self._kept[batch.index] = outputs
            self._free_bytes -= size_bytes
        return outputs


def count_wrong_by_policy(
    supernet: Supernet,
    policies: Sequence[Policy],
    batches: EvalBatches,
    *,
    recalibration: EvalBatches | None = None,
    on_progress: OnProgress | None = None,
) -> list[int]:
    """Return how many images each policy classifies wrongly, summed over ranks.

    Arguments and errors are those of `PolicyScorer`, for a single call.
    """
    scorer = PolicyScorer(
        supernet, batches, score="errors", recalibration=recalibration, max_held_bytes=0
    )
    return [int(count) for count in scorer.score(policies, on_progress=on_progress).num_wrong]


@one_line_for_lost_workers()
@torch.no_grad()
def right_by_policy(
    supernet: Supernet,
    policies: Sequence[Policy],
    batches: EvalBatches,
    *,
    recalibration: EvalBatches | None = None,
    on_progress: OnProgress | None = None,
) -> NDArray[np.bool_]:
    """Return which images each policy classifies rightly, the same on every rank.

    Two policies are compared on the same images by it (`harness.problem.significance`). Arguments
    and errors are those of `PolicyScorer`, for a single call.

    Returns:
        (policies, images), images in the order of the split.
    """
    supernet.eval()
    hold = partial(HeldBatches, device=_device(supernet), max_bytes=0)
    scored = hold(batches)
    training = None if recalibration is None else hold(recalibration)
    masks = [np.zeros((0, batches.num_images), dtype=np.bool_)]
    for some in _groups(policies, result_bytes=batches.num_images):
        share = share_of_policies(some, supernet.network)
        on_batch = share.progress(on_progress, scored, training)
        own = [some[place] for place in share.places]
        inputs = _encoded(supernet, own, training, on_batch=on_batch)
        right, num_spoiled = _right_images(supernet, inputs, scored, share=share, on_batch=on_batch)
        _check_finite(
            num_spoiled, [supernet.network.candidates.in_words(policy) for policy in some]
        )
        masks.append(right)
    return np.concatenate(masks)


@one_line_for_lost_workers()
@torch.no_grad()
def count_wrong(model: nn.Module, batches: EvalBatches) -> int:
    """Return how many images a plain model classifies wrongly, summed over ranks.

    Raises:
        NotFiniteError: Its logits are infinite or no numbers.
    """
    model.eval()
    held = HeldBatches(batches, _device(model), max_bytes=0)
    right, num_spoiled = _right_images(model, [None], held, share=share_of_batches(1))
    _check_finite(num_spoiled, ["the float network"])
    return int((~right).sum())


def accuracy_of(right: NDArray[np.bool_]) -> float:
    """Return the share (0..1) of images that are right, by a mask of `right_by_policy`."""
    return 1 - int((~right).sum()) / len(right)


def _right_images(
    model: nn.Module,
    policies: Sequence[PolicyInputs | None],
    batches: HeldBatches,
    *,
    share: Share,
    on_batch: Callable[[], None] | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return (policies, images) which are right, and (policies,) how many have no finite logits."""
    device = _device(model)
    # Whole numbers, that ranks can add them: one of them has an image, the others a zero.
    shape = share.num_policies, batches.num_images
    right = torch.zeros(shape, dtype=torch.uint8, device=device)
    num_spoiled = torch.zeros(share.num_policies, dtype=torch.int64, device=device)

    def measure(batch: HeldBatch, logits_by_policy: Iterator[Tensor]) -> None:
        images = slice(batch.first, batch.first + len(batch.labels))
        for place, logits in zip(share.places, logits_by_policy, strict=True):
            right[place, images] = logits.argmax(dim=1) == batch.labels
            num_spoiled[place] += _num_spoiled(logits)

    _evaluate(model, policies, batches, measure, share=share, on_batch=on_batch)
    masks: NDArray[np.bool_] = over_ranks(right).cpu().numpy().astype(np.bool_)
    return masks, over_ranks(num_spoiled).cpu().numpy()


def _evaluate(
    model: nn.Module,
    policies: Sequence[PolicyInputs | None],
    batches: HeldBatches,
    measure: Measure,
    *,
    share: Share,
    on_batch: Callable[[], None] | None = None,
) -> None:
    """Measure this rank's policies on its share of the batches; nothing waits for the device."""
    if not policies:
        return
    run = _together(model, policies)
    for batch in batches.share(rank=share.rank, world_size=share.world_size):
        measure(batch, iter(run(batch.images)))
        if on_batch is not None:
            on_batch()


def _together(
    model: nn.Module, policies: Sequence[PolicyInputs | None]
) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return what maps images to the logits (N, classes) of each policy; None is a plain model."""
    encoded = [one for one in policies if one is not None]
    if isinstance(model, Supernet) and len(encoded) == len(policies):
        return Executor(model, encoded)
    return lambda images: [model(images) for _ in policies]


def _encoded(
    supernet: Supernet,
    policies: Sequence[Policy],
    recalibration: HeldBatches | None,
    *,
    on_batch: Callable[[], None] | None = None,
) -> list[PolicyInputs]:
    """Return policies with quantized weights, and statistics of their own where they are wanted."""
    inputs = supernet.encode_standing(policies)
    if recalibration is None or not policies:
        return inputs
    images = (batch.images for batch in recalibration.share(rank=0, world_size=1))
    return with_reestimated_statistics(supernet, inputs, images, on_batch=on_batch)


def _groups(policies: Sequence[Policy], *, result_bytes: int) -> Iterator[Sequence[Policy]]:
    """Yield the policies that take turns together; each keeps `result_bytes`."""
    at_once = max(1, min(MAX_POLICIES, MAX_RESULT_BYTES // max(1, result_bytes)))
    for start in range(0, len(policies), at_once):
        yield policies[start : start + at_once]


def _num_spoiled(outputs: Tensor) -> Tensor:
    """Return on how many images outputs (N, classes) are no finite numbers, on the device."""
    return (~outputs.isfinite().all(dim=1)).sum()


def _check_finite(
    num_spoiled: NDArray[np.int64] | NDArray[np.float64], names: Sequence[str]
) -> None:
    for number, name in zip(num_spoiled, names, strict=True):
        if number:
            raise NotFiniteError(
                f"the logits of {name} are no finite numbers on {int(number)} images, so "
                "they name no class; train again with a lower train.learning_rate, or check "
                "the images"
            )


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
