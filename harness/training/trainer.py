"""The training loop: epochs of steps, validation, checkpoints, and resuming where a run stopped."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from timm.utils import ModelEmaV3
from torch import Tensor

from harness.checkpoint import (
    TrainingProgress,
    check_configuration,
    load_progress,
    load_training_state,
    newest_checkpoint,
    save_checkpoint,
)
from harness.data import Splits, load_splits, train_batches
from harness.errors import CheckpointError, DataError, RunError, Stopped
from harness.quant.supernet import Supernet
from harness.run.config import Config
from harness.run.files import write_json, write_text
from harness.run.folder import RUNS, RunDir
from harness.run.network_file import save_network
from harness.runtime import (
    StopFlag,
    create_accelerator,
    environment,
    lay_channels_last,
    progress,
    seed_step,
    setup_logging,
)
from harness.training.assemble import build_model, calibrate_step_sizes
from harness.training.losses import StepLosses
from harness.training.optim import (
    clip_gradients,
    create_optimizers,
    learning_rate_factor,
    set_learning_rates,
)
from harness.training.step import StepPasses, SupernetPasses, float_passes
from harness.training.validation import validate

logger = logging.getLogger(__name__)

LOG_EVERY_STEPS = 10
"""Steps between lines of metrics.jsonl; reading a loss waits for the device."""


def train(config: Config, *, out: Path | None = None, resume: str = "auto") -> RunDir:
    """Train what the configuration says and return its run folder.

    Args:
        config: The whole configuration.
        out: Run folder; by default `runs/MODEL_DATA_seedN`.
        resume: `auto` goes on from the newest checkpoint of the same configuration, `never` asks
            for a folder without a run, anything else is the path of a checkpoint to go on from.

    Raises:
        HarnessError: The input cannot be used; nothing was written over.
    """
    run = RunDir(out or default_out(config))
    checkpoint = _check_run(run, config, resume)
    accelerator = create_accelerator(run.path)
    setup_logging(is_main_process=accelerator.is_main_process)
    if run.is_finished:
        logger.info("%s is finished; nothing to train", run.path)
        if accelerator.is_main_process:
            run.save_config(config)  # How it is searched and evaluated may have changed.
        return run
    trainer = Trainer(config, run, accelerator)
    trainer.prepare(checkpoint)
    trainer.fit()
    return run


def default_out(config: Config) -> Path:
    """Return `runs/MODEL_DATA_seedN`, with `_float` behind the model in a float run."""
    kind = "_float" if config.train.mode == "float" else ""
    data = config.data.name.replace("/", "-")
    return RUNS / f"{config.model.name}{kind}_{data}_seed{config.seed}"


class Trainer:
    """State of one run in training."""

    def __init__(self, config: Config, run: RunDir, accelerator: Accelerator) -> None:
        """Load the data and build the model; nothing is written yet."""
        self.config = config
        self.run = run
        self.accelerator = accelerator
        self.splits: Splits = load_splits(config.data, seed=config.seed)
        self.model = build_model(config, self.splits).to(accelerator.device)
        lay_channels_last(self.model)
        self.loader = train_batches(
            self.splits.train, batch_size=config.train.batch_size, seed=config.seed
        )
        self.step = 0

    def prepare(self, checkpoint: Path | None) -> None:
        """Calibrate or restore, and hand model, optimizers and loader to Accelerate."""
        config, accelerator = self.config, self.accelerator
        if isinstance(self.model, Supernet) and checkpoint is None:
            calibrate_step_sizes(self.model, self.splits, config, accelerator)
        self.ema = ModelEmaV3(self.model, decay=config.train.ema_decay, use_warmup=True)
        progress, saved = (None, {}) if checkpoint is None else self._restore(checkpoint)
        optimizers = create_optimizers(self.model, config.train)
        for name, state in saved.items():
            optimizers[name].load_state_dict(state)
        prepared = accelerator.prepare(self.model, self.loader, *optimizers.values())
        self.prepared_model, self.loader = prepared[0], prepared[1]
        self.optimizers = dict(zip(optimizers, prepared[2:], strict=True))
        self.steps_per_epoch = len(self.loader)
        if self.steps_per_epoch == 0 and config.train.epochs > 0:
            raise DataError(
                f"train.batch_size {config.train.batch_size} in each of "
                f"{accelerator.num_processes} processes is more than the {len(self.splits.train)} "
                "training images; lower it or start fewer processes"
            )
        if progress is not None and progress.steps_per_epoch != self.steps_per_epoch:
            raise CheckpointError(
                f"checkpoint {checkpoint} has {progress.steps_per_epoch} steps per epoch, "
                f"{accelerator.num_processes} process(es) make it {self.steps_per_epoch}; "
                "start as many processes as before"
            )
        self.passes = self._create_passes()
        if accelerator.is_main_process:
            self.run.save_config(config)
            write_json(self.run.environment_path, environment())
            if isinstance(self.model, Supernet):
                save_network(self.run.network_path, self.model.network)
            self._forget_after(self.step)
        # Hides the events of steps that are taken again.
        purge = {"tensorboard": {"purge_step": self.step + 1}}
        accelerator.init_trackers("tensorboard", init_kwargs=purge)

    def fit(self) -> None:
        """Train to the last epoch, or until a stop signal; checkpoints tell where to go on."""
        train_config = self.config.train
        total_steps = train_config.epochs * self.steps_per_epoch
        with StopFlag() as stop, progress(enabled=self.accelerator.is_main_process) as bar:
            task = bar.add_task("training", total=total_steps, completed=self.step)
            is_stopped = False
            while self.step < total_steps and not is_stopped:
                epoch = self.step // self.steps_per_epoch
                is_stopped = self._train_epoch(epoch, total_steps, stop, lambda: bar.advance(task))
                is_last = self.step >= total_steps
                if self.step % self.steps_per_epoch == 0:
                    done = epoch + 1
                    if done % train_config.validate_every_epochs == 0 and not is_last:
                        self._validate(done)
                    if done % train_config.checkpoint_every_epochs == 0 and not is_last:
                        self._save()
        if is_stopped and self.step < total_steps:
            self._save()
            self._close_trackers()
            raise Stopped(
                f"stopped by a signal at step {self.step} of {total_steps}, saved in "
                f"{self.run.path}; run the same command again to go on"
            )
        self._finish(total_steps)

    def _train_epoch(self, epoch: int, total_steps: int, stop: StopFlag, advance: Any) -> bool:
        """Train to the end of an epoch; return whether the ranks agreed to stop before it.

        Only what they agreed on counts: a signal that reaches one rank while it validates or saves
        must not part it from the others, so it waits for the next step.
        """
        self.prepared_model.train()
        for images, labels in self._remaining_batches(epoch):
            losses = self._optimize(images, labels, total_steps)
            self.step += 1
            advance()
            if self.step % LOG_EVERY_STEPS == 0 or self.step == total_steps:
                self._log({"epoch": epoch, **losses.as_floats()})
            if self._any_rank(stop):
                return True
        return False

    def _remaining_batches(self, epoch: int) -> Any:
        """Return the epoch's batches from the present step on."""
        done_steps = self.step - epoch * self.steps_per_epoch
        loader: Any = self.loader
        loader.set_epoch(epoch)
        if done_steps:
            loader = self.accelerator.skip_first_batches(loader, done_steps)
            loader.set_epoch(epoch)
        return loader

    def _optimize(self, images: Tensor, labels: Tensor, total_steps: int) -> StepLosses:
        train_config = self.config.train
        factor = learning_rate_factor(
            self.step,
            total_steps=total_steps,
            warmup_steps=round(train_config.warmup_epochs * self.steps_per_epoch),
        )
        set_learning_rates(self.optimizers, train_config, factor=factor)
        seed_step(self.config.seed, self.step, rank=self.accelerator.process_index)
        losses = self.passes(images, labels, self.step)
        clip_gradients(self.model, train_config.gradient_clip)
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        self.ema.update(self.model, step=self.step)
        return losses

    def _any_rank(self, stop: StopFlag) -> bool:
        """Agree over ranks on stopping, so that none waits for another."""
        if self.accelerator.num_processes == 1:
            return stop.is_set
        flag = torch.tensor([float(stop.is_set)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum").item() > 0)

    def _create_passes(self) -> StepPasses:
        train_config = self.config.train
        if not isinstance(self.model, Supernet):
            return float_passes(
                self.accelerator, self.prepared_model, smoothing=train_config.label_smoothing
            )
        return SupernetPasses(
            self.accelerator,
            self.prepared_model,
            candidates=self.model.network.candidates,
            num_random_passes=train_config.num_random_passes,
            seed=self.config.seed,
            smoothing=train_config.label_smoothing,
        )

    def _validate(self, epoch: int) -> dict[str, float]:
        self._share_buffers()
        accuracies = validate(self.ema.module, self.splits, self.config)
        self._log({"epoch": epoch, **{f"search_accuracy/{k}": v for k, v in accuracies.items()}})
        shown = "  ".join(f"{label} {value:.3f}" for label, value in accuracies.items())
        logger.info("epoch %d, accuracy on the search split: %s", epoch, shown)
        return accuracies

    def _finish(self, total_steps: int) -> None:
        if newest_step(self.run) != total_steps:
            self._save()
        accuracies = self._validate(self.config.train.epochs)
        if self.accelerator.is_main_process:
            write_json(
                self.run.summary_path,
                {"steps": total_steps, "accuracy": {"search": accuracies}},
            )
        self._close_trackers()
        logger.info("finished %s", self.run.path)

    def _close_trackers(self) -> None:
        """Flush the trackers; `end_training` would also leave the process group, for a search."""
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def _save(self) -> None:
        self._share_buffers()
        if self.accelerator.is_main_process:
            states = {name: opt.state_dict() for name, opt in self.optimizers.items()}
            save_checkpoint(
                self.run,
                TrainingProgress(
                    step=self.step,
                    steps_per_epoch=self.steps_per_epoch,
                    config_fingerprint=self.config.training_fingerprint(),
                ),
                model=self.model,
                ema=self.ema.module,
                optimizers=states,
                keep=self.config.train.keep_checkpoints,
            )
        self.accelerator.wait_for_everyone()

    def _restore(self, checkpoint: Path) -> tuple[TrainingProgress, dict[str, Any]]:
        progress = load_progress(checkpoint)
        states = load_training_state(checkpoint, model=self.model, ema=self.ema.module)
        self.step = progress.step
        logger.info("going on from step %d of %s", self.step, checkpoint)
        return progress, states

    def _forget_after(self, step: int) -> None:
        """Drop metrics of steps that a kill lost, so that they do not stand there twice."""
        if self.run.metrics_path.exists():
            lines = self.run.metrics_path.read_text(encoding="utf-8").splitlines(keepends=True)
            total = self.config.train.epochs * self.steps_per_epoch
            kept = [line for line in lines if _is_past(line, step=step, total_steps=total)]
            write_text(self.run.metrics_path, "".join(kept))

    def _share_buffers(self) -> None:
        """Give every rank the averaged BN statistics of rank 0, which alone are saved."""
        if self.accelerator.num_processes > 1:
            for buffer in self.ema.module.buffers():
                buffer.copy_(broadcast(buffer))

    def _log(self, values: dict[str, float]) -> None:
        scalars = {key: value for key, value in values.items() if key != "epoch"}
        self.accelerator.log(scalars, step=self.step)
        if self.accelerator.is_main_process:
            line = json.dumps({"step": self.step, **values})
            with self.run.metrics_path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def newest_step(run: RunDir) -> int | None:
    """Return the step of the run's newest checkpoint; None where there is none."""
    checkpoint = newest_checkpoint(run)
    return None if checkpoint is None else load_progress(checkpoint).step


def _check_run(run: RunDir, config: Config, resume: str) -> Path | None:
    """Return the checkpoint to go on from, after checking that nothing is in the way."""
    run.check_writable()
    given = None if resume in ("auto", "never") else _check_checkpoint(Path(resume), config)
    newest = newest_checkpoint(run)
    if not run.config_path.exists():
        if newest is not None or run.is_finished:
            raise RunError(
                f"{run.path} holds a run without {run.config_path.name}; restore that file, "
                "or give another --out"
            )
        return given
    if resume == "never":
        raise RunError(
            f"{run.path} holds a run and --resume is never; give another --out or remove it"
        )
    if run.load_config().training_fingerprint() != config.training_fingerprint():
        raise RunError(
            f"{run.path} holds a run of another configuration; give another --out or remove it"
        )
    if newest is None:
        if run.is_finished:
            raise CheckpointError(
                f"{run.path} is finished and its checkpoints are gone; "
                "restore them, or remove the folder to train again"
            )
        return given
    # A run that began from a checkpoint of another folder goes on by the same command.
    if (
        given is not None
        and not given.samefile(newest)
        and (
            given.parent.samefile(newest.parent)
            or load_progress(given).step > load_progress(newest).step
        )
    ):
        raise RunError(
            f"{run.path} holds a run already, and {given} is not its newest checkpoint; "
            "give another --out, or --resume auto to go on with that run"
        )
    return _check_checkpoint(newest, config)


def _check_checkpoint(checkpoint: Path, config: Config) -> Path:
    if not checkpoint.is_dir():
        raise CheckpointError(
            f"checkpoint {checkpoint} is not a folder; give --resume a "
            "runs/NAME/checkpoints/step_… folder, auto or never"
        )
    check_configuration(checkpoint, config)
    return checkpoint


def _is_past(line: str, *, step: int, total_steps: int) -> bool:
    """Return whether a line of the metrics is whole and will not be written again."""
    try:
        values = json.loads(line)
        line_step = int(values["step"])
    except (KeyError, TypeError, ValueError):
        return False
    # The validation behind the last step follows its checkpoint.
    is_last = line_step == total_steps and any(key.startswith("search_acc") for key in values)
    return line.endswith("\n") and line_step <= step and not is_last
