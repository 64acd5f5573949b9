"""Stop a run at the first loss that is no finite number, all ranks together.

Where reading a loss is free (a CPU) or comes with an exchange that is made anyway (several ranks),
it is read before the optimizer's step, and the weights are still good. A single GPU would wait for
each read: it keeps a flag, which is read now and then, and always before anything is saved.

Gradients that are no numbers are not looked at: a scaler of mixed precision skips their step, and
without one the next loss, or the look at the weights before they are saved, tells.
"""

import math

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

from harness.errors import NotFiniteError


class LossGuard:
    """Looks at the losses of every step, and asks in the same exchange for signals to stop."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._seen: dict[str, Tensor] = {}
        self._unread_since = 0

    def look(self, losses: dict[str, Tensor], *, step: int, signal_number: int) -> int:
        """Look at the losses of a step; return the signal that any rank was sent, or 0.

        Args:
            losses: Detached scalars by name, the same names on every rank.
            step: The step, from 1.
            signal_number: The one that this rank was sent, or 0.

        Raises:
            NotFiniteError: A loss of any rank is no finite number; on every rank alike.
        """
        if self._accelerator.num_processes > 1:
            return self._exchange(losses, step=step, signal_number=signal_number)
        if self._accelerator.device.type == "cpu":
            bad = [name for name, loss in losses.items() if not math.isfinite(loss.item())]
            self._refuse(bad, f"in step {step}")
            return signal_number
        for name, loss in losses.items():
            is_bad = ~loss.isfinite()
            self._seen[name] = self._seen[name] | is_bad if name in self._seen else is_bad
        self._unread_since = self._unread_since or step
        return signal_number

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

    def _exchange(self, losses: dict[str, Tensor], *, step: int, signal_number: int) -> int:
        flags = [(~loss.isfinite()).to(torch.int64) for loss in losses.values()]
        sent = torch.tensor(signal_number, device=self._accelerator.device)
        largest = torch.stack([sent, *flags])
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        told, *is_bad = largest.tolist()
        self._refuse(
            [name for name, bad in zip(losses, is_bad, strict=True) if bad], f"in step {step}"
        )
        return int(told)

    def _refuse(self, bad: list[str], when: str) -> None:
        if bad:
            raise NotFiniteError(
                f"the loss ({', '.join(bad)}) is no finite number {when}; nothing was saved since, "
                "checkpoints from before are kept; train again with a lower train.learning_rate, "
                "or mend the images or weights that lead there"
            )
