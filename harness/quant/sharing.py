"""Which segments many policies compute alike, in which order they run, and what is kept meanwhile.

Two policies are alike in a segment where what the segment is given of them is alike and they are
alike in all segments that it reads. What is alike is computed once. Policies run one behind the
other, each as far as it is not computed yet; they are ordered such that little is kept: where some
part, the fewest go on first, so of n policies at most log2(n) + 1 partings wait in a plain chain.
"""

from collections.abc import Hashable, Sequence
from itertools import accumulate, pairwise, takewhile
from typing import NamedTuple

from harness.problem.policy import Policy
from harness.quant.execution import PolicyInputs
from harness.quant.segments import Given, SegmentedNetwork


class Alike(NamedTuple):
    """Policies by what they compute alike: for each segment, a number for each policy."""

    numbers: list[list[int]]
    given: dict[Given, list[int]]
    """The same for each item that they give: the place of the first policy that gives it so."""


def alike(network: SegmentedNetwork, policies: Sequence[PolicyInputs]) -> Alike:
    """Return which policies compute each segment alike."""
    items = dict.fromkeys(item for segment in network.segments for item in segment.given)
    given = {
        item: _numbered([getattr(policy, item.part)[item.number] for policy in policies])
        for item in items
    }
    numbers: list[list[int]] = []
    for segment in network.segments:
        columns = [numbers[parent] for parent in segment.parents]
        columns += [given[item] for item in segment.given]
        numbers.append(_numbered(list(zip(*columns, strict=True)) or [()] * len(policies)))
    return Alike(numbers, given)


def _numbered(keys: Sequence[Hashable]) -> list[int]:
    """Return for each key the place of the first one that equals it."""
    first: dict[Hashable, int] = {}
    return [first.setdefault(key, place) for place, key in enumerate(keys)]


def ordered(columns: Sequence[Sequence[int]], places: Sequence[int]) -> list[int]:
    """Return places in the order in which they share most while little waits.

    Args:
        columns: What places have alike, from the first segment to the last.
        places: Which places.
    """
    done: list[int] = []
    waiting = [(list(places), 0)]
    while waiting:
        some, depth = waiting.pop()
        parts = [some]
        while len(some) > 1 and len(parts) == 1 and depth < len(columns):
            by_number: dict[int, list[int]] = {}
            for place in some:
                by_number.setdefault(columns[depth][place], []).append(place)
            parts = list(by_number.values())
            depth += 1
        if len(parts) == 1:
            done += parts[0]
        else:
            # Where the most go on comes last: what they read is dropped as they read it.
            waiting += [(part, depth) for part in sorted(parts, key=len, reverse=True)]
    return done


def split_by_work(
    policies: Sequence[Policy], layer_work: Sequence[int], *, num_parts: int
) -> list[list[int]]:
    """Return the places of policies in parts of like work, each sharing as much as it can.

    Policies stand in the order of their bits, layer by layer, and each part is a run of them. What
    a policy adds is the work from the first layer on in which it differs from the one before it.

    Args:
        policies: Any.
        layer_work: What each layer costs, in any unit, at least 1, in the order of execution.
        num_parts: At least 1. The first part is empty only where there are no policies.
    """
    order = sorted(range(len(policies)), key=lambda place: policies[place].bits)
    # By layer: the work from it on; behind the last one nothing.
    work_from = list(accumulate(reversed(layer_work), initial=0))[::-1]
    alike = [_num_alike(policies[one], policies[other]) for one, other in pairwise(order)]
    done = list(accumulate((work_from[count] for count in alike), initial=work_from[0]))
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    for place, before in zip(order, [0, *done], strict=False):
        parts[num_parts * before // (done[-1] + 1)].append(place)
    return parts


def _num_alike(one: Policy, other: Policy) -> int:
    """Return how many layers two policies have alike from the first on."""
    pairs = zip(one, other, strict=True)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
