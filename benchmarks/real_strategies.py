"""Which search is best at equal evaluations on trained supernets, judged on the test split.

Each strategy searches each budget once for each of several disjoint parts of the search split: on
that part alone it is told scores, and the part's number is its seed. Answers are compared on the
same test images with the best uniform policy within the budget. `guided, one set` searches all
budgets with the evaluations that the others spend on each;
`guided from gradients` begins with what gradients say.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.budgets import amount_text, halfway
from benchmarks.finalist_rules import finalist_rules
from benchmarks.intervals import half_width
from benchmarks.paper_rule import paper_search
from benchmarks.real_scores import Judge, Masks, PartScores, Told
from benchmarks.supernets import run_name
from harness.problem.budget import Budget, target_budget
from harness.problem.cost import bitops
from harness.problem.policy import Policy
from harness.search.engine import STRATEGIES, EngineOptions, knapsack_policies, run_search
from harness.search.engine_form import LayerValues, SearchProblem
from harness.search.report import spending_uniform
from harness.search.starts import gradient_values
from harness.terminal import console
from harness.trained_run import TrainedRun

PAPER = "paper"
GUIDED = "guided"
ONE_SET = "guided, one set"
GRADIENT = "guided from gradients"
UNIFORM = "uniform"

BETWEEN = {"2/2 to 3/3": (2, 3), "3/3 to 4/4": (3, 4)}
"""Budgets halfway between two uniform policies of equal bits."""
MIDDLE = "middle of both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    evaluations: int = 60
    parts: int = 5
    """Of the search split."""
    told: Told = field(default_factory=Told)
    finalists: int = 6
    """Of a guided search: those that rules of choice are compared on; 0 for none."""
    budgets: Sequence[str] = (*BETWEEN, MIDDLE)


class RealStrategies:
    """The comparison on one run; all that takes long is kept in its folder `benchmark`."""

    def __init__(self, trained: TrainedRun, plan: Plan) -> None:
        """Read what is kept."""
        folder = trained.run.path / "benchmark"
        self._trained = trained
        self._plan = plan
        self._judge = Judge(trained, folder)
        self._scores = [
            PartScores(trained, folder, plan.told, part=(index, plan.parts))
            for index in range(plan.parts)
        ]
        self._budgets = _budgets(trained, plan.budgets)

    def measured(
        self, names: Sequence[str] | None = None, *, on_budget: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """Return all that is reported.

        Args:
            names: Strategies; all by default.
            on_budget: Given what is there so far after each budget.
        """
        trained, told = self._trained, self._plan.told
        result: dict[str, Any] = {
            "run": run_name(trained),
            "layers": len(trained.network.layers),
            "epochs": trained.config.train.epochs,
            "training_images": len(trained.splits.train),
            "test_images": len(trained.splits.test),
            "evaluations": self._plan.evaluations,
            "parts": self._plan.parts,
            "score": told.score,
            "images": told.images,
            "recalibrate_images": told.recalibrate_images,
            "uniform_errors": self._uniform_errors(),
            "budgets": [],
        }
        for label in self._plan.budgets:
            result["budgets"].append(self._budget(label, names or _names()))
            on_budget(result)
        return result

    def _uniform_errors(self) -> dict[str, float]:
        policies = self._trained.candidates.equal_bits_policies
        masks = self._judge.right(list(policies.values()))
        return {name: _error(mask) for name, mask in zip(policies, masks, strict=True)}

    def _budget(self, label: str, names: Sequence[str]) -> dict[str, Any]:
        budget = self._budgets[label]
        answers: dict[str, list[Policy]] = {UNIFORM: []}
        finalists: list[Sequence[Policy]] = []
        for part, scores in enumerate(self._scores):
            answers[UNIFORM].append(self._searched(UNIFORM, budget, part, scores)[0])
            for name in names:
                if name != UNIFORM:
                    found = self._searched(name, budget, part, scores)
                    answers.setdefault(name, []).append(found[0])
                    finalists += [found] if name == GUIDED else []
            self._show(label, part, answers)
        return {
            "budget": label,
            "target_bitops": budget.limits[0].amount,
            **self._compared(budget, answers),
            "finalists": self._finalists(budget, finalists, answers[UNIFORM]),
        }

    def _searched(
        self, name: str, budget: Budget, part: int, scores: PartScores
    ) -> Sequence[Policy]:
        """Return the policies that a strategy calls best, the best first."""
        trained, evaluations = self._trained, self._plan.evaluations
        if name == PAPER:
            cost = partial(bitops, trained.network)
            limit = budget.limits[0].amount
            return paper_search(
                trained.candidates, limit, cost, scores.sums, evaluations=evaluations
            )[:1]
        budgets = list(self._budgets.values()) if name == ONE_SET else [budget]
        problem = SearchProblem(
            network=trained.network, candidates=trained.candidates, budgets=budgets
        )
        strategy = GUIDED if name in (ONE_SET, GRADIENT) else name
        options = EngineOptions(strategy=strategy, evaluations=evaluations, seed=part)
        if name == GRADIENT:
            starts = tuple(knapsack_policies(problem, self._hints))
            options = replace(options, starts=starts, hints=self._hints)
        shortlist = max(1, self._plan.finalists)
        found = run_search(problem, scores, options=options, shortlist=shortlist)
        return [one.policy for one in found.shortlists[budgets.index(budget)]]

    @cached_property
    def _hints(self) -> LayerValues:
        return gradient_values(self._trained)

    def _show(self, label: str, part: int, answers: dict[str, list[Policy]]) -> None:
        masks = self._judge.right([policies[part] for policies in answers.values()])
        errors = (f"{name} {100 * _error(m):.2f}" for name, m in zip(answers, masks, strict=True))
        line = f"{run_name(self._trained)}, {label}, part {part}: {'  '.join(errors)}"
        console(stderr=True).print(line, soft_wrap=True)

    def _compared(self, budget: Budget, answers: dict[str, list[Policy]]) -> dict[str, Any]:
        candidates, network = self._trained.candidates, self._trained.network
        masks = {name: self._judge.right(policies) for name, policies in answers.items()}
        best = self._best_by_test(budget, answers[UNIFORM])
        (best_mask,) = self._judge.right([best])
        rows = {
            name: {
                "errors": [_error(mask) for mask in own],
                "bitops": mean(bitops(network, policy) for policy in answers[name]),
                "minus_uniform": difference(own, masks[UNIFORM]),
                "minus_best_uniform": difference(own, [best_mask] * len(own)),
            }
            for name, own in masks.items()
        }
        default = next((name for name in (GRADIENT, GUIDED) if name in masks), None)
        if default is not None:
            for name, own in masks.items():
                rows[name]["default_minus_it"] = difference(masks[default], own)
        return {
            "default": default,
            "uniform": [candidates.label(policy) for policy in answers[UNIFORM]],
            "best_uniform": candidates.label(best),
            "strategies": rows,
        }

    def _best_by_test(self, budget: Budget, answers: Sequence[Policy]) -> Policy:
        """Return the uniform policy within a budget that the test split calls best."""
        policies = list(dict.fromkeys([*spending_uniform(self._trained, budget), *answers]))
        masks = self._judge.right(policies)
        return min(zip(policies, masks, strict=True), key=lambda row: _error(row[1]))[0]

    def _finalists(
        self, budget: Budget, finalists: Sequence[Sequence[Policy]], uniform: Sequence[Policy]
    ) -> dict[str, Any] | None:
        """Return what rules of choice among finalists are worth, or None without finalists."""
        if not finalists or not self._plan.finalists:
            return None
        network = self._trained.network
        spending = spending_uniform(self._trained, budget)
        found = []
        for shortlist, own in zip(finalists, uniform, strict=True):
            policies = list(dict.fromkeys([*shortlist, *spending]))
            masks = np.array(self._judge.right(policies))
            costs = [bitops(network, policy) for policy in policies]
            (yardstick,) = self._judge.right([own])
            found.append(finalist_rules(masks, costs, yardstick))
        return {
            count: {rule: mean(one[count][rule] for one in found) for rule in found[0][count]}
            for count in found[0]
        }


def difference(masks: Sequence[Masks], others: Sequence[Masks]) -> dict[str, Any]:
    """Return how much larger errors are than those of others on the same images, in points.

    Args:
        masks: Which images are right, (images,), for each part of the search split.
        others: Those of what is compared with.

    Returns:
        `each`, their `mean`, and two halves of its 95 % interval: over the parts, and over the test
        images; None of the first for a single part.
    """
    by_image = 100 * (np.array(others, float) - np.array(masks, float))
    each = by_image.mean(axis=1).tolist()
    over_parts = by_image.mean(axis=0)
    return {
        "mean": mean(each),
        "half_width": half_width(each) if len(each) > 1 else None,
        "image_half_width": float(1.96 * over_parts.std(ddof=1) / len(over_parts) ** 0.5),
        "each": each,
    }


def _names() -> list[str]:
    return [*STRATEGIES, PAPER, ONE_SET, GRADIENT]


def _budgets(trained: TrainedRun, labels: Sequence[str]) -> dict[str, Budget]:
    targets = {label: halfway(trained.network, *bits) for label, bits in BETWEEN.items()}
    targets[MIDDLE] = sum(targets.values()) // len(targets)
    return {label: target_budget(amount_text(targets[label]), trained.network) for label in labels}


def _error(mask: Masks) -> float:
    return 1 - float(mask.mean())
