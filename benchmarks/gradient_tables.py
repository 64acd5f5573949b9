"""The tables of `benchmarks.gradient`."""

from collections.abc import Sequence
from typing import Any

FORMS = """## Which form agrees with what was measured

Rank correlation with the measured KL (160 changes of resnet20 on Fashion-MNIST, 256 images against
2,000; in brackets 64 changes of resnet8 on digits). *sum*: the square of the sum of gradient times
change over an image; *elements*: the sum of the squares; *batch*: the square of the sum over all.

| BN statistics | directions | sum | elements | batch |
|---|---|---|---|---|
| of the batch, with gradients | one probe | **0.938 (0.966)** | 0.915 (0.929) | 0.754 (0.808) |
| | every class | 0.941 (0.970) | 0.917 (0.927) | 0.768 (0.704) |
| | drawn labels | 0.933 (0.940) | 0.917 (0.928) | 0.791 (0.738) |
| | given labels | 0.924 (0.940) | 0.913 (0.922) | 0.819 (0.807) |
| re-estimated, held still | one probe | 0.443 (0.762) | 0.865 (0.919) | 0.200 (0.654) |
| of training | one probe | 0.800 (0.403) | 0.891 (0.563) | 0.552 (0.377) |

*sum* with statistics of the batch also has the right size: predicted over measured is 1.16 (1.00),
of *elements* 0.38 (0.64). Between batches of 16 to 96 images nothing changes beyond the draws.

Cross entropy has a part of first order, the gradient at the labels. It predicts the rise on the
very images that it was computed on (rank correlation 0.50 with that on 2,000 images of which it
saw 512, without it 0.31), but that rise itself agrees between two halves of these images by 0.09
only: it is left out."""
"""Measured once, before the form was chosen."""


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Return the tables of all runs."""
    lines = [
        "# What gradients say about bit-widths",
        "",
        "`python -m benchmarks.gradient --run PATH`. A change is one side of one layer at fewer "
        "bits, all else at the largest. *measured*: its KL divergence from the max policy, BN "
        "statistics re-estimated. *gradient*: what `harness.sensitivity` predicts of it. *ratio*: "
        "predicted over measured, geometric mean over the changes, with the factor of one "
        "deviation. Seconds of one processor.",
    ]
    for result in results:
        lines += ["", *_run_lines(result)]
    lines += ["", FORMS]
    return "\n".join(lines) + "\n"


def _run_lines(result: dict[str, Any]) -> list[str]:
    policies = result["policies"]
    return [
        f"## {result['run']}: {result['layers']} layers, {result['changes']} changes",
        "",
        f"Measuring all changes on {result['images']} images takes "
        f"{result['seconds_one_at_a_time']:.1f} s.",
        "",
        "| images | probes | seconds | rank correlation, least of the draws | ratio |",
        "|---|---|---|---|---|",
        *(
            f"| {row['images']} | {row['probes']} | {row['seconds']:.2f} | "
            f"{row['spearman']:.3f}, {row['spearman_least']:.3f} | {row['ratio']:.2f} (/ or x "
            f"{row['ratio_spread']:.2f}) |"
            for row in result["variants"]
        ),
        "",
        "Policies; gain over the best uniform pair on the test split, paired, ± 1.96 standard "
        "errors. Evaluations and seconds serve all three budgets:",
        "",
        "| budget | found by | evaluations | seconds | KL | test accuracy, % | gain, points |",
        "|---|---|---|---|---|---|---|",
        *map(_policy_line, sorted(policies, key=lambda row: _order(policies, row["budget"]))),
    ]


def _order(policies: Sequence[dict[str, Any]], budget: str) -> int:
    return [row["budget"] for row in policies].index(budget)


def _policy_line(row: dict[str, Any]) -> str:
    return (
        f"| {row['budget']} | {row['way']} | {row['evaluations']} | {row['seconds']:.1f} | "
        f"{row['score']:.4f} | {100 * row['test_accuracy']:.2f} | {100 * row['gain']:+.2f} ± "
        f"{100 * row['gain_half_width']:.2f} |"
    )
