"""The main job's figures: searched policies against uniform and random ones, over seeds.

`python -m benchmarks.main_job` runs one seed on the embedded digits; `--full` runs three seeds of
resnet8 on Fashion-MNIST and writes docs/results/main_job.md. Every training and search
goes on where an earlier call stopped; remove its folder to measure it anew. Accuracies are on the
test split, BN statistics re-estimated per policy.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.supernets import CONFIGS
from harness.accuracy import count_wrong
from harness.checkpoint import load_float_weights
from harness.data import eval_batches, load_splits
from harness.main_job import run_main_job, tight_targets
from harness.models import create_model
from harness.problem.cost import bitops
from harness.problem.network import NetworkSpec
from harness.problem.policy import Policy
from harness.run.config import Config, load_config
from harness.run.files import FileFormat, write_json, write_text
from harness.run.folder import RunDir
from harness.runtime import TerminalObserver, setup_logging
from harness.search.outcome import SearchOutcome
from harness.terminal import console
from harness.trained_run import TrainedRun, load_run
from harness.training.trainer import train

RESULTS = Path("docs/results")
NUM_RANDOM_POLICIES = 20
FULL_SEEDS = (0, 1, 2)
RESULTS_FORMAT = FileFormat(name="results of the main job")
BUDGETS = ("45 % of 6/6", "halfway between 2/2 and 3/3")


def main(
    *,
    full: Annotated[bool, typer.Option(help="Three seeds on Fashion-MNIST.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
    runs: Annotated[Path, typer.Option(help="Where the runs lie.")] = Path("runs/benchmark"),
) -> None:
    """Train, search, compare, and print mean and spread."""
    setup_logging()
    name, seeds = ("fashion_mnist", FULL_SEEDS) if full else ("digits", (0,))
    results = [_measure_seed(name, seed, runs / f"{name}_seed{seed}") for seed in seeds]
    table = _markdown(name, results)
    console().print(table)
    if full:
        write_text(RESULTS / "main_job.md", table)
        values = {"data": name, "seeds": results}
        write_json(RESULTS / "main_job.json", values, file_format=RESULTS_FORMAT)
    if as_json:
        typer.echo(json.dumps({"data": name, "seeds": results}))


def random_policy(trained: TrainedRun, target: int, generator: np.random.Generator) -> Policy:
    """Return a random policy that fills the budget: no single bit-width fits one candidate up.

    Starts from bits drawn uniformly per layer; random layers then go down until the policy fits,
    and up in random order while it still fits.
    """
    network, layers = trained.network, trained.candidates.layers
    sides = [
        (index, side, candidates)
        for index, layer in enumerate(layers)
        for side, candidates in enumerate((layer.weight, layer.act))
        if len(candidates) > 1
    ]
    bits = [[layer.weight[0], layer.act[0]] for layer in layers]
    for index, side, candidates in sides:
        bits[index][side] = candidates[generator.integers(len(candidates))]
    while bitops(network, Policy(bits)) > target:
        index, side, candidates = sides[generator.integers(len(sides))]
        lower = [b for b in candidates if b < bits[index][side]]
        bits[index][side] = max(lower, default=bits[index][side])
    for position in generator.permutation(len(sides)):
        index, side, candidates = sides[position]
        before = bits[index][side]
        for higher in sorted(b for b in candidates if b > before):
            bits[index][side] = higher
            if bitops(network, Policy(bits)) > target:
                bits[index][side] = before
                break
            before = higher
    return Policy(bits)


def _measure_seed(name: str, seed: int, folder: Path) -> dict[str, Any]:
    warm_config, supernet_config, float_config = _configs(name, seed, folder)
    train(warm_config, out=folder / "float_start")
    with TerminalObserver() as observer:
        run, outcomes = run_main_job(
            supernet_config, out=folder / "supernet", targets=_targets, observer=observer
        )
    float_run = train(float_config, out=folder / "float_same_epochs")
    return {
        "seed": seed,
        "float_accuracy": _float_accuracy(float_run),
        "budgets": [
            _measure_budget(run, outcome, label, seed)
            for outcome, label in zip(outcomes, BUDGETS, strict=True)
        ],
    }


def _configs(name: str, seed: int, folder: Path) -> tuple[Config, Config, Config]:
    """Return the float start, the supernet, and a float run of as many epochs as both together."""
    supernet_file = CONFIGS / f"{name}.yaml"
    float_file = CONFIGS / f"{name}_float.yaml"
    # The kept figures were measured on these splits.
    changes = [f"seed={seed}", "data.split_by=position"]
    if float_file.exists():
        warm = load_config(float_file, overrides=changes)
    else:
        warm = load_config(
            supernet_file, overrides=[*changes, "train.mode=float", "train.epochs=10"]
        )
    weights = f"model.weights={folder / 'float_start'}"
    supernet = load_config(supernet_file, overrides=[*changes, weights])
    epochs = warm.train.epochs + supernet.train.epochs
    same = warm.train.model_copy(update={"epochs": epochs})
    return warm, supernet, warm.model_copy(update={"train": same})


def _float_accuracy(run: RunDir) -> float:
    config = run.load_config()
    splits = load_splits(config.data, seed=config.seed)
    model = create_model(
        config.model, num_classes=splits.num_classes, in_channels=splits.in_channels
    )
    load_float_weights(model, run.path)
    batches = eval_batches(splits.test, batch_size=config.eval.batch_size)
    return 1 - count_wrong(model, batches) / batches.num_images


def _measure_budget(run: RunDir, outcome: SearchOutcome, label: str, seed: int) -> dict[str, Any]:
    trained = load_run(run)
    network, target = trained.network, outcome.budget.limits[0].amount
    generator = np.random.default_rng(seed)
    randoms = [random_policy(trained, target, generator) for _ in range(NUM_RANDOM_POLICIES)]
    best, best_uniform, dearer_uniform = outcome.best, outcome.best_uniform, outcome.dearer_uniform
    assert best_uniform is not None, "the budgets lie above uniform 2/2"
    assert dearer_uniform is not None, "the budgets lie below uniform 6/6"
    equal = _largest_equal_within(trained, target)
    return {
        "budget": label,
        "target_bitops": target,
        "found": best.test_accuracy,
        "found_bitops": best.bitops,
        "uniform_within": best_uniform.test_accuracy,
        "uniform_within_label": best_uniform.label,
        "uniform_within_bitops": best_uniform.bitops,
        "uniform_above": dearer_uniform.test_accuracy,
        "uniform_above_label": dearer_uniform.label,
        "uniform_above_bitops": dearer_uniform.bitops,
        "equal_within": trained.accuracy([equal], split="test")[0],
        "equal_within_label": trained.candidates.label(equal),
        "equal_within_bitops": bitops(network, equal),
        "random": mean(trained.accuracy(randoms, split="test")),
        "evaluations": outcome.search.evaluations,
    }


def _targets(network: NetworkSpec) -> list[str]:
    """Return a budget that uniform 4/4 nearly fills, and the one halfway from 2/2 to 3/3."""
    return ["45%", tight_targets(network)[-1]]


def _largest_equal_within(trained: TrainedRun, target: int) -> Policy:
    """Return the uniform policy with equal weight and activation bits that fills the budget."""
    costs = {
        policy: bitops(trained.network, policy)
        for policy in trained.candidates.equal_bits_policies.values()
    }
    return max((policy for policy in costs if costs[policy] <= target), key=costs.__getitem__)


def _markdown(name: str, results: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"# Main job on {name}, {len(results)} seed(s)",
        "",
        "`python -m benchmarks.main_job" + ("" if name == "digits" else " --full") + "`; test "
        "accuracy in %, mean ± standard deviation over seeds, then each seed.",
        "",
        f"float network after the same epochs: {_spread([r['float_accuracy'] for r in results])}",
    ]
    for index, label in enumerate(BUDGETS):
        rows = [result["budgets"][index] for result in results]
        gains = [row["found"] - row["uniform_within"] for row in rows]
        equal_gains = [row["found"] - row["equal_within"] for row in rows]
        labels = ", ".join(row["uniform_within_label"] for row in rows)
        equal = ", ".join(row["equal_within_label"] for row in rows)
        above = ", ".join(row["uniform_above_label"] for row in rows)
        lines += [
            "",
            f"## Budget {label}: {rows[0]['target_bitops'] / 1e6:.2f} M BitOPs",
            "",
            "| policy | BitOPs (M) | test accuracy |",
            "|---|---|---|",
            _row("searched", rows, "found"),
            _row(f"best uniform W/A within the budget ({labels})", rows, "uniform_within"),
            _row(f"uniform with equal bits within the budget ({equal})", rows, "equal_within"),
            _row(f"uniform at equal or higher cost ({above})", rows, "uniform_above"),
            f"| random, mean of {NUM_RANDOM_POLICIES} | within | "
            f"{_spread([row['random'] for row in rows])} |",
            "",
            f"searched minus best uniform W/A within the budget: {_spread(gains)} points; "
            f"minus uniform with equal bits: {_spread(equal_gains)} points",
        ]
    return "\n".join(lines) + "\n"


def _row(label: str, rows: Sequence[dict[str, Any]], key: str) -> str:
    costs = mean(row[f"{key}_bitops"] for row in rows) / 1e6
    return f"| {label} | {costs:.2f} | {_spread([row[key] for row in rows])} |"


def _spread(values: Sequence[float]) -> str:
    spread = stdev(values) if len(values) > 1 else 0.0
    each = ", ".join(f"{100 * value:.2f}" for value in values)
    return f"{100 * mean(values):.2f} ± {100 * spread:.2f} ({each})"


if __name__ == "__main__":
    typer.run(main)
