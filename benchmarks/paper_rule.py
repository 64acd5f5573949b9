"""The search of the paper's authors, to compare with: weights first, then activations, one rule.

Start at the largest candidates. Each step scores, for every layer, its weight bits one candidate
down and one up, and takes the lowest `1.5 norm(score) - norm(cost saved)`, both min-max over the
step, until the weights have brought the cost half of the way to the budget, as a ratio; then the
same for activations. It ends at the first policy within the budget. The authors fix where the
weight phase ends by a hand-made table for each network; half of the way stands for it here.
Policies visited are not proposed again, since nothing else keeps their rule from going round in
circles.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from harness.problem.candidates import Candidates
from harness.problem.policy import Policy
from harness.search.engine import PolicyArray

ERROR_WEIGHT = 1.5
WEIGHT_SIDE, ACT_SIDE = 0, 1

Bits = list[tuple[int, int]]


def paper_search(
    candidates: Candidates,
    limit: int,
    cost: Callable[[Policy], int],
    evaluate: Callable[[PolicyArray], npt.ArrayLike],
    *,
    evaluations: int | None = None,
) -> tuple[Policy, int]:
    """Return the policy that the rule ends at, and how many policies it scored.

    Args:
        candidates: What each layer may take.
        limit: The budget.
        cost: What a policy costs.
        evaluate: Scores a batch of policies.
        evaluations: Most policies scored; the rest of the way is then by cost alone.
    """
    policy = candidates.largest
    visited = {policy}
    num_scored = 0
    middle = math.sqrt(limit * cost(policy))
    for side, goal in (
        (WEIGHT_SIDE, middle),
        (ACT_SIDE, float(limit)),
        (WEIGHT_SIDE, float(limit)),
    ):
        while cost(policy) > goal:
            nexts = [one for one in _neighbours(candidates, policy, side) if one not in visited]
            if not any(cost(one) < cost(policy) for one in nexts):
                break
            saved = np.array([cost(policy) - cost(one) for one in nexts], float)
            merit = _norm(saved)
            if evaluations is None or num_scored + len(nexts) <= evaluations:
                scores = np.asarray(evaluate(np.array([one.bits for one in nexts], np.uint8)))
                merit = merit - ERROR_WEIGHT * _norm(scores)
                num_scored += len(nexts)
            policy = nexts[int(merit.argmax())]
            visited.add(policy)
    return policy, num_scored


def _neighbours(candidates: Candidates, policy: Policy, side: int) -> list[Policy]:
    found = []
    for index, layer in enumerate(candidates.layers):
        choices = sorted(layer.weight if side == WEIGHT_SIDE else layer.act)
        place = choices.index(policy.bits[index][side])
        for other in (place - 1, place + 1):
            if 0 <= other < len(choices):
                bits = [list(pair) for pair in policy.bits]
                bits[index][side] = choices[other]
                found.append(Policy(bits))
    return found


def _norm(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    width = float(np.ptp(values))
    return (values - values.min()) / width if width else np.zeros_like(values)
