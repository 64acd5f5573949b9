"""Decide, before anything is written, where a run goes on from and whether it may."""

from dataclasses import dataclass
from pathlib import Path

from harness.errors import CheckpointError, RunError
from harness.run.checkpoint_folder import named_checkpoints, newest_checkpoint
from harness.run.config import Config
from harness.run.folder import RunDir
from harness.run.settings import difference
from harness.run.state_file import check_configuration, load_state
from harness.training.metrics import MetricsLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a run begins or goes on."""

    config: Config
    """As given, with the old behaviour of a run that is older than some of its keys."""
    checkpoint: Path | None
    """To go on from; None where the run begins."""


def decide_start(run: RunDir, config: Config, resume: str) -> Start:
    """Return where to start.

    Args:
        run: The run's folder, which may not be there yet.
        config: What the user gave.
        resume: `auto` goes on from the newest checkpoint of the same configuration, `never` asks
            for a folder without a run, anything else is the path of a checkpoint to go on from.

    Raises:
        RunError: The folder cannot be written or holds another run.
        CheckpointError: A checkpoint is damaged or of another configuration.
    """
    run.check_writable()
    given = None if resume in ("auto", "never") else _existing_folder(Path(resume))
    if run.config_path.is_file():
        if resume == "never":
            raise RunError(
                f"{run.path} holds a run and --resume is never; give another --out or remove it"
            )
        return _go_on(run, config, given)
    metrics = MetricsLog(run.metrics_path, mode=config.train.mode)
    # Damaged checkpoints and rows of steps are what is left of a run too.
    if named_checkpoints(run) or metrics.last_step() > 0 or run.is_finished:
        raise RunError(
            f"{run.path} holds a run without {run.config_path.name}; restore that file, "
            "or give another --out"
        )
    if given is None:
        return Start(config=config, checkpoint=None)
    return _start_at(given, config.with_old_behaviour(load_state(given)["configuration"]))


def _go_on(run: RunDir, config: Config, given: Path | None) -> Start:
    """Return where a run that is there goes on, by itself or from a given checkpoint."""
    settings = run.load_config().deciding_settings()
    config = config.with_old_behaviour(settings)
    parts = difference(settings, config.deciding_settings())
    if parts is not None:
        raise RunError(
            f"{run.path} holds a run of another configuration: {parts}; "
            "give another --out or remove it"
        )
    metrics = MetricsLog(run.metrics_path, mode=config.train.mode)
    metrics.check()
    newest = newest_checkpoint(run)
    if newest is None:
        if run.is_finished:
            raise CheckpointError(
                f"{run.path} is finished and its checkpoints are gone; "
                "restore them, or remove the folder to train again"
            )
        if given is not None:
            return _start_at(given, config)
        if metrics.last_step() > 0 or named_checkpoints(run):
            # A run is saved before its first step: what it has done since is lost, not to be had.
            raise CheckpointError(_nothing_whole(run, metrics.last_step()))
        return Start(config=config, checkpoint=None)
    if given is not None and _is_in_the_way(newest, given):
        raise RunError(
            f"{run.path} holds a run already, and {given} is not its newest checkpoint; "
            "give another --out, or --resume auto to go on with that run"
        )
    return _start_at(newest, config)


def _nothing_whole(run: RunDir, last_step: int) -> str:
    what = (
        f"but {run.metrics_path.name} holds steps up to {last_step}"
        if last_step > 0  # Rows are written every few steps: a short run may have none yet.
        else f"all {len(named_checkpoints(run))} are damaged"
    )
    return (
        f"{run.path} has no whole checkpoint, {what}; restore a checkpoint, or give another --out "
        "to train from the start"
    )


def _is_in_the_way(newest: Path, given: Path) -> bool:
    """Return whether going on from `given` would write over what the run has done since.

    A run that began from a checkpoint of another folder goes on by the same command: its own newest
    checkpoint is then a later one.
    """
    if given.samefile(newest):
        return False
    return given.parent.samefile(newest.parent) or _step_of(given) > _step_of(newest)


def _start_at(checkpoint: Path, config: Config) -> Start:
    check_configuration(checkpoint, config)
    return Start(config=config, checkpoint=checkpoint)


def _existing_folder(checkpoint: Path) -> Path:
    if not checkpoint.is_dir():
        raise CheckpointError(
            f"checkpoint {checkpoint} is not a folder; give --resume a "
            "runs/NAME/checkpoints/step_… folder, auto or never"
        )
    return checkpoint


def _step_of(checkpoint: Path) -> int:
    step: int = load_state(checkpoint)["step"]
    return step
