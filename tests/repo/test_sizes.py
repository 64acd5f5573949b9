"""Files stay within 400 lines and functions within 60; exceptions carry their reason."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
EXCEPTIONS: dict[str, str] = {}
"""`path` or `path::function`, and why it may be longer."""

PYTHON_FILES = sorted((ROOT / "harness").rglob("*.py"))
RUST_FILES = sorted((ROOT / "search_rs" / "src").rglob("*.rs"))


def relative(file):
    return file.relative_to(ROOT).as_posix()


def function_lengths(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{relative(file)}::{node.name}", node.end_lineno - node.lineno + 1


def too_long():
    lengths = {
        relative(file): len(file.read_text(encoding="utf-8").splitlines())
        for file in (*PYTHON_FILES, *RUST_FILES)
    }
    files = {name: length for name, length in lengths.items() if length > MAX_FILE_LINES}
    functions = {
        name: length
        for file in PYTHON_FILES
        for name, length in function_lengths(file)
        if length > MAX_FUNCTION_LINES
    }
    return files | functions


def test_there_are_files_to_measure():
    assert len(PYTHON_FILES) > 10
    assert len(RUST_FILES) > 5


def test_no_file_or_function_is_too_long():
    assert {n: length for n, length in too_long().items() if n not in EXCEPTIONS} == {}


def test_exceptions_are_needed_and_have_a_reason():
    assert EXCEPTIONS.keys() <= too_long().keys()
    assert all(EXCEPTIONS.values())
