"""Accuracy of the uniform policies on the search split while training goes on."""

from torch import nn

from harness.accuracy import count_wrong, count_wrong_by_policy
from harness.data import Splits, eval_batches
from harness.problem.candidates import Candidates
from harness.problem.policy import Policy
from harness.quant.supernet import Supernet
from harness.run.config import Config


def shown_policies(candidates: Candidates) -> dict[str, Policy]:
    """Return the largest and smallest policies and those with equal bits, by label."""
    ends = {"max": candidates.largest, "min": candidates.smallest}
    return {**ends, **candidates.equal_bits_policies}


def validate(model: nn.Module, splits: Splits, config: Config) -> dict[str, float]:
    """Return accuracies (0..1) on the search split: of each uniform policy, or of a float network.

    BN statistics are re-estimated for each policy, as they are when a policy is reported.
    """
    batches = eval_batches(splits.search, batch_size=config.eval.batch_size)
    if not isinstance(model, Supernet):
        return {"float": 1 - count_wrong(model, batches) / batches.num_images}
    recalibration = eval_batches(
        splits.train, batch_size=config.eval.batch_size, limit=config.eval.recalibrate_images
    )
    policies = shown_policies(model.network.candidates)
    distinct = list(dict.fromkeys(policies.values()))
    errors = count_wrong_by_policy(model, distinct, batches, recalibration=recalibration)
    counts = dict(zip(distinct, errors, strict=True))
    return {label: 1 - counts[policy] / batches.num_images for label, policy in policies.items()}
