"""The arithmetic and the tables of `benchmarks.search`."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student  # type: ignore[import-untyped]

RULE_LIMIT = 8000
"""Policies that the paper's rule scores at most: nothing in it keeps its weight phase from standing
still. Beyond it goes by cost alone, and the table says so."""


def summary(seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how many times faster ours is, and how much more accurate, over the seeds.

    `speedup` is that of the mean seconds at the largest of our limits, `accuracy_difference` ours
    minus theirs as a share (0..1) with half of its 95 % interval by Student's t, None of one seed.
    `by_limit` holds the same of each limit; the speed-up is that of fewer evaluations times that
    of cheaper ones.
    """
    by_limit = [_of_limit(seeds, place) for place in range(len(seeds[0]["ours"]))]
    first = by_limit[0]
    keys = ("speedup", "accuracy_difference", "accuracy_difference_half_width")
    return {**{key: first[key] for key in keys}, "num_seeds": len(seeds), "by_limit": by_limit}


def _of_limit(seeds: Sequence[dict[str, Any]], place: int) -> dict[str, Any]:
    theirs, ours = [one["paper"] for one in seeds], [one["ours"][place] for one in seeds]
    seconds, evaluations = _mean(ours, "seconds"), _mean(ours, "evaluations")
    differences = [
        own["test_accuracy"] - other["test_accuracy"]
        for own, other in zip(ours, theirs, strict=True)
    ]
    speedup = _mean(theirs, "seconds") / seconds
    fewer = _mean(theirs, "evaluations") / evaluations
    return {
        "limit": ours[0]["limit"],
        "evaluations": evaluations,
        "seconds": seconds,
        "test_accuracy": _mean(ours, "test_accuracy"),
        "speedup": speedup,
        "of_fewer_evaluations": fewer,
        "of_cheaper_evaluations": speedup / fewer,
        "accuracy_difference": mean(differences),
        "accuracy_difference_half_width": _half_width(differences),
    }


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float:
    return float(mean(row[key] for row in rows))


def _half_width(values: Sequence[float]) -> float | None:
    count = len(values)
    if count == 1:
        return None
    return float(student.ppf(0.975, count - 1) * stdev(values) / count**0.5)


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Return the tables of all runs."""
    lines = [
        "# What a search costs",
        "",
        "`python -m benchmarks.search --full`, or `--run PATH [--images N --recalibrate-images N]` "
        "for a run that is there. Paper, plainly: the two-phase rule of the paper's authors "
        "(benchmarks/paper_rule.py) on top-1 errors, each policy by itself through the network's "
        "own forward pass with BN statistics of its own. Its seconds are those of a policy, "
        "measured on 20 of its policies, times the policies it scores; which those are was found "
        "with scores from the executor, whose counts of wrong images are the same (checked on the "
        "20). Ours: the default strategy on the default score, model fits included. Both get the "
        "same images, and either policy is judged on the untouched test split. The choice among "
        "finalists on the whole search split, which `harness search` adds, is in neither. "
        "Processor seconds, one thread; ± half of the 95 % interval of the mean over the seeds, "
        "each with search images of its own.",
    ]
    for result in results:
        lines += ["", *_run_lines(result)]
    return "\n".join(lines) + "\n"


def _run_lines(result: dict[str, Any]) -> list[str]:
    theirs = [one["paper"] for one in result["seeds"]]
    evaluations, seconds = _mean(theirs, "evaluations"), _mean(theirs, "seconds")
    uniform = result["uniform_test_accuracy"].items()
    accuracies = ", ".join(f"{label} {100 * value:.2f}" for label, value in uniform)
    num_stopped = sum(not one["is_ended"] for one in theirs)
    stopped = (
        f" In {num_stopped} of them the rule stood still and was stopped after some {RULE_LIMIT} "
        "policies."
        if num_stopped
        else ""
    )
    return [
        f"## {result['model']} on {result['data']}: {result['layers']} layers, "
        f"{result['budget_bitops'] / 1e6:.1f} M BitOPs",
        "",
        f"Halfway between uniform 2/2 and 3/3 (test accuracy in %: {accuracies}); "
        f"{result['images']} images score, {result['recalibrate_images']} re-estimate statistics, "
        f"{result['test_images']} judge; {len(result['seeds'])} seeds.{stopped}",
        "",
        "| search | policies | seconds | seconds a policy | test accuracy, % | ours minus paper's, "
        "points | times faster | by fewer policies | by cheaper ones |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| paper, plainly | {evaluations:.0f} | {seconds:.1f} | {seconds / evaluations:.4f} | "
        f"{100 * _mean(theirs, 'test_accuracy'):.2f} | | 1 | | |",
        *(_limit_line(one) for one in result["summary"]["by_limit"]),
    ]


def _limit_line(one: dict[str, Any]) -> str:
    width = one["accuracy_difference_half_width"]
    interval = "" if width is None else f" ± {100 * width:.2f}"
    return (
        f"| ours, {one['limit']} | {one['evaluations']:.0f} | {one['seconds']:.1f} | "
        f"{one['seconds'] / one['evaluations']:.4f} | {100 * one['test_accuracy']:.2f} | "
        f"{100 * one['accuracy_difference']:+.2f}{interval} | {one['speedup']:.1f} | "
        f"{one['of_fewer_evaluations']:.1f} | {one['of_cheaper_evaluations']:.2f} |"
    )
