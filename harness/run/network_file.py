"""`network.json`: the quantized layers of a run, their MACs and candidates."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.errors import RunError
from harness.problem.network import FLOAT_BITS, PINNED_BITS, LayerSpec, NetworkSpec
from harness.run.files import FileFormat, read_json, write_json

NETWORK_FORMAT = FileFormat(name="network", upgrades=(lambda old: old,))
"""Since format 2 a layer may stay in float, at 32 bits. Older files need no change; the step makes
older programs refuse newer files."""


def save_network(path: Path, network: NetworkSpec) -> None:
    """Write `network.json`."""
    values = asdict(network)
    head = {"fingerprint": network.fingerprint, "model": values.pop("model_name")}
    write_json(path, {**head, **values}, file_format=NETWORK_FORMAT)


def load_network(path: Path) -> NetworkSpec:
    """Read `network.json`.

    Raises:
        RunError: The file is missing, damaged, or its fingerprint does not fit its layers.
    """
    values = read_json(path, file_format=NETWORK_FORMAT)
    try:
        network = NetworkSpec(
            model_name=values["model"],
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
        if values["is_pinned"]:
            is_usable = bits in ((PINNED_BITS,), (FLOAT_BITS,))
        else:
            is_usable = bool(bits) and list(bits) == sorted(set(bits), reverse=True)
            is_usable = is_usable and all(type(b) is int and 1 < b <= PINNED_BITS for b in bits)
        if not is_usable:
            raise ValueError(f"{values['name']} has {key} {list(bits)}")
    return LayerSpec(**{**values, **candidates})
