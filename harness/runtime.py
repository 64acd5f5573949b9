"""The process a run lives in: Accelerator, seeds, logging, stop signals, machine facts."""

import ctypes
import logging
import os
import platform
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import nn
from typing_extensions import Self

import harness
from harness import ranks
from harness.deepspeed_config import check_deepspeed_runs, deepspeed_plugin, is_asked_for
from harness.errors import Stopped
from harness.observer import Work
from harness.process_group import DEFAULT_RANK_TIMEOUT_SECONDS, group_options, joining
from harness.quant.fake_quantize import NCHW_DIMS
from harness.terminal import console, log_handler

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, a scheduler's termination, and SLURM's warning before the time limit."""


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of settings in malloc.h."""

MAX_HEAP_TENSOR_BYTES = 32 * 2**20
"""Larger tensors are mapped and unmapped one by one; the most that glibc allows."""

MAX_FREE_BYTES = 2**31 - 1
"""Free memory beyond this goes back to the system; the largest number that `mallopt` takes."""


def create_accelerator(
    project: Path | None = None,
    *,
    trackers: Sequence[str] = (),
    rank_timeout_seconds: int = DEFAULT_RANK_TIMEOUT_SECONDS,
) -> Accelerator:
    """Return the Accelerator of this process, which joins those that were started with it.

    Args:
        project: Run folder, where trackers that keep files put them.
        trackers: Names of trackers that can be used here (training/trackers.py).
        rank_timeout_seconds: Longest wait for another process.

    Raises:
        RunError: Several processes were started that do not work as one.
    """
    group = group_options(rank_timeout_seconds)
    with joining(rank_timeout_seconds):
        accelerator = Accelerator(
            cpu=_joins_over_cpu(),
            log_with=list(trackers) or None,
            project_dir=None if project is None else str(project),
            kwargs_handlers=[
                # Every rank's BN statistics come from rank 0 when they are read, not before every
                # pass.
                DistributedDataParallelKwargs(broadcast_buffers=False),
                group,
            ],
            deepspeed_plugin=deepspeed_plugin(timeout=group.timeout),
        )
    ranks.check_joined(accelerator.num_processes)
    check_deepspeed_runs(accelerator)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
        # Left to itself DeepSpeed, which Accelerate imports, warns that it found no GPU.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    return accelerator


def _joins_over_cpu() -> bool:
    """Return whether to tell Accelerate to join processes that have no accelerator between them.

    By itself it would leave each of them alone; under DeepSpeed it joins them otherwise.
    """
    is_alone = ranks.num_to_join() == 1
    return not is_alone and not is_asked_for() and not torch.accelerator.is_available()


def keep_freed_memory() -> None:
    """Have the C library keep memory that tensors free, for the next tensors; glibc only.

    By default it returns feature maps to the system as soon as they are freed, and the next layer
    waits while the system maps and clears the same memory again: a third of the time of evaluating
    resnet20 (`python -m benchmarks.allocator`).
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        # Setting one of the two stops glibc from adapting the other, so both are set.
        library.mallopt(M_MMAP_THRESHOLD, MAX_HEAP_TENSOR_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, MAX_FREE_BYTES)


def lay_channels_last(model: nn.Module) -> None:
    """Lay convolution weights out channels-last, in which forward and backward are faster.

    Outputs follow the weights. `model.to(memory_format=...)` would also give 1 x 1 kernels strides
    that their gradients do not have, at which data-parallel reducers copy and warn.
    """
    for parameter in model.parameters():
        if parameter.dim() == NCHW_DIMS:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def setup_logging(*, is_main_process: bool = True) -> None:
    """Send log records of rank 0 to the terminal's error stream; other ranks report errors."""
    logger = logging.getLogger("harness")
    logger.handlers = [log_handler()]
    logger.propagate = False
    logger.setLevel(logging.INFO if is_main_process else logging.ERROR)


class TerminalObserver:
    """Shows work on the error stream from the first that begins until the `with` block ends."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),  # Without a total it shows a count alone.
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[how]}", markup=False),
            console=console(stderr=True),  # Standard output is for results.
        )

    def begin(self, name: str, *, total: float | None = None, done: float = 0.0) -> Work:
        """Show new work."""
        self._progress.start()
        shown = self._progress.add_task(name, total=total, how="")
        self._progress.update(shown, completed=done)
        return _TerminalWork(self._progress, shown, done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._progress.tasks:  # Stopping what never started would print an empty line.
            self._progress.stop()


class _TerminalWork:
    def __init__(self, display: Progress, task: TaskID, done: float) -> None:
        self._display = display
        self._task = task
        self._done = done

    def advance(self, amount: float = 1.0) -> None:
        self._done += amount
        self._display.update(self._task, completed=self._shown())

    def say(self, how: str) -> None:
        self._display.update(self._task, how=how)

    def end(self) -> None:
        self._display.update(self._task, total=self._shown())

    def _shown(self) -> float:
        # The display cuts off what is behind the point: ten tenths must be 1, not 0.99999999.
        return round(self._done, 6)


def seed_step(seed: int, step: int, *, rank: int = 0) -> None:
    """Seed what a step draws globally (dropout) as a pure function of seed, step and rank."""
    state = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(state) & (2**63 - 1))


def seed_everything(seed: int) -> None:
    """Seed every global generator, for the initial weights."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - third-party code draws from the global one.
    torch.manual_seed(seed)


def environment() -> dict[str, Any]:
    """Return versions and hardware, for `environment.json`."""
    names = ("torch", "accelerate", "deepspeed", "datasets", "timm", "numpy")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "harness": harness.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _installed_version(name) for name in names},
        "threads": torch.get_num_threads(),
        "gpus": devices,
    }


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class StopFlag:
    """Turns stop signals into a flag that the loop reads at step boundaries; a second one aborts.

    Attributes:
        signal_number: The first signal that came; 0 while there is none.

    >>> with StopFlag() as stop:
    ...     stop.signal_number
    0
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Install the handlers; outside the main thread, where none can be, do nothing."""
        self._previous = _handle_stop_signals(STOP_SIGNALS, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the previous handlers back."""
        _handle_by(self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = self.signal_number or number


@contextmanager
def stop_signals_raise() -> Iterator[None]:
    """Raise `Stopped` in the `with` block where a stop signal comes; Ctrl-C by way of Python's own.

    Files are whole at any time. Without it such a signal would end the process without a word.
    """
    process = os.getpid()
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        # Processes that decode images inherit this, and are ended by the one that started them.
        if os.getpid() == process and not came:
            came.append(number)
            raise _stopped(number)

    previous = _handle_stop_signals(STOP_SIGNALS[1:], handle)
    try:
        yield
    except KeyboardInterrupt:
        raise _stopped(signal.SIGINT) from None
    finally:
        _handle_by(previous)


def _stopped(number: int) -> Stopped:
    how = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    return Stopped(
        f"{how}, what was done is kept; harness train and demo go on by the same command, harness "
        "search with --resume",
        signal_number=number,
    )


def _handle_stop_signals(numbers: tuple[signal.Signals, ...], handler: Any) -> dict[int, Any]:
    """Install a handler and return those before it; nothing where none can be installed."""
    previous: dict[int, Any] = {}
    try:
        for number in numbers:
            previous[number] = signal.signal(number, handler)
    except ValueError:  # Outside the main thread.
        previous.clear()
    return previous


def _handle_by(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
