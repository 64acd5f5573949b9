"""How well gradients say what each bit-width costs, and what policies they lead to.

`python -m benchmarks.gradient` trains a small supernet on the embedded digits, `--run PATH`,
repeated, takes trained runs in its place and keeps the results in docs/results/gradient.json and
.md. The truth about a bit-width is the KL divergence measured where it alone is changed; the truth
about a policy its accuracy on the test split. Seconds are those of the processor.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp  # type: ignore[import-untyped]
from scipy.stats import spearmanr  # type: ignore[import-untyped]

from benchmarks.budgets import BETWEEN, amount_text, halfway
from benchmarks.gradient_tables import markdown
from benchmarks.kept_runs import keep_runs
from harness.accuracy import PolicyScorer
from harness.data import eval_batches
from harness.problem.budget import Budget, target_budget
from harness.problem.cost import BITOPS, bitops, cost_table
from harness.problem.policy import Policy
from harness.problem.ties import SIDES
from harness.run.config import load_config
from harness.run.files import FileFormat
from harness.run.folder import RunDir
from harness.runtime import setup_logging
from harness.search.engine import EngineOptions, PolicyArray, run_search
from harness.search.engine_form import SearchProblem
from harness.sensitivity import BATCH_SIZE, gradient_sensitivities, pair_values
from harness.terminal import console
from harness.trained_run import TrainedRun, load_run
from harness.training.trainer import train

RESULTS_FORMAT = FileFormat(name="results of gradients as sensitivities")
VARIANTS = ((128, 1), (256, 1), (512, 1), (512, 4), (2048, 1))
"""Images and probes."""
DEFAULT_VARIANT = (512, 1)
SEEDS = 5
"""Draws of signs, over which correlations are given as mean and least."""
RECALIBRATION_IMAGES = 500

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A policy that one way of choosing gives for one budget."""

    way: str
    budget: str
    policy: Policy
    evaluations: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivities:
    """What single changes cost, and what it cost to know."""

    way: str
    values: Floats
    """As `gradient_sensitivities` returns them."""
    evaluations: int
    seconds: float


def main(
    *,
    run: Annotated[list[Path] | None, typer.Option(help="A trained run; repeatable.")] = None,
    images: Annotated[int, typer.Option(help="Images of the search split that score.")] = 2000,
    evaluations: Annotated[int, typer.Option(help="Of the guided search.")] = 80,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
    runs: Annotated[Path, typer.Option(help="Where runs are trained.")] = Path("runs/benchmark"),
) -> None:
    """Measure every run and print the tables."""
    setup_logging()
    torch.set_num_threads(1)
    trained = [RunDir(path) for path in run or ()] or [_digits(runs)]
    results = [measured(load_run(one), images=images, evaluations=evaluations) for one in trained]
    console().print(markdown(results))
    if run:
        keep_runs("gradient", results, file_format=RESULTS_FORMAT, markdown=markdown)
    if as_json:
        typer.echo(json.dumps({"runs": results}))


def _digits(runs: Path) -> RunDir:
    config = load_config(Path("configs/train/digits.yaml"), overrides=["train.epochs=10"])
    return train(config, out=runs / "gradient_digits")


def measured(trained: TrainedRun, *, images: int, evaluations: int) -> dict[str, Any]:
    """Return everything that is reported of one run.

    Args:
        trained: The run.
        images: Images of the search split that score policies.
        evaluations: That the guided search is given, for all budgets together.
    """
    scorer = PolicyScorer(
        trained.supernet,
        trained.batches("search", limit=images),
        score="kl",
        recalibration=trained.batches("train", limit=RECALIBRATION_IMAGES),
    )
    truth = _one_at_a_time(trained, scorer)
    gradients = _from_gradients(trained, *DEFAULT_VARIANT, seed=0)
    budgets = list(_budgets(trained))
    chosen = [
        *_best_uniform(trained, scorer, budgets),
        *_by_knapsack(trained, gradients, budgets),
        *_by_knapsack(trained, truth, budgets),
        *_by_guided_search(trained, scorer, budgets, evaluations),
    ]
    config = trained.config
    return {
        "run": f"{config.model.name} on {config.data.name}",
        "layers": len(trained.network.layers),
        "images": scorer.num_images,
        "changes": truth.evaluations,
        "seconds_one_at_a_time": truth.seconds,
        "variants": [_variant(trained, truth.values, *one) for one in VARIANTS],
        "policies": _judged(trained, scorer, chosen),
    }


def _one_at_a_time(trained: TrainedRun, scorer: PolicyScorer) -> Sensitivities:
    """Measure each change by itself."""
    began = time.process_time()
    candidates = trained.candidates
    largest = candidates.largest.bits
    changed: dict[tuple[int, int, int], Policy] = {}
    for index, layer in enumerate(candidates.layers):
        for at, side in enumerate(SIDES):
            for position, bits in enumerate(layer.of(side)):
                pair = (bits, largest[index][1]) if side == "weight" else (largest[index][0], bits)
                if pair != largest[index]:
                    policy = Policy([*largest[:index], pair, *largest[index + 1 :]])
                    changed[index, at, position] = policy
    scores = scorer.score(list(changed.values())).parts.sum(axis=1) / scorer.num_images
    most = max(len(layer.of(side)) for layer in candidates.layers for side in SIDES)
    found = np.full((len(candidates.layers), 2, most), np.nan)
    for index, layer in enumerate(candidates.layers):
        for at, side in enumerate(SIDES):
            found[index, at, : len(layer.of(side))] = 0
    for place, score in zip(changed, scores, strict=True):
        found[place] = score
    seconds = time.process_time() - began
    return Sensitivities(
        way="one at a time", values=found, evaluations=len(changed), seconds=seconds
    )


def _from_gradients(
    trained: TrainedRun, images: int, num_probes: int, *, seed: int
) -> Sensitivities:
    began = time.process_time()
    found = gradient_sensitivities(
        trained.supernet,
        eval_batches(trained.splits.search, batch_size=BATCH_SIZE, limit=images),
        candidates=trained.candidates,
        num_probes=num_probes,
        seed=seed,
    )
    seconds = time.process_time() - began
    return Sensitivities(way="gradient", values=found, evaluations=0, seconds=seconds)


def _variant(trained: TrainedRun, truth: Floats, images: int, num_probes: int) -> dict[str, Any]:
    """Return how well gradients of so many images and probes agree with what was measured."""
    seeds = range(SEEDS if images <= DEFAULT_VARIANT[0] else 1)
    drawn = [_from_gradients(trained, images, num_probes, seed=seed) for seed in seeds]
    free = truth > 0
    ranks = [float(spearmanr(one.values[free], truth[free]).statistic) for one in drawn]
    logs = [np.log(np.maximum(one.values[free], 1e-12) / truth[free]) for one in drawn]
    return {
        "images": min(images, len(trained.splits.search)),
        "probes": num_probes,
        "seconds": float(np.mean([one.seconds for one in drawn])),
        "spearman": float(np.mean(ranks)),
        "spearman_least": min(ranks),
        "ratio": float(np.exp(np.mean([one.mean() for one in logs]))),
        "ratio_spread": float(np.exp(np.mean([one.std() for one in logs]))),
    }


def _budgets(trained: TrainedRun) -> Iterator[Budget]:
    """Yield three budgets, each halfway between two uniform policies."""
    for low, high in BETWEEN:
        yield target_budget(amount_text(halfway(trained.network, low, high)), trained.network)


def _best_uniform(
    trained: TrainedRun, scorer: PolicyScorer, budgets: Sequence[Budget]
) -> Iterator[Chosen]:
    """Yield for each budget the uniform pair within it that has the lowest score."""
    began = time.process_time()
    policies = list(trained.candidates.uniform_policies.values())
    scores = scorer.score(policies).parts.sum(axis=1)
    seconds = time.process_time() - began
    for budget in budgets:
        (limit,) = budget.limits
        pairs = zip(policies, scores, strict=True)
        within = [(s, p) for p, s in pairs if bitops(trained.network, p) <= limit.amount]
        _, best = min(within, key=lambda pair: float(pair[0]))
        yield Chosen(
            way="best uniform", budget=budget.text, policy=best,
            evaluations=len(policies), seconds=seconds,
        )  # fmt: skip


def _by_knapsack(
    trained: TrainedRun, given: Sensitivities, budgets: Sequence[Budget]
) -> Iterator[Chosen]:
    """Yield for each budget the exact optimum of sensitivities that add up."""
    for budget in budgets:
        (limit,) = budget.limits
        yield Chosen(
            way=given.way, budget=budget.text, evaluations=given.evaluations,
            seconds=given.seconds, policy=optimum(trained, given.values, limit.amount),
        )  # fmt: skip


def optimum(trained: TrainedRun, sensitivities: Floats, limit: int) -> Policy:
    """Return the policy of the least sum within a limit on BitOPs, by an integer program."""
    candidates = trained.candidates
    assert not candidates.ties, "the program knows no ties"
    values = [table.ravel() for table in pair_values(sensitivities, candidates)]
    costs = [np.ravel(table) for table in cost_table(trained.network, candidates, BITOPS)]
    one_of_each = np.zeros((len(values), sum(map(len, values))))
    first = 0
    for row, table in zip(one_of_each, values, strict=True):
        row[first : first + len(table)] = 1
        first += len(table)
    spent = np.concatenate(costs) / limit
    found = milp(
        np.concatenate(values) / max(1e-30, float(np.concatenate(values).max())),
        constraints=[LinearConstraint(one_of_each, 1, 1), LinearConstraint(spent, 0, 1)],
        integrality=np.ones(len(spent)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0},
    )
    assert found.success, found.message
    chosen = []
    for layer, row in zip(candidates.layers, one_of_each, strict=True):
        at = int(found.x[row > 0].argmax())
        chosen.append((layer.weight[at // len(layer.act)], layer.act[at % len(layer.act)]))
    policy = Policy(chosen)
    assert bitops(trained.network, policy) <= limit
    return policy


def _by_guided_search(
    trained: TrainedRun, scorer: PolicyScorer, budgets: Sequence[Budget], evaluations: int
) -> Iterator[Chosen]:
    def evaluate(policies: PolicyArray) -> list[list[float]]:
        rows: list[list[float]] = scorer.score(
            [Policy(one) for one in policies.tolist()]
        ).parts.tolist()
        return rows

    began = time.process_time()
    problem = SearchProblem(network=trained.network, candidates=trained.candidates, budgets=budgets)
    result = run_search(problem, evaluate, options=EngineOptions(evaluations=evaluations))
    seconds = time.process_time() - began
    for budget, shortlist in zip(budgets, result.shortlists, strict=True):
        yield Chosen(
            way="guided search", budget=budget.text, policy=shortlist[0].policy,
            evaluations=result.num_evaluations, seconds=seconds,
        )  # fmt: skip


def _judged(
    trained: TrainedRun, scorer: PolicyScorer, chosen: Sequence[Chosen]
) -> list[dict[str, Any]]:
    """Return what the policies are worth, against the first of the same budget."""
    policies = list(dict.fromkeys(one.policy for one in chosen))
    scores = dict(zip(policies, scorer.score(policies).parts.sum(axis=1), strict=True))
    right = dict(zip(policies, trained.right_images(policies, split="test"), strict=True))
    rows = []
    for one in chosen:
        first = next(other for other in chosen if other.budget == one.budget)
        gain = right[one.policy].astype(float) - right[first.policy]
        rows.append(
            {
                "way": one.way,
                "budget": one.budget,
                "bitops": bitops(trained.network, one.policy),
                "evaluations": one.evaluations,
                "seconds": one.seconds,
                "score": float(scores[one.policy] / scorer.num_images),
                "test_accuracy": float(right[one.policy].mean()),
                "gain": float(gain.mean()),
                # 1.96 standard errors of the paired difference.
                "gain_half_width": float(1.96 * gain.std(ddof=1) / len(gain) ** 0.5),
                "policy": one.policy.bits,
            }
        )
    return rows


if __name__ == "__main__":
    typer.run(main)
