"""What a policy costs: BitOPs and model size, by the convention of the paper.

BitOPs of a policy: sum over layers of weight_bits x act_bits x MACs, for one input (arXiv
2401.01543, section 4.1). This is the readable reference; the Rust cost model is held equal to it.
"""

from dataclasses import dataclass

from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy

G = 1e9
"""BitOPs are reported in G."""

MB = 2**20
"""Bytes of one MB, the unit of model size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One row of the ledger."""

    name: str
    kind: str
    macs: int
    weight_bits: int
    act_bits: int
    bitops: int
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
            bitops=weight_bits * act_bits * layer.macs,
            weight_count=layer.weight_count,
        )
        for layer, (weight_bits, act_bits) in zip(network.layers, policy, strict=True)
    ]


def bitops(network: NetworkSpec, policy: Policy) -> int:
    """Return the BitOPs of a policy for one input."""
    return sum(row.bitops for row in ledger(network, policy))


def weight_bytes(network: NetworkSpec, policy: Policy) -> int:
    """Return the size of the packed weights in bytes, rounded up once at the end."""
    bits = sum(row.weight_bits * row.weight_count for row in ledger(network, policy))
    return -(-bits // 8)


def same_bits_policy(network: NetworkSpec, *, weight_bits: int, act_bits: int) -> Policy:
    """Return these bits in every free layer, be they candidates or not, to be accounted."""
    pairs = zip(network.candidates.largest, network.layers, strict=True)
    return Policy(pinned if layer.is_pinned else (weight_bits, act_bits) for pinned, layer in pairs)


def smallest_bitops(network: NetworkSpec) -> int:
    """Return the least BitOPs that the candidates of the network reach."""
    return bitops(network, network.candidates.smallest)


def largest_bitops(network: NetworkSpec) -> int:
    """Return the most BitOPs that the candidates of the network reach."""
    return bitops(network, network.candidates.largest)
