"""Arrays that take long to measure, on disk, so that a stopped benchmark goes on where it was."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.run.files import digest_of, write_bytes

Arrays = dict[str, NDArray[np.generic]]


def kept_arrays(
    folder: Path, settings: Mapping[str, object], measure: Callable[[], Arrays]
) -> Arrays:
    """Return what was measured under these settings, from the folder or else measured now.

    Args:
        folder: Holds a file for each settings; made where it is not there.
        settings: All that the arrays depend on, as JSON.
        measure: Called where nothing is kept.
    """
    path = folder / f"{digest_of(dict(settings))}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    found = measure()
    content = BytesIO()
    np.savez(content, **found)  # type: ignore[arg-type]  # names are not of its own arguments
    write_bytes(path, content.getvalue())
    return found
