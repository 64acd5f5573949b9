"""`gradients.json`: what gradients said when a search began, beside its journal.

A search that is gone on with begins with the very same numbers, on whatever hardware, and answers
for further budgets begin with what the search began with. Neither needs a backward pass for it.
"""

from pathlib import Path

from harness.errors import RunError
from harness.problem.candidates import Candidates
from harness.run.files import FileFormat, read_json, write_json
from harness.search.engine_form import LayerValues

GRADIENTS_FILE = "gradients.json"
FORMAT = FileFormat(name="gradients", digest_since=1)

REMEDY = "remove it, and it is made again where it can be"


def gradients_identity(network: str, weights: str) -> dict[str, str]:
    """Return what gradients depend on: a network's fingerprint and the digest of its weights."""
    return {"network": network, "weights": weights}


def kept_gradients(
    folder: Path, identity: dict[str, str], candidates: Candidates
) -> LayerValues | None:
    """Return what a search folder keeps; None where that is not of these weights and candidates.

    Args:
        folder: The search's folder.
        identity: What gradients depend on.
        candidates: What the layers may take.

    Raises:
        RunError: The file is damaged or no file of gradients.
    """
    path = folder / GRADIENTS_FILE
    if not path.exists():
        return None
    whole = read_json(path, file_format=FORMAT, remedy=REMEDY)
    if whole.get("of") != identity:
        return None
    try:
        layers = [
            {(int(weight), int(act)): float(value) for weight, act, value in rows}
            for rows in whole["layers"]
        ]
    except (KeyError, TypeError, ValueError):
        raise RunError(f"gradients {path} hold no rows of numbers; {REMEDY}") from None
    asked = [[(w, a) for w in layer.weight for a in layer.act] for layer in candidates.layers]
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
