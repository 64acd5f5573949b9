"""Stop a run at the first loss that is no finite number, all ranks together.

Where reading a loss is free (a CPU) or comes with an exchange that is made anyway (several ranks),
it is read before the optimizer's step, and the weights are still good. A single GPU would wait for
each read: it keeps a flag, which is read now and then, and always before anything is saved.

Gradients that are no numbers are not looked at: a scaler of mixed precision skips their step, and
without one the next loss, or the look at the weights before they are saved, tells.
"""

import math

import torch
from accelerate import Accelerator
from torch import Tensor

from harness.errors import NotFiniteError


class LossGuard:
    """Looks at the losses of every step, and asks in the same exchange whether to stop."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._seen: dict[str, Tensor] = {}
        self._unread_since = 0

    def look(self, losses: dict[str, Tensor], *, step: int, is_told: bool) -> bool:
        """Look at the losses of a step; return whether any rank was told to stop.

        Args:
            losses: Detached scalars by name, the same names on every rank.
            step: The step, from 1.
            is_told: Whether this rank was told.

        Raises:
            NotFiniteError: A loss of any rank is no finite number; on every rank alike.
        """
        if self._accelerator.num_processes > 1:
            return self._exchange(losses, step=step, is_told=is_told)
        if self._accelerator.device.type == "cpu":
            bad = [name for name, loss in losses.items() if not math.isfinite(loss.item())]
            self._refuse(bad, f"in step {step}")
            return is_told
        for name, loss in losses.items():
            is_bad = ~loss.isfinite()
            self._seen[name] = self._seen[name] | is_bad if name in self._seen else is_bad
        self._unread_since = self._unread_since or step
        return is_told

    def read(self, *, step: int) -> None:
        """Read what a GPU has kept since it was last read.

        Raises:
            NotFiniteError: A loss was no finite number.
        """
        bad = [name for name, is_bad in self._seen.items() if is_bad.item()]
        first, self._unread_since, self._seen = self._unread_since, 0, {}
        self._refuse(
            bad, f"in step {first}" if first == step else f"between steps {first} and {step}"
        )

    def _exchange(self, losses: dict[str, Tensor], *, step: int, is_told: bool) -> bool:
        flags = [(~loss.isfinite()).float() for loss in losses.values()]
        told = torch.tensor(float(is_told), device=self._accelerator.device)
        total = self._accelerator.reduce(torch.stack([told, *flags]), reduction="sum").tolist()
        bad = [name for name, count in zip(losses, total[1:], strict=True) if count > 0]
        self._refuse(bad, f"in step {step}")
        return bool(total[0] > 0)

    def _refuse(self, bad: list[str], when: str) -> None:
        if bad:
            raise NotFiniteError(
                f"the loss ({', '.join(bad)}) is no finite number {when}; nothing was saved since, "
                "checkpoints from before are kept; train again with a lower train.learning_rate, "
                "or mend the images or weights that lead there"
            )
