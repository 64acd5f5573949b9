"""What is asked of the process group, and what its errors are called."""

import pytest

from harness import process_group
from harness.errors import RankError, RunError
from harness.process_group import group_options, joining, lost_rank

# As torch 2.15 words them.
TIMED_OUT = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 4000ms "
    "for recv operation to complete"
)
CLOSED = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer "
    "[127.0.0.1]:41234"
)


@pytest.mark.parametrize("seconds", [1, 600, 1800])
def test_every_timeout_is_passed_on(seconds):
    # Accelerate drops what equals its own default, which is not that of gloo.
    assert group_options(seconds).to_kwargs()["timeout"].total_seconds() == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "message"),
    [(TIMED_OUT, "^a rank did not answer within 4 seconds"), (CLOSED, "^a rank ended while the")],
)
def test_a_lost_rank_is_told_in_words(monkeypatch, text, message):
    monkeypatch.setitem(process_group._joined, "store", object())
    monkeypatch.setitem(process_group._joined, "timeout_seconds", 4)
    problem = lost_rank(RuntimeError(text))
    assert problem is not None
    with pytest.raises(RankError, match=message):
        raise problem


def test_other_errors_are_not_taken_for_a_lost_rank(monkeypatch):
    assert lost_rank(RuntimeError(CLOSED)) is None  # A single process has no others.
    monkeypatch.setitem(process_group._joined, "store", object())
    assert lost_rank(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_ranks_that_do_not_meet_are_told_in_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = r"^2 processes were started and do not find each other \(MASTER_ADDR expected; "
    with pytest.raises(RunError, match=message), joining(5):
        raise ValueError("MASTER_ADDR expected\nand more lines")
