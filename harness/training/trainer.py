"""Train what a configuration says: begin a run, or go on where it stopped."""

import logging
from contextlib import ExitStack
from pathlib import Path

from accelerate import Accelerator

from harness.observer import SILENCE, Observer
from harness.process_group import decided_by_rank_0
from harness.run.config import Config
from harness.run.files import remove_torn_writes
from harness.run.folder import RUNS, RunDir
from harness.run.lock import locked
from harness.runtime import create_accelerator, setup_logging
from harness.training.assemble import assemble
from harness.training.resume import Start, decide_start
from harness.training.trackers import check_trackers

logger = logging.getLogger(__name__)


def train(
    config: Config,
    *,
    out: Path | None = None,
    resume: str = "auto",
    observer: Observer = SILENCE,
) -> RunDir:
    """Train what the configuration says and return its run folder.

    Args:
        config: The whole configuration.
        out: Run folder; by default `runs/MODEL_DATA_seedN`.
        resume: `auto` goes on from the newest checkpoint of the same configuration, `never` asks
            for a folder without a run, anything else is the path of a checkpoint to go on from.
        observer: Told, on the main process, how far it is.

    Raises:
        HarnessError: The input cannot be used; nothing was written over.
    """
    run = RunDir(out or default_out(config))
    check_trackers(config.train.trackers)
    accelerator = create_accelerator(
        run.path,
        trackers=config.train.trackers,
        rank_timeout_seconds=config.train.rank_timeout_seconds,
    )
    setup_logging(is_main_process=accelerator.is_main_process)
    with ExitStack() as stack:

        def begin() -> Start:
            run.check_writable()
            if not run.path.exists():
                decide_start(run, config, resume)  # A refusal leaves no folder behind.
            stack.enter_context(locked(run.path))
            start = decide_start(run, config, resume)
            remove_torn_writes(run.path)
            return start

        start = decided_by_rank_0(begin)
        return _train_from(start, run, accelerator, observer)


def _train_from(start: Start, run: RunDir, accelerator: Accelerator, observer: Observer) -> RunDir:
    if run.is_finished:
        logger.info("%s is finished; nothing to train", run.path)
        if accelerator.is_main_process:
            run.save_config(start.config)  # How it is searched and evaluated may have changed.
        return run
    assemble(start.config, run, accelerator, checkpoint=start.checkpoint).fit(observer)
    return run


def default_out(config: Config) -> Path:
    """Return `runs/MODEL_DATA_seedN`, with the mode behind the model if it is no supernet."""
    mode = config.train.mode
    kind = "" if mode == "supernet" else f"_{mode}"
    data = config.data.name.replace("/", "-")
    return RUNS / f"{config.model.name}{kind}_{data}_seed{config.seed}"
