"""A loss that is no number is noticed: at once on a CPU, when it is read on a GPU."""

import math
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from harness.errors import NotFiniteError
from harness.training.loss_guard import LossGuard

GOOD = {"ce": torch.tensor(1.0), "kl": torch.tensor(0.5)}


def bad(value=math.nan):
    return {"ce": torch.tensor(1.0), "kl": torch.tensor(value)}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_cpu_notices_at_once(value):
    guard = LossGuard(Accelerator(cpu=True))
    assert guard.look(GOOD, step=1, signal_number=15)
    assert not guard.look(GOOD, step=2, signal_number=0)
    message = (
        r"the loss \(kl\) is no finite number in step 3; nothing was saved since, "
        r"checkpoints from before are kept; train again with a lower train.learning_rate, or mend"
    )
    with pytest.raises(NotFiniteError, match=message):
        guard.look(bad(value), step=3, signal_number=0)


def on_a_gpu():
    """The guard of one GPU; its flags are ordinary tensors, so a CPU can hold them."""
    accelerator = SimpleNamespace(num_processes=1, device=torch.device("cuda"))
    return LossGuard(accelerator)


def test_a_gpu_notices_when_it_is_read_and_says_since_when():
    guard = on_a_gpu()
    for step, losses in ((1, GOOD), (2, bad()), (3, GOOD)):
        assert guard.look(losses, step=step, signal_number=15 * (step == 3)) == 15 * (step == 3)
    with pytest.raises(NotFiniteError, match=r"\(kl\) is no finite number between steps 1 and 3;"):
        guard.read(step=3)
    guard.look(GOOD, step=4, signal_number=0)
    guard.read(step=4)
    guard.read(step=4)
    guard.look(bad(), step=5, signal_number=0)
    with pytest.raises(NotFiniteError, match=r"\(kl\) is no finite number in step 5;"):
        guard.read(step=5)
