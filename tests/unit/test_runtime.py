"""Seeds and stop signals."""

import os
import signal

import pytest
import torch
from torch import nn

from harness.errors import Stopped
from harness.runtime import (
    StopFlag,
    environment,
    lay_channels_last,
    seed_step,
    stop_signals_raise,
)


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
        assert stop.signal_number == 0
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.signal_number == signal.SIGUSR1
        os.kill(os.getpid(), signal.SIGTERM)  # A second one that is no Ctrl-C changes nothing.
        assert stop.signal_number == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_second_ctrl_c_aborts() -> None:
    with StopFlag() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal_number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def stopped(number: int) -> Stopped:
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as raised, stop_signals_raise():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before
    return raised.value


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_stop_signal_outside_training_ends_the_command(name) -> None:
    stop = stopped(signal.Signals[name])
    assert stop.signal_number == signal.Signals[name]
    assert str(stop).startswith(f"stopped by {name}, what was done is kept; harness train and demo")


def test_ctrl_c_outside_training_ends_the_command() -> None:
    assert str(stopped(signal.SIGINT)).startswith("interrupted, what was done is kept; ")


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
