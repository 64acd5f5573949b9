"""Every error class is raised in some test."""

import ast
from pathlib import Path

import pytest

from harness import errors

TESTS = Path(__file__).parents[1]
# The base is what the command line catches; only its children are raised.
CHILDREN = sorted(
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.HarnessError)
    if value is not errors.HarnessError
)


def names_in_raises(file):
    """Return the class names that the `pytest.raises` calls of a file mention."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    raises = [c for c in calls if getattr(c.func, "attr", "") == "raises" and c.args]
    mentioned = [node for call in raises for node in ast.walk(call.args[0])]
    return {getattr(node, "id", getattr(node, "attr", "")) for node in mentioned}


@pytest.fixture(scope="module")
def tested():
    return {name for file in TESTS.rglob("test_*.py") for name in names_in_raises(file)}


def test_there_are_error_classes():
    assert len(CHILDREN) >= 8


@pytest.mark.parametrize("name", CHILDREN)
def test_error_class_is_raised_in_a_test(name, tested):
    assert name in tested
