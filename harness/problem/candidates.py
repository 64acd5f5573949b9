"""The bit-widths that each layer may take at present.

A network begins with the candidates of its configuration. The bit-width scheduler of arXiv
2401.01543 takes the smallest of some layers away for a while. What training samples, validation
shows and a search proposes follows from the same `Candidates`, which are saved with every
checkpoint.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

from harness.errors import ConfigError, PolicyError, short
from harness.problem.policy import Policy
from harness.problem.ties import SIDES, Group, Side, Ties, common, group_of_side


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCandidates:
    """The bit-widths of one layer, largest first."""

    name: str
    """Module path of the layer, for messages."""
    weight: tuple[int, ...]
    """Weight bit-widths it may take."""
    act: tuple[int, ...]
    """Activation bit-widths it may take."""
    is_pinned: bool = False
    """Whether the layer keeps its bits in every policy, uniform ones too."""

    def of(self, side: Side) -> tuple[int, ...]:
        """Return the bit-widths that one side may take."""
        return self.weight if side == "weight" else self.act


@dataclass(frozen=True)
class Candidates:
    """The bit-widths of every layer, in the network's order.

    Sides that are tied take the same bits in every policy, so they have the same candidates: those
    that all of them were given.

    >>> layer = LayerCandidates(name="conv", weight=(6, 4, 3), act=(6, 2))
    >>> candidates = Candidates((layer,))
    >>> candidates.smallest.bits, candidates.uniform(weight_bits=2, act_bits=4).bits
    (((3, 2),), ((3, 6),))
    """

    layers: tuple[LayerCandidates, ...]
    ties: Ties = ()
    """Disjoint groups of sides that take the same bits, each side as (layer index, side)."""

    def __post_init__(self) -> None:
        """Give tied sides their common candidates.

        Raises:
            ConfigError: The sides of a group have no candidate in common.
        """
        for group in self.ties:
            object.__setattr__(self, "layers", _with_common(self.layers, group))

    @property
    def largest(self) -> Policy:
        """Every layer at its largest candidates: the policy of the max pass."""
        return Policy((max(layer.weight), max(layer.act)) for layer in self.layers)

    @property
    def smallest(self) -> Policy:
        """Every layer at its smallest candidates: the cheapest policy there is."""
        return Policy((min(layer.weight), min(layer.act)) for layer in self.layers)

    def uniform(self, *, weight_bits: int, act_bits: int) -> Policy:
        """Return the policy in which each layer takes its smallest candidates not below these bits.

        A layer whose candidates are all below takes its largest, a pinned layer what it always has.
        """
        return Policy(
            (_nearest(layer.weight, weight_bits), _nearest(layer.act, act_bits))
            for layer in self.layers
        )

    @cached_property
    def uniform_policies(self) -> dict[str, Policy]:
        """The different uniform policies by their bits `W/A`, ascending.

        Where layers have candidates of their own (depthwise ones stop earlier), several pairs of
        bits can come to the same policy; the fewest bits then name it.
        """
        pairs = product(self.free_bits("weight"), self.free_bits("act"))
        labels: dict[Policy, str] = {}
        for weight_bits, act_bits in pairs:
            policy = self.uniform(weight_bits=weight_bits, act_bits=act_bits)
            labels.setdefault(policy, f"{weight_bits}/{act_bits}")
        return {label: policy for policy, label in labels.items()}

    @property
    def equal_bits_policies(self) -> dict[str, Policy]:
        """The uniform policies with as many activation as weight bits by `B/B`, descending."""
        common = set(self.free_bits("weight")) & set(self.free_bits("act"))
        return {
            f"{bits}/{bits}": self.uniform(weight_bits=bits, act_bits=bits)
            for bits in sorted(common, reverse=True)
        }

    def free_bits(self, side: Side) -> list[int]:
        """Return the bit-widths that any layer which is not pinned may take, ascending.

        A layer whose side has one candidate alone has no choice there, so it says nothing about
        what the others may take; it counts only where none has a choice.
        """
        given = [layer.of(side) for layer in self.layers if not layer.is_pinned]
        choices = [candidates for candidates in given if len(candidates) > 1] or given
        return sorted({bits for candidates in choices for bits in candidates})

    def label(self, policy: Policy) -> str:
        """Return the bits `W/A` of a uniform policy, else `mixed`.

        Also bits that are no candidates have a label where all free layers share them.
        """
        for label, uniform in self.uniform_policies.items():
            if uniform == policy:
                return label
        layers = zip(self.layers, policy, strict=True)
        pairs = {pair for layer, pair in layers if not layer.is_pinned}
        if len(pairs) != 1:
            return "mixed"
        ((weight_bits, act_bits),) = pairs
        return f"{weight_bits}/{act_bits}"

    def in_words(self, policy: Policy) -> str:
        """Return `policy W/A` of a uniform policy, else the bits of every layer, for messages."""
        uniform = self.uniform_policies.items()
        label = next((label for label, other in uniform if other == policy), None)
        return f"policy {label or ' '.join(f'{weight}/{act}' for weight, act in policy)}"

    def sample(self, draw: Callable[[int], int]) -> Policy:
        """Draw each layer's bits uniformly from its candidates; tied sides are drawn once.

        Args:
            draw: Maps n to a random whole number from 0 to n - 1; called for the weights and then
                for the activations of each layer, for a group of tied sides at its first.
        """
        group_of = group_of_side(self.ties)
        drawn: dict[int, int] = {}

        def bits(index: int, side: Side) -> int:
            candidates, group = self.layers[index].of(side), group_of.get((index, side))
            if group is None:
                return candidates[draw(len(candidates))]
            if group not in drawn:
                drawn[group] = candidates[draw(len(candidates))]
            return drawn[group]

        return Policy((bits(i, "weight"), bits(i, "act")) for i in range(len(self.layers)))

    def check(self, policy: Policy) -> None:
        """Check that a policy has every layer at bits that are among its candidates, as tied.

        Raises:
            PolicyError: It has not; the message names the first such layer, or the first two that
                are tied and differ.
        """
        if len(policy) != len(self.layers):
            raise PolicyError(
                f"policy has {len(policy)} layers, the network has {len(self.layers)}; "
                "use a policy of this network"
            )
        for layer, (weight_bits, act_bits) in zip(self.layers, policy, strict=True):
            if weight_bits not in layer.weight:
                raise _no_candidate(layer.name, weight_bits, "weight", layer.weight)
            if act_bits not in layer.act:
                raise _no_candidate(layer.name, act_bits, "activation", layer.act)
        for group in self.ties:
            self._check_tied(policy, group)

    def _check_tied(self, policy: Policy, group: Group) -> None:
        taken = [policy.bits[index][SIDES.index(side)] for index, side in group]
        for member, bits in zip(group, taken, strict=True):
            if bits != taken[0]:
                first, other = (_side_name(self.layers, one) for one in (group[0], member))
                raise PolicyError(
                    f"{first} and {other} are tied and have {taken[0]} and {bits} bits in the "
                    "policy; give them the same, or search a policy with this run"
                )

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the candidates as they stand in a JSON file; `with_rows` reads them back."""
        return [
            {"name": layer.name, "weight": list(layer.weight), "act": list(layer.act)}
            for layer in self.layers
        ]

    def with_rows(self, rows: Iterable[dict[str, Any]]) -> "Candidates":
        """Return these layers with the candidates of a file.

        Raises:
            ValueError: The rows are not of these layers, or give a layer none of its candidates or
                one that it does not have, or tied sides none in common.
        """
        given = list(rows)
        if [row["name"] for row in given] != [layer.name for layer in self.layers]:
            raise ValueError("candidates of other layers")
        layers = zip(self.layers, given, strict=True)
        narrowed = tuple(_narrowed(layer, row) for layer, row in layers)
        try:
            return Candidates(narrowed, self.ties)
        except ConfigError as problem:
            raise ValueError(str(problem).partition(";")[0]) from None


def _with_common(layers: tuple[LayerCandidates, ...], group: Group) -> tuple[LayerCandidates, ...]:
    shared = common([layers[index].of(side) for index, side in group])
    if not shared:
        given = ", ".join(
            f"{_side_name(layers, (index, side))} {'/'.join(map(str, layers[index].of(side)))}"
            for index, side in group
        )
        raise ConfigError(
            f"tied layers have no bit-width in common: {short(given)}; give them candidates that "
            "overlap, or untie them"
        )
    changed = list(layers)
    for index, side in group:
        changed[index] = (
            replace(changed[index], weight=shared)
            if side == "weight"
            else replace(changed[index], act=shared)
        )
    return tuple(changed)


def _side_name(layers: Sequence[LayerCandidates], member: tuple[int, Side]) -> str:
    index, side = member
    return f"{'weights' if side == 'weight' else 'activations'} of {layers[index].name}"


def _narrowed(layer: LayerCandidates, row: dict[str, Any]) -> LayerCandidates:
    chosen = {}
    for side, full in (("weight", layer.weight), ("act", layer.act)):
        given = row[side]
        # 6.0 equals 6 and True equals 1, but neither is a number of bits.
        is_whole = isinstance(given, list | tuple) and all(type(bits) is int for bits in given)
        if not (given and is_whole) or list(given) != [bits for bits in full if bits in given]:
            shown = short(str(given))
            raise ValueError(f"{side} candidates {shown} of {layer.name}, which has {full}")
        chosen[side] = tuple(given)
    return LayerCandidates(name=layer.name, is_pinned=layer.is_pinned, **chosen)


def _nearest(candidates: Sequence[int], bits: int) -> int:
    return min((c for c in candidates if c >= bits), default=max(candidates))


def _no_candidate(name: str, bits: int, side: str, candidates: Sequence[int]) -> PolicyError:
    return PolicyError(
        f"layer {name} has {bits} {side} bits in the policy, its candidates are "
        f"{', '.join(map(str, candidates))}; search a policy with this run"
    )
