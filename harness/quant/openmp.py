"""Which threads the Rust engine's kernels run on: those of torch."""

import ctypes
import re
from pathlib import Path

from harness import _search_rs

MAPPED_FILES = Path("/proc/self/maps")
LIBRARY = re.compile(r"/\S*/lib(?:gomp|iomp5|omp)[-.]\S*")
"""OpenMP of GNU, Intel and LLVM; each has `GOMP_parallel`."""


def share_torch_threads() -> bool:
    """Have the kernels run on torch's threads; return whether its OpenMP library was found.

    Threads of their own would share the processor with torch's, which wait for work spinning: a
    step of mobilenetv2_100 on two threads took as long as with kernels on one. Where none is found
    (on other systems than Linux, or where torch is built without OpenMP) they run on one thread.
    """
    if not MAPPED_FILES.exists():
        return False
    path = library_in(MAPPED_FILES.read_text(encoding="utf-8", errors="replace"))
    if path is None:
        return False
    start = ctypes.CDLL(path).GOMP_parallel
    address = ctypes.cast(start, ctypes.c_void_p).value
    assert address is not None, "a function that was found has an address"
    _search_rs.use_openmp(address)
    return True


def library_in(maps: str) -> str | None:
    """Return the path of torch's OpenMP library among mapped files, None where there is none."""
    found = LIBRARY.findall(maps)
    # Other packages bring libraries of their own (scikit-learn does), with other threads.
    return max(found, key=lambda path: "/torch" in path, default=None)
