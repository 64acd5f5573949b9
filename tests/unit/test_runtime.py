"""Seeds and stop signals."""

import os
import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from harness import runtime
from harness.errors import RunError
from harness.runtime import StopFlag, environment, lay_channels_last, seed_step


def test_a_step_is_seeded_by_seed_step_and_rank() -> None:
    def draw(seed: int, step: int, rank: int) -> float:
        seed_step(seed, step, rank=rank)
        return torch.rand(()).item()

    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert len({draw(*key) for key in keys}) == 4
    assert draw(0, 1, 0) == draw(0, 1, 0)


def test_a_stop_signal_sets_the_flag_and_handlers_return() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with StopFlag() as stop:
        assert not stop.is_set
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.is_set
        os.kill(os.getpid(), signal.SIGTERM)  # A second one that is no Ctrl-C changes nothing.
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_second_ctrl_c_aborts() -> None:
    with StopFlag() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_processes_that_accelerate_does_not_join_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(runtime, "Accelerator", lambda **_: SimpleNamespace(num_processes=1))
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = "^2 processes were started, Accelerate joins 1; start them with accelerate launch"
    with pytest.raises(RunError, match=message):
        runtime.create_accelerator()


def test_channels_last_leaves_kernels_of_one_pixel_as_their_gradients_lie() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1), nn.Linear(2, 2))
    lay_channels_last(model)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not model[0].weight.is_contiguous()
    assert model[1].weight.stride() == (4, 1, 1, 1)


def test_environment_names_versions() -> None:
    facts = environment()
    assert facts["packages"]["torch"] is not None
    assert facts["threads"] >= 1
