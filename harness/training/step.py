"""Forward and backward passes of one optimizer step (arXiv 2401.01543, section 3).

1. max pass: every layer at its largest candidates; cross entropy; its logits teach the others;
2. K passes with random policies: 1/2 CE + 1/2 KL to the max pass.
Gradients of all passes add up. Only the last pass lets data-parallel ranks exchange gradients.
"""

from collections.abc import Callable

import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from harness.problem.candidates import Candidates
from harness.problem.policy import Policy
from harness.quant.supernet import Supernet
from harness.training.losses import StepLosses, distillation_loss, zero_like_loss
from harness.training.policy_sampler import sample_policy

StepPasses = Callable[[Tensor, Tensor, int], StepLosses]
"""Maps images (N, C, H, W), labels (N,) and the step's index to losses; adds up gradients."""


def float_passes(accelerator: Accelerator, model: nn.Module, *, smoothing: float) -> StepPasses:
    """Return the single pass of a float network."""

    def run(images: Tensor, labels: Tensor, step: int) -> StepLosses:
        loss = F.cross_entropy(model(images), labels, label_smoothing=smoothing)
        accelerator.backward(loss)
        zero = zero_like_loss(loss)
        return StepLosses(max_pass_ce=loss.detach(), random_ce=zero, random_kl=zero)

    return run


class SupernetPasses:
    """The 1 + K passes of a supernet step."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        *,
        candidates: Candidates,
        num_random_passes: int,
        seed: int,
        smoothing: float,
    ) -> None:
        """Take what every step needs.

        Args:
            accelerator: Runs backward and gradient exchange.
            model: The supernet as `prepare` returned it.
            candidates: What each layer may take at present.
            num_random_passes: K.
            seed: Seed of the policies.
            smoothing: Label smoothing of the max pass.
        """
        self._accelerator = accelerator
        self._model = model
        self._supernet: Supernet = accelerator.unwrap_model(model)
        self._candidates = candidates
        self._num_random_passes = num_random_passes
        self._seed = seed
        self._smoothing = smoothing

    def __call__(self, images: Tensor, labels: Tensor, step: int) -> StepLosses:
        """Run the passes and leave the sum of their gradients in the parameters."""
        last = self._num_random_passes - 1
        max_ce, teacher = self._max_pass(images, labels, is_last=last < 0)
        random_ce, random_kl = zero_like_loss(max_ce), zero_like_loss(max_ce)
        for pass_index in range(self._num_random_passes):
            policy = sample_policy(
                self._candidates, seed=self._seed, step=step, pass_index=pass_index
            )
            ce, kl = self._random_pass(images, labels, teacher, policy, is_last=pass_index == last)
            random_ce += ce / self._num_random_passes
            random_kl += kl / self._num_random_passes
        return StepLosses(max_pass_ce=max_ce, random_ce=random_ce, random_kl=random_kl)

    def _max_pass(self, images: Tensor, labels: Tensor, *, is_last: bool) -> tuple[Tensor, Tensor]:
        logits = self._forward(images, self._candidates.largest, is_last=is_last)
        loss = F.cross_entropy(logits, labels, label_smoothing=self._smoothing)
        self._backward(loss, is_last=is_last)
        return loss.detach(), logits.detach()

    def _random_pass(
        self, images: Tensor, labels: Tensor, teacher: Tensor, policy: Policy, *, is_last: bool
    ) -> tuple[Tensor, Tensor]:
        logits = self._forward(images, policy, is_last=is_last)
        ce = F.cross_entropy(logits, labels)
        kl = distillation_loss(logits, teacher)
        self._backward(0.5 * ce + 0.5 * kl, is_last=is_last)
        return ce.detach(), kl.detach()

    def _forward(self, images: Tensor, policy: Policy, *, is_last: bool) -> Tensor:
        inputs = self._supernet.encode(policy)
        if is_last:
            return self._model(images, inputs)  # type: ignore[no-any-return]
        with self._accelerator.no_sync(self._model):
            return self._model(images, inputs)  # type: ignore[no-any-return]

    def _backward(self, loss: Tensor, *, is_last: bool) -> None:
        if is_last:
            self._accelerator.backward(loss)
            return
        with self._accelerator.no_sync(self._model):
            self._accelerator.backward(loss)
