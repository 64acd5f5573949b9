"""Accuracy of the uniform policies on the search split while training goes on."""

from torch import nn

from harness.accuracy import count_wrong, count_wrong_by_policy
from harness.data import Splits, eval_batches
from harness.problem.policy import Policy, uniform_policy
from harness.quant.supernet import Supernet
from harness.run.config import Config


def uniform_policies(supernet: Supernet) -> dict[str, Policy]:
    """Return the max and min policies and those with equal weight and activation bits, by label."""
    layers = [layer for layer in supernet.network.layers if not layer.is_pinned]
    weights = {bits for layer in layers for bits in layer.weight_candidates}
    acts = {bits for layer in layers for bits in layer.act_candidates}
    policies = {"max": supernet.largest_policy, "min": supernet.smallest_policy}
    for bits in sorted(weights & acts, reverse=True):
        policy = uniform_policy(supernet.network, weight_bits=bits, act_bits=bits)
        policies[f"{bits}/{bits}"] = policy
    return policies


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
    policies = uniform_policies(model)
    distinct = list(dict.fromkeys(policies.values()))
    errors = count_wrong_by_policy(model, distinct, batches, recalibration=recalibration)
    counts = dict(zip(distinct, errors, strict=True))
    return {label: 1 - counts[policy] / batches.num_images for label, policy in policies.items()}
