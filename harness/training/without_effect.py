"""Settings that a run has and that change nothing in it: each is said before the first step.

They are no mistakes that a run has to be refused for: one file of settings may serve float and
supernet runs, and networks of several candidates and of one.
"""

import logging
from collections.abc import Iterator

from harness.problem.candidates import Candidates
from harness.run.config import TrainConfig
from harness.training.bit_scheduler import FIRST_RATIO, epochs_of_acts, frozen_layers
from harness.training.weight_terms import TWO_BITS

logger = logging.getLogger(__name__)

OF_SUPERNETS = (
    "min_pass", "teacher", "distortion_weight", "dampening_weight", "two_bit_weight_decay",
    "bit_scheduler",
)  # fmt: skip
"""Settings that are off by default and that only a supernet has a use for."""

OF_FEWER_BITS = ("distortion_weight", "dampening_weight", "two_bit_weight_decay")
"""Those of the passes beside the max pass."""


def warn_of_settings_without_effect(train: TrainConfig, candidates: Candidates | None) -> None:
    """Log a line for each reason for which settings change nothing.

    Args:
        train: The settings.
        candidates: What the layers of a supernet begin with; None in a float run.
    """
    for problem in _float(train) if candidates is None else _supernet(train, candidates):
        logger.warning("%s", problem)


def _float(train: TrainConfig) -> Iterator[str]:
    if found := _set(train, OF_SUPERNETS):
        yield f"{found} no effect: train.mode float trains the plain network in one pass"


def _supernet(train: TrainConfig, candidates: Candidates) -> Iterator[str]:
    choices = [layer.weight for layer in candidates.layers if len(layer.weight) > 1]
    if not train.num_random_passes and not train.min_pass:
        if found := _set(train, OF_FEWER_BITS):
            yield f"{found} no effect: train.num_random_passes is 0 and there is no min pass"
    elif not choices and (found := _set(train, ("distortion_weight", "dampening_weight"))):
        yield f"{found} no effect: no layer has two weight candidates"
    has_two_bits = any(TWO_BITS in layer.weight for layer in candidates.layers)
    if train.two_bit_weight_decay is not None and not has_two_bits:
        yield "train.two_bit_weight_decay has no effect: no layer has 2 bits as a candidate"
    if train.bit_scheduler:
        yield from _scheduler(train, candidates)
    elif train.scheduler_start_epoch is not None:
        yield "train.scheduler_start_epoch has no effect: train.bit_scheduler is off"


def _scheduler(train: TrainConfig, candidates: Candidates) -> Iterator[str]:
    if train.epochs and not epochs_of_acts(train.epochs, train.scheduler_start_epoch):
        yield (
            "train.bit_scheduler changes nothing: it first acts after epoch "
            f"{train.scheduler_start_epoch or 1} of {train.epochs}, and never after the last; "
            "train for longer or lower train.scheduler_start_epoch"
        )
    free = [at for at, layer in enumerate(candidates.layers) if len(layer.weight) > 1]
    if not frozen_layers(candidates, dict.fromkeys(free, 0.0), ratio=FIRST_RATIO):
        yield (
            f"train.bit_scheduler freezes nothing: it freezes half of the layers at most, and of "
            f"{len(free)} that have two weight candidates all are decided together"
            if free
            else "train.bit_scheduler freezes nothing: no layer has two weight candidates"
        )


def _set(train: TrainConfig, names: tuple[str, ...]) -> str:
    """Return the settings that are not at their defaults, with a verb; "" for none."""
    defaults = TrainConfig()
    found = [f"train.{name}" for name in names if getattr(train, name) != getattr(defaults, name)]
    return f"{', '.join(found)} {'have' if len(found) > 1 else 'has'}" if found else ""
