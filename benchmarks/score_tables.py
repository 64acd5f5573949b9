"""The tables of `benchmarks.scores`."""

from collections.abc import Sequence
from typing import Any, get_args

from harness.run.config import Score

SCORES: tuple[Score, ...] = get_args(Score)


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Return the tables of all runs."""
    lines = [
        "# Which score ranks policies best",
        "",
        "`python -m benchmarks.scores --full`, or `--run PATH --policies N --test-images N` for a "
        "run that is there. Policies fill three budgets, each halfway between two uniform ones. "
        "*split-half*: Spearman's correlation between a score on two halves of the same images. "
        "*tau*: Kendall's correlation of the score, on the search split, with the error on the "
        "test split, BN statistics re-estimated as they are reported; ± 1.96 standard errors "
        "over the draw of policies. Seconds of one processor, per policy.",
    ]
    for result in results:
        lines += ["", *_run_lines(result)]
    return "\n".join(lines) + "\n"


def _run_lines(result: dict[str, Any]) -> list[str]:
    uniform = result["uniform_test_accuracy"].items()
    accuracies = ", ".join(f"{label} {100 * value:.2f}" for label, value in uniform)
    seconds = result["seconds_per_policy"].items()
    costs = ", ".join(f"{score} {value:.3f}" for score, value in seconds)
    most = result["by_images"][-1]
    largest = most["images"]
    head = "".join(f" {score}: split-half | {score}: tau |" for score in SCORES)
    columns = "---|---|" * len(SCORES)
    budgets = [
        f"| {row['budget']} | {100 * row['test_accuracy_mean']:.2f} ± "
        f"{100 * row['test_accuracy_std']:.2f} | {row['tau_of_test_halves']:.2f} |"
        + _cells(row["scores"])
        for row in result["budgets"]
    ]
    return [
        f"## {result['run']}: {result['layers']} layers, {result['policies']} policies a budget",
        "",
        f"Supernet of {result['epochs']} epochs on {result['training_images']} images; test "
        f"accuracy of uniform policies in %: {accuracies}. Seconds to score a policy on 500 "
        f"images: {costs}. Judged on {result['test_images']} test images.",
        "",
        f"On {largest} images, statistics re-estimated on {result['default_statistics']}; the "
        "third column is the tau between test errors on two halves of the test split:",
        "",
        f"| budget | test accuracy, % | halves |{head}",
        f"|---|---|---|{columns}",
        *budgets,
        "",
        f"| images, statistics of {result['default_statistics']} |{head}",
        f"|---|{columns}",
        *(f"| {row['images']} |{_cells(row['scores'])}" for row in result["by_images"]),
        "",
        f"On {largest} images, tau minus that of errors: {_gains(most['scores'])}.",
        "",
        f"| statistics, {result['by_statistics'][0]['images']} images | seconds |{head}",
        f"|---|---|{columns}",
        *(
            f"| {row['statistics']} | {row['seconds_per_policy']:.3f} |" + _cells(row["scores"])
            for row in result["by_statistics"]
        ),
    ]


def _gains(scores: dict[str, Any]) -> str:
    return ", ".join(
        f"{score} {values['tau_minus_errors']:+.2f} ± {values['tau_minus_errors_half_width']:.2f}"
        for score, values in scores.items()
        if score != "errors"
    )


def _cells(scores: dict[str, Any]) -> str:
    cells = []
    for score in SCORES:
        half_width = scores[score].get("tau_half_width")
        spread = "" if half_width is None else f" ± {half_width:.2f}"
        cells.append(f" {scores[score]['split_half']:.2f} | {scores[score]['tau']:.2f}{spread} |")
    return "".join(cells)
