"""The tables of `benchmarks.strategies`."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

BETTER_AT = "2/2 to 3/3"
"""The budget at which the default has to beat uniform policies."""


def markdown(made_up: dict[str, Any] | None, real: Sequence[dict[str, Any]]) -> str:
    """Return the tables of made-up errors, where there are any, and of all trained supernets."""
    lines = ["# Searches at equal evaluations"]
    if real:
        lines += ["", *_real_lines(real)]
    if made_up is not None:
        lines += ["", *_made_up_lines(made_up)]
    return "\n".join(lines) + "\n"


def real_markdown(result: dict[str, Any]) -> str:
    """Return the tables of one trained supernet."""
    return "\n".join(_run_lines(result)) + "\n"


def _made_up_lines(values: dict[str, Any]) -> list[str]:
    limits = values["evaluations"]
    lines = [
        "## Made-up errors",
        "",
        "`python -m benchmarks.strategies --full`. Made-up errors over the layers of resnet18",
        "(31.6 G BitOPs) and mobilenetv2_100 (5.5 G), benchmarks/made_errors.py; true excess error",
        "of the policy returned, 1.00 = best uniform policy within the budget; mean of",
        f"{values['seeds']} seeds that no choice was made with, ± half of the 95 % interval; at "
        f"{' / '.join(map(str, limits))}",
        "evaluations.",
        "",
        f"| network | errors | noise | strategy | {' | '.join(map(str, limits))} |",
        "|---|---|---|---|" + "---|" * len(limits),
    ]
    for row in values["rows"]:
        cells = [f"{one['mean']:.2f} ± {one['half_width']:.2f}" for one in row["excess"]]
        keys = ("model", "family", "noise", "strategy")
        lines.append("| " + " | ".join([*(str(row[key]) for key in keys), *cells]) + " |")
    return lines


def _real_lines(real: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        "![Test error minus that of the best uniform policy](strategies.svg)",
        "",
        "## Trained supernets",
        "",
        "`python -m benchmarks.strategies --full --real`, or `--run PATH` for a run that is there "
        "(how runs are trained: benchmarks/supernets.py). Each strategy searches once for each "
        "disjoint part of the search split, which alone it is told scores on. *minus uniform*: "
        "test error in points minus that of the uniform policy that the same images call best, on "
        "the same test images: mean over the parts ± half of the 95 % interval by Student's t, "
        "then half of the one over the test images. *minus best*: minus the uniform policy that "
        "the test images themselves call best. `guided, one set` is told of one set of policies "
        "for all budgets, a third of what the others are told of; `guided from gradients` begins "
        "with what gradients say, as `harness search` does by itself.",
    ]
    for result in real:
        lines += ["", *_run_lines(result)]
    return lines


def _run_lines(result: dict[str, Any]) -> list[str]:
    uniform = ", ".join(f"{k} {100 * v:.2f}" for k, v in result["uniform_errors"].items())
    lines = [
        f"### {result['run']}: {result['layers']} layers, {result['evaluations']} evaluations",
        "",
        f"Supernet of {result['epochs']} epochs on {result['training_images']} images; test error "
        f"of uniform policies in %: {uniform}. {result['parts']} parts of {result['images']} "
        f"images, score {result['score']}, statistics re-estimated on "
        f"{result['recalibrate_images']}; {result['test_images']} test images judge.",
    ]
    for row in result["budgets"]:
        lines += ["", *_budget_lines(row)]
    lines += ["", *verdicts(result)]
    rules = [row["finalists"] for row in result["budgets"] if row["finalists"]]
    return lines + (["", *_rule_lines(rules)] if rules else [])


def _budget_lines(row: dict[str, Any]) -> list[str]:
    own = ", ".join(row["uniform"])
    lines = [
        f"Budget {row['budget']}, {row['target_bitops'] / 1e6:.1f} M BitOPs; uniform policies that "
        f"the parts call best: {own}; that the test images do: {row['best_uniform']}.",
        "",
        "| strategy | test error, % | minus uniform | over images | minus best "
        "| default minus it |",
        "|---|---|---|---|---|---|",
    ]
    for name, values in row["strategies"].items():
        minus = values["minus_uniform"]
        cells = [
            name,
            f"{100 * mean(values['errors']):.2f}",
            _with_interval(minus),
            f"± {minus['image_half_width']:.2f}",
            _with_interval(values["minus_best_uniform"]),
            _with_interval(values["default_minus_it"]) if "default_minus_it" in values else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def verdicts(result: dict[str, Any]) -> list[str]:
    """Return what the figures say of the default: a line on the others, one on uniform policies."""
    compared = [
        (row["budget"], name, values["default_minus_it"])
        for row in result["budgets"]
        for name, values in row["strategies"].items()
        if name != row["default"]
        and values.get("default_minus_it", {}).get("half_width") is not None
    ]
    if not compared:
        return []
    worse = [f"{name} ({budget})" for budget, name, one in compared if _is_above_zero(one)]
    words = f"worse than {', '.join(worse)}" if worse else "never worse than another strategy"
    default = result["budgets"][0]["default"]
    lines = [f"The default, {default}, is {words} by more than its interval."]
    for row in result["budgets"]:
        if row["budget"] == BETTER_AT:
            minus = row["strategies"][row["default"]]["minus_uniform"]
            is_better = minus["mean"] + minus["half_width"] < 0
            lines.append(
                f"At {BETTER_AT} it is {'' if is_better else 'not '}better than the best uniform "
                f"policy by more than its interval: {_with_interval(minus)} points."
            )
    return lines


def _is_above_zero(one: dict[str, Any]) -> bool:
    return bool(one["mean"] - one["half_width"] > 0)


def _rule_lines(rules: Sequence[dict[str, dict[str, float]]]) -> list[str]:
    names = list(next(iter(rules[0].values())))
    lines = [
        "How to choose among guided's finalists and the uniform policies that spend the budget: "
        "test images of one half choose, those of the other judge, halved again and again; error "
        "minus that of the best uniform policy, mean over the parts and the budgets with judged "
        "finalists.",
        "",
        f"| images that choose | {' | '.join(names)} |",
        "|---|" + "---|" * len(names),
    ]
    for count in rules[0]:
        cells = [f"{mean(one[count][name] for one in rules):+.3f}" for name in names]
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return lines


def _with_interval(values: dict[str, Any]) -> str:
    half = values["half_width"]
    return f"{values['mean']:+.2f}" + ("" if half is None else f" ± {half:.2f}")
