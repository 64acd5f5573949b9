"""No file under harness/ hides a module of the standard library or of an installed package.

`python harness/train.py` puts harness/ itself first on the path: a file `harness/profile.py` would
then be what every other package imports as `profile`.
"""

import importlib.metadata
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXCEPTIONS: dict[str, str] = {}
"""Module name, and why it may be shared."""


def top_level_names():
    distributions = importlib.metadata.packages_distributions()
    installed = {
        name for name, owners in distributions.items() if any(x != "harness" for x in owners)
    }
    return set(sys.stdlib_module_names) | installed


def own_names():
    folder = ROOT / "harness"
    files = {file.stem for file in folder.rglob("*.py")} - {"__init__", "__main__"}
    packages = {file.parent.name for file in folder.rglob("*/__init__.py")}
    return files | packages


def test_there_are_names_to_compare():
    assert {"train", "data", "errors"} <= own_names()
    assert {"types", "torch", "yaml"} <= top_level_names()


def test_no_module_is_named_like_a_top_level_one():
    assert own_names() & top_level_names() - set(EXCEPTIONS) == set()


def test_exceptions_are_needed_and_have_a_reason():
    shared = own_names() & top_level_names()
    assert EXCEPTIONS.keys() <= shared
    assert all(EXCEPTIONS.values())
