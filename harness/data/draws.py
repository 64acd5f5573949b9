"""Random draws that are pure functions of named integers.

Only the raw 64-bit stream of PCG64 is used: unlike `numpy.random.Generator`, whose methods may
change between versions, it is fixed, so an order or a crop repeats on every machine.
"""

import numpy as np
from numpy.typing import NDArray

HOLD_OUT, SEARCH, ORDER, CROP_ROW, CROP_COLUMN, FLIP, TRANSFORM, MIXING = range(8)
"""What a draw is for; part of its key, so that two purposes never share a stream."""


def raw_draws(count: int, *, purpose: int, seed: int, epoch: int = 0) -> NDArray[np.uint64]:
    """Return `count` uniform 64-bit draws, a pure function of the arguments."""
    key = np.random.SeedSequence([purpose, seed, epoch])
    return np.asarray(np.random.PCG64(key).random_raw(count), dtype=np.uint64)


def permutation(count: int, *, purpose: int, seed: int, epoch: int = 0) -> NDArray[np.int64]:
    """Return the numbers 0 to count - 1 in random order, a pure function of the arguments."""
    draws = raw_draws(count, purpose=purpose, seed=seed, epoch=epoch)
    return np.argsort(draws, kind="stable").astype(np.int64)
