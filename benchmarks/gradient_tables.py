"""The tables of `benchmarks.gradient`."""

from collections.abc import Sequence
from typing import Any


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
