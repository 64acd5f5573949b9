"""Tell whether images are the ones that a run was given, and say how they differ if not.

Of a large set of files the names, sizes and labels are compared, and the contents of some: to read
every file would take hours. Of all other sets every byte counts.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from harness.data.choice import Parts
from harness.data.columns import Selection
from harness.data.sample_keys import content_digest, encoded_bytes
from harness.errors import DataError
from harness.run.data_file import DataIdentity, SplitIdentity

CONTENTS_READ = 16
"""Images of each split of a large set whose contents count: the last, as fair a sample as any. The
first were opened already, to see their size."""


def identify(
    parts: Parts, *, name_column: str | None, is_in_memory: bool
) -> dict[str, SplitIdentity]:
    """Return what is known of the images of each split, by its name.

    Args:
        parts: The chosen images.
        name_column: The column of what they are known by; None where the keys are their contents.
        is_in_memory: Whether the set is small enough to have been read whole.
    """
    found = {}
    for split, selection in parts.selections.items():
        facts = [parts.keys[split], _label_bytes(parts.labels[split])]
        if name_column is not None:
            num_read = len(selection) if is_in_memory else CONTENTS_READ
            facts += _file_facts(selection, column=parts.columns.image, num_read=num_read)
        found[split] = SplitIdentity(num_images=len(selection), digest=_digest(facts))
    return found


def check_same_data(there: DataIdentity | None, here: DataIdentity, *, run: Path) -> None:
    """Check that the images here are the ones that a run was given.

    Args:
        there: What the run says of its images; None where it is older than that.
        here: What is known of the images here.
        run: The run, for the message.

    Raises:
        DataError: They are not.
    """
    parts = None if there is None else there.difference(here)
    if parts is not None:
        raise DataError(
            f"the images are not those of {run}: {parts}; give --data-path where those lie, or "
            "train a new run"
        )


def _file_facts(selection: Selection, *, column: str, num_read: int) -> list[Iterable[bytes]]:
    """Return sizes of all files, and the contents of the last `num_read`."""
    chosen = selection.rows.data.column(column).take(selection.indices)
    paths = [entry["path"] for entry in chosen.to_pylist()]
    sizes = (str(_size(path)).encode() for path in paths)
    contents = (content_digest(encoded_bytes({"path": path})) for path in paths[-num_read:])
    return [sizes, contents]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a `Path` takes ten times as long.
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise DataError(f"image {path} cannot be read: {reason}; restore or remove it") from None


def _label_bytes(labels: Tensor) -> Iterable[bytes]:
    return (str(label).encode() for label in labels.tolist())


def _digest(facts: Iterable[Iterable[bytes]]) -> str:
    """Return 16 hex digits over lists of texts; each text is hashed with its length."""
    whole = hashlib.sha256()
    for fact in facts:
        for text in fact:
            whole.update(len(text).to_bytes(8, "little") + text)
        whole.update(b"end of list")
    return whole.hexdigest()[:16]
