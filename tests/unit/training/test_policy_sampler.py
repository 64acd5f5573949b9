"""Random policies: pure functions of seed, step and pass, uniform over the candidates."""

from collections import Counter

import torch

from harness.problem.candidates import Candidates, LayerCandidates
from harness.training.policy_sampler import sample_policy

CANDIDATES = Candidates(
    (
        LayerCandidates(name="stem", weight=(8,), act=(8,), is_pinned=True),
        *[LayerCandidates(name="conv", weight=(6, 5, 4, 3, 2), act=(4, 3))] * 50,
    )
)


def test_a_policy_is_a_pure_function_of_seed_step_and_pass() -> None:
    keys = [(seed, step, k) for seed in (0, 1) for step in (0, 1) for k in (0, 1)]
    draws = [
        sample_policy(CANDIDATES, seed=seed, step=step, pass_index=k) for seed, step, k in keys
    ]
    assert len(set(draws)) == len(keys)
    torch.manual_seed(5)
    seed, step, k = keys[3]
    assert sample_policy(CANDIDATES, seed=seed, step=step, pass_index=k) == draws[3]


def test_policies_are_uniform_over_the_candidates() -> None:
    counts: Counter = Counter()
    for step in range(100):
        policy = sample_policy(CANDIDATES, seed=0, step=step, pass_index=0)
        assert policy.bits[0] == (8, 8)
        counts.update(policy.bits[1:])
    assert set(counts) == {(w, a) for w in (6, 5, 4, 3, 2) for a in (4, 3)}
    assert all(400 < count < 600 for count in counts.values())  # 500 +- 4.7 standard deviations.
