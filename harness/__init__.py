"""Weight-coupled quantization supernets: train once, search a policy per budget, deploy."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.search.search_policy import search_policy

__all__ = ["__version__", "search_policy"]

try:
    __version__ = version("harness")
except PackageNotFoundError:  # Imported from a source tree that was never installed.
    __version__ = "0+unknown"


def __getattr__(name: str) -> object:
    """Return `search_policy`, which loads the engine only where it is asked for."""
    if name == "search_policy":
        from harness.search.search_policy import search_policy

        return search_policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
