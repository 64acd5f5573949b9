"""Loss terms of one optimizer step, by name (arXiv 2401.01543, section 3).

Information distortion mitigation and oscillation dampening join as further terms of `StepLosses`.
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLosses:
    """Detached scalars of one step; random-pass terms are means over the K passes."""

    max_pass_ce: Tensor
    """Cross entropy of the max pass (of the only pass in a float run)."""
    random_ce: Tensor
    """Cross entropy of the random passes, before its weight of 1/2."""
    random_kl: Tensor
    """KL divergence from the max pass to the random passes, before its weight of 1/2."""

    def as_floats(self) -> dict[str, float]:
        """Return the terms by name; synchronises with the device."""
        return {field.name: float(getattr(self, field.name)) for field in fields(self)}


def distillation_loss(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return KL(softmax(teacher) || softmax(student)), the mean over the batch in nats.

    Args:
        logits: Of a random policy, (N, classes).
        teacher_logits: Of the max pass, detached, (N, classes).
    """
    student = F.log_softmax(logits.float(), dim=1)
    teacher = F.log_softmax(teacher_logits.float(), dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def zero_like_loss(reference: Tensor) -> Tensor:
    """Return a detached zero for a term that a step does not have."""
    return torch.zeros((), device=reference.device)
