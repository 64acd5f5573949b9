"""A network as the search sees it: its quantized layers in order of execution, without weights."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import RunError
from harness.spec.files import read_json, write_json

PINNED_BITS = 8
"""Weight and activation bits of the first and the last layer (arXiv 2401.01543, section 4.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One quantized layer: a Conv2d or Linear whose weight and input are fake-quantized."""

    name: str
    """Module path in the network, `layer1.0.conv1`."""
    kind: str
    """`conv` or `linear`."""
    macs: int
    """Multiply-accumulates for one input."""
    weight_count: int
    """Number of weights, bias excluded."""
    is_depthwise: bool
    """Whether every group of a convolution reads one channel."""
    is_pinned: bool
    """Whether both bit-widths are fixed at `PINNED_BITS`."""
    weight_candidates: tuple[int, ...]
    """Weight bit-widths the layer may take, largest first."""
    act_candidates: tuple[int, ...]
    """Activation bit-widths the layer may take, largest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A network's quantized layers in order of execution, for one input size."""

    model: str
    """Name it was created by."""
    input_size: tuple[int, int, int]
    """Channels, height and width of the input that MACs are counted for."""
    num_classes: int
    layers: tuple[LayerSpec, ...]

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the structure; candidates are left out, so policies stay readable."""
        structure = [
            self.input_size,
            self.num_classes,
            [(layer.name, layer.kind, layer.macs, layer.weight_count) for layer in self.layers],
        ]
        return hashlib.sha256(json.dumps(structure).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write `network.json`."""
        write_json(path, {"fingerprint": self.fingerprint, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> "NetworkSpec":
        """Read `network.json`.

        Raises:
            RunError: The file is missing, damaged, or its fingerprint does not fit its layers.
        """
        values = read_json(path, what="network")
        try:
            network = cls(
                model=values["model"],
                input_size=tuple(values["input_size"]),
                num_classes=values["num_classes"],
                layers=tuple(_load_layer(layer) for layer in values["layers"]),
            )
        except KeyError as problem:
            raise RunError(f"network {path} lacks {problem}; recreate the run") from None
        except (TypeError, ValueError) as problem:
            raise RunError(f"network {path} is damaged ({problem}); restore it") from None
        if network.fingerprint != values.get("fingerprint"):
            raise RunError(f"network {path} was altered after it was written; restore it")
        return network


def _load_layer(values: dict[str, Any]) -> LayerSpec:
    candidates = {key: tuple(values[key]) for key in ("weight_candidates", "act_candidates")}
    for key, bits in candidates.items():
        is_usable = bits and list(bits) == sorted(set(bits), reverse=True)
        is_usable = is_usable and all(type(b) is int and 1 < b <= PINNED_BITS for b in bits)
        if not is_usable or (values["is_pinned"] and bits != (PINNED_BITS,)):
            raise ValueError(f"{values['name']} has {key} {list(bits)}")
    return LayerSpec(**{**values, **candidates})
