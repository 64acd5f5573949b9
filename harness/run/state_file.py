"""`state.json`: where a run stood at a checkpoint, and under which settings it got there.

Its format version is that of the whole checkpoint: the tensors beside it have none of their own.
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import CheckpointError
from harness.run.config import CONFIG_FORMAT, Config
from harness.run.data_file import data_identity
from harness.run.files import FileFormat, read_json, write_json
from harness.run.folder import RunDir
from harness.run.manifest import older_one, read_checked
from harness.run.settings import difference, flat, nested, setting_names
from harness.run.yaml_values import read_mapping

STATE_FILE = "state.json"
NAMED_OPTIMIZER_FORMAT = 3
"""The first in which the optimizer's state lies in a file of its own, by names of parameters."""
STATE_KEYS = ("step", "steps_per_epoch", "task", "configuration", "data")


IS_USABLE: dict[str, Callable[[Any], bool]] = {
    "step": lambda value: type(value) is int and 0 <= value < 2**53,
    "steps_per_epoch": lambda value: type(value) is int and 0 <= value < 2**53,
    "task": lambda value: isinstance(value, dict),
    "configuration": lambda value: isinstance(value, dict),
}


def save_state(checkpoint: Path, state: dict[str, Any]) -> bytes:
    """Write `state.json` and return its content.

    Args:
        checkpoint: The checkpoint's folder.
        state: `step`, `steps_per_epoch`, `task` (what the task keeps between steps), `data` (which
            images it was trained on) and `configuration` (the settings that decide the weights, by
            name).
    """
    # In the form of config.yaml, so that the upgrade steps of that file reach it too.
    configuration = {"format": CONFIG_FORMAT.version, **nested(state["configuration"])}
    path = checkpoint / STATE_FILE
    identity = state.get("data")
    data = None if identity is None else identity.to_json()
    values = {**state, "data": data, "configuration": configuration}
    write_json(path, values, file_format=_format_of(checkpoint))
    return path.read_bytes()


def load_state(checkpoint: Path) -> dict[str, Any]:
    """Return what `save_state` was given, whichever version wrote it.

    Raises:
        CheckpointError: The file is damaged, of a newer version, or of another configuration.
    """
    read_checked(checkpoint, STATE_FILE)
    path, remedy = checkpoint / STATE_FILE, older_one(checkpoint)
    state = read_json(path, file_format=_format_of(checkpoint), remedy=remedy)
    missing = [key for key in STATE_KEYS if key not in state]
    if missing:
        raise CheckpointError(f"checkpoint file {path} lacks {missing[0]!r}; {remedy}")
    for key, is_usable in IS_USABLE.items():
        if not is_usable(state[key]):
            shown = repr(state[key])[:60]
            raise CheckpointError(f"checkpoint file {path} has {key} {shown}; {remedy}")
    configuration = CONFIG_FORMAT.upgraded(state["configuration"], path)
    settings = flat(configuration, setting_names(Config, deciding_only=True))
    try:
        data = None if state["data"] is None else data_identity(state["data"])
    except ValueError as problem:
        raise CheckpointError(f"checkpoint file {path} has {problem}; {remedy}") from None
    kept = {key: state[key] for key in STATE_KEYS}
    return {**kept, "configuration": settings, "data": data}


def written_format(checkpoint: Path) -> int:
    """Return the format that a checkpoint was written in; `load_state` has read it before."""
    version: int = json.loads(read_checked(checkpoint, STATE_FILE))["format"]
    return version


def check_configuration(checkpoint: Path, config: Config) -> None:
    """Check that the checkpoint was made with the configuration, as far as it decides weights.

    Raises:
        CheckpointError: It was not, or the checkpoint is incomplete or damaged.
    """
    parts = difference(load_state(checkpoint)["configuration"], config.deciding_settings())
    if parts is not None:
        raise CheckpointError(
            f"checkpoint {checkpoint} was made with another configuration: {parts}; "
            "use or restore that one"
        )


def _format_of(checkpoint: Path) -> FileFormat:
    to_format_2 = partial(_to_format_2, checkpoint=checkpoint)
    upgrades = (to_format_2, _to_format_3)
    return FileFormat(name="checkpoint state", upgrades=upgrades, error=CheckpointError)


def _to_format_2(values: dict[str, Any], *, checkpoint: Path) -> dict[str, Any]:
    """Put the settings in the place of their digest, by which format 1 knew them.

    They are those of the run's own file of that time, which must give the same digest.
    """
    run = RunDir(checkpoint.absolute().parents[1])
    path = run.first_config_path if run.first_config_path.is_file() else run.config_path
    if not path.is_file():
        raise CheckpointError(
            f"checkpoint {checkpoint} is of format 1, which needs the configuration of its run, "
            f"and {path} is not there; restore that file"
        )
    settings = read_mapping(path)
    if _digest_of_format_1(settings) != values.get("config_fingerprint"):
        raise CheckpointError(
            f"checkpoint {checkpoint} was made with another configuration than {path}; "
            "restore that file"
        )
    kept = {key: value for key, value in values.items() if key != "config_fingerprint"}
    # Runs of that time trained every candidate of their network: no task had a state.
    return {"task": {}, **kept, "configuration": {"format": 1, **settings}}


def _to_format_3(values: dict[str, Any]) -> dict[str, Any]:
    """Say that nobody noted which images the run was given."""
    return {"data": None, **values}


def _digest_of_format_1(settings: dict[str, Any]) -> str:
    trained = {key: value for key, value in settings.items() if key not in ("eval", "search")}
    text = json.dumps(trained, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
