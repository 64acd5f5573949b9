"""Which score ranks policies best, on how many images, under which BN statistics.

`python -m benchmarks.scores` trains a small supernet on the embedded digits; `--full` trains a
residual and a depthwise network on Fashion-MNIST (benchmarks/supernets.py) and takes 200 policies a
budget. `--run PATH`, repeated, takes trained runs in their place. Either keeps its results in
docs/results/scores.json and .md, beside those of other runs. Policies fill three budgets; the truth
is the accuracy on the test split with re-estimated statistics, as it is reported. Seconds are those
of the processor. What is measured is kept in the run's folder: stopped, the same command goes on.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr  # type: ignore[import-untyped]

from benchmarks.budgets import BETWEEN, halfway
from benchmarks.kept_arrays import Arrays, kept_arrays
from benchmarks.kept_runs import keep_runs
from benchmarks.main_job import random_policy
from benchmarks.score_tables import SCORES, markdown
from benchmarks.supernets import run_name, supernets
from harness.accuracy import PolicyScorer, right_by_policy
from harness.data import EvalBatches
from harness.problem.policy import Policy
from harness.quant.execution import PolicyInputs
from harness.quant.recalibrate import with_reestimated_statistics
from harness.run.config import Score
from harness.run.files import FileFormat
from harness.runtime import setup_logging
from harness.scores import log_probabilities, score_of_images
from harness.terminal import console
from harness.trained_run import TrainedRun, load_run

RESULTS_FORMAT = FileFormat(name="results of the scores")
IMAGES = (250, 500, 1000, 3000)
STATISTICS = ("trained", "of the batch", "200", "500", "2000")
"""Of training, of the batch that is scored, or re-estimated on so many training images."""
DEFAULT_STATISTICS = "500"
STATISTICS_IMAGES = 500
"""Images that score policies where kinds of statistics are compared."""
AT_ONCE = 64
TIMED_POLICIES, TIMED_ROUNDS = 8, 3
HALVES, RESAMPLES = 20, 200

Floats = NDArray[np.float64]
ImageScores = dict[Score, Floats]
"""Of each score: (policies, images)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Policies that fill one budget, and what they are worth."""

    label: str
    target: int
    policies: list[Policy]
    right: NDArray[np.bool_]
    """(policies, images of the test split)."""

    @property
    def errors(self) -> Floats:
        """The share of wrong test images of each policy."""
        return np.asarray(1 - self.right.mean(axis=1))


def main(
    *,
    run: Annotated[list[Path] | None, typer.Option(help="A trained run; repeatable.")] = None,
    policies: Annotated[int | None, typer.Option(help="Policies for each budget.")] = None,
    test_images: Annotated[int | None, typer.Option(help="Test images that judge.")] = None,
    full: Annotated[bool, typer.Option(help="Fashion-MNIST, 200 policies a budget.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
    runs: Annotated[Path, typer.Option(help="Where runs are trained.")] = Path("runs/benchmark"),
) -> None:
    """Measure every run and print the tables."""
    setup_logging()
    torch.set_num_threads(1)
    number = policies or (200 if full else 40)
    trained_runs = supernets(run, runs, full=full)
    results = [
        measured(load_run(one), number=number, test_images=test_images) for one in trained_runs
    ]
    console().print(markdown(results))
    if full or run:
        keep_runs("scores", results, file_format=RESULTS_FORMAT, markdown=markdown)
    if as_json:
        typer.echo(json.dumps({"runs": results}))


def measured(trained: TrainedRun, *, number: int, test_images: int | None) -> dict[str, Any]:
    """Return everything that is reported of one run.

    Args:
        trained: The run.
        number: Policies for each budget.
        test_images: The first images of the test split that judge; None is all.
    """
    budgets = list(_budgets(trained, number, test_images))
    policies = [policy for budget in budgets for policy in budget.policies]
    most = len(trained.splits.search)
    images = sorted({min(count, most) for count in IMAGES})
    scored: ImageScores = {}
    by_statistics = []
    for statistics in STATISTICS:
        is_default = statistics == DEFAULT_STATISTICS
        limit = max(images) if is_default else min(STATISTICS_IMAGES, most)
        found, seconds, seconds_per_image = _image_scores(trained, policies, statistics, limit)
        scored = found if is_default else scored
        seen = min(STATISTICS_IMAGES, most)
        by_statistics.append(
            {
                "statistics": statistics,
                "images": seen,
                "seconds_per_policy": seconds + seen * seconds_per_image,
                "scores": _agreement(budgets, _first(found, seen)),
            }
        )
    by_images = [
        {"images": count, "scores": _agreement(budgets, _first(scored, count))} for count in images
    ]
    config = trained.config
    return {
        "run": run_name(trained),
        "layers": len(trained.network.layers),
        "policies": number,
        "test_images": budgets[0].right.shape[1],
        "training_images": len(trained.splits.train),
        "epochs": config.train.epochs,
        "default_statistics": DEFAULT_STATISTICS,
        "uniform_test_accuracy": _uniform_accuracies(trained),
        "seconds_per_policy": _seconds_of_scores(trained, policies[:TIMED_POLICIES]),
        "budgets": [
            _budget_row(budget, _part(scored, index, number))
            for index, budget in enumerate(budgets)
        ],
        "by_images": by_images,
        "by_statistics": by_statistics,
    }


def _budgets(trained: TrainedRun, number: int, test_images: int | None) -> Iterator[Budget]:
    """Yield three budgets between uniform policies, with random policies that fill them."""
    for low, high in BETWEEN:
        target = halfway(trained.network, low, high)
        generator = np.random.default_rng([trained.config.seed, low])
        distinct: dict[Policy, None] = {}
        while len(distinct) < number:
            distinct[random_policy(trained, target, generator)] = None
        policies = list(distinct)
        masks = [
            _kept(
                trained,
                {"judged": test_images},
                policies[start : start + AT_ONCE],
                partial(_judged, trained, test_images),
            )["right"]
            for start in range(0, number, AT_ONCE)
        ]
        label = f"{low}/{low} to {high}/{high}"
        right = np.concatenate(masks).astype(np.bool_)
        yield Budget(label=label, target=target, policies=policies, right=right)


def _judged(trained: TrainedRun, test_images: int | None, policies: Sequence[Policy]) -> Arrays:
    right = right_by_policy(
        trained.supernet,
        policies,
        trained.batches("test", limit=test_images),
        recalibration=trained.batches("train", limit=trained.config.eval.recalibrate_images),
    )
    return {"right": np.asarray(right)}


def _kept(
    trained: TrainedRun,
    settings: dict[str, object],
    policies: Sequence[Policy],
    measure: Callable[[Sequence[Policy]], Arrays],
) -> Arrays:
    """Return what some policies measured, kept in the run's folder."""
    known = {
        "weights": trained.weights_digest,
        "data": trained.splits.identity.to_json(),
        "eval": trained.config.eval.model_dump(mode="json"),
        "policies": [policy.bits for policy in policies],
        **settings,
    }
    return kept_arrays(trained.run.path / "benchmark", known, lambda: measure(policies))


def _image_scores(
    trained: TrainedRun, policies: Sequence[Policy], statistics: str, limit: int
) -> tuple[ImageScores, float, float]:
    """Return the scores of each image, and the seconds of a policy's statistics and of an image."""
    found: dict[Score, list[Floats]] = {score: [] for score in SCORES}
    seconds = np.zeros(2)
    for start in range(0, len(policies), AT_ONCE):
        settings: dict[str, object] = {"statistics": statistics, "images": limit}
        some = policies[start : start + AT_ONCE]
        arrays = _kept(trained, settings, some, partial(_scored, trained, statistics, limit))
        seconds += np.asarray(arrays["seconds"], np.float64)
        for score in SCORES:
            found[score].append(np.asarray(arrays[score], np.float64))
        typer.echo(f"{statistics}: {start + len(some)} of {len(policies)} policies", err=True)
    whole = {score: np.concatenate(rows) for score, rows in found.items()}
    encoding, scoring = seconds.tolist()
    return whole, encoding / len(policies), scoring / len(policies) / limit


@torch.no_grad()
def _scored(trained: TrainedRun, statistics: str, limit: int, policies: Sequence[Policy]) -> Arrays:
    """Return the scores (policies, images) by name, and the seconds of statistics and of scores."""
    supernet, device = trained.supernet.eval(), next(trained.supernet.parameters()).device
    encode = partial(_encoded, trained, statistics=statistics)
    (teacher,) = encode([trained.network.candidates.largest])
    began = time.process_time()
    some = encode(policies)
    encoded = time.process_time()
    scores = torch.zeros(len(SCORES), len(some), limit, dtype=torch.float64)
    first = 0
    for images, labels in trained.batches("search", limit=limit):
        x, expected = images.to(device), labels.to(device)
        outputs = log_probabilities(supernet(x, teacher))
        for index, inputs in enumerate(some):
            logits = supernet(x, inputs)
            for place, score in enumerate(SCORES):
                values = score_of_images(score, logits, expected, teacher=outputs)
                scores[place, index, first : first + len(x)] = values
        first += len(x)
    seconds = np.array([encoded - began, time.process_time() - encoded])
    return {**dict(zip(SCORES, scores.numpy(), strict=True)), "seconds": seconds}


def _encoded(
    trained: TrainedRun, policies: Sequence[Policy], *, statistics: str
) -> list[PolicyInputs]:
    supernet, device = trained.supernet, next(trained.supernet.parameters()).device
    inputs = supernet.encode_standing(policies)
    if statistics == "trained":
        return inputs
    if statistics == "of the batch":
        # A momentum says that those of the batch are used; where they move to is not looked at.
        return [
            one._replace(statistics=[own.copied(momentum=0.0) for own in supernet.statistics(one)])
            for one in inputs
        ]
    images = (x.to(device) for x, _ in trained.batches("train", limit=int(statistics)))
    return with_reestimated_statistics(supernet, inputs, images)


def _seconds_of_scores(trained: TrainedRun, policies: Sequence[Policy]) -> dict[Score, float]:
    """Return the seconds of a policy by `PolicyScorer`, the least of some rounds in turns.

    On 500 images without recalibration, that the score's own share is seen.
    """
    batches: EvalBatches = trained.batches("search", limit=500)
    scorers = {score: PolicyScorer(trained.supernet, batches, score=score) for score in SCORES}
    seconds: dict[Score, list[float]] = {score: [] for score in SCORES}
    for score, scorer in list(scorers.items()) * (TIMED_ROUNDS + 1):
        began = time.process_time()
        scorer.score(policies)
        seconds[score].append((time.process_time() - began) / len(policies))
    return {score: min(values[1:]) for score, values in seconds.items()}


def _uniform_accuracies(trained: TrainedRun) -> dict[str, float]:
    policies = trained.candidates.equal_bits_policies
    accuracies = trained.accuracy(list(policies.values()), split="test")
    return dict(zip(policies, accuracies, strict=True))


def _first(scores: ImageScores, num_images: int) -> ImageScores:
    return {score: values[:, :num_images] for score, values in scores.items()}


def _part(scores: ImageScores, index: int, number: int) -> ImageScores:
    """Return the scores of one budget's policies."""
    rows = slice(index * number, (index + 1) * number)
    return {score: values[rows] for score, values in scores.items()}


def _budget_row(budget: Budget, scores: ImageScores) -> dict[str, Any]:
    errors = budget.errors
    halves = [budget.right[:, one].mean(axis=1) for one in (slice(0, None, 2), slice(1, None, 2))]
    return {
        "budget": budget.label,
        "target_bitops": budget.target,
        "test_accuracy_mean": float(1 - errors.mean()),
        "test_accuracy_std": float(errors.std(ddof=1)),
        # How well half of the test split agrees with the other half: no score agrees much better.
        "tau_of_test_halves": _tau(*halves),
        "scores": {
            score: {"split_half": _split_half(values), "tau": _tau(values.mean(axis=1), errors)}
            for score, values in scores.items()
        },
    }


def _agreement(budgets: Sequence[Budget], scores: ImageScores) -> dict[Score, Any]:
    """Return means over the budgets: split-half correlation, tau, and tau minus that of errors."""
    number = len(budgets[0].policies)
    means = {score: values.mean(axis=1).reshape(-1, number) for score, values in scores.items()}
    taus = {score: _mean_tau(values, budgets) for score, values in means.items()}
    drawn = {score: _drawn_taus(values, budgets) for score, values in means.items()}
    rows: dict[Score, Any] = {}
    for score, values in scores.items():
        parts = [values[index * number : (index + 1) * number] for index in range(len(budgets))]
        rows[score] = {
            "split_half": float(np.mean([_split_half(part) for part in parts])),
            "tau": taus[score],
            "tau_half_width": _half_width(drawn[score]),
            "tau_minus_errors": taus[score] - taus["errors"],
            "tau_minus_errors_half_width": _half_width(drawn[score] - drawn["errors"]),
        }
    return rows


def _mean_tau(
    scores: Floats, budgets: Sequence[Budget], chosen: NDArray[np.int64] | None = None
) -> float:
    """Return the mean over budgets of tau against the test errors; of the chosen policies."""
    pairs = zip(scores, (budget.errors for budget in budgets), strict=True)
    some = slice(None) if chosen is None else chosen
    return float(np.mean([_tau(score[some], errors[some]) for score, errors in pairs]))


def _drawn_taus(scores: Floats, budgets: Sequence[Budget]) -> Floats:
    """Return the mean tau where policies are drawn again, the same ones for every score."""
    generator = np.random.default_rng(0)
    number = scores.shape[1]
    draws = generator.integers(0, number, (RESAMPLES, number))
    return np.array([_mean_tau(scores, budgets, chosen) for chosen in draws])


def _half_width(drawn: Floats) -> float:
    """Return 1.96 standard errors."""
    return float(1.96 * drawn.std(ddof=1))


def _split_half(values: Floats) -> float:
    """Return Spearman's correlation between scores on two halves, mean over random halves."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(HALVES):
        order = generator.permutation(values.shape[1])
        middle = len(order) // 2
        first, second = (values[:, one].mean(axis=1) for one in (order[:middle], order[middle:]))
        found.append(_correlation(spearmanr, first, second))
    return float(np.mean(found))


def _tau(first: Floats, second: Floats) -> float:
    return _correlation(kendalltau, first, second)


def _correlation(kind: Callable[..., Any], first: Floats, second: Floats) -> float:
    """Return a rank correlation; 0 where one side ranks nothing."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(kind(first, second).statistic)


if __name__ == "__main__":
    typer.run(main)
