"""`metrics.jsonl`: one JSON object per line, losses of steps and accuracies of validations.

The first line holds the format. `epoch` counts from 1: in a row of losses it is the epoch that the
step lies in, in a row of a validation the epoch that the validation follows (0 where none was
trained). A run that goes on drops the rows of the steps that it takes again.
"""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import RunError
from harness.run.files import FileFormat, naming, parse_json, read_bytes, write_text

MAX_METRICS_BYTES = 2**32
"""Rows of a run of years."""

ACCURACY_PREFIX = "search_accuracy/"
"""Before the label of a policy in a row of a validation."""

IMAGES_PER_SECOND = "images_per_second"
"""Line of metrics.jsonl: images of all ranks that steps took in a second, since the row before.

The only value there that is a time: all others repeat when a run is taken again.
"""


class MetricsLog:
    """The rows of one run; only the main process writes them."""

    def __init__(self, path: Path, *, mode: str) -> None:
        """Take the file; nothing is read or written yet.

        Args:
            path: The file.
            mode: `train.mode`, which tells what the rows of format 1 meant.
        """
        self._path = path
        to_format_2 = partial(_row_to_format_2, mode=mode)
        self._format = FileFormat(name="metrics", upgrades=(to_format_2,))

    def check(self) -> None:
        """Check that the file, if there is one, can be gone on with.

        Raises:
            RunError: It is damaged, or of a newer version.
        """
        self._format.upgraded({"format": self._written_format()}, self._path)

    def last_step(self) -> int:
        """Return the last step that a row is about; 0 where there is none.

        Raises:
            RunError: The file is damaged.
        """
        return max((row["step"] for row in self._rows()), default=0)

    def start(self, *, step: int, total_steps: int) -> None:
        """Begin the file, or go on with it behind a step.

        Rows of an older format are rewritten. Dropped are rows of steps that a kill lost, which
        would stand there twice, a torn line, and the validation behind the last step of all, which
        follows its checkpoint and is made again.

        Args:
            step: Steps taken.
            total_steps: Steps of the whole run.
        """
        version = self._written_format()
        rows = [
            self._format.upgraded({**row, "format": version}, self._path) for row in self._rows()
        ]
        kept = [row for row in rows if _is_past(row, step=step, total_steps=total_steps)]
        lines = [{"format": self._format.version}, *(_without_format(row) for row in kept)]
        write_text(self._path, "".join(map(_as_line, lines)))

    def append(self, values: dict[str, float], *, step: int, epoch: int) -> None:
        """Add a row."""
        with naming(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(_as_line({"step": step, "epoch": epoch, **values}))

    def _written_format(self) -> Any:
        """Return the version of the file; one without a first line for it is of format 1."""
        lines = self._lines()
        if not lines:
            return self._format.version
        return lines[0]["format"] if lines[0].keys() == {"format"} else 1

    def _rows(self) -> list[dict[str, Any]]:
        return [line for line in self._lines() if type(line.get("step")) is int]

    def _lines(self) -> list[dict[str, Any]]:
        """Return the whole lines. A kill can tear the last one, which is dropped.

        Raises:
            RunError: Another line is damaged, or the file is none.
        """
        try:
            *whole, _ = read_bytes(self._path, limit=MAX_METRICS_BYTES).split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as problem:
            reason = (problem.strerror or "unreadable").lower()
            raise RunError(
                f"metrics {self._path} cannot be read: {reason}; move it away to go on without "
                "its rows"
            ) from None
        return [self._line(number, text) for number, text in enumerate(whole, start=1)]

    def _line(self, number: int, text: bytes) -> dict[str, Any]:
        try:
            values = parse_json(text)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise RunError(
                f"metrics: line {number} of {self._path} is damaged; restore the file, or move it "
                "away to go on without the rows before"
            )
        return values


def epoch_of_step(step: int, steps_per_epoch: int) -> int:
    """Return the epoch, from 1, that a step lies in; steps count from 1 as well.

    >>> [epoch_of_step(step, 2) for step in (1, 2, 3, 4, 5)]
    [1, 1, 2, 2, 3]
    """
    return (step - 1) // steps_per_epoch + 1


def _row_to_format_2(row: dict[str, Any], *, mode: str) -> dict[str, Any]:
    """Count the epochs of steps from 1, and drop the zeros of terms that a run did not have.

    A float run called its cross entropy that of the max pass.
    """
    if _is_validation(row) or type(row.get("epoch")) is not int:
        return row
    random = {"random_ce", "random_kl"}
    if all(row.get(name) == 0 for name in random):
        row = {name: value for name, value in row.items() if name not in random}
    if mode == "float":
        row = {"ce" if name == "max_pass_ce" else name: value for name, value in row.items()}
    return {**row, "epoch": row["epoch"] + 1}


def _as_line(row: dict[str, Any]) -> str:
    """Return a row as it stands in the file.

    JSON has no word for infinity: what is no finite number, also in a row that an older program
    wrote, stands there as null.
    """
    numbers = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
    return json.dumps(numbers, allow_nan=False) + "\n"


def _is_past(row: dict[str, Any], *, step: int, total_steps: int) -> bool:
    """Return whether a row will not be written again by a run that goes on behind a step."""
    is_final_validation = row["step"] == total_steps and _is_validation(row)
    return row["step"] <= step and not is_final_validation


def _is_validation(row: dict[str, Any]) -> bool:
    return any(name.startswith(ACCURACY_PREFIX) for name in row)


def _without_format(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "format"}
