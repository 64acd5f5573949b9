"""The training loop: epochs of optimizer steps, validations and checkpoints, whatever the task."""

import logging
import time
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

from harness.checkpoint import save_checkpoint
from harness.data import one_line_for_lost_workers, raise_errors
from harness.errors import NotFiniteError, Stopped
from harness.observer import SILENCE, Observer, Work
from harness.quant.finite import first_unusable
from harness.run.config import Config
from harness.run.files import write_json
from harness.run.folder import SUMMARY_FORMAT, RunDir
from harness.runtime import StopFlag, seed_step
from harness.training.engine import Engine
from harness.training.look_back import look_back
from harness.training.loss_guard import BadStep, LossGuard
from harness.training.metrics import (
    ACCURACY_PREFIX,
    IMAGES_PER_SECOND,
    MetricsLog,
    epoch_of_step,
)
from harness.training.mixing import BatchMixing
from harness.training.optim import learning_rate_factor, set_learning_rates
from harness.training.state import TrainingState
from harness.training.trackers import close_trackers, start_trackers

logger = logging.getLogger(__name__)

LOG_EVERY_STEPS = 10
"""Steps between rows of losses in metrics.jsonl; reading a loss waits for the device."""


class Loop:
    """Takes a training state from where it stands to the last step."""

    def __init__(
        self,
        config: Config,
        run: RunDir,
        accelerator: Accelerator,
        *,
        state: TrainingState,
        engine: Engine,
        loader: Any,
    ) -> None:
        """Take what every step needs; `assemble.assemble` builds it.

        Args:
            config: The whole configuration.
            run: The run's folder.
            accelerator: Of this process.
            state: Where the run stands.
            engine: Computes gradients and takes the optimizer's steps.
            loader: The training batches as `prepare` returned them.
        """
        self.state = state
        self._config = config
        self._run = run
        self._accelerator = accelerator
        self.engine = engine
        self._loader = loader
        self._metrics = MetricsLog(run.metrics_path, mode=config.train.mode)
        assert state.data is not None, "a run knows its images"
        self._mixing = BatchMixing(
            config.train,
            num_classes=len(state.data.class_names),
            seed=config.seed,
            rank=accelerator.process_index,
        )
        self._guard = LossGuard(
            accelerator,
            explain=self._explain,
            explosion_factor=config.train.explosion_factor,
            num_classes=len(state.data.class_names),
        )
        self._total_steps = config.train.epochs * state.steps_per_epoch

    def fit(self, observer: Observer = SILENCE) -> None:
        """Train to the last epoch, or until a stop signal; checkpoints tell where to go on.

        Args:
            observer: Told, on the main process, how far it is.

        Raises:
            Stopped: By a signal; the state is saved.
            NotFiniteError: A loss or a weight is no finite number, or a loss explodes; on every
                rank alike. The checkpoints from before are kept, and none is written.
            RunError: A tracker cannot be started.
        """
        try:
            with one_line_for_lost_workers():
                self._fit(observer)
        finally:
            close_trackers(self._accelerator)

    def _fit(self, observer: Observer) -> None:
        state, is_main = self.state, self._accelerator.is_main_process
        if is_main:
            self._metrics.start(step=state.step, total_steps=self._total_steps)
        start_trackers(self._accelerator, self._config, self._run, step=state.step)
        # Before the first step too: a run that is killed then has something to go on from.
        self._save()
        stopped_by = 0
        watcher = observer if is_main else SILENCE
        work = watcher.begin("training", total=self._total_steps, done=state.step)
        with StopFlag() as stop:
            while state.step < self._total_steps and not stopped_by:
                stopped_by = self._train_epoch(stop, work)
                if state.step % state.steps_per_epoch == 0:
                    self._end_epoch()
            # Schedulers repeat a signal when it did not end the process at once.
            self._save()
            if stopped_by and state.step < self._total_steps:
                raise Stopped(
                    f"stopped by a signal at step {state.step} of {self._total_steps}, saved in "
                    f"{self._run.path}; run the same command again to go on",
                    signal_number=stopped_by,
                )
        self._finish()

    def _train_epoch(self, stop: StopFlag, work: Work) -> int:
        """Train to the end of an epoch; return the signal by which the ranks agreed to stop, or 0.

        What all agreed on counts, not the flag of this rank. A signal may reach one rank alone, and
        while it validates or saves: if it left then, the others would wait for it for ever.
        """
        self.engine.model.train()
        num_images, began = 0, time.perf_counter()
        for images, labels in raise_errors(self.remaining_batches()):
            losses, signal_number = self.take_step(images, labels, stop)
            work.advance()
            num_images += len(images) * self._accelerator.num_processes
            if self.state.step % LOG_EVERY_STEPS == 0 or self.state.step == self._total_steps:
                self._guard.read()
                values = {name: float(value) for name, value in losses.items()}
                # Only now has the device done what the time is of.
                values[IMAGES_PER_SECOND] = round(num_images / (time.perf_counter() - began), 1)
                num_images, began = 0, time.perf_counter()
                self._log(values, epoch=epoch_of_step(self.state.step, self.state.steps_per_epoch))
                work.say(_how_it_goes(values))
            if signal_number:
                return signal_number
        return 0

    def remaining_batches(self) -> Any:
        """Return the epoch's batches from the present step on."""
        epoch_index = self.state.epochs_done
        done_steps = self.state.step - epoch_index * self.state.steps_per_epoch
        loader = self._loader
        loader.set_epoch(epoch_index)
        if done_steps:
            loader = self._accelerator.skip_first_batches(loader, done_steps)
            loader.set_epoch(epoch_index)
        return loader

    def take_step(
        self, images: Tensor, labels: Tensor, stop: StopFlag
    ) -> tuple[dict[str, Tensor], int]:
        """Take one optimizer step; return its terms, and the signal that any rank was sent, or 0.

        In one exchange, so that none stops while others wait for it.
        """
        state, engine, train_config = self.state, self.engine, self._config.train
        factor = learning_rate_factor(
            state.step,
            total_steps=self._total_steps,
            warmup_steps=round(train_config.warmup_epochs * state.steps_per_epoch),
        )
        set_learning_rates(engine.optimizer, train_config, factor=factor)
        seed_step(self._config.seed, state.step, rank=self._accelerator.process_index)
        # Here, so that whatever looks back at a step has what its passes were given.
        images, labels = self._mixing(images, labels, step=state.step)
        with engine.adding_up():
            progress = state.step / self._total_steps
            losses = state.task.run_passes(
                engine, images, labels, step=state.step, progress=progress
            )
        # Before the optimizer: a loss that is no number would spoil the weights and their average.
        told = self._guard.look(
            losses, images, step=state.step + 1, signal_number=stop.signal_number
        )
        engine.step()
        with engine.whole_weights():
            state.ema.update(state.task.model, step=state.step)
        state.step += 1
        # A single process has nothing to agree on: a signal that just came counts as well.
        return losses.terms, told if self._accelerator.num_processes > 1 else stop.signal_number

    def _explain(self, bad: BadStep) -> str:
        """Return in words which pass ends the run, and where in it; on every rank."""
        passes = self.state.task.passes(self.engine, step=bad.step - 1)[: bad.pass_index + 1]
        name, _ = passes[-1]
        if bad.images is None:
            return name
        seed_step(self._config.seed, bad.step - 1, rank=self._accelerator.process_index)
        model, is_finite = self.state.task.model, bad.is_loss_finite
        return f"{name}, {look_back(model, bad.images, passes, is_loss_finite=is_finite)}"

    def _end_epoch(self) -> None:
        """Let the task change, then validate and save where it is time; the last is `_finish`."""
        epoch, train_config = self.state.epochs_done, self._config.train
        self._guard.read()  # The passes of these steps are known until the task changes.
        with self.engine.whole_weights():
            changes = self.state.task.end_epoch(epoch)
        if changes:
            self._log(changes, epoch=epoch)
        if self.state.step == self._total_steps:
            return
        if epoch % train_config.validate_every_epochs == 0:
            self._validate()
        if epoch % train_config.checkpoint_every_epochs == 0:
            self._save()

    def _validate(self) -> dict[str, float]:
        self._share_buffers()
        epoch = self.state.epochs_done
        accuracies = self.state.task.validate(self.state.ema.module)
        self._log({f"{ACCURACY_PREFIX}{k}": v for k, v in accuracies.items()}, epoch=epoch)
        shown = "  ".join(f"{label} {value:.3f}" for label, value in accuracies.items())
        logger.info("epoch %d, accuracy on the search split: %s", epoch, shown)
        return accuracies

    def _finish(self) -> None:
        """Validate the last step, which is saved, and mark the run finished."""
        accuracies = self._validate()
        if self._accelerator.is_main_process:
            values = {"steps": self._total_steps, "accuracy": {"search": accuracies}}
            write_json(self._run.summary_path, values, file_format=SUMMARY_FORMAT)
        logger.info("finished %s", self._run.path)

    def _save(self) -> None:
        self._share_buffers()
        # Ranks may hold the moments, and the weights, in parts: all of them take part.
        moments = self.engine.optimizer_state()
        with self.engine.whole_weights():
            saved = {**self.state.state_dict(), "optimizer": moments}
            self._check_finite(saved)
            if self._accelerator.is_main_process:
                save_checkpoint(self._run, saved, keep=self._config.train.keep_checkpoints)
        self._accelerator.wait_for_everyone()

    def _check_finite(self, saved: dict[str, Any]) -> None:
        """Check, on every rank, that what would be saved can be computed with."""
        self._guard.read()
        problem = first_unusable(saved)
        has_problem = torch.tensor([float(problem is not None)], device=self._accelerator.device)
        if self._accelerator.reduce(has_problem, reduction="sum").item() > 0:
            raise NotFiniteError(
                f"after step {self.state.step} {problem or 'the state of another process'}, so no "
                "checkpoint was written, those from before are kept; train again with a lower "
                "train.learning_rate"
            )

    def _share_buffers(self) -> None:
        """Give every rank the averaged BN statistics of rank 0, which alone are saved."""
        if self._accelerator.num_processes > 1:
            for buffer in self.state.ema.module.buffers():
                buffer.copy_(broadcast(buffer))

    def _log(self, values: dict[str, float], *, epoch: int) -> None:
        self._accelerator.log(values, step=self.state.step)
        if self._accelerator.is_main_process:
            self._metrics.append(values, step=self.state.step, epoch=epoch)


def _how_it_goes(values: dict[str, float]) -> str:
    """Return a row of losses in the few words that stand beside the progress.

    >>> _how_it_goes({"ce": 0.51234, "images_per_second": 1234.5})
    'ce 0.512  1,234 images/s'
    """
    losses = [f"{name} {value:.3g}" for name, value in values.items() if name != IMAGES_PER_SECOND]
    return "  ".join([*losses, f"{values[IMAGES_PER_SECOND]:,.0f} images/s"])
