"""How to choose among a search's finalists: three rules, on images that judge none of them.

The judged images are halved at random, again and again: some of one half choose, the other judges.
"""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from harness.problem.significance import are_told_apart

Masks = NDArray[np.bool_]
Rule = Callable[[Masks, Sequence[int]], int]
"""Takes which images are right, (policies, images), and costs; returns the place of its choice."""

CHOOSING = (1000, 3000, 5000)
"""Images that choose, as far as there are so many."""
HALVES = 40


def first(_right: Masks, _costs: Sequence[int]) -> int:
    """Return the one that the search calls best."""
    return 0


def highest(right: Masks, costs: Sequence[int]) -> int:
    """Return the most accurate, the cheaper of equal ones."""
    num_right = right.sum(axis=1)
    return max(range(len(costs)), key=lambda place: (int(num_right[place]), -costs[place]))


def cheapest_alike(right: Masks, costs: Sequence[int]) -> int:
    """Return the cheapest of those that McNemar's test cannot tell from the most accurate."""
    return min(_alike(right, costs), key=lambda place: (costs[place], place))


def first_alike(right: Masks, costs: Sequence[int]) -> int:
    """Return the one of them that the search calls best."""
    return min(_alike(right, costs))


RULES: dict[str, Rule] = {
    "the search's first": first,
    "highest accuracy": highest,
    "cheapest not told apart": cheapest_alike,
    "search's first not told apart": first_alike,
}


def finalist_rules(
    right: Masks, costs: Sequence[int], yardstick: Masks, *, halves: int = HALVES
) -> dict[str, dict[str, float]]:
    """Return by images that choose and by rule: error of the choice minus the yardstick's, points.

    Args:
        right: Of the finalists in the search's order, (policies, images).
        costs: Of each.
        yardstick: Of what the errors are compared with, (images,).
        halves: How often images are halved.
    """
    generator = np.random.default_rng(0)
    middle = right.shape[1] // 2
    drawn = [generator.permutation(right.shape[1])[: 2 * middle] for _ in range(halves)]
    # Each half chooses once and judges once.
    orders = [*drawn, *(np.roll(order, middle) for order in drawn)]
    counts = sorted({min(count, middle) for count in CHOOSING})
    worth = partial(_worth, right, costs, yardstick)
    return {
        str(count): {
            name: mean(worth(rule, order[:count], order[middle:]) for order in orders)
            for name, rule in RULES.items()
        }
        for count in counts
    }


def _worth(
    right: Masks,
    costs: Sequence[int],
    yardstick: Masks,
    rule: Rule,
    choosing: NDArray[np.int64],
    judging: NDArray[np.int64],
) -> float:
    chosen = rule(right[:, choosing], costs)
    return 100 * float(yardstick[judging].mean() - right[chosen, judging].mean())


def _alike(right: Masks, costs: Sequence[int]) -> list[int]:
    best = right[highest(right, costs)]
    return [place for place, mask in enumerate(right) if not are_told_apart(mask, best)]
