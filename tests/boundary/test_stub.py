"""The stub tells of the extension what the extension tells of itself."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from harness import _search_rs

STUB = Path(harness.__file__).with_name("_search_rs.pyi")


def documented() -> Iterator[tuple[str, str]]:
    """Yield each dotted name of the stub that has a docstring, with the docstring."""
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            yield node.name, ast.get_docstring(node) or ""
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name != "__new__":
                    yield f"{node.name}.{part.name}", ast.get_docstring(part) or ""


@pytest.mark.parametrize(("name", "docstring"), list(documented()))
def test_stub_docstring_is_that_of_the_extension(name: str, docstring: str) -> None:
    found: object = _search_rs
    for part in name.split("."):
        found = getattr(found, part)
    assert inspect.getdoc(found) == docstring
    assert docstring
