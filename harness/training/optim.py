"""One optimizer and its schedule: SGD for weights, Adam for step sizes, cosine after warm-up.

arXiv 2401.01543, section 4.1. DeepSpeed takes one optimizer, so all groups of parameters lie in one
and each names its algorithm. The schedule is a pure function of the step and has no state.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from harness.quant.lsq import LsqQuantizer
from harness.quant.operations import is_convolution
from harness.run.config import TrainConfig
from harness.run.optimizer_file import NamedState

STEP_SIZES = "step_sizes"
"""Name of the group that Adam updates; SGD updates all others."""


class GroupedOptimizer(Optimizer):
    """SGD and Adam behind one `step`, each for the groups that name it.

    A group is one dict, shared with the algorithm of torch that updates it. Engines that partition
    parameters put their own tensors into a group, or step through the groups one by one; so what
    stands in `param_groups` at the time of a step counts, not what stood there first.
    """

    def __init__(
        self,
        groups: Mapping[str, tuple[Callable[..., Optimizer], dict[str, Any]]],
        *,
        gradient_limit: float,
    ) -> None:
        """Take the groups.

        Args:
            groups: By name, the algorithm and what it takes as a group; `params` are pairs of the
                parameter's name and the parameter.
            gradient_limit: Gradients are clipped element-wise to plus or minus this.
        """
        self._gradient_limit = gradient_limit
        # Each algorithm adds its own settings to the group.
        self._algorithms = {
            name: algorithm([{**group, "name": name}])
            for name, (algorithm, group) in groups.items()
            if group["params"]
        }
        shared = [one.param_groups[0] for one in self._algorithms.values()]
        super().__init__(shared, defaults={})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Clip the gradients and update every parameter by the algorithm of its group."""
        assert closure is None, "a step's gradients come from several passes"
        for group in self.param_groups:
            if not group["params"]:
                continue  # DeepSpeed steps group by group, with the others emptied.
            # Here, for only here every engine has the gradients that are used: under ZeRO they lie
            # in flat partitions, and clipping an element does not depend on its neighbours.
            torch.nn.utils.clip_grad_value_(group["params"], self._gradient_limit)
            algorithm = self._algorithms[group["name"]]
            algorithm.param_groups, algorithm.state = [group], self.state
            algorithm.step()

    def named_state(self) -> NamedState:
        """Return what is kept of each parameter between steps, by its name."""
        return {
            name: {key: value for key, value in self.state[one].items() if value is not None}
            for group in self.param_groups
            for name, one in zip(group["param_names"], group["params"], strict=True)
            if one in self.state
        }

    def load_named_state(self, saved: NamedState) -> None:
        """Take up what `named_state` returned; tensors are laid out like their parameters.

        Raises:
            KeyError: It names no state of a parameter, or a state of no parameter.
            ValueError: A state has another shape than its parameter.
        """
        self.state.clear()
        if not saved:
            return  # Before the first step there is none.
        for group in self.param_groups:
            for name, one in zip(group["param_names"], group["params"], strict=True):
                self.state[one] = {key: _like(value, one) for key, value in saved[name].items()}


def create_optimizer(model: nn.Module, config: TrainConfig) -> GroupedOptimizer:
    """Return the optimizer, with the groups `convolutions`, `others` and `step_sizes`.

    Weight decay goes to convolution weights only, not to biases, batch normalisation or Linear. The
    authors' code takes it back inside the clip range wherever weights have 2 bits in a pass; at
    their 2.5e-5 no difference beyond the noise was measured (docs/results/differences.md).
    """
    names = {id(one): name for name, one in model.named_parameters()}
    quantizers = [m for m in model.modules() if isinstance(m, LsqQuantizer)]
    step_sizes = {id(quantizer.step_size): quantizer.step_size for quantizer in quantizers}
    convolutions = {id(m.weight): m.weight for m in model.modules() if is_convolution(m)}
    apart = {*step_sizes, *convolutions}
    others = {id(one): one for one in model.parameters() if id(one) not in apart}

    def named(parameters: Mapping[int, Any]) -> list[tuple[str, Any]]:
        return [(names[key], one) for key, one in parameters.items()]

    sgd = {
        "lr": config.learning_rate,
        "momentum": config.momentum,
        "nesterov": config.momentum > 0,
    }
    decay = {"weight_decay": config.weight_decay}
    return GroupedOptimizer(
        {
            "convolutions": (SGD, {**sgd, **decay, "params": named(convolutions)}),
            "others": (SGD, {**sgd, "weight_decay": 0.0, "params": named(others)}),
            STEP_SIZES: (Adam, {"lr": config.step_learning_rate, "params": named(step_sizes)}),
        },
        gradient_limit=config.gradient_clip,
    )


def learning_rate_factor(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """Return the share of the peak rate: linear warm-up, then a cosine to zero.

    >>> [round(learning_rate_factor(s, total_steps=6, warmup_steps=2), 2) for s in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rates(optimizer: Optimizer, config: TrainConfig, *, factor: float) -> None:
    """Set every group's rate to `factor` times its peak."""
    for group in optimizer.param_groups:
        is_of_steps = group["name"] == STEP_SIZES
        group["lr"] = factor * (config.step_learning_rate if is_of_steps else config.learning_rate)


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a state on its parameter's device; a moment in its memory layout."""
    if value.dim() == 0:  # Adam counts its steps on the CPU.
        return value.clone()
    if value.shape != parameter.shape:
        raise ValueError(f"a moment is {tuple(value.shape)}, its weight {tuple(parameter.shape)}")
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
