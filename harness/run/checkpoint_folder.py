"""The checkpoints of a run as folders: which count, which is taken, which are removed.

Only what the program itself has written counts: a folder `step_00000123` whose manifest lists all
its files and whose state is of that step. Copies that a person made under other names are left
alone. A checkpoint that was damaged is never taken: the one before is.
"""

import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

from harness.errors import CheckpointError
from harness.run.files import parse_json, read_bytes, sync_folder
from harness.run.folder import RunDir
from harness.run.manifest import MANIFEST_FILE, MANIFEST_FORMAT, listed_files, read_checked
from harness.run.state_file import STATE_FILE

logger = logging.getLogger(__name__)

_NAME = re.compile(r"step_([0-9]{8})")
_LEFTOVER = re.compile(r"\.step_[0-9]{8}\.(partial|removed)")


def checkpoint_path(run: RunDir, step: int) -> Path:
    """Return the folder of a step's checkpoint."""
    return run.checkpoints / f"step_{step:08d}"


def named_checkpoints(run: RunDir) -> list[Path]:
    """Return the folders that are named like checkpoints, the latest step first."""
    if not run.checkpoints.is_dir():
        return []
    entries = [path for path in run.checkpoints.iterdir() if _NAME.fullmatch(path.name)]
    return sorted((p for p in entries if p.is_dir() and not p.is_symlink()), reverse=True)


def newest_checkpoint(run: RunDir) -> Path | None:
    """Return the latest whole checkpoint, after a warning of damaged later ones; None without any.

    A checkpoint that a newer version wrote is none that was damaged: whoever loads it is told.
    """
    for checkpoint in named_checkpoints(run):
        problem = damage_of(checkpoint)
        if problem is None:
            return checkpoint
        if not checkpoint.exists():  # A training beside has removed it: there is a later one.
            return newest_checkpoint(run)
        logger.warning("%s is passed over, the one before is used: %s", checkpoint, problem)
    return None


def existing_checkpoint(run: RunDir) -> Path:
    """Return the latest whole checkpoint.

    Raises:
        CheckpointError: There is none.
    """
    checkpoint = newest_checkpoint(run)
    if checkpoint is not None:
        return checkpoint
    if named_checkpoints(run):
        raise CheckpointError(
            f"run {run.path} has no whole checkpoint, all are damaged; restore one"
        )
    raise CheckpointError(f"run {run.path} has no checkpoint; train it first")


def damage_of(checkpoint: Path) -> str | None:
    """Return in words why a checkpoint cannot be taken; None where it is whole."""
    if _is_newer(checkpoint / MANIFEST_FILE):
        return None
    try:
        step = _whole_state(checkpoint).get("step")
    except CheckpointError as problem:
        return str(problem).partition(";")[0]
    if step != int(checkpoint.name.removeprefix("step_")):
        return f"checkpoint {checkpoint} holds the state of step {step}"
    return None


def put_aside_damaged(run: RunDir) -> None:
    """Give damaged checkpoints a name that never counts: their steps will be written anew.

    A whole one under the name of another step is a copy that a person made; it stays.
    """
    for checkpoint in named_checkpoints(run):
        if _is_newer(checkpoint / MANIFEST_FILE):
            continue
        try:
            _whole_state(checkpoint)
        except CheckpointError:
            _put_aside(checkpoint, "damaged")


def is_saved(checkpoint: Path) -> bool:
    """Return whether a step is saved already; what else has its name is put aside.

    That may be a copy of another step, a link or a file. Nobody was to lose it, and the step has to
    be saved under its own name.
    """
    is_folder = checkpoint.is_dir() and not checkpoint.is_symlink()
    if is_folder and damage_of(checkpoint) is None:
        return True
    if os.path.lexists(checkpoint):
        _put_aside(checkpoint, "other")
    return False


def remove_old(run: RunDir, *, keep: int, newest: Path) -> None:
    """Remove whole checkpoints beyond the latest ones; never the newest, and nothing else.

    Each is renamed before it is removed: a kill leaves no half one under a name that counts.
    """
    earlier = [path for path in named_checkpoints(run) if path.name < newest.name]
    whole = [path for path in earlier if damage_of(path) is None]
    for checkpoint in whole[max(keep - 1, 0) :]:
        removed = checkpoint.with_name(f".{checkpoint.name}.removed")
        checkpoint.replace(removed)
        sync_folder(run.checkpoints)
        shutil.rmtree(removed)


def remove_leftovers(run: RunDir) -> None:
    """Remove what a kill has left of writing or removing a checkpoint."""
    if run.checkpoints.is_dir():
        for path in run.checkpoints.iterdir():
            is_folder = path.is_dir() and not path.is_symlink()
            if is_folder and _LEFTOVER.fullmatch(path.name):
                shutil.rmtree(path)


def _whole_state(checkpoint: Path) -> dict[str, Any]:
    """Return what `state.json` holds, after comparing every file with the manifest.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    for name in listed_files(checkpoint):
        read_checked(checkpoint, name)
    path = checkpoint / STATE_FILE
    try:
        state = parse_json(read_checked(checkpoint, STATE_FILE))
    except ValueError as problem:
        raise CheckpointError(f"checkpoint file {path} is not whole JSON ({problem})") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint file {path} holds no object")
    return state


def _put_aside(path: Path, word: str) -> None:
    aside = _free_name(path.with_name(f"{path.name}.{word}"))
    path.replace(aside)
    logger.warning("%s is kept as %s", path, aside.name)


def _is_newer(manifest: Path) -> bool:
    try:
        values = parse_json(read_bytes(manifest))
    except (OSError, ValueError):
        return False
    version = values.get("format") if isinstance(values, dict) else None
    return type(version) is int and version > MANIFEST_FORMAT.version


def _free_name(path: Path) -> Path:
    number = 2
    free = path
    while os.path.lexists(free):
        free, number = path.with_name(f"{path.name}{number}"), number + 1
    return free
