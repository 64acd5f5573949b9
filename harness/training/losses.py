"""Loss terms of one pass: each has a name, a weight and a function (arXiv 2401.01543, section 3).

What a pass minimises is the weighted sum of a list of terms. The lists stand here, in plain sight;
every term becomes a line of metrics.jsonl under its name, before its weight.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.problem.policy import Policy
from harness.run.config import TrainConfig
from harness.training.weight_terms import WeightTerms, dampening_weight


@dataclass(frozen=True, slots=True, kw_only=True)
class PassContext:
    """What a loss term may look at; a term that needs more of a pass adds it here."""

    logits: Tensor
    """Of this pass, (N, classes)."""
    labels: Tensor
    """Class indices, (N,), or, of mixed images, the share of each class, float (N, classes)."""
    teacher_logits: Tensor | None = None
    """Detached, (N, classes): of the external teacher, else of the max pass of the same step, which
    then has none itself."""
    policy: Policy | None = None
    """The bits of this pass; None in a float run."""
    weight_terms: WeightTerms | None = None
    """What the weights of this pass add; None where they add nothing."""
    feature_errors: Sequence[Tensor] = ()
    """Mean squared errors, scalars, of features behind layers at their fewest bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLosses:
    """What a step minimised, in detached scalars."""

    terms: dict[str, Tensor]
    """By name, before their weights, each the mean over the passes that have it."""
    passes: Sequence[Tensor]
    """The weighted sum that each pass minimised, in order."""
    fits: Sequence[Tensor]
    """Of each sum the part without penalties: how far logits are from labels and teachers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerm:
    """One summand of the loss of a pass."""

    name: str
    weight: float
    function: Callable[[PassContext], Tensor]
    """Maps the pass to a scalar."""
    is_penalty: bool = False
    """Whether it compares something else than logits; such a term has a scale of its own."""


def cross_entropy(context: PassContext, *, smoothing: float = 0.0) -> Tensor:
    """Return the cross entropy with the labels, the mean over the batch in nats.

    Shares of classes are smoothed here as class indices are, so whoever mixes leaves them as they
    are. To smooth first and mix then, as timm does, gives the same shares.
    """
    return F.cross_entropy(context.logits, context.labels, label_smoothing=smoothing)


def teacher_kl(context: PassContext) -> Tensor:
    """Return KL(softmax(teacher) || softmax(logits)), the mean over the batch in nats."""
    assert context.teacher_logits is not None, "a teacher runs before those that it teaches"
    student = F.log_softmax(context.logits.float(), dim=1)
    teacher = F.log_softmax(context.teacher_logits.float(), dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def float_terms(*, smoothing: float) -> tuple[LossTerm, ...]:
    """Return what the only pass of a float network minimises."""
    return (LossTerm(name="ce", weight=1.0, function=partial(cross_entropy, smoothing=smoothing)),)


def max_pass_terms(*, smoothing: float, is_taught: bool = False) -> tuple[LossTerm, ...]:
    """Return what the max pass of a supernet minimises.

    Args:
        smoothing: Of the labels.
        is_taught: Whether an external teacher teaches it; it then minimises what random passes do.
    """
    smoothed = partial(cross_entropy, smoothing=smoothing)
    labels = LossTerm(name="max_pass_ce", weight=0.5 if is_taught else 1.0, function=smoothed)
    taught = LossTerm(name="max_pass_kl", weight=0.5, function=teacher_kl)
    return (labels, taught) if is_taught else (labels,)


def feature_distortion(context: PassContext) -> Tensor:
    """Return the sum over layers of what `distortion.FeatureDistortion` found, 0 where none."""
    return sum(context.feature_errors, start=_zero(context))


def weight_dampening(context: PassContext) -> Tensor:
    """Return the sum over layers of the squared distance to the grid (training/weight_terms.py)."""
    return sum(_weight_terms(context).dampening, start=_zero(context))


def two_bit_decay(context: PassContext) -> Tensor:
    """Return half the squared weights inside the range of the layers at 2 bits, added up."""
    return sum(_weight_terms(context).decay, start=_zero(context))


def random_pass_terms(
    train: TrainConfig, *, progress: float, name: str = "random"
) -> tuple[LossTerm, ...]:
    """Return what every random pass of a supernet minimises, and the min pass.

    Labels are not smoothed here. The authors' code smooths them in every pass, by 0.1 for
    MobileNetV2 and not at all for ResNet18; no difference beyond the noise was measured
    (docs/results/differences.md).

    Args:
        train: Says which terms there are; those without weight are left out.
        progress: Share of the training that is done, 0 to 1.
        name: What the terms' names begin with.
    """
    terms = [
        LossTerm(name=f"{name}_ce", weight=0.5, function=cross_entropy),
        LossTerm(name=f"{name}_kl", weight=0.5, function=teacher_kl),
    ]
    dampening = dampening_weight(progress, start=train.dampening_start, peak=train.dampening_weight)
    decay = train.two_bit_weight_decay
    weighted = (
        ("distortion", train.distortion_weight, feature_distortion),
        ("dampening", dampening, weight_dampening),
        # The optimizer decays every weight; this makes it another decay inside the range.
        ("two_bit_decay", 0 if decay is None else decay - train.weight_decay, two_bit_decay),
    )
    terms += [
        LossTerm(name=f"{name}_{what}", weight=weight, function=function, is_penalty=True)
        for what, weight, function in weighted
        if weight
    ]
    return tuple(terms)


def _weight_terms(context: PassContext) -> WeightTerms:
    assert context.weight_terms is not None, "a pass with terms of weights watches them"
    return context.weight_terms


def _zero(context: PassContext) -> Tensor:
    return context.logits.new_zeros((), dtype=torch.float32)


def evaluate_terms(
    terms: Sequence[LossTerm], context: PassContext
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum, and every term by its name, detached and before its weight."""
    values = [term.function(context) for term in terms]
    weighted = [term.weight * value for term, value in zip(terms, values, strict=True)]
    total = sum(weighted[1:], start=weighted[0])
    names = (term.name for term in terms)
    return total, {name: value.detach() for name, value in zip(names, values, strict=True)}


def fit_of(terms: Sequence[LossTerm], values: Mapping[str, Tensor]) -> Tensor:
    """Return the weighted sum of the terms that are no penalties.

    Args:
        terms: Of a pass, one at least that is none.
        values: Each by its name, as `evaluate_terms` returns them.
    """
    first, *others = (term.weight * values[term.name] for term in terms if not term.is_penalty)
    return sum(others, start=first)
