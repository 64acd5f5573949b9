"""What a checkpoint says before its tensors are read: whose weights, which candidates are left."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import CheckpointError
from harness.problem.candidates import Candidates
from harness.problem.network import NetworkSpec
from harness.run.manifest import listed
from harness.run.state_file import load_state

EMA_FILE = "ema.safetensors"


def weights_digest(checkpoint: Path) -> str:
    """Return 16 hex digits of the averaged weights that `load_supernet` finds in a checkpoint.

    Raises:
        CheckpointError: The checkpoint has no manifest that lists them.
    """
    # Loading holds the file to the manifest's digest: to read and hash it again would say no more.
    return str(listed(checkpoint, EMA_FILE)["sha256"])[:16]


def load_candidates(checkpoint: Path, network: NetworkSpec) -> Candidates:
    """Return what each layer could take when a checkpoint was made.

    Raises:
        CheckpointError: The checkpoint is incomplete, damaged, or of another network.
    """
    task = load_state(checkpoint)["task"]
    try:
        return candidates_in(task, network)
    except (KeyError, TypeError, ValueError) as problem:
        raise CheckpointError(
            f"checkpoint {checkpoint} does not fit the network: {problem}; "
            "restore network.json or the checkpoint, whichever was changed"
        ) from None


def candidates_in(task: Mapping[str, Any], network: NetworkSpec) -> Candidates:
    """Return what each layer may take by the state of a task.

    Raises:
        KeyError, TypeError, ValueError: The state is damaged or of another network.
    """
    if "candidates" not in task:  # Before they were saved, nothing could take any away.
        return network.candidates
    return network.candidates.with_rows(task["candidates"])
