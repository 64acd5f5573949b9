"""Arrays that take long to measure, on disk, so that a stopped benchmark goes on where it was."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.run.files import digest_of

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
    folder.mkdir(parents=True, exist_ok=True)
    # Renamed when it is whole: a killed benchmark leaves no half of a file behind.
    torn = path.with_suffix(".torn")
    with torn.open("wb") as file:
        np.savez(file, **found)  # type: ignore[arg-type]  # names are not of its own arguments
        file.flush()
        os.fsync(file.fileno())
    torn.rename(path)
    return found
