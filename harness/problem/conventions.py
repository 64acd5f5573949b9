"""Conventions by which papers count BitOPs: all multiply the same MACs, at other bits of the ends.

The ends are the layers that read the image and the last one, which are pinned at 8 bits here. Who
compares a figure with that of another paper must know how each counted them: on mobile networks at
low bits they are most of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.errors import ConfigError
from harness.problem.cost import BITOPS, Resource, bit_operations
from harness.problem.network import FLOAT_BITS, LayerSpec, NetworkSpec
from harness.problem.policy import Policy, parse_bits

MIXED = "mixed"
"""Label of a policy that is not uniform, as `Candidates.label` gives it."""

Pair = tuple[int, int]

AccountedBits = Callable[[LayerSpec, Pair], Pair]
"""Maps the bits that a layer has to those that it is counted at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """A way to count BitOPs."""

    name: str
    """As in `--convention`."""
    meaning: str
    """For people."""
    resource: Resource | None
    """To be budgeted; None where a layer's BitOPs do not follow from its own bits."""

    def of_layers(self, network: NetworkSpec, policy: Policy) -> list[int] | None:
        """Return the BitOPs of each layer; None where the convention does not know the policy."""
        resource = self.resource
        if resource is not None:
            layers = zip(network.layers, policy, strict=True)
            return [resource.of_layer(layer, *pair) for layer, pair in layers]
        label = network.candidates.label(policy)
        return None if label == MIXED else _everywhere(network, policy, parse_bits(label))

    def bitops(self, network: NetworkSpec, policy: Policy) -> int | None:
        """Return the BitOPs of a policy; None where the convention does not know it."""
        amounts = self.of_layers(network, policy)
        return None if amounts is None else sum(amounts)


def _counted(name: str, accounted: AccountedBits) -> Resource:
    def of_layer(layer: LayerSpec, weight_bits: int, act_bits: int) -> int:
        return bit_operations(layer, *accounted(layer, (weight_bits, act_bits)))

    return replace(BITOPS, name=f"{BITOPS.name}-{name}", unit=f"BitOPs ({name})", of_layer=of_layer)


def _first_activation_32(layer: LayerSpec, pair: Pair) -> Pair:
    return (pair[0], FLOAT_BITS) if layer.place == "first" else pair


def _ends_excluded(layer: LayerSpec, pair: Pair) -> Pair:
    return pair if layer.place == "inside" else (0, 0)


def _everywhere(network: NetworkSpec, policy: Policy, bits: Pair) -> list[int]:
    """Return the BitOPs with every pinned layer at these bits; those in float stay at 32."""
    return [
        bit_operations(layer, *(bits if layer.is_pinned and not layer.is_float else pair))
        for layer, pair in zip(network.layers, policy, strict=True)
    ]


PAPER = Convention(
    name="paper",
    meaning="ends at 8 bits, the image too (arXiv 2401.01543)",
    resource=BITOPS,
)

CONVENTIONS = (
    PAPER,
    Convention(
        name="first-activation-32",
        meaning="the image at 32 bits, else as paper",
        resource=_counted("first-activation-32", _first_activation_32),
    ),
    Convention(
        name="ends-excluded",
        meaning="layers that read the image, and the last one, not counted",
        resource=_counted("ends-excluded", _ends_excluded),
    ),
    Convention(
        name="uniform",
        meaning="every layer at the bits of a uniform policy, the ends too; unknown of mixed ones",
        resource=None,
    ),
)

ALL = "all"
"""In place of a name: every convention."""


def convention_named(name: str) -> Convention:
    """Return a convention.

    Raises:
        ConfigError: There is none of this name.
    """
    for convention in CONVENTIONS:
        if convention.name == name:
            return convention
    names = ", ".join(convention.name for convention in CONVENTIONS)
    raise ConfigError(f"convention {name} is unknown; choose {ALL} or one of {names}")
