"""What a policy costs: BitOPs and model size, by the convention of the paper.

Each resource is a formula for one layer; everything else follows from it, also the tables that the
Rust engine adds up, which knows no formula.
"""

from collections.abc import Callable
from dataclasses import dataclass

from harness.problem.candidates import Candidates
from harness.problem.network import LayerSpec, NetworkSpec
from harness.problem.policy import Policy

G = 1e9
"""BitOPs are reported in G."""

MB = 2**20
"""Bytes of one MB, the unit of model size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Something that policies spend: a sum over layers of whole numbers that their bits decide."""

    name: str
    """As in options and in keys of files, `--target-bitops`."""
    unit: str
    """As in messages."""
    of_layer: Callable[[LayerSpec, int, int], int]
    """What a layer spends at weight bits and activation bits; never less with more bits."""


BITOPS = Resource(
    name="bitops",
    unit="BitOPs",
    of_layer=lambda layer, weight_bits, act_bits: weight_bits * act_bits * layer.macs,
)
"""Bit operations for one input (arXiv 2401.01543, section 4.1)."""

WEIGHT_BITS = Resource(
    name="weight_bits",
    unit="bits",
    of_layer=lambda layer, weight_bits, _: weight_bits * layer.weight_count,
)
"""Size of the packed weights."""

RESOURCES = (BITOPS, WEIGHT_BITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One row of the ledger."""

    name: str
    kind: str
    macs: int
    weight_bits: int
    act_bits: int
    bitops: int
    size_bits: int
    """Of the packed weights."""
    weight_count: int


def ledger(network: NetworkSpec, policy: Policy) -> list[LayerCost]:
    """Return what each layer costs under a policy, in order of execution."""
    return [
        LayerCost(
            name=layer.name,
            kind=layer.kind,
            macs=layer.macs,
            weight_bits=weight_bits,
            act_bits=act_bits,
            bitops=BITOPS.of_layer(layer, weight_bits, act_bits),
            size_bits=WEIGHT_BITS.of_layer(layer, weight_bits, act_bits),
            weight_count=layer.weight_count,
        )
        for layer, (weight_bits, act_bits) in zip(network.layers, policy, strict=True)
    ]


def policy_cost(network: NetworkSpec, policy: Policy, resource: Resource) -> int:
    """Return what a policy spends of a resource."""
    layers = zip(network.layers, policy, strict=True)
    return sum(resource.of_layer(layer, weight, act) for layer, (weight, act) in layers)


def cost_table(
    network: NetworkSpec, candidates: Candidates, resource: Resource
) -> list[list[list[int]]]:
    """Return what each layer spends of a resource, by weight candidate, then by act candidate."""
    return [
        [[resource.of_layer(layer, weight, act) for act in choice.act] for weight in choice.weight]
        for layer, choice in zip(network.layers, candidates.layers, strict=True)
    ]


def bitops(network: NetworkSpec, policy: Policy) -> int:
    """Return the BitOPs of a policy for one input."""
    return policy_cost(network, policy, BITOPS)


def weight_bytes(network: NetworkSpec, policy: Policy) -> int:
    """Return the size of the packed weights in bytes, rounded up once at the end."""
    return -(-policy_cost(network, policy, WEIGHT_BITS) // 8)


def same_bits_policy(network: NetworkSpec, *, weight_bits: int, act_bits: int) -> Policy:
    """Return these bits in every free layer, be they candidates or not, to be accounted."""
    pairs = zip(network.candidates.largest, network.layers, strict=True)
    return Policy(pinned if layer.is_pinned else (weight_bits, act_bits) for pinned, layer in pairs)
