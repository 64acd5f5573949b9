"""The random policy of pass k of step s: a pure function of (seed, s, k).

So every rank and every resumed run draws the same, without a generator whose state must be kept.
"""

import numpy as np

from harness.problem.candidates import Candidates
from harness.problem.policy import Policy


def sample_policy(candidates: Candidates, *, seed: int, step: int, pass_index: int) -> Policy:
    """Draw each layer's weight and activation bits uniformly from its current candidates.

    Args:
        candidates: What each layer may take at present.
        seed: Seed of the run.
        step: Optimizer step, from 0.
        pass_index: k, from 0 to K - 1.
    """
    generator = np.random.default_rng([seed, step, pass_index])
    return candidates.sample(lambda count: int(generator.integers(count)))
