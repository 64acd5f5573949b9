"""Batches for training, in an order drawn anew for every epoch, and for evaluation, in fixed order.

The training order hands out keys, epoch * N + index, not bare indices: the data set behind it then
has no state, so any worker process of any rank makes the same image from the same key.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, get_worker_info

from harness.data import draws
from harness.data.images import Batch, Draw, ImageSplit
from harness.data.reading import as_is, next_of_workers
from harness.errors import DataError


class TrainingOrder(Sampler[int]):
    """All images of a split in an order that is a pure function of (seed, epoch)."""

    def __init__(self, num_images: int, *, seed: int) -> None:
        self.epoch = 0
        self._num_images = num_images
        self._seed = seed

    def __len__(self) -> int:
        """Return the number of images of one epoch."""
        return self._num_images

    def __iter__(self) -> Iterator[int]:
        """Yield the key of every image once."""
        order = draws.permutation(
            self._num_images, purpose=draws.ORDER, seed=self._seed, epoch=self.epoch
        )
        return iter((order + self.epoch * self._num_images).tolist())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Accelerate calls this by its name."""
        self.epoch = epoch


class AugmentedImages(Dataset[Batch]):
    """A split as training sees it: augmented, addressed by the keys of `TrainingOrder`.

    In a worker process an error is returned, not raised: `DataLoader` would put a traceback into
    its message. `raise_errors` raises it where the batches are used.
    """

    def __init__(self, split: ImageSplit, *, seed: int) -> None:
        self._split = split
        self._seed = seed

    def __len__(self) -> int:
        """Return the number of images of one epoch."""
        return len(self._split)

    def __getitem__(self, key: int) -> Batch:
        """Return one augmented image (C, H, W) and its label ()."""
        batch = self.__getitems__([key])
        if isinstance(batch, DataError):
            raise batch
        return batch[0][0], batch[1][0]

    def __getitems__(self, keys: Sequence[int]) -> Batch | DataError:
        """Return an augmented batch; its keys are of one epoch."""
        draw = Draw(seed=self._seed, epoch=keys[0] // len(self))
        try:
            return self._split.read([key % len(self) for key in keys], draw=draw)
        except DataError as error:
            if get_worker_info() is None:
                raise
            return error


def train_batches(
    split: ImageSplit, *, batch_size: int, seed: int, pin_memory: bool = False
) -> DataLoader[Batch]:
    """Return shuffled, augmented batches; the last short one is dropped.

    Order and augmentation of image i in epoch e are pure functions of (seed, e, i), on any number
    of ranks and worker processes. Prepared by Accelerate, rank r of w takes batches r, r + w, ...;
    its `set_epoch` reaches the order. Call that before `skip_first_batches`.

    Args:
        split: The training images.
        batch_size: Images of one batch.
        seed: Decides order and augmentation.
        pin_memory: Whether batches lie where a GPU copies from while others are computed with.

    Raises:
        DataError: There are fewer images than one batch takes.
    """
    if batch_size > len(split):
        raise DataError(
            f"train.batch_size {batch_size} is more than the {len(split)} training images; "
            "lower it or raise data.train_images"
        )
    order = TrainingOrder(len(split), seed=seed)
    return DataLoader(
        AugmentedImages(split, seed=seed),
        batch_sampler=BatchSampler(order, batch_size, drop_last=True),
        collate_fn=as_is,
        num_workers=split.num_workers,
        persistent_workers=split.num_workers > 0,
        pin_memory=pin_memory,
        # An own generator: iterating must not advance the global one.
        generator=torch.Generator(),
    )


def raise_errors(batches: Iterable[Batch | DataError]) -> Iterator[Batch]:
    """Yield training batches, and raise what has happened to a worker process in their place.

    Raises:
        DataError: An image cannot be decoded, or a worker process was ended from outside.
    """
    iterator = iter(batches)
    while (batch := next_of_workers(iterator)) is not None:
        if isinstance(batch, DataError):
            raise DataError(*batch.args)
        yield batch


class EvalBatches:
    """The batches of a split in order, not augmented, the last short one kept.

    Which images a batch holds depends on the data, `batch_size` and `limit` alone, never on how
    many ranks or workers share the work.
    """

    def __init__(self, split: ImageSplit, *, batch_size: int, limit: int | None = None) -> None:
        self.num_images = len(split) if limit is None else min(limit, len(split))
        self._split = split
        starts = range(0, self.num_images, batch_size)
        self._batches = [range(x, min(x + batch_size, self.num_images)) for x in starts]

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def __getitem__(self, batch_index: int) -> Batch:
        """Return one batch; treat it as read-only."""
        if not 0 <= batch_index < len(self):
            raise IndexError(batch_index)
        return next(self._split.read_pass([self._batches[batch_index]]))

    def __iter__(self) -> Iterator[Batch]:
        """Yield every batch; treat it as read-only."""
        return self.share(rank=0, world_size=1)

    def share(self, *, rank: int, world_size: int) -> Iterator[Batch]:
        """Yield batches `rank`, `rank + world_size`, ..."""
        return self._split.read_pass(self._batches[rank::world_size])


def eval_batches(split: ImageSplit, *, batch_size: int, limit: int | None = None) -> EvalBatches:
    """Return the batches of a split in order, not augmented, of its first `limit` images."""
    return EvalBatches(split, batch_size=batch_size, limit=limit)
