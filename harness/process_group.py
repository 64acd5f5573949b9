"""The group of processes that work as one: joining it, losing it, leaving it, speaking for it."""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread
from typing import Any, NoReturn, TypeVar

import torch.distributed as dist
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, gather_object
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from harness import ranks
from harness.errors import HarnessError, RankError, RunError

DEFAULT_RANK_TIMEOUT_SECONDS = 1800
"""What torch waits over gloo where it is told nothing."""

MEETING_SECONDS = 20.0
"""Longest wait of a failing rank for the others, to find out who says what is wrong."""

FAREWELL_SECONDS = 5.0
"""The same, once they have joined or tried to: they are then as far as this one, or gone."""

CAUSE_SECONDS = 3.0
"""Longest wait of a rank that lost another for that one to say why it ended."""

RETRY_SECONDS = 0.05

Decision = TypeVar("Decision")

KEY = "harness/messages/"
"""Before the names under which ranks tell each other what they print."""

# What the group was joined with, kept beyond its end, when there still is something to say.
_joined: dict[str, Any] = {"store": None, "timeout_seconds": 0}


def group_options(timeout_seconds: int) -> InitProcessGroupKwargs:
    """Return what Accelerate shall form the group with.

    Args:
        timeout_seconds: Longest wait for another rank.
    """
    # Accelerate passes on only what differs from its own default, 600 seconds, where that of gloo
    # is 1800: a microsecond makes every number count.
    return InitProcessGroupKwargs(timeout=timedelta(seconds=timeout_seconds, microseconds=1))


@contextmanager
def joining(timeout_seconds: int) -> Iterator[None]:
    """Form the group of all ranks in the `with` block.

    Args:
        timeout_seconds: Longest wait for another rank.

    Raises:
        RunError: The ranks do not find each other.
    """
    _joined["timeout_seconds"] = timeout_seconds
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if ranks.num_to_join() == 1:
            raise
        raise RunError(
            f"{ranks.num_to_join()} processes were started and do not find each other "
            f"({_first_line(error)}; train.rank_timeout_seconds is {timeout_seconds}); check that "
            "each runs, and that in each MASTER_ADDR and MASTER_PORT are those of rank 0"
        ) from None
    if dist.is_initialized():
        _joined["store"] = dist.distributed_c10d._get_default_store()


def lost_rank(error: RuntimeError) -> RankError | None:
    """Return in words that another rank is gone or silent, where that is what an error is about."""
    text = str(error)
    if _joined["store"] is None or not (isinstance(error, dist.DistError) or "gloo" in text):
        return None
    if "timed out" in text.lower() or "timeout" in text.lower():
        return RankError(
            f"a rank did not answer within {_joined['timeout_seconds']} seconds "
            "(train.rank_timeout_seconds); what was saved is kept, end all ranks and run the same "
            "command again to go on"
        )
    return RankError(
        "a rank ended while the others needed it; what was saved is kept, see what ended it and "
        "run the same command again to go on"
    )


@contextmanager
def saying(message: str, *, is_consequence: bool) -> Iterator[bool]:
    """Tell the `with` block whether this rank is the one that prints an error.

    The first rank that has a message prints it, others with the same one are silent. A message
    that only tells that another rank ended is left to that one, if it says why.

    Args:
        message: What is to be printed.
        is_consequence: It tells what became of another rank.
    """
    if ranks.num_to_join() == 1 or not {"MASTER_ADDR", "MASTER_PORT", "RANK"} <= os.environ.keys():
        # Nowhere to meet: rank 0 speaks for all.
        yield ranks.is_main_process()
        return
    wait_seconds = FAREWELL_SECONDS if _joined["timeout_seconds"] else MEETING_SECONDS
    deadline = time.monotonic() + wait_seconds
    answers: list[bool] = []
    # Where the rank that holds the store was stopped, a call to it never returns.
    asking = Thread(target=_ask, args=(message, answers), kwargs={"is_cause": not is_consequence})
    asking.daemon = True
    asking.start()
    asking.join(wait_seconds)
    yield answers[0] if answers else True
    waiting = Thread(target=_await_others, args=(deadline,), daemon=True)
    waiting.start()
    waiting.join(max(deadline - time.monotonic(), 0))


def decided_by_rank_0(decide: Callable[[], Decision]) -> Decision:
    """Return what rank 0 decides, on every rank; the others do not look for themselves.

    Ranks that read the same folder at different times, or through different caches, may see
    different things in it. One that then did something else would be waited for by the rest.

    Args:
        decide: Called on rank 0 alone; what it returns can be pickled.

    Raises:
        HarnessError: Rank 0 has raised it; on every rank.
    """
    if not dist.is_initialized():
        return decide()
    told: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            told[0] = decide()
        except HarnessError as refusal:
            told[1] = refusal
    broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    decision: Decision = told[0]
    return decision


def is_so_on_any_rank(is_so: bool) -> bool:  # noqa: FBT001 - What the question is about.
    """Return whether any rank says yes; every rank asks, and learns the same."""
    return any(gather_object([is_so])) if dist.is_initialized() else is_so


def leave_process_group() -> None:
    """Say goodbye to the other ranks; does nothing in a single process."""
    if dist.is_initialized():
        dist.destroy_process_group()


def exit_rank(code: int) -> NoReturn:
    """End one process of several without the interpreter's farewell; all files must be written.

    Where DistributedDataParallel was used, threads of gloo outlive the process group. One that just
    then waits for the interpreter, to free the tensor of a reduction, aborts a process that
    finalizes ("terminate called without an active exception"; on a busy machine one in five).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _ask(message: str, answers: list[bool], *, is_cause: bool) -> None:
    """Find out whether this rank is the first to say a message; no answer if ranks do not meet."""
    try:
        store = _store()
        if is_cause:
            store.set(f"{KEY}cause", "said")
        elif _is_set_within(store, f"{KEY}cause", CAUSE_SECONDS):
            answers.append(False)
            return
        digest = hashlib.sha256(message.encode()).hexdigest()
        answers.append(store.add(f"{KEY}{digest}", 1) == 1)
    except (RuntimeError, ValueError):
        return


def _await_others(deadline: float) -> None:
    """Keep the store up, where this rank holds it, until every other rank has asked it."""
    try:
        store = _store()
        store.add(f"{KEY}ended", 1)
        if not _holds_store():
            return
        while store.add(f"{KEY}ended", 0) < ranks.num_to_join() and time.monotonic() < deadline:
            time.sleep(RETRY_SECONDS)
    except (RuntimeError, ValueError):
        return


def _is_set_within(store: Store, key: str, seconds: float) -> bool:
    try:
        store.wait([key], timedelta(seconds=seconds))
    except RuntimeError:
        return False
    return True


def _store() -> Store:
    """Return the store that the ranks met at, or were about to."""
    if _joined["store"] is None:
        timeout = timedelta(seconds=MEETING_SECONDS)
        _joined["store"], _, _ = next(rendezvous("env://", timeout=timeout))
    store: Store = _joined["store"]
    return store


def _holds_store() -> bool:
    is_launchers = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return ranks.is_main_process() and not is_launchers


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
