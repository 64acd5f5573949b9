"""Reading of evaluation images: each is decoded once, by one pool of workers, and then kept.

A search passes over the same images tens of times. What a pass has decoded stays in memory as uint8
up to `MAX_KEPT_BYTES`; only the rest is decoded again by the next pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from harness.data.encoded import EncodedImages
from harness.errors import DataError

MAX_KEPT_BYTES = 2 * 2**30
"""Decoded pixels that one process keeps, over all splits; the images read first stay."""

LOST_WORKER = (
    "a process that decodes images was ended from outside; free memory, or lower data.num_workers"
)

_Key = tuple[str, Sequence[int]]  # A split and places in it, for one worker to decode at a time.


class EvalReader:
    """The evaluation images of all splits of a run.

    At most one pool of workers is ever alive. It starts when a pass first has several batches to
    decode, and serves all later passes over any split.

    Attributes:
        images: Images of each split, by its name.
        num_workers: Processes of the pool; 0 decodes in this process.
    """

    def __init__(self, images: Mapping[str, EncodedImages], *, num_workers: int) -> None:
        self.images = images
        self.num_workers = num_workers
        self._kept: dict[str, dict[int, Tensor]] = {split: {} for split in images}
        self._free_bytes = MAX_KEPT_BYTES
        self._keys = _KeySequence()
        self._pool: DataLoader[Any] | None = None
        self._pass_in_pool: object | None = None

    def read(self, split: str, batches: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """Yield the pixels of each batch of places in a split, uint8 (N, C, H, W).

        Passes may be abandoned, and one may begin before another has ended.

        Raises:
            DataError: An image cannot be decoded.
        """
        kept = self._kept[split]
        missing = [[number for number in batch if number not in kept] for batch in batches]
        decoded = self._decode([(split, numbers) for numbers in missing if numbers])
        for batch, numbers in zip(batches, missing, strict=True):
            if not numbers:
                yield torch.stack([kept[number] for number in batch])
                continue
            pixels = next(decoded)
            self._keep(split, numbers, pixels)
            if len(numbers) < len(batch):
                new = dict(zip(numbers, pixels, strict=True))
                pixels = torch.stack([new[n] if n in new else kept[n] for n in batch])
            yield pixels

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the pool, which cannot be pickled, and the kept images, which can be large.

        A split is pickled for training workers on systems that do not fork; they need neither.
        """
        fresh = EvalReader(self.images, num_workers=self.num_workers)
        return fresh.__dict__

    def _keep(self, split: str, numbers: Sequence[int], pixels: Tensor) -> None:
        kept = self._kept[split]
        image_bytes = pixels[0].numel()
        places = [place for place, number in enumerate(numbers) if number not in kept]
        places = places[: self._free_bytes // image_bytes]
        # Indexing copies: a worker's own tensor lies in shared memory, which may be small.
        copies = pixels[places]
        kept.update(zip((numbers[place] for place in places), copies, strict=True))
        self._free_bytes -= len(places) * image_bytes

    def _decode(self, keys: Sequence[_Key]) -> Iterator[Tensor]:
        """Yield the pixels of each key, decoded by the pool where that is faster."""
        if self.num_workers == 0 or len(keys) == 1:
            for split, numbers in keys:
                yield self.images[split].pixels(numbers)
            return
        this_pass = object()
        for position in range(len(keys)):
            # A pass that began in the meantime has taken the pool over: take it back.
            if self._pass_in_pool is not this_pass:
                outcomes = self._start_pass(keys[position:])
                self._pass_in_pool = this_pass
            outcome = self._next(outcomes)
            if isinstance(outcome, DataError):
                # A new error: one that its own traceback refers to would keep the pool alive.
                raise DataError(*outcome.args)
            yield outcome

    def _next(self, outcomes: Iterator[Any]) -> Any:
        try:
            with one_line_for_lost_workers():
                return next_of_workers(outcomes)
        except DataError:
            # The pool is of no use without one of its processes; the next pass makes another.
            self._pool = self._pass_in_pool = None
            raise

    def _start_pass(self, keys: Sequence[_Key]) -> Iterator[Any]:
        """Hand keys to the pool; what is left of a former pass in it is dropped."""
        self._keys.keys = keys
        if self._pool is None:
            self._pool = DataLoader(
                _Decoding(self.images),
                batch_size=None,
                sampler=self._keys,
                collate_fn=as_is,
                num_workers=self.num_workers,
                persistent_workers=True,
                # An own generator: iterating must not advance the global one.
                generator=torch.Generator(),
            )
        return iter(self._pool)


class _KeySequence(Sampler[_Key]):
    """Keys that are set before each pass; a `DataLoader` keeps the sampler it is made with."""

    def __init__(self) -> None:
        self.keys: Sequence[_Key] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[_Key]:
        return iter(self.keys)


class _Decoding(Dataset[Tensor | DataError]):
    """What a worker does with a key.

    An error is returned, not raised: `DataLoader` would put a traceback into its message.
    """

    def __init__(self, images: Mapping[str, EncodedImages]) -> None:
        self._images = images

    def __getitem__(self, key: _Key) -> Tensor | DataError:
        split, numbers = key
        try:
            return self._images[split].pixels(numbers)
        except DataError as error:
            return error


@contextmanager
def one_line_for_lost_workers() -> Iterator[None]:
    """Say in one line, inside the block, that a worker process of a `DataLoader` was killed.

    A signal tells that one has ended, whatever this process is doing just then: the block is all
    that is done while there are workers.

    Raises:
        DataError: It was.
    """
    try:
        yield
    except RuntimeError as problem:
        if "DataLoader worker" not in str(problem):
            raise
    else:
        return
    raise DataError(LOST_WORKER)


def next_of_workers(outcomes: Iterator[Any]) -> Any:
    """Return what worker processes hand over next; None at the end.

    Raises:
        DataError: One was killed while it did.
    """
    try:
        return next(outcomes, None)
    except (ConnectionError, EOFError):
        pass
    raise DataError(LOST_WORKER)


def as_is(outcome: Any) -> Any:
    """Return what a loader has read, as it is: each key is a batch already."""
    return outcome  # The default would turn some values into others.
