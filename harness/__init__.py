"""Weight-coupled quantization supernets: train once, search a policy per budget, deploy."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("harness")
except PackageNotFoundError:  # Imported from a source tree that was never installed.
    __version__ = "0+unknown"
