"""Which search is best at equal evaluations, on made-up errors over the layers of real networks.

`python -m benchmarks.strategies` compares every strategy of the engine, and the rule of the paper's
authors, on few seeds; `--full` writes docs/results/strategies.json and .md. Errors are known
without their noise here, so what counts is the excess of the policy returned: its true error above
float, 1.00 for the best uniform policy within the budget.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.made_errors import Family, MadeErrors
from benchmarks.paper_rule import paper_search
from harness import search_policy
from harness.models import create_model
from harness.problem.budget import Budget, target_budget
from harness.problem.cost import bitops
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.quant.convert import describe_network
from harness.run.config import Config, ModelConfig
from harness.search.engine import STRATEGIES

RESULTS = Path("docs/results/strategies")

BUDGETS = {"resnet18": "31.6G", "mobilenetv2_100": "5.5G"}
"""By network: the paper's."""

FIRST_SEED = 200
"""Below lie those that the design of `guided` was chosen with."""

PAPER = "paper"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of errors."""

    model: str
    family: Family
    noise: float
    """Deviation in points of the draw that each policy has."""


CASES = [
    Case(model=model, family=family, noise=noise)
    for model in BUDGETS
    for family in ("additive", "interactions", "propagating")
    for noise in (0.0, 0.1, 0.3)
]
QUICK_CASES = [Case(model="resnet18", family="interactions", noise=0.3)]


def main(
    *,
    full: Annotated[bool, typer.Option(help="All cases, six seeds; write the results.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Strategies; all by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Print a row per case and strategy."""
    cases, limits, num_seeds = (CASES, (100, 300, 1000), 6) if full else (QUICK_CASES, (100,), 2)
    names = only or [*STRATEGIES, PAPER]
    rows: list[dict[str, Any]] = []
    for case in cases:
        for name in names:
            rows.append(_row(case, name, limits, num_seeds))
            typer.echo(_line(rows[-1], limits))
    values = {"evaluations": limits, "seeds": num_seeds, "first_seed": FIRST_SEED, "rows": rows}
    if full and only is None:
        RESULTS.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n")
        RESULTS.with_suffix(".md").write_text(_markdown(rows, limits, num_seeds))
    if as_json:
        typer.echo(json.dumps(values))


def _row(case: Case, name: str, limits: tuple[int, ...], num_seeds: int) -> dict[str, Any]:
    by_limit = []
    for limit in limits:
        seeds = range(FIRST_SEED, FIRST_SEED + num_seeds)
        excesses = [_excess(case, name, limit, seed) for seed in seeds]
        by_limit.append({"mean": mean(excesses), "half_width": _half_width(excesses)})
    return {
        "model": case.model,
        "family": case.family,
        "noise": case.noise,
        "strategy": name,
        "excess": by_limit,
    }


def _half_width(values: list[float]) -> float:
    """Return half of the 95 % interval of a mean, by Student's t of five degrees of freedom."""
    return float(2.57 * stdev(values) / len(values) ** 0.5)


def _excess(case: Case, name: str, limit: int, seed: int) -> float:
    network, budget = _network(case.model), _budget(case.model)
    errors = MadeErrors(network, seed=seed, family=case.family, noise=case.noise)
    if name == PAPER:
        policy, _ = paper_search(
            network.candidates,
            budget.limits[0].amount,
            partial(bitops, network),
            errors,
            evaluations=limit,
        )
    else:
        found = search_policy(network, budget, errors, strategy=name, evaluations=limit, seed=seed)
        policy = found.policy
    uniform = network.candidates.uniform_policies.values()
    within = [one for one in uniform if budget.allows(network, one)]
    return _true(errors.excess, [policy])[0] / min(_true(errors.excess, within))


def _true(excess: Callable[[Any], Any], policies: list[Policy]) -> list[float]:
    values: list[float] = excess(np.array([one.bits for one in policies], np.uint8)).tolist()
    return values


@cache
def _network(name: str) -> NetworkSpec:
    return describe_network(
        create_model(ModelConfig(name=name), num_classes=1000, in_channels=3, device="meta"),
        name=name,
        input_size=(3, 224, 224),
        num_classes=1000,
        config=Config().quant,
    )


@cache
def _budget(name: str) -> Budget:
    return target_budget(BUDGETS[name], _network(name))


def _line(row: dict[str, Any], limits: tuple[int, ...]) -> str:
    cells = [f"{one['mean']:.3f} ± {one['half_width']:.3f}" for one in row["excess"]]
    head = f"{row['model']} {row['family']} noise {row['noise']}"
    return f"{head:42} {row['strategy']:10} " + "   ".join(cells)


def _markdown(rows: list[dict[str, Any]], limits: tuple[int, ...], num_seeds: int) -> str:
    shown = " / ".join(map(str, limits))
    lines = [
        "# Searches at equal evaluations",
        "",
        "`python -m benchmarks.strategies --full`. Made-up errors over the layers of resnet18",
        "(31.6 G BitOPs) and mobilenetv2_100 (5.5 G), benchmarks/made_errors.py; true excess error",
        "of the policy returned, 1.00 = best uniform policy within the budget; mean of",
        f"{num_seeds} seeds that no choice was made with, ± half of the 95 % interval; at {shown}",
        "evaluations.",
        "",
        f"| network | errors | noise | strategy | {' | '.join(map(str, limits))} |",
        "|---|---|---|---|" + "---|" * len(limits),
    ]
    for row in rows:
        cells = [f"{one['mean']:.2f} ± {one['half_width']:.2f}" for one in row["excess"]]
        keys = ("model", "family", "noise", "strategy")
        lines.append("| " + " | ".join([*(str(row[key]) for key in keys), *cells]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
