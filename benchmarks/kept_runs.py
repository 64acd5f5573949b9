"""Results of a benchmark in docs/results, kept beside those of other runs that are there."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.run.files import FileFormat, read_json, write_json, write_text

RESULTS = Path("docs/results")


def keep_runs(
    name: str,
    results: Sequence[dict[str, Any]],
    *,
    file_format: FileFormat,
    markdown: Callable[[Sequence[dict[str, Any]]], str],
    key: Sequence[str] = ("run",),
) -> None:
    """Write results as JSON and as tables.

    Args:
        name: Of both files, without an ending.
        results: One for each run; they take the place of earlier ones of the same key.
        file_format: Of the JSON file.
        markdown: Makes the tables of all runs.
        key: What tells runs apart.
    """
    path = RESULTS / f"{name}.json"
    before = read_json(path, file_format=file_format)["runs"] if path.exists() else []
    by_key = {tuple(one[part] for part in key): one for one in [*before, *results]}
    runs = list(by_key.values())
    write_json(path, {"runs": runs}, file_format=file_format)
    write_text(path.with_suffix(".md"), markdown(runs))
