"""`policy.json`: the bits of every layer, what they cost, and where they come from."""

import logging
from pathlib import Path
from typing import Any

from harness.errors import PolicyError, short
from harness.problem.candidates import Candidates
from harness.problem.network import NetworkSpec
from harness.problem.policy import MAX_BITS, Policy, parse_bits, policy_rows
from harness.run.files import FileFormat, read_json, write_json

logger = logging.getLogger(__name__)

POLICY_FORMAT = FileFormat(
    name="policy", upgrades=(lambda old: old,), error=PolicyError, digest_since=2
)
"""Since format 2 there is a digest. A policy that a person writes is of format 1 and has none."""


def resolve_policy(
    text: str, network: NetworkSpec, *, candidates: Candidates | None = None
) -> Policy:
    """Return the policy of a `policy.json` path or of uniform bits `W/A`, checked to be trained.

    Args:
        text: What the user typed.
        network: The network of the policy.
        candidates: What its layers may take now; by default what they begin with.

    Raises:
        PolicyError: The file is unusable, of another network, or has bits that are no candidates.
    """
    candidates = candidates or network.candidates
    if Path(text).is_file() or text.endswith(".json"):
        policy = load_policy(Path(text), network)
    else:
        weight_bits, act_bits = parse_bits(text)
        policy = candidates.uniform(weight_bits=weight_bits, act_bits=act_bits)
        trained_weights = candidates.free_bits("weight")
        trained_acts = candidates.free_bits("act")
        for bits, side, trained in (
            (weight_bits, "weight", trained_weights),
            (act_bits, "act", trained_acts),
        ):
            if trained and bits not in trained:
                raise PolicyError(
                    f"policy {text}: {bits} {side} bits were not trained, the candidates are "
                    f"{', '.join(map(str, trained))}; choose from them"
                )
        whole = network.candidates.uniform(weight_bits=weight_bits, act_bits=act_bits)
        frozen = [
            layer.name
            for layer, own, wanted in zip(network.layers, policy, whole, strict=True)
            if own != wanted
        ]
        if frozen:
            logger.warning(
                "policy %s gives other bits to %d layers, %s the first: the bit-width scheduler "
                "has frozen theirs; --all-candidates takes them all the same",
                text,
                len(frozen),
                frozen[0],
            )
    candidates.check(policy)
    return policy


def save_policy(path: Path, policy: Policy, network: NetworkSpec, *, facts: dict[str, Any]) -> None:
    """Write `policy.json`.

    Args:
        path: Where to.
        policy: The bits.
        network: The network they are for.
        facts: What else the file says: `bitops`, `weight_bytes`, `accuracy`, `provenance` ...
    """
    layers = policy_rows((layer.name for layer in network.layers), policy)
    head = {"network": network.fingerprint, "model": network.model_name, "layers": layers}
    write_json(path, {**head, **facts}, file_format=POLICY_FORMAT)


def load_policy(path: Path, network: NetworkSpec) -> Policy:
    """Read a `policy.json` of this network.

    Raises:
        PolicyError: The file is missing or malformed, or belongs to another network.
    """
    values = read_json(path, file_format=POLICY_FORMAT)
    if values.get("network") != network.fingerprint:
        raise PolicyError(
            f"policy {path} belongs to {short(str(values.get('model')))} with fingerprint "
            f"{short(str(values.get('network')))}, this is {network.model_name} with "
            f"{network.fingerprint}; use a policy that was searched for this network, input size "
            "and number of classes"
        )
    layers = values.get("layers")
    try:
        names = [layer["name"] for layer in layers or []]
        pairs = [(layer["weight_bits"], layer["act_bits"]) for layer in layers or []]
        if not all(type(bits) is int for pair in pairs for bits in pair):
            raise TypeError("bits that are no whole numbers")
        policy = Policy(pairs)
    except (KeyError, TypeError, ValueError):
        raise PolicyError(
            f"policy {path} has a layer without name, or without whole weight_bits and act_bits; "
            "mend the file"
        ) from None
    if names != [layer.name for layer in network.layers]:
        raise PolicyError(
            f"policy {path} lists {len(names)} layers, not the {len(network.layers)} of "
            f"{network.model_name} in order; mend the file"
        )
    for name, pair in zip(names, policy, strict=True):
        if not all(1 <= bits <= MAX_BITS for bits in pair):
            raise PolicyError(
                f"policy {path}: layer {name} has bits {short(f'{pair[0]}/{pair[1]}')}, allowed "
                f"are 1 to {MAX_BITS}; mend the file"
            )
    return policy
