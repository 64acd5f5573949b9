"""Batches that stay on the device: read once within the bound, in the same order always."""

import pytest
import torch

from harness.data import HeldBatches, eval_batches
from harness.data.images import MemorySplit

CPU = torch.device("cpu")
BATCH_BYTES = 20 * 3 * 4 * 4 * 4  # 20 images of 3 x 4 x 4 in float32.


@pytest.fixture
def split() -> MemorySplit:
    generator = torch.Generator().manual_seed(0)
    return MemorySplit(
        torch.randint(0, 256, (110, 3, 4, 4), dtype=torch.uint8, generator=generator),
        labels=torch.randint(0, 5, (110,), generator=generator),
        mean=[0.5], std=[0.5],
    )  # fmt: skip


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """Note the first image of each batch that is read."""
    noted: list[int] = []
    read = MemorySplit.read

    def note(self, rows):
        noted.append(rows[0])
        return read(self, rows)

    monkeypatch.setattr(MemorySplit, "read", note)
    return noted


def check_pass(held: HeldBatches, split: MemorySplit, rank: int, world_size: int) -> None:
    batches = list(eval_batches(split, batch_size=20))
    found = list(held.share(rank=rank, world_size=world_size))
    assert [batch.index for batch in found] == list(range(6))[rank::world_size]
    for batch in found:
        images, labels = batches[batch.index]
        assert torch.equal(batch.images, images)
        assert torch.equal(batch.labels, labels)
        assert batch.first == 20 * batch.index


@pytest.mark.parametrize("num_held", [0, 1, 3, 6])
def test_batches_within_the_bound_are_read_once(split, reads, num_held) -> None:
    # The last batch holds half as many images.
    max_bytes = BATCH_BYTES * num_held - (BATCH_BYTES // 2 if num_held == 6 else 0)
    held = HeldBatches(eval_batches(split, batch_size=20), CPU, max_bytes=max_bytes)
    check_pass(held, split, 0, 1)
    for _ in range(2):
        reads.clear()
        found = list(held.share(rank=0, world_size=1))
        assert reads == list(range(20 * num_held, 110, 20))
        assert len(found) == 6
    assert (len(held), held.num_images) == (6, 110)


def test_a_small_last_batch_is_not_held_behind_one_that_found_no_room(split, reads) -> None:
    held = HeldBatches(
        eval_batches(split, batch_size=20), CPU, max_bytes=BATCH_BYTES * 4 + BATCH_BYTES // 2
    )
    check_pass(held, split, 0, 1)
    reads.clear()
    check_pass(held, split, 0, 1)
    assert [place for place in reads if place >= 80][-2:] == [80, 100]


@pytest.mark.parametrize(("rank", "world_size"), [(0, 2), (1, 2), (2, 4), (3, 4), (7, 9)])
def test_every_rank_holds_its_share(split, reads, rank, world_size) -> None:
    held = HeldBatches(eval_batches(split, batch_size=20), CPU)
    check_pass(held, split, rank, world_size)
    reads.clear()
    assert len(list(held.share(rank=rank, world_size=world_size))) == len(
        range(rank, 6, world_size)
    )
    assert reads == []
    check_pass(held, split, 0, 1)  # What is held for one share is right in any other.
    check_pass(held, split, 1, 3)
