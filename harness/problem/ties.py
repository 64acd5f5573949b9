"""Sides of layers that take the same bits: convolutions that read one tensor, layers of one shape.

Hardware keeps a tensor in one format, so whoever reads it reads it at the same activation bits; and
layers that run on one kernel may have to agree on both. A group is a tuple of sides; the groups of
a network are disjoint.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

Side = Literal["weight", "act"]
SIDES: tuple[Side, Side] = ("weight", "act")

Member = tuple[int, Side]
"""Index of a layer, and which of its bit-widths."""

Group = tuple[Member, ...]
Ties = tuple[Group, ...]


def merged(groups: Iterable[Iterable[Member]]) -> Ties:
    """Return disjoint groups in the order of their first sides; those that overlap become one.

    >>> merged([[(2, "act"), (0, "act")], [(1, "weight")], [(2, "act"), (3, "act")]])
    (((0, 'act'), (2, 'act'), (3, 'act')),)
    """
    group_of: dict[Member, set[Member]] = {}
    for group in groups:
        whole = set(group)
        for member in tuple(whole):
            whole |= group_of.get(member, set())
        group_of.update(dict.fromkeys(whole, whole))
    distinct = {id(group): group for group in group_of.values() if len(group) > 1}
    in_order = (tuple(sorted(group, key=_place)) for group in distinct.values())
    return tuple(sorted(in_order, key=lambda group: _place(group[0])))


def group_of_side(ties: Ties) -> dict[Member, int]:
    """Return for each tied side which group it is in.

    >>> group_of_side((((0, "act"), (2, "act")),))
    {(0, 'act'): 0, (2, 'act'): 0}
    """
    return {member: index for index, group in enumerate(ties) for member in group}


def common(candidates: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the bits that all of these candidates hold, in the order of the first.

    >>> common([(6, 5, 4, 3, 2), (6, 4, 3)])
    (6, 4, 3)
    """
    first, *others = candidates
    return tuple(bits for bits in first if all(bits in other for other in others))


def _place(member: Member) -> tuple[int, int]:
    index, side = member
    return index, SIDES.index(side)
