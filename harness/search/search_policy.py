"""Search with an accuracy function of one's own: the engine without a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.problem.budget import Budget, parse_budget, target_budget
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.search.engine import (
    DEFAULT_EVALUATIONS,
    DEFAULT_STRATEGY,
    EngineOptions,
    Evaluate,
    run_search,
)
from harness.search.engine_form import SearchProblem


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedPolicy:
    """What came out of a search."""

    policy: Policy
    """Within the budget; `.bits` are its pairs."""
    num_evaluations: int
    """Different policies that `evaluate` was asked for."""
    score: float | None
    """What `evaluate` returned for the policy; None where it was not asked."""
    predicted: tuple[float, float] | None
    """Score that the model of the scores expects, with its standard deviation; None without one."""


def search_policy(
    network: NetworkSpec,
    budget: Budget | str | Sequence[str],
    evaluate: Evaluate,
    *,
    strategy: str | None = None,
    evaluations: int | None = None,
    seed: int = 0,
) -> SearchedPolicy:
    """Return the policy with the lowest score within a budget.

    Args:
        network: Its layers, as `harness.quant.convert.describe_network` describes them.
        budget: Amount of BitOPs as on the command line ("31.6G", "45%"), several limits
            (`["bitops=5.5G", "weight-bytes=1.2M"]`), or a `Budget`.
        evaluate: Takes policies, uint8 (n, layers, 2): weight bits, activation bits. Returns n
            scores, lower is better, or (n, folds) parts of them whose sums are the scores.
        strategy: One of `harness.search.engine.STRATEGIES`; None is the best measured.
        evaluations: Policies that are evaluated at most; None for `DEFAULT_EVALUATIONS`.
        seed: Decides every draw.

    Raises:
        HarnessError: The budget, the strategy or a score cannot be used. What `evaluate` raises
            passes through.

    >>> from harness.models import create_model
    >>> from harness.quant.convert import describe_network
    >>> from harness.run.config import ModelConfig, QuantConfig
    >>> resnet8 = create_model(
    ...     ModelConfig(name="resnet8"), num_classes=10, in_channels=3, device="meta"
    ... )
    >>> network = describe_network(
    ...     resnet8, name="resnet8", input_size=(3, 32, 32), num_classes=10, config=QuantConfig()
    ... )
    >>> def evaluate(policies):
    ...     return (4.0 ** -policies.astype(float)).sum(axis=(1, 2))
    >>> found = search_policy(network, "45%", evaluate, evaluations=100)
    >>> found.num_evaluations, len(found.policy.bits)
    (100, 10)
    """
    if isinstance(budget, str):
        budget = target_budget(budget, network)
    elif not isinstance(budget, Budget):
        budget = parse_budget(budget, network)
    problem = SearchProblem(network=network, candidates=network.candidates, budgets=[budget])
    options = EngineOptions(
        strategy=strategy or DEFAULT_STRATEGY,
        evaluations=DEFAULT_EVALUATIONS if evaluations is None else evaluations,
        seed=seed,
    )
    result = run_search(problem, evaluate, options=options)
    best = result.shortlists[0][0]
    return SearchedPolicy(
        policy=best.policy,
        num_evaluations=result.num_evaluations,
        score=best.score,
        predicted=best.predicted,
    )
