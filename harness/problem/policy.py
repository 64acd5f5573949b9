"""A policy: one (weight bits, activation bits) pair per quantized layer."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from harness.errors import PolicyError
from harness.problem.network import NetworkSpec

MAX_BITS = 32
"""Largest bit-width that is accounted; what can be trained ends at 8."""


@dataclass(frozen=True, slots=True, order=True)
class Policy:
    """Bit-widths per layer, in the network's order, pinned layers included.

    >>> len(Policy([(8, 8), (4, 3)]))
    2
    """

    bits: tuple[tuple[int, int], ...]
    """(weight bits, activation bits) of each layer."""

    def __init__(self, bits: Iterable[Sequence[int]]) -> None:
        pairs = tuple((int(weight), int(act)) for weight, act in bits)
        object.__setattr__(self, "bits", pairs)

    def __len__(self) -> int:
        return len(self.bits)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.bits)


def uniform_policy(
    network: NetworkSpec, *, weight_bits: int, act_bits: int, exact: bool = False
) -> Policy:
    """Return the policy with the same bits in every layer that is not pinned.

    Args:
        network: The network.
        weight_bits: Weight bits of every free layer.
        act_bits: Activation bits of every free layer.
        exact: Take the bits as given even where they are no candidates of a layer, as accounting
            does; otherwise a layer takes its nearest candidate that is not below them.
    """
    pairs = []
    for layer in network.layers:
        if layer.is_pinned or not exact:
            weight = nearest_candidate(layer.weight_candidates, weight_bits)
            act = nearest_candidate(layer.act_candidates, act_bits)
            pairs.append((weight, act))
        else:
            pairs.append((weight_bits, act_bits))
    return Policy(pairs)


def uniform_pairs(network: NetworkSpec) -> dict[str, Policy]:
    """Return the uniform policies over all candidates by their bits, `W/A`, the fewest bits first.

    Where layers have candidates of their own (depthwise ones stop earlier), pairs that come to the
    same policy stand under the fewest bits alone.
    """
    free = [layer for layer in network.layers if not layer.is_pinned]
    weights = sorted({bits for layer in free for bits in layer.weight_candidates})
    acts = sorted({bits for layer in free for bits in layer.act_candidates})
    labels: dict[Policy, str] = {}
    for weight, act in product(weights, acts):
        policy = uniform_policy(network, weight_bits=weight, act_bits=act)
        labels.setdefault(policy, f"{weight}/{act}")
    return {label: policy for policy, label in labels.items()}


def policy_label(policy: Policy, network: NetworkSpec) -> str:
    """Return the bits `W/A` of a uniform policy, else `mixed`.

    Uniform is what `uniform_pairs` holds, and any bits that all free layers have in common.
    """
    labels = {uniform: label for label, uniform in uniform_pairs(network).items()}
    if policy in labels:
        return labels[policy]
    layers = zip(network.layers, policy, strict=True)
    pairs = {pair for layer, pair in layers if not layer.is_pinned}
    if len(pairs) != 1:
        return "mixed"
    ((weight, act),) = pairs
    return f"{weight}/{act}"


def nearest_candidate(candidates: Sequence[int], bits: int) -> int:
    """Return the smallest candidate not below `bits`, or the largest where all are below.

    >>> nearest_candidate((6, 5, 3), 4), nearest_candidate((6, 5, 3), 8)
    (5, 6)
    """
    return min((c for c in candidates if c >= bits), default=max(candidates))


def parse_bits(text: str) -> tuple[int, int]:
    """Read `W/A`.

    >>> parse_bits("4/3")
    (4, 3)

    Raises:
        PolicyError: The text is not two bit-widths from 1 to 32.
    """
    match = re.fullmatch(r"(\d{1,2})/(\d{1,2})", text)
    pair = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= bits <= MAX_BITS for bits in pair):
        raise PolicyError(
            f"policy {text} is neither a file nor weight/activation bits from 1 to {MAX_BITS}; "
            "give a path or something like 4/4"
        )
    return pair


def check_trained(policy: Policy, network: NetworkSpec) -> None:
    """Check that every layer's bits are among its candidates.

    Raises:
        PolicyError: They are not; the message names the first such layer.
    """
    for layer, (weight, act) in zip(network.layers, policy, strict=True):
        for bits, candidates, kind in (
            (weight, layer.weight_candidates, "weight"),
            (act, layer.act_candidates, "activation"),
        ):
            if bits not in candidates:
                raise PolicyError(
                    f"layer {layer.name} has {bits} {kind} bits in the policy, its candidates are "
                    f"{', '.join(map(str, candidates))}; search a policy with this run"
                )
