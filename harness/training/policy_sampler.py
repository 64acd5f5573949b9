"""The random policy of pass k of step s: a pure function of (seed, s, k).

So every rank and every resumed run draws the same, without a generator whose state must be kept.
"""

from collections.abc import Sequence

import numpy as np

from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy

LayerCandidates = tuple[tuple[int, ...], tuple[int, ...]]
"""Weight and activation bit-widths that a layer may be given at present."""


def current_candidates(network: NetworkSpec) -> list[LayerCandidates]:
    """Return every layer's full set of candidates, from which the bit-width scheduler may take."""
    return [(layer.weight_candidates, layer.act_candidates) for layer in network.layers]


def sample_policy(
    candidates: Sequence[LayerCandidates], *, seed: int, step: int, pass_index: int
) -> Policy:
    """Draw each layer's weight and activation bits uniformly from its current candidates.

    Args:
        candidates: Per layer, in the network's order.
        seed: Seed of the run.
        step: Optimizer step, from 0.
        pass_index: k, from 0 to K - 1.
    """
    generator = np.random.default_rng([seed, step, pass_index])
    return Policy(
        (weights[generator.integers(len(weights))], acts[generator.integers(len(acts))])
        for weights, acts in candidates
    )
