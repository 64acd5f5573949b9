"""Remedies of the literature that the project's training does not have, as changes of its parts.

Each is a context manager under which a supernet is trained, searched and evaluated as by
`benchmarks.ablation`. One that pays is to be built into the training; the others stay here, with
what they reached in docs/results/ablation.md.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from harness.problem.candidates import Candidates
from harness.problem.policy import Policy
from harness.quant import layers
from harness.quant.fake_quantize import NCHW_DIMS, Level
from harness.quant.layers import LayerRow, QuantizedLayer
from harness.quant.lsq import LsqQuantizer
from harness.run.train_config import TrainConfig
from harness.training import assemble, supernet_task
from harness.training.losses import LossTerm, PassContext, evaluate_terms
from harness.training.optim import GroupedOptimizer, create_optimizer
from harness.training.policy_sampler import sample_policy
from harness.training.supernet_task import PlannedPass, SupernetTask

TEACHER_BITS = 8
FILTER = (1, 2, 3)
"""Dimensions of a convolution's weight that are one filter."""

UNIFORM_EVERY = 4
"""Steps of which one has a uniform policy among its random passes."""


@contextmanager
def step_rates_by_bits(base: float = 2.0) -> Iterator[None]:
    """Let step sizes of few bits, which are larger, move by larger steps (after arXiv 2502.01199).

    A step size of b bits moves `base ** (6 - b)` times as far as one of 6 bits.
    """
    plain = GroupedOptimizer.step
    factors: dict[int, Tensor] = {}

    def create_and_note(model: nn.Module, config: TrainConfig) -> GroupedOptimizer:
        for quantizer in model.modules():
            if isinstance(quantizer, LsqQuantizer):
                powers = [base ** (6 - bits) for bits in quantizer.candidates]
                factors[id(quantizer.step_size)] = torch.tensor(powers)
        return create_optimizer(model, config)

    def step(self: GroupedOptimizer, closure: Any = None) -> Any:
        parameters = [one for group in self.param_groups for one in group["params"]]
        before = {id(one): one.detach().clone() for one in parameters if id(one) in factors}
        result = plain(self, closure)
        with torch.no_grad():
            for one in parameters:
                if id(one) in before:
                    old = before[id(one)]
                    one.copy_(old + factors[id(one)] * (one - old))
        return result

    with (
        mock.patch.object(assemble, "create_optimizer", create_and_note),
        mock.patch.object(GroupedOptimizer, "step", step),
    ):
        yield


@contextmanager
def teacher_at_8_bits() -> Iterator[None]:
    """Run the max pass at 8 bits, which no random pass, validation or search takes.

    The network has 8 bits among its candidates; the task trains without them.
    """
    build = supernet_task.SupernetTask.__init__
    plan = SupernetTask._plan

    def init(self: SupernetTask, *arguments: Any) -> None:
        build(self, *arguments)
        self.candidates = without(self.candidates, TEACHER_BITS)

    def planned(self: SupernetTask, step: int, progress: float) -> list[PlannedPass]:
        first, *others = plan(self, step, progress)
        policy = self.model.network.candidates.largest
        return [PlannedPass(policy=policy, terms=first.terms, is_max_pass=True), *others]

    with (
        mock.patch.object(SupernetTask, "__init__", init),
        mock.patch.object(SupernetTask, "_plan", planned),
    ):
        yield


def without(candidates: Candidates, bits: int) -> Candidates:
    """Return candidates without a bit-width, where a side has others."""
    rows = candidates.to_rows()
    for row in rows:
        for side in ("weight", "act"):
            row[side] = [one for one in row[side] if one != bits] or row[side]
    return candidates.with_rows(rows)


@contextmanager
def uniform_passes() -> Iterator[None]:
    """Draw one uniform policy among the random passes of every fourth step (arXiv 2508.09176)."""

    def sample(candidates: Candidates, *, seed: int, step: int, pass_index: int) -> Policy:
        if step % UNIFORM_EVERY or pass_index:
            return sample_policy(candidates, seed=seed, step=step, pass_index=pass_index)
        policies = list(candidates.equal_bits_policies.values())
        return policies[int(np.random.default_rng([seed, step]).integers(len(policies)))]

    with mock.patch.object(supernet_task, "sample_policy", sample):
        yield


@contextmanager
def passes_weighted_by_bits() -> Iterator[None]:
    """Weigh a random pass by 4 over the mean of its weight bits (after arXiv 2502.06786)."""

    def weighted(
        terms: Sequence[LossTerm], context: PassContext
    ) -> tuple[Tensor, dict[str, Tensor]]:
        total, values = evaluate_terms(terms, context)
        is_random = any(term.name == "random_ce" for term in terms)
        assert context.policy is not None, "passes of a supernet have a policy"
        bits = np.mean([weight for weight, _ in context.policy])
        return total * (4 / float(bits) if is_random else 1.0), values

    with mock.patch.object(supernet_task, "evaluate_terms", weighted):
        yield


WeightAt = Callable[[QuantizedLayer, Tensor, Level | None], Tensor]
"""Maps a layer, its weight and a bit-width to the weight at that bit-width."""


@contextmanager
def weights_by(make: Callable[[WeightAt], WeightAt]) -> Iterator[None]:
    """Quantize the weights of convolutions otherwise.

    Args:
        make: Is given what quantizes them, and returns what does in its place.
    """
    plain = QuantizedLayer.weight_at
    other = make(plain)

    def weight_at(self: QuantizedLayer, weight: Tensor, level: Level | None) -> Tensor:
        is_plain = level is None or weight.dim() != NCHW_DIMS
        return (plain if is_plain else other)(self, weight, level)

    def kept(_: Any) -> AbstractContextManager[None]:
        return nullcontext()

    with (
        mock.patch.object(QuantizedLayer, "weight_at", weight_at),
        # It would make the plain weights again.
        mock.patch.object(layers, "RemadeInBackward", kept),
    ):
        yield


@contextmanager
def one_norm() -> Iterator[None]:
    """One BN for all bits: quantized weights get the mean and deviation of each float filter.

    After arXiv 2510.20673; the gradient goes through the correction.
    """
    plain_row = QuantizedLayer.row

    def row(self: QuantizedLayer, weight_bits: int, act_bits: int, *, norm: int) -> LayerRow:
        return plain_row(self, weight_bits, act_bits, norm=0)

    def make(plain: WeightAt) -> WeightAt:
        def corrected(layer: QuantizedLayer, weight: Tensor, level: Level | None) -> Tensor:
            quantized = plain(layer, weight, level)
            mean, deviation = (f(weight, FILTER, keepdim=True) for f in (torch.mean, torch.std))
            own_mean, own = (f(quantized, FILTER, keepdim=True) for f in (torch.mean, torch.std))
            # A filter that is one number everywhere has no deviation to correct.
            scale = torch.where(own > 0, deviation / own.clamp_min(1e-12), 1.0)
            return (quantized - own_mean) * scale + mean

        return corrected

    with mock.patch.object(QuantizedLayer, "row", row), weights_by(make):
        yield


def steps_by_channel() -> AbstractContextManager[None]:
    """Give every filter a step size: the learned one times its largest weight's share."""

    def make(plain: WeightAt) -> WeightAt:
        def scaled(layer: QuantizedLayer, weight: Tensor, level: Level | None) -> Tensor:
            largest = weight.detach().abs().amax(FILTER, keepdim=True)
            share = (largest / largest.max()).clamp_min(1e-3)
            return plain(layer, weight / share, level) * share

        return scaled

    return weights_by(make)


def nested_weights() -> AbstractContextManager[None]:
    """Make the weight at few bits of the high bits of the one at most bits (arXiv 2502.06786)."""

    def make(plain: WeightAt) -> WeightAt:
        def nested(layer: QuantizedLayer, weight: Tensor, level: Level | None) -> Tensor:
            assert level is not None, "weights in float are left to the plain one"
            quantizer = layer.weight_quantizer
            most = quantizer.level(max(quantizer.candidates))
            shift = (int(most.high) + 1) // (int(level.high) + 1)
            step_size = quantizer.step_size_of(max(quantizer.candidates)) * shift
            codes = plain(layer, weight, most) / step_size
            clipped = codes.clamp(int(level.low), int(level.high))
            return (clipped + (clipped.round() - clipped).detach()) * step_size

        return nested

    return weights_by(make)


REMEDIES: dict[str, tuple[tuple[str, ...], Callable[[], AbstractContextManager[None]]]] = {
    "step rates by bits": ((), step_rates_by_bits),
    "8-bit teacher": (
        ("quant.weight_candidates=[8,6,5,4,3,2]", "quant.act_candidates=[8,6,5,4,3,2]"),
        teacher_at_8_bits,
    ),
    "uniform passes": ((), uniform_passes),
    "passes weighted by bits": ((), passes_weighted_by_bits),
    "dampening in the last third": (
        ("train.dampening_weight=0.1", "train.dampening_start=0.67"),
        nullcontext,
    ),
    "one norm": ((), one_norm),
    "steps by channel": ((), steps_by_channel),
    "nested weights": ((), nested_weights),
}
"""By name: settings on top of the configuration, and what is changed."""
