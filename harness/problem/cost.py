"""What a policy costs: BitOPs, bytes of weights and of activations, or what somebody measured.

Each resource is a formula for one layer; everything else follows from it, also the tables that the
Rust engine adds up, which knows no formula. BitOPs are by the convention of the paper here;
`conventions.py` has others.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from harness.errors import BudgetError
from harness.problem.candidates import Candidates
from harness.problem.network import LayerSpec, NetworkSpec
from harness.problem.policy import Policy
from harness.problem.units import BITOPS_UNITS, BYTE, BYTE_UNITS, Units

OfLayer = Callable[[LayerSpec, int, int], int]
"""What a layer spends at weight bits and activation bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Something that policies spend: whole numbers by layer, of which sum or maximum counts.

    The numbers need not rise with the bits: what was measured may not.
    """

    name: str
    """As in options, `--budget weight-bytes=1.2M`."""
    unit: str
    """As in messages, behind an amount."""
    of_layer: OfLayer
    """What a layer spends at weight bits and activation bits."""
    aggregate: Literal["sum", "max"] = "sum"
    """How a policy's amount follows from those of its layers."""
    units: Units = field(default=BITOPS_UNITS, compare=False)
    """How amounts are typed and shown."""
    per_unit: int = 1
    """How many of the columns' numbers make one of the unit that files and JSON speak of."""
    is_measured: bool = False
    """Whether amounts come from a table of the user's; they are fractions of the unit."""
    key_unit: str = ""
    """What the key says of the unit, where the name does not: `seconds`."""

    @property
    def key(self) -> str:
        """Its key in files and in JSON: `weight_bytes`, `latency_seconds`."""
        words = [self.name.replace("-", "_"), self.key_unit]
        return "_".join(word for word in words if word)

    def in_unit(self, amount: int) -> int | float:
        """Return an amount as it stands under the key: bytes rounded up, seconds as a fraction."""
        return amount / self.per_unit if self.is_measured else -(-amount // self.per_unit)


def bit_operations(layer: LayerSpec, weight_bits: int, act_bits: int) -> int:
    """Return the BitOPs of a layer for one input (arXiv 2401.01543, section 4.1)."""
    return weight_bits * act_bits * layer.macs


def _weight_bits(layer: LayerSpec, weight_bits: int, _: int) -> int:
    return weight_bits * layer.weight_count


def _input_bits(layer: LayerSpec, _: int, act_bits: int) -> int:
    if layer.input_count is None:
        raise BudgetError(
            f"the size of what layer {layer.name} reads is not known, its network.json is of a "
            "version that did not note it; take the network from the loaded run, or give a budget "
            "of BitOPs or weight bytes"
        )
    return act_bits * layer.input_count


BITOPS = Resource(name="bitops", unit="BitOPs", of_layer=bit_operations)
"""Bit operations for one input, by the convention of the paper."""

WEIGHT_BYTES = Resource(
    name="weight-bytes",
    unit="weight bytes",
    of_layer=_weight_bits,
    units=BYTE_UNITS,
    per_unit=BYTE,
)
"""Size of the packed weights, bias and norms not counted; columns hold bits."""

ACT_BYTES_SUM = Resource(
    name="act-bytes-sum",
    unit="activation bytes",
    of_layer=_input_bits,
    units=BYTE_UNITS,
    per_unit=BYTE,
)
"""What the layers read for one input at their activation bits, all of it together: traffic. A
tensor that two layers read counts for each, the image at 8 bits, layers in float at 32. Not counted
is what layers write, and what operations without weights read; columns hold bits."""

ACT_BYTES_PEAK = Resource(
    name="act-bytes-peak",
    unit="peak activation bytes",
    of_layer=_input_bits,
    aggregate="max",
    units=BYTE_UNITS,
    per_unit=BYTE,
)
"""The largest input of a single layer: what a buffer for inputs must hold. Not counted are the
layer's own output, tensors that wait for a residual connection or another branch, accumulators and
weights, so the working memory of a device is larger; columns hold bits."""

RESOURCES = (BITOPS, WEIGHT_BYTES)
"""Sums that every network knows, those of old runs too."""


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
    input_bits: int | None
    """Of what it reads for one input; None where nobody noted how much that is."""


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
            size_bits=WEIGHT_BYTES.of_layer(layer, weight_bits, act_bits),
            weight_count=layer.weight_count,
            input_bits=None
            if layer.input_count is None
            else ACT_BYTES_SUM.of_layer(layer, weight_bits, act_bits),
        )
        for layer, (weight_bits, act_bits) in zip(network.layers, policy, strict=True)
    ]


def policy_cost(network: NetworkSpec, policy: Policy, resource: Resource) -> int:
    """Return what a policy spends of a resource, in the numbers of its columns."""
    layers = zip(network.layers, policy, strict=True)
    amounts = (resource.of_layer(layer, weight, act) for layer, (weight, act) in layers)
    return sum(amounts) if resource.aggregate == "sum" else max(amounts, default=0)


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
    return int(WEIGHT_BYTES.in_unit(policy_cost(network, policy, WEIGHT_BYTES)))


def same_bits_policy(network: NetworkSpec, *, weight_bits: int, act_bits: int) -> Policy:
    """Return these bits in every free layer, be they candidates or not, to be accounted."""
    pairs = zip(network.candidates.largest, network.layers, strict=True)
    return Policy(pinned if layer.is_pinned else (weight_bits, act_bits) for pinned, layer in pairs)
