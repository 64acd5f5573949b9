"""Stop a run at the first loss that is no finite number or explodes, all ranks together.

A loss explodes where what one pass minimised, penalties aside, is more than
`train.explosion_factor` times log(classes), the cross entropy of guessing. Penalties of features
and weights have scales of their own, and gradients are clipped: at its usual weight, dampening adds
18 at the start of resnet18 and 54,000 of resnetv2_50x1. So no memory of steps before is needed, and
a run that is gone on with stops where one does that was never stopped. And a loss that grows from
step to step is noticed as well, which a mean of the steps before, growing with it, would let pass.

Where reading a loss is free (a CPU) or comes with an exchange that is made anyway (several ranks),
it is read before the optimizer's step: the weights are still good, the images at hand, and the pass
is looked back at for the layer. A single GPU would wait for each read: it keeps a few numbers of
each step, which are read now and then, and always before anything is saved or changed.

Gradients that are no numbers are not looked at: a scaler of mixed precision skips their step, and
without one the next loss, or the look at the weights before they are saved, tells.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

from harness.errors import NotFiniteError
from harness.training.losses import StepLosses

TOO_LARGE, NOT_FINITE = 1, 2
"""What is wrong with a loss; 0 where nothing is."""

KEPT = "nothing was saved since, checkpoints from before are kept; train again with a lower "
"""How refusals go on."""


class BadStep(NamedTuple):
    """The step that ends a run."""

    step: int
    """From 1."""
    pass_index: int
    """The first pass whose loss is bad on any rank."""
    is_loss_finite: bool
    """It is too large a number."""
    images: Tensor | None
    """Of this rank; None where they are gone."""


class LossGuard:
    """Looks at the losses of every step, and asks in the same exchange for signals to stop."""

    def __init__(
        self,
        accelerator: Accelerator,
        *,
        explain: Callable[[BadStep], str],
        explosion_factor: float,
        num_classes: int,
    ) -> None:
        """Take what is needed to refuse a step; nothing is looked at yet.

        Args:
            accelerator: Of this process.
            explain: Says which pass it was and, given its images, where in it; on every rank.
            explosion_factor: A pass explodes beyond this times log(classes); 0 lets it.
            num_classes: At least 2.
        """
        self._accelerator = accelerator
        self._explain = explain
        self._factor = explosion_factor
        self._num_classes = num_classes
        self._limit = explosion_factor * math.log(num_classes) if explosion_factor else math.inf
        self._unread: list[tuple[int, list[str], Tensor]] = []

    def look(self, losses: StepLosses, images: Tensor, *, step: int, signal_number: int) -> int:
        """Look at the losses of a step; return the signal that any rank was sent, or 0.

        Args:
            losses: Of this rank, of the same terms and passes on every rank.
            images: That they are of.
            step: The step, from 1.
            signal_number: The one that this rank was sent, or 0.

        Raises:
            NotFiniteError: A loss of any rank is no finite number or too large; on every rank
                alike.
        """
        names, codes = list(losses.terms), self._codes(losses)
        if self._accelerator.num_processes > 1:
            sent = torch.tensor([signal_number], device=codes.device)
            codes = torch.cat([sent, codes])
            dist.all_reduce(codes, dist.ReduceOp.MAX)
            signal_number, *read = codes.tolist()
            self._check(read, names, step=step, images=images)
        elif self._accelerator.device.type == "cpu":
            self._check(codes.tolist(), names, step=step, images=images)
        else:
            self._unread.append((step, names, codes))
        return signal_number

    def read(self) -> None:
        """Read what a GPU has kept since it was last read.

        Raises:
            NotFiniteError: A loss was no finite number or too large.
        """
        unread, self._unread = self._unread, []
        for step, names, codes in unread:
            self._check(codes.tolist(), names, step=step, images=None)

    def _codes(self, losses: StepLosses) -> Tensor:
        """Return what is wrong with each term and pass, (terms + passes,), int64."""
        terms, passes, fits = (
            torch.stack(list(some)) for some in (losses.terms.values(), losses.passes, losses.fits)
        )
        too_large = (fits > self._limit) * TOO_LARGE
        # Terms, before their weights, have no limit of their own.
        codes = torch.cat([torch.zeros_like(terms, dtype=torch.int64), too_large])
        return codes.masked_fill(~torch.cat([terms, passes]).isfinite(), NOT_FINITE)

    def _check(
        self, codes: Sequence[int], names: Sequence[str], *, step: int, images: Tensor | None
    ) -> None:
        by_pass = codes[len(names) :]
        index = next((index for index, code in enumerate(by_pass) if code), None)
        if index is None:
            return
        is_finite = by_pass[index] != NOT_FINITE
        bad = BadStep(step=step, pass_index=index, is_loss_finite=is_finite, images=images)
        where = self._explain(bad)
        if is_finite:
            raise NotFiniteError(
                f"the loss is beyond {self._limit:.4g} in step {step}, in {where}; that is "
                f"train.explosion_factor {self._factor:g} times the loss of guessing among "
                f"{self._num_classes} classes; {KEPT}train.learning_rate, or raise the factor (0 "
                "sets no limit)"
            )
        terms = ", ".join(
            name for name, code in zip(names, codes[: len(names)], strict=True) if code
        )
        raise NotFiniteError(
            f"the loss{terms and f' ({terms})'} is no finite number in step {step}, in {where}; "
            f"{KEPT}train.learning_rate, or mend the images or weights that lead there"
        )
