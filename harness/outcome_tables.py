"""What a search shows: budgets with the policies found, and which layers got which bits and why."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from harness.problem.budget import Budget, format_amount
from harness.problem.cost import Resource, bitops, weight_bytes
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy, policy_rows

if TYPE_CHECKING:
    from harness.run.folder import RunDir
    from harness.search.from_archive import ArchiveAnswer
    from harness.search.outcome import SearchFigures, SearchOutcome
    from harness.search.predicted import PredictedAccuracy
    from harness.search.report import ReportedPolicy


def outcomes_json(run: "RunDir", outcomes: "list[SearchOutcome]") -> dict[str, Any]:
    """Return the results of a search; the first target's values also stand at the top level."""
    network, figures = run.load_network(), outcomes[0].search
    results = [_outcome_json(network, outcome) for outcome in outcomes]
    return {
        "run": str(run.path),
        "strategy": figures.strategy,
        "model_error": figures.model_error,
        "layers": _effects_json(network, figures),
        **results[0],
        "targets": results,
    }


def answers_json(run: "RunDir", answers: "list[ArchiveAnswer]") -> dict[str, Any]:
    """Return what an archive answered; the first target's values also stand at the top level."""
    network = run.load_network()
    results = [_answer_json(network, one) for one in answers]
    return {"run": str(run.path), "known": answers[0].num_known, **results[0], "targets": results}


def outcomes_table(outcomes: "list[SearchOutcome]") -> Table:
    """Return budgets, each with the policy of the search and the uniform policies beside it."""
    resources = _resources([one.budget for one in outcomes])
    table = Table(
        "budget",
        "policy",
        *(resource.unit for resource in resources),
        "predicted",
        "search accuracy",
        "test accuracy",
        box=None,
    )
    for outcome in outcomes:
        rows = [
            ("found", outcome.best),
            ("cheapest not told apart from it", outcome.cheapest_equal),
            ("best uniform within the budget", outcome.best_uniform),
            ("uniform at equal or higher cost", outcome.dearer_uniform),
        ]
        budget = _budget_cell(outcome.budget)
        for label, reported in rows:
            if reported is None:
                continue
            is_found = reported is outcome.best
            predicted = outcome.predicted_accuracy if is_found else None
            table.add_row(
                budget,
                label if is_found else f"{label}, {reported.label}",
                *_cost_cells(outcome.budget, reported.costs, resources, with_slack=is_found),
                _predicted_cell(predicted),
                _accuracy_cell(reported.search_accuracy, reported.search_interval),
                _accuracy_cell(reported.test_accuracy, reported.test_interval),
            )
            budget = ""
        if outcome.is_told_apart is False and outcome.best.policy != _policy(outcome.best_uniform):
            table.add_row("", "found and best uniform: not told apart by the test images")
    return table


def answers_table(answers: "list[ArchiveAnswer]") -> Table:
    """Return budgets with the policies that an archive's model answers them with."""
    resources = _resources([one.target.budget for one in answers])
    units = [resource.unit for resource in resources]
    table = Table("budget", *units, "predicted accuracy", "policy file", box=None)
    for one in answers:
        budget = one.target.budget
        table.add_row(
            _budget_cell(budget),
            *_cost_cells(budget, one.costs, resources, with_slack=True),
            _predicted_cell(one.accuracy) or "not known",
            str(one.target.folder / "policy.json"),
        )
    return table


def layers_table(network: NetworkSpec, outcomes: "list[SearchOutcome]") -> Table | None:
    """Return the bits of every free layer in each budget beside what few bits cost there.

    None without a model of the scores.
    """
    effects = outcomes[0].search.effects
    if effects is None:
        return None
    table = Table(box=None)
    table.add_column("layer")
    table.add_column("share of\nMACs", justify="right")
    table.add_column("cost of fewest bits\nweights", justify="right")
    table.add_column("\ninput", justify="right")
    for outcome in outcomes:
        uniform = outcome.best_uniform
        beside = "" if uniform is None else f"\n(uniform {uniform.label})"
        table.add_column(f"{outcome.budget.text}{beside}", justify="right")
    total = sum(layer.macs for layer in network.layers)
    for index, layer in enumerate(network.layers):
        if len(layer.weight_candidates) == len(layer.act_candidates) == 1:
            continue
        weight, act = effects[index]
        table.add_row(
            layer.name,
            f"{100 * layer.macs / total:.1f} %",
            f"{weight:.4f}",
            f"{act:.4f}",
            *(_bits_cell(outcome, index) for outcome in outcomes),
        )
    return table


def _bits_cell(outcome: "SearchOutcome", index: int) -> str:
    """Return the bits of a layer, with + or - where a side is above or below the uniform policy."""
    bits = outcome.best.policy.bits[index]
    uniform = _policy(outcome.best_uniform)
    if uniform is None:
        return "{}/{}".format(*bits)
    weight, act = (
        f"{own}{'+' if own > other else '-' if own < other else ' '}"
        for own, other in zip(bits, uniform.bits[index], strict=True)
    )
    return f"{weight}/{act}"


def _policy(reported: "ReportedPolicy | None") -> Policy | None:
    return None if reported is None else reported.policy


def _resources(budgets: Sequence[Budget]) -> list[Resource]:
    return list(dict.fromkeys(limit.resource for one in budgets for limit in one.limits))


def _budget_cell(budget: Budget) -> str:
    limits = budget.limits
    if budget.text == limits[0].text:
        amount = format_amount(limits[0].amount, limits[0].resource)
        return amount if amount == budget.text else f"{budget.text} = {amount}"
    return "\n".join(
        f"{limit.named_text} = {format_amount(limit.amount, limit.resource)}" for limit in limits
    )


def _cost_cells(
    budget: Budget, costs: Sequence[int], resources: Sequence[Resource], *, with_slack: bool
) -> list[str]:
    """Return what is spent of each resource; with what is left of the budget."""
    cells = {}
    for limit, cost in zip(budget.limits, costs, strict=True):
        slack = f" ({100 * (1 - cost / limit.amount):.1f} % left)" if with_slack else ""
        cells[limit.resource] = format_amount(cost, limit.resource) + slack
    return [cells.get(resource, "") for resource in resources]


def _predicted_cell(predicted: "PredictedAccuracy | None") -> str:
    if predicted is None:
        return ""
    return _accuracy_cell(predicted.accuracy, predicted.interval)


def _accuracy_cell(accuracy: float, interval: tuple[float, float]) -> str:
    low, high = (100 * end for end in interval)
    return f"{100 * accuracy:.2f} % ({low:.1f} to {high:.1f})"


def _effects_json(network: NetworkSpec, figures: "SearchFigures") -> list[dict[str, Any]] | None:
    if figures.effects is None:
        return None
    return [
        {"name": layer.name, "score_of_fewest_weight_bits": weight, "score_of_fewest_act_bits": act}
        for layer, (weight, act) in zip(network.layers, figures.effects, strict=True)
    ]


def _predicted_json(predicted: "PredictedAccuracy | None") -> dict[str, Any]:
    return {
        "predicted_accuracy": None if predicted is None else predicted.accuracy,
        "predicted_accuracy_interval": None if predicted is None else predicted.interval,
    }


def _score_json(score: float | None, predicted: tuple[float, float] | None) -> dict[str, Any]:
    return {
        "score": score,
        "predicted_score": None if predicted is None else predicted[0],
        "predicted_deviation": None if predicted is None else predicted[1],
    }


def _budget_json(budget: Budget, costs: Sequence[int]) -> dict[str, Any]:
    """Return what is allowed of each resource and what part of it is left."""
    pairs = zip(budget.limits, costs, strict=True)
    slack = {limit.resource.name: 1 - cost / limit.amount for limit, cost in pairs}
    return {**budget.targets, "slack": slack}


def _policy_json(
    network: NetworkSpec, policy: Policy, budget: Budget, costs: Sequence[int]
) -> dict[str, Any]:
    pairs = zip(budget.limits, costs, strict=True)
    return {
        "policy": policy_rows((layer.name for layer in network.layers), policy),
        "bitops": bitops(network, policy),
        "weight_bytes": weight_bytes(network, policy),
        **{limit.resource.key: limit.resource.in_unit(cost) for limit, cost in pairs},
    }


def _answer_json(network: NetworkSpec, one: "ArchiveAnswer") -> dict[str, Any]:
    budget = one.target.budget
    return {
        **_policy_json(network, one.policy, budget, one.costs),
        **_budget_json(budget, one.costs),
        **_score_json(one.score, one.predicted),
        **_predicted_json(one.accuracy),
        "policy_file": str(one.target.folder / "policy.json"),
    }


def _moves_json(network: NetworkSpec, outcome: "SearchOutcome") -> list[dict[str, Any]] | None:
    """Return what each single move from the policy found should change: why it is as it is."""
    if outcome.marginals is None:
        return None
    return [
        {
            "name": network.layers[one.layer_index].name,
            "side": one.side,
            "from_bits": one.bits_from,
            "to_bits": one.bits_to,
            "score": one.difference,
            "deviation": one.deviation,
        }
        for one in outcome.marginals
    ]


def _outcome_json(network: NetworkSpec, outcome: "SearchOutcome") -> dict[str, Any]:
    def reported(item: "ReportedPolicy | None") -> dict[str, Any] | None:
        if item is None:
            return None
        return {
            **_policy_json(network, item.policy, outcome.budget, item.costs),
            "accuracy": {"search": item.search_accuracy, "test": item.test_accuracy},
            "accuracy_interval": {"search": item.search_interval, "test": item.test_interval},
        }

    best = reported(outcome.best)
    assert best is not None
    return {
        **best,
        **_budget_json(outcome.budget, outcome.best.costs),
        "evaluations": outcome.search.evaluations,
        "seconds": outcome.search.seconds,
        **_score_json(outcome.score, outcome.predicted),
        **_predicted_json(outcome.predicted_accuracy),
        "moves": _moves_json(network, outcome),
        "policy_file": str(outcome.folder / "policy.json"),
        "cheapest_equal": reported(outcome.cheapest_equal),
        "uniform_within": reported(outcome.best_uniform),
        "uniform_above": reported(outcome.dearer_uniform),
        "differs_from_uniform": outcome.is_told_apart,
    }
