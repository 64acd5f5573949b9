"""How the command line ends: exit codes, mistakes in one line, what several ranks may print."""

import errno
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NoReturn

import typer

from harness import ranks
from harness.errors import HarnessError, RankError, Stopped
from harness.terminal import console, in_one_line, print_anything

REMEDIES = {
    errno.ENOSPC: "free some and run the command again",
    errno.EDQUOT: "free some and run the command again",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f) and run the command again",
    errno.EIO: "check the disk and run the command again",
    errno.EROFS: "write to another file system, or give another --out",
}
"""What to do where a file cannot be written, by the reason."""

USER_ERROR = 2
BY_SIGNAL = 128
"""Added to the number of the signal that ended a command, as a shell does."""


def run_app(app: typer.Typer, arguments: Sequence[str] | None = None) -> None:
    """Run the commands of an app and exit.

    0 done, 2 mistake in the input, 130 interrupted (Ctrl-C), 138 stopped by SIGUSR1 (SLURM's
    warning before the time limit), 143 by SIGTERM; after the last three the same command goes on.
    """
    if ranks.num_to_join() > 1:
        # Below that level torch tells in stack frames how it waits for another rank.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    print_anything()
    try:
        with _only_main_process_prints():
            _run(app, arguments)
    except SystemExit as done:
        if ranks.num_to_join() == 1:
            raise
        from harness.process_group import exit_rank

        exit_rank(done.code if isinstance(done.code, int) else USER_ERROR)


def _run(app: typer.Typer, arguments: Sequence[str] | None) -> None:
    try:
        _call_app(app, None if arguments is None else list(arguments))
    except Stopped as stop:
        _fail(str(stop), code=BY_SIGNAL + stop.signal_number)
    except HarnessError as error:
        _fail(str(error), is_consequence=isinstance(error, RankError))
    except OSError as error:
        if error.filename is None and error.errno not in REMEDIES:
            raise  # Not about a file of the user's.
        # Files that are written are named (`run/files.py`): without a name it is what is printed.
        name = error.filename or "standard output"
        if error.filename is None:
            # The interpreter must not try to write the rest of it at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        reason = (error.strerror or "unusable").lower()
        remedy = REMEDIES.get(error.errno or 0, "check the path and its permissions")
        _fail(f"{os.fsdecode(name)}: {reason}; {remedy}")
    except KeyboardInterrupt:
        sys.exit(BY_SIGNAL + signal.SIGINT)


def _call_app(app: typer.Typer, arguments: list[str] | None) -> NoReturn:
    if ranks.is_main_process():
        app(args=arguments)  # Exits.
    # Every rank has the same arguments: what is wrong with them is for rank 0 to say.
    try:
        sys.exit(app(args=arguments, standalone_mode=False) or 0)
    except Exception as error:
        if not hasattr(error, "exit_code"):  # Of which module the class is depends on typer.
            raise
        sys.exit(error.exit_code)


def _fail(message: str, *, code: int = USER_ERROR, is_consequence: bool = False) -> NoReturn:
    with _saying(message, is_consequence=is_consequence) as is_ours:
        if is_ours:
            console(stderr=True).print(in_one_line(f"error: {message}"))
    sys.exit(code)


@contextmanager
def _saying(message: str, *, is_consequence: bool) -> Iterator[bool]:
    if ranks.num_to_join() == 1:
        yield ranks.is_main_process()
        return
    from harness.process_group import saying

    with saying(message, is_consequence=is_consequence) as is_ours:
        yield is_ours


@contextmanager
def _only_main_process_prints() -> Iterator[None]:
    """Drop what other ranks print, for all have the same results; errors come through."""
    if ranks.is_main_process():
        yield
        return
    warnings.simplefilter("ignore")  # Libraries warn on every rank alike.
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def working() -> Iterator[None]:
    """Send to stderr whatever the work prints, and leave the process group when it ends.

    Stdout is for results alone; DeepSpeed, for one, logs to it.
    """
    from harness.process_group import leave_process_group, lost_rank
    from harness.runtime import stop_signals_raise

    with redirect_stdout(sys.stderr):
        try:
            with stop_signals_raise():
                yield
        except RuntimeError as error:
            problem = lost_rank(error)
            if problem is None:
                raise
            raise problem from None
        finally:
            leave_process_group()
