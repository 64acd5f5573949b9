"""Two optimizers and one schedule: SGD for weights, Adam for step sizes, cosine after warm-up.

arXiv 2401.01543, section 4.1. The schedule is a pure function of the step and has no state.
"""

import math

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from harness.quant.lsq import LsqQuantizer
from harness.quant.operations import is_convolution
from harness.run.config import TrainConfig


def create_optimizers(model: nn.Module, config: TrainConfig) -> dict[str, Optimizer]:
    """Return the optimizers by name: `weights`, and `step_sizes` where there are quantizers.

    Weight decay goes to convolution weights only, not to biases, batch normalisation or Linear. The
    authors' code takes it back inside the clip range wherever weights have 2 bits in a pass; at
    their 2.5e-5 no difference beyond the noise was measured (docs/results/differences.md).
    """
    quantizers = [m for m in model.modules() if isinstance(m, LsqQuantizer)]
    step_sizes = {id(quantizer.step_size): quantizer.step_size for quantizer in quantizers}
    convolutions = [m.weight for m in model.modules() if is_convolution(m)]
    decayed = {id(weight) for weight in convolutions}
    others = [p for p in model.parameters() if id(p) not in decayed and id(p) not in step_sizes]
    groups = [
        {"params": convolutions, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizers: dict[str, Optimizer] = {
        "weights": SGD(
            groups,
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=config.momentum > 0,
        )
    }
    if step_sizes:
        optimizers["step_sizes"] = Adam(list(step_sizes.values()), lr=config.step_learning_rate)
    return optimizers


def learning_rate_factor(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """Return the share of the peak rate: linear warm-up, then a cosine to zero.

    >>> [round(learning_rate_factor(s, total_steps=6, warmup_steps=2), 2) for s in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rates(
    optimizers: dict[str, Optimizer], config: TrainConfig, *, factor: float
) -> None:
    """Set every optimizer's rate to `factor` times its peak."""
    peaks = {"weights": config.learning_rate, "step_sizes": config.step_learning_rate}
    for name, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = peaks[name] * factor


def clip_gradients(model: nn.Module, limit: float) -> None:
    """Clip gradients element-wise to plus or minus `limit`."""
    torch.nn.utils.clip_grad_value_(model.parameters(), limit)
