"""One budget's result: the policy chosen, what it is compared with, and what was expected of it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from harness.observer import SILENCE, Observer
from harness.problem.budget import Budget
from harness.search.engine import Found, Marginal
from harness.search.predicted import Expectations, PredictedAccuracy, SideEffects
from harness.search.report import Report, report
from harness.search.request import Target
from harness.trained_run import TrainedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFigures:
    """What is said of a whole search, of all its budgets."""

    strategy: str
    evaluations: int
    """Policies that the search asked for, over all budgets, those in its journal included."""
    seconds: float
    """Of the search over all budgets: neither loading nor the choice among the finalists."""
    model_error: float | None
    """Typical error of the model where it predicts a mean score that it was not shown."""
    effects: SideEffects | None
    """What few bits cost in each layer, by the model; None without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome(Report):
    """One budget's result."""

    search: SearchFigures
    budget: Budget
    folder: Path
    score: float | None
    """Mean score measured on the images for proposals; None where it was not."""
    predicted: tuple[float, float] | None
    """Mean score that the model expects of the policy, with its standard deviation."""
    marginals: list[Marginal] | None
    """What one candidate more or fewer should change, side by side, in mean scores; None without a
    model."""
    predicted_accuracy: PredictedAccuracy | None
    """On the images for proposals, by a model of the counts of wrong images."""


def outcome_of(
    trained: TrainedRun,
    target: Target,
    shortlist: Sequence[Found],
    expected: Expectations,
    figures: SearchFigures,
    *,
    observer: Observer = SILENCE,
) -> SearchOutcome:
    """Choose among a budget's finalists, and say what was expected of the choice.

    Args:
        trained: The run.
        target: The budget.
        shortlist: The search's policies within it, the best first, at least one.
        expected: What the model of the search says of any policy.
        figures: Of the whole search.
        observer: Told how far it is.
    """
    found = report(trained, [one.policy for one in shortlist], target.budget, observer=observer)
    best = found.best.policy
    score = next((one.score for one in shortlist if one.policy == best), None)
    return SearchOutcome(
        **{field.name: getattr(found, field.name) for field in fields(found)},
        search=figures,
        budget=target.budget,
        folder=target.folder,
        score=None if score is None else score / expected.num_images,
        predicted=expected.score(best),
        marginals=expected.marginals(best),
        predicted_accuracy=expected.accuracy(best),
    )
