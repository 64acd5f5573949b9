"""A bad loss is noticed: at once on a CPU, when it is read on a GPU; it is told with its pass."""

import math
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from harness.errors import NotFiniteError
from harness.training.loss_guard import BadStep, LossGuard
from harness.training.losses import StepLosses

IMAGES = torch.zeros(2, 1, 8, 8)


def losses(kl=0.5, passes=(1.0, 1.5), fits=None):
    terms = {"ce": torch.tensor(1.0), "kl": torch.tensor(kl)}
    sums = [torch.tensor(value) for value in passes]
    return StepLosses(terms=terms, passes=sums, fits=sums if fits is None else fits)


def spoiled(value=math.nan):
    return losses(kl=value, passes=(1.0, value))


class Asked(list[BadStep]):
    """The explanations that a guard asked for."""

    def __call__(self, bad):
        self.append(bad)
        return f"pass {bad.pass_index}"


def guard_of(accelerator, *, factor=100.0):
    asked = Asked()
    guard = LossGuard(accelerator, explain=asked, explosion_factor=factor, num_classes=10)
    return guard, asked


def on_a_gpu():
    """The guard of one GPU; what it keeps are ordinary tensors, so a CPU can hold them."""
    return guard_of(SimpleNamespace(num_processes=1, device=torch.device("cuda")))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_cpu_notices_at_once(value):
    guard, asked = guard_of(Accelerator(cpu=True))
    assert guard.look(losses(), IMAGES, step=1, signal_number=15) == 15
    assert not guard.look(losses(), IMAGES, step=2, signal_number=0)
    message = (
        r"the loss \(kl\) is no finite number in step 3, in pass 1; nothing was saved since, "
        r"checkpoints from before are kept; train again with a lower train.learning_rate, or mend"
    )
    with pytest.raises(NotFiniteError, match=message):
        guard.look(spoiled(value), IMAGES, step=3, signal_number=0)
    (bad,) = asked
    assert (bad.step, bad.pass_index, bad.is_loss_finite) == (3, 1, False)
    assert bad.images is IMAGES


def test_a_sum_that_overflows_has_no_bad_term():
    guard, _ = guard_of(Accelerator(cpu=True))
    with pytest.raises(NotFiniteError, match=r"^the loss is no finite number in step 4, in pass 0"):
        guard.look(losses(passes=(math.inf, 1.0)), IMAGES, step=4, signal_number=0)


def test_a_loss_explodes_beyond_the_factor_times_that_of_guessing():
    guard, asked = guard_of(Accelerator(cpu=True))
    limit = 100 * math.log(10)
    guard.look(losses(passes=(1.0, limit * 0.999)), IMAGES, step=1, signal_number=0)
    message = (
        r"the loss is beyond 230.3 in step 2, in pass 1; that is train.explosion_factor 100 times "
        r"the loss of guessing among 10 classes; nothing was saved since, checkpoints from before "
        r"are kept; train again with a lower train.learning_rate, or raise the factor \(0 sets no"
    )
    with pytest.raises(NotFiniteError, match=message):
        guard.look(losses(passes=(1.0, limit * 1.001)), IMAGES, step=2, signal_number=0)
    assert asked[0].is_loss_finite
    # Penalties have scales of their own.
    fits = [torch.tensor(1.0), torch.tensor(limit * 0.999)]
    guard.look(losses(passes=(1.0, 54_000.0), fits=fits), IMAGES, step=3, signal_number=0)


def test_without_a_factor_only_what_is_no_number_stops():
    guard, _ = guard_of(Accelerator(cpu=True), factor=0.0)
    guard.look(losses(passes=(1.0, 3e38)), IMAGES, step=1, signal_number=0)
    with pytest.raises(NotFiniteError, match="is no finite number in step 2"):
        guard.look(losses(passes=(1.0, math.inf)), IMAGES, step=2, signal_number=0)


def test_a_gpu_notices_when_it_is_read_and_names_the_first_step():
    guard, asked = on_a_gpu()
    steps = (losses(), losses(passes=(1.0, 1e9)), spoiled(), losses())
    for step, one in enumerate(steps, start=1):
        sent = 15 * (step == 3)
        assert guard.look(one, IMAGES, step=step, signal_number=sent) == sent
    with pytest.raises(NotFiniteError, match=r"the loss is beyond 230.3 in step 2, in pass 1;"):
        guard.read()
    assert asked[0].images is None
    guard.look(losses(), IMAGES, step=4, signal_number=0)
    guard.read()
    guard.read()
    guard.look(spoiled(), IMAGES, step=5, signal_number=0)
    with pytest.raises(NotFiniteError, match=r"\(kl\) is no finite number in step 5, in pass 1;"):
        guard.read()
