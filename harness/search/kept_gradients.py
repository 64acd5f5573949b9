"""`gradients.json`: what gradients said when a search began, beside its journal.

A search that is gone on with begins with the very same numbers, on whatever hardware, and answers
for further budgets begin with what the search began with. Neither needs a backward pass for it.
"""

import logging
from math import isfinite
from pathlib import Path

from harness.errors import RunError
from harness.problem.candidates import Candidates
from harness.run.files import FileFormat, read_json, write_json
from harness.search.engine_form import LayerValues

logger = logging.getLogger(__name__)

GRADIENTS_FILE = "gradients.json"
FORMAT = FileFormat(name="gradients", digest_since=1)

REMEDY = "remove it, and the next search makes it again"


def gradients_identity(network: str, weights: str) -> dict[str, str]:
    """Return what gradients depend on: a network's fingerprint and the digest of its weights."""
    return {"network": network, "weights": weights}


def kept_gradients(
    folder: Path, identity: dict[str, str], candidates: Candidates
) -> LayerValues | None:
    """Return what a search folder keeps; None where that is not of these weights and candidates.

    A file that cannot be used counts as none, with a warning: nothing is lost with it that cannot
    be made again.

    Args:
        folder: The search's folder.
        identity: What gradients depend on.
        candidates: What the layers may take.
    """
    path = folder / GRADIENTS_FILE
    if not path.exists():
        return None
    try:
        found = _read(path, identity, candidates)
    except RunError as error:
        logger.warning("%s; going on without it", error)
        return None
    if found is None:
        logger.warning("gradients %s are of other weights or bits; going on without them", path)
    return found


def _read(path: Path, identity: dict[str, str], candidates: Candidates) -> LayerValues | None:
    whole = read_json(path, file_format=FORMAT, remedy=REMEDY)
    if whole.get("of") != identity:
        return None
    asked = [[(w, a) for w in layer.weight for a in layer.act] for layer in candidates.layers]
    try:
        layers = [
            {(weight, act): float(value) for weight, act, value in rows} for rows in whole["layers"]
        ]
        values = [value for layer in layers for value in layer.values()]
    except (KeyError, TypeError, ValueError):
        raise RunError(f"gradients {path} hold no rows of numbers; {REMEDY}") from None
    if not all(map(isfinite, values)):
        raise RunError(f"gradients {path} hold a value that is no finite number; {REMEDY}")
    try:
        return [
            {pair: kept[pair] for pair in pairs} for pairs, kept in zip(asked, layers, strict=True)
        ]
    except (KeyError, ValueError):
        return None


def keep_gradients(folder: Path, identity: dict[str, str], values: LayerValues) -> None:
    """Write what gradients say; it takes the place of what is kept of other weights."""
    layers = [[[weight, act, value] for (weight, act), value in layer.items()] for layer in values]
    write_json(folder / GRADIENTS_FILE, {"of": identity, "layers": layers}, file_format=FORMAT)
