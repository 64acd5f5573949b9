"""Where a run's metrics are shown beside metrics.jsonl: the trackers that `train.trackers` names.

They are Accelerate's, by its names. What they show is for people: no command reads it.
"""

import secrets
from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import (
    LOGGER_TYPE_TO_CLASS,
    TensorBoardTracker,
    get_available_trackers,
)
from accelerate.utils import LoggerType

from harness.errors import ConfigError, RunError, short
from harness.process_group import decided_by_rank_0
from harness.run.config import Config
from harness.run.files import FileFormat, read_json, write_json
from harness.run.folder import RunDir

PROJECT = "harness"
"""What services are told that sort runs by project."""

TENSORBOARD, WANDB = LoggerType.TENSORBOARD.value, LoggerType.WANDB.value

TRACKING_FORMAT = FileFormat(name="tracking", digest_since=1)


def check_trackers(names: Sequence[str]) -> None:
    """Check that trackers can be used here.

    Raises:
        ConfigError: Accelerate knows one not, or its package is not installed.
    """
    built_in = {str(one): one for one in map(LoggerType, LoggerType.list())}
    for name in names:
        if name not in built_in and name not in LOGGER_TYPE_TO_CLASS:
            raise ConfigError(
                f"train.trackers names {short(name)}, which Accelerate does not know; it knows "
                f"{', '.join(sorted(built_in))}"
            )
        one = built_in.get(name, LoggerType.ALL)
        if one is not LoggerType.ALL and one not in get_available_trackers():
            raise ConfigError(
                f"train.trackers names {name}, whose package is not installed; install it, or "
                "take it out of train.trackers"
            )


def start_trackers(accelerator: Accelerator, config: Config, run: RunDir, *, step: int) -> None:
    """Begin, or go on with, what the trackers show of a run; every rank calls it.

    TensorBoard hides the steps that are taken again. W&B and trackio go on with the run that they
    had; W&B leaves out the steps that it knows. The others begin another run each time.

    Args:
        accelerator: Was created with the trackers' names.
        config: Of the run.
        run: Its folder.
        step: Steps taken.

    Raises:
        RunError: One cannot be started; on every rank.
    """

    def start() -> None:
        names = [str(one) for one in accelerator.log_with]
        options = _options(config, run, names, step=step)
        # It calls its folder by the project, which services are told in other words.
        own = TensorBoardTracker(TENSORBOARD, str(run.path), purge_step=step + 1)
        accelerator.log_with = [own if name == TENSORBOARD else name for name in names]
        try:
            accelerator.init_trackers(PROJECT, init_kwargs=options)
        except Exception as problem:  # Each service raises errors of its own.
            accelerator.trackers = []  # Those that did not start cannot be closed.
            reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
            raise RunError(
                f"train.trackers {', '.join(config.train.trackers)} cannot be started: "
                f"{short(reason)}; mend that, or take out the one that it is about"
            ) from problem

    decided_by_rank_0(start)


def close_trackers(accelerator: Accelerator) -> None:
    """Flush the trackers; `end_training` would also leave the process group, for a search."""
    for tracker in accelerator.trackers:
        tracker.finish()


def _options(
    config: Config, run: RunDir, names: Sequence[str], *, step: int
) -> dict[str, dict[str, Any]]:
    """Return what each tracker is told about the run."""
    name, settings = run.path.absolute().name, config.deciding_settings()
    options: dict[str, dict[str, Any]] = {
        # By name alone: a run that begins must not go on with another's of the same name.
        "trackio": {"name": name, "config": settings, "resume": "allow" if step else "never"},
        "mlflow": {"run_name": name},
    }
    if WANDB in names:
        identity = _identity(run)
        options[WANDB] = {"name": name, "config": settings, "id": identity, "resume": "allow"}
    return options


def _identity(run: RunDir) -> str:
    """Return a name of the run that no other has, the same whenever it goes on."""
    if not run.tracking_path.is_file():
        values = {"id": secrets.token_hex(8)}
        write_json(run.tracking_path, values, file_format=TRACKING_FORMAT)
    return str(read_json(run.tracking_path, file_format=TRACKING_FORMAT)["id"])
