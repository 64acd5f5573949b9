"""A network as the search sees it: its layers in order of execution, without weights."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Literal

from harness.problem.candidates import Candidates, LayerCandidates
from harness.problem.ties import Ties

PINNED_BITS = 8
"""Weight and activation bits of layers that read the image, and of the last layer (arXiv
2401.01543, section 4.1)."""

FLOAT_BITS = 32
"""Weight and activation bits that a layer which stays in float is accounted at."""


Place = Literal["first", "inside", "last"]
"""Where a layer stands: `first` is every one that reads the image, also a last one that does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One operation with weights: weight and input fake-quantized, or all of it kept in float."""

    name: str
    """Module path in the network, `layer1.0.conv1`."""
    kind: str
    """`conv`, `linear`, or another operation that `quant/operations.py` lists."""
    macs: int
    """Multiply-accumulates for one input."""
    weight_count: int
    """Number of weights, bias excluded."""
    is_depthwise: bool
    """Whether every group of a convolution reads one channel."""
    is_pinned: bool
    """Whether both bit-widths are fixed: at `PINNED_BITS`, or at `FLOAT_BITS` in float."""
    weight_candidates: tuple[int, ...]
    """Weight bit-widths the layer may take, largest first."""
    act_candidates: tuple[int, ...]
    """Activation bit-widths the layer may take, largest first."""
    place: Place = "inside"
    """Whether it is an end of the network; conventions count ends in ways of their own."""
    input_count: int | None = None
    """Elements that it reads for one input; None where nobody noted it."""

    @property
    def is_float(self) -> bool:
        """Whether the layer has no quantized form and stays in float."""
        return self.weight_candidates == (FLOAT_BITS,)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A network's layers in order of execution, for one input size."""

    model_name: str
    """Name it was created by."""
    input_size: tuple[int, int, int]
    """Channels, height and width of the input that MACs are counted for."""
    num_classes: int
    layers: tuple[LayerSpec, ...]
    ties: Ties = ()
    """Groups of sides that take the same bits, disjoint; their candidates are the same."""

    @property
    def candidates(self) -> Candidates:
        """What each layer may take before anything is frozen."""
        return Candidates(
            tuple(
                LayerCandidates(
                    name=layer.name,
                    weight=layer.weight_candidates,
                    act=layer.act_candidates,
                    is_pinned=layer.is_pinned,
                )
                for layer in self.layers
            ),
            self.ties,
        )

    def narrowed(self, candidates: Candidates) -> "NetworkSpec":
        """Return the network with what each layer may take at present as all that it may take."""
        pairs = zip(self.layers, candidates.layers, strict=True)
        layers = (
            replace(layer, weight_candidates=narrow.weight, act_candidates=narrow.act)
            for layer, narrow in pairs
        )
        return replace(self, layers=tuple(layers))

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the structure.

        Candidates and ties are left out, since settings change them, and so are sizes of inputs,
        which follow from the rest: policies stay readable.
        """
        structure = [
            self.input_size,
            self.num_classes,
            [(layer.name, layer.kind, layer.macs, layer.weight_count) for layer in self.layers],
        ]
        return hashlib.sha256(json.dumps(structure).encode()).hexdigest()[:16]
