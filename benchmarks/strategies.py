"""Which search is best at equal evaluations, by made-up errors and on trained supernets.

`python -m benchmarks.strategies` compares every strategy of the engine, and the rule of the paper's
authors, by made-up errors over the layers of real networks, on few seeds. Errors are known without
their noise there, so what counts is the excess of the policy returned: its true error above float,
1.00 for the best uniform policy within the budget. `--real` compares them on a supernet trained on
the embedded digits instead (benchmarks/real_strategies.py). With `--full` either takes all cases
and six seeds, or trains a residual and a depthwise network on Fashion-MNIST (hours), and writes
docs/results/strategies.json and .md, beside what is there of the other. `--run PATH`, repeated,
takes trained runs; stopped, the same command goes on where it was.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.intervals import half_width
from benchmarks.made_errors import Family, MadeErrors
from benchmarks.paper_rule import paper_search
from benchmarks.real_scores import Told
from benchmarks.real_strategies import BETWEEN, PAPER, Plan, RealStrategies
from benchmarks.strategy_figure import figure
from benchmarks.strategy_tables import markdown, real_markdown
from benchmarks.supernets import supernets
from harness import search_policy
from harness.models import create_model
from harness.problem.budget import Budget, target_budget
from harness.problem.cost import bitops
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.quant.convert import describe_network
from harness.run.config import Config, ModelConfig
from harness.run.files import FileFormat, read_json, write_json, write_text
from harness.runtime import setup_logging
from harness.search.engine import STRATEGIES
from harness.terminal import console
from harness.trained_run import load_run

RESULTS = Path("docs/results/strategies")
RESULTS_FORMAT = FileFormat(name="results of the strategies")
RUNS = Path("runs/benchmark")
"""Where supernets are trained."""

BUDGETS = {"resnet18": "31.6G", "mobilenetv2_100": "5.5G"}
"""By network: the paper's."""

FIRST_SEED = 200
"""Below lie those that the design of `guided` was chosen with."""

QUICK_PLAN = Plan(
    evaluations=40,
    parts=2,
    told=Told(images=100),
    finalists=4,
    budgets=(next(iter(BETWEEN)),),
)
"""For the digits."""


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
    full: Annotated[bool, typer.Option(help="All there is; write the results.")] = False,
    real: Annotated[bool, typer.Option(help="On trained supernets.")] = False,
    run: Annotated[list[Path] | None, typer.Option(help="A trained run; repeatable.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Strategies; all by default.")] = None,
    evaluations: Annotated[int | None, typer.Option(help="On trained supernets.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Print a row per case and strategy, or tables of each supernet."""
    if real or run:
        plan = Plan() if full or run else QUICK_PLAN
        plan = replace(plan, evaluations=evaluations or plan.evaluations)
        values: dict[str, Any] = {"real": _on_supernets(run, plan, only, full=full)}
    else:
        values = {"made_up": _made_up(only, full=full)}
        if full and only is None:
            _keep(made_up=values["made_up"])
    if as_json:
        typer.echo(json.dumps(values))


def _on_supernets(
    run: list[Path] | None, plan: Plan, only: list[str] | None, *, full: bool
) -> list[dict[str, Any]]:
    setup_logging()
    torch.set_num_threads(1)
    is_kept = only is None and (full or run is not None)
    results = []
    for folder in supernets(run, RUNS, full=full):
        measured = RealStrategies(load_run(folder), plan).measured(
            only, on_budget=lambda result: _keep(real=result) if is_kept else None
        )
        console().print(real_markdown(measured))
        results.append(measured)
    return results


def _made_up(only: list[str] | None, *, full: bool) -> dict[str, Any]:
    cases, limits, num_seeds = (CASES, (100, 300, 1000), 6) if full else (QUICK_CASES, (100,), 2)
    rows: list[dict[str, Any]] = []
    for case in cases:
        for name in only or [*STRATEGIES, PAPER]:
            rows.append(_row(case, name, limits, num_seeds))
            typer.echo(_line(rows[-1], limits))
    return {"evaluations": limits, "seeds": num_seeds, "first_seed": FIRST_SEED, "rows": rows}


def _keep(*, made_up: dict[str, Any] | None = None, real: dict[str, Any] | None = None) -> None:
    """Write results beside those of the other kind and of other runs that are there."""
    path = RESULTS.with_suffix(".json")
    kept = read_json(path, file_format=RESULTS_FORMAT) if path.exists() else {}
    made_up = made_up or kept.get("made_up")
    by_name = {one["run"]: one for one in [*kept.get("real", []), *([real] if real else [])]}
    runs = list(by_name.values())
    write_json(path, {"made_up": made_up, "real": runs}, file_format=RESULTS_FORMAT)
    write_text(RESULTS.with_suffix(".md"), markdown(made_up, runs))
    if runs:
        write_text(RESULTS.with_suffix(".svg"), figure(runs))


def _row(case: Case, name: str, limits: tuple[int, ...], num_seeds: int) -> dict[str, Any]:
    by_limit = []
    for limit in limits:
        seeds = range(FIRST_SEED, FIRST_SEED + num_seeds)
        excesses = [_excess(case, name, limit, seed) for seed in seeds]
        by_limit.append({"mean": mean(excesses), "half_width": half_width(excesses)})
    return {
        "model": case.model,
        "family": case.family,
        "noise": case.noise,
        "strategy": name,
        "excess": by_limit,
    }


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


if __name__ == "__main__":
    typer.run(main)
