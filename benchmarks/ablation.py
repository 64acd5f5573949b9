"""What each part of the training is worth: recipes beside each other, over seeds.

`python -m benchmarks.ablation` trains every recipe on the embedded digits, briefly and with two
seeds. `--full` takes a residual and a depthwise network on Fashion-MNIST, three seeds, and keeps
docs/results/ablation.{json,md,svg}; that takes days of a core, so `--network`, `--recipe` and
`--seed`, each repeatable, take a part of it, and what is measured already is not done again.

A recipe is a list of settings on top of the network's configuration; all of a seed start from the
same float network, which has the same images. Accuracies are of the test split, BN statistics
re-estimated: of uniform policies, and of policies searched at three budgets between them.
"""

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.ablation_figure import figure
from benchmarks.ablation_tables import markdown
from benchmarks.budgets import BETWEEN, amount_text, halfway
from benchmarks.kept_runs import RESULTS, keep_runs
from benchmarks.remedies import REMEDIES
from benchmarks.supernets import CONFIGS
from harness.problem.network import NetworkSpec
from harness.run.config import load_config
from harness.run.files import FileFormat, read_json, write_text
from harness.run.folder import SUMMARY_FORMAT, RunDir
from harness.runtime import setup_logging
from harness.search.driver import search
from harness.search.request import SearchOptions
from harness.terminal import console
from harness.trained_run import TrainedRun, load_run
from harness.training.trainer import train

RESULTS_FORMAT = FileFormat(name="results of the ablation")
BITS = (2, 3, 4, 5, 6)
EVALUATIONS = 60

SCHEDULER = ("train.bit_scheduler=true",)
MITIGATION = ("train.distortion_weight=0.01",)
DAMPENING = ("train.dampening_weight=0.1",)
RECIPES: dict[str, tuple[str, ...]] = {
    "plain": (),
    "scheduler": SCHEDULER,
    "mitigation": MITIGATION,
    "both": (*SCHEDULER, *MITIGATION),
    "both and dampening": (*SCHEDULER, *MITIGATION, *DAMPENING),
    "dampening": DAMPENING,
    "min pass": ("train.min_pass=true", "train.num_random_passes=2"),
    "no decay at 2 bits": ("train.two_bit_weight_decay=0",),
    "float teacher": ("train.teacher={model}", "train.teacher_weights={float_run}"),
    "without 2 bits": (
        "quant.weight_candidates=[6,5,4,3]",
        "quant.act_candidates=[6,5,4,3]",
    ),
}
"""By name, settings on top of the configuration; `plain` is what the others are compared with."""

RECIPES |= {name: settings for name, (settings, _) in REMEDIES.items()}

ALONE = (2, 3, 4)
"""Bit-widths that networks are trained at alone."""

PASSES = 4
"""Of a step of `plain`: the max pass and three random ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network and how long it is trained."""

    config: str
    """Of configs/train; with `_float` behind it, the one of its float network."""
    changes: tuple[str, ...]
    float_changes: tuple[str, ...]
    epochs: int


LIMITED = (
    "data.train_images=12800",
    "train.validate_every_epochs=100",
    # A search as its defaults have it would take as long as the training.
    "search.images=1000",
    "search.recalibrate_images=500",
    "search.finalists=4",
)
FULL = {
    "resnet20": Network(
        config="fashion_mnist",
        changes=("model.name=resnet20", *LIMITED, "train.ema_decay=0.99"),
        float_changes=("model.name=resnet20", *LIMITED, "train.epochs=20"),
        epochs=6,
    ),
    "mobilenetv2_small": Network(
        config="fashion_mnist_mobilenet",
        changes=(*LIMITED, "train.ema_decay=0.99"),
        float_changes=(*LIMITED, "train.epochs=20"),
        epochs=6,
    ),
}
QUICK = {
    "resnet8": Network(
        config="digits",
        changes=("train.validate_every_epochs=100",),
        float_changes=("train.mode=float", "train.validate_every_epochs=100", "train.epochs=15"),
        epochs=4,
    )
}


def main(
    *,
    full: Annotated[bool, typer.Option(help="Fashion-MNIST, three seeds; keep results.")] = False,
    network: Annotated[list[str] | None, typer.Option(help="Networks; all by default.")] = None,
    recipe: Annotated[list[str] | None, typer.Option(help="Recipes; all by default.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seeds; all by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
    runs: Annotated[Path, typer.Option(help="Where runs are trained.")] = Path("runs/ablation"),
) -> None:
    """Train and measure what is missing, and print the tables."""
    setup_logging()
    torch.set_num_threads(1)
    networks = FULL if full else QUICK
    results: list[dict[str, Any]] = []
    for one in seed or range(3 if full else 2):
        for name in network or networks:
            for label in recipe or [*RECIPES, *alone_labels()]:
                row = _kept(name, label, one) if full else None
                if row is None:
                    with under(label):
                        row = _row(networks[name], name, label, one, runs / name)
                    if full:
                        keep(row)
                results.append(row)
    console().print(markdown(results))
    if as_json:
        typer.echo(json.dumps({"runs": results}))


def under(label: str) -> AbstractContextManager[None]:
    """Return the change of the training's parts under which a recipe is trained and measured."""
    _, change = REMEDIES.get(label, ((), nullcontext))
    return change()


def alone_labels() -> list[str]:
    """Return the names of the networks trained at one bit-width: as many epochs, or passes."""
    return [f"{bits} bits alone, same {what}" for bits in ALONE for what in ("epochs", "passes")]


def keep(row: dict[str, Any]) -> None:
    """Write one measured training beside the others."""
    key = ("network", "recipe", "seed")
    keep_runs("ablation", [row], file_format=RESULTS_FORMAT, markdown=markdown, key=key)
    rows = read_json(RESULTS / "ablation.json", file_format=RESULTS_FORMAT)["runs"]
    write_text(RESULTS / "ablation.svg", figure(rows))


def settings_of(label: str, one: Network, *, float_run: Path, model: str) -> list[str]:
    """Return the settings of a recipe on top of a configuration.

    Args:
        label: A name of `RECIPES` or `alone_labels`.
        one: The network.
        float_run: Where its float network was trained.
        model: Its name.
    """
    own = [*one.changes, f"train.epochs={one.epochs}", f"model.weights={float_run}"]
    if label in RECIPES:
        return [*own, *(text.format(model=model, float_run=float_run) for text in RECIPES[label])]
    bits, _, what = label.partition(" bits alone, same ")
    epochs = one.epochs * (PASSES if what == "passes" else 1)
    candidates = [f"quant.{side}_candidates=[{bits}]" for side in ("weight", "act")]
    alone = ["quant.depthwise_min_bits=2", "train.num_random_passes=0", f"train.epochs={epochs}"]
    return [*own, *candidates, *alone]


def _row(one: Network, name: str, label: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return what one training reaches."""
    float_run = _float_run(one, seed, folder)
    config_path = CONFIGS / f"{one.config}.yaml"
    model = load_config(config_path, overrides=one.changes).model.name
    settings = settings_of(label, one, float_run=float_run.path, model=model)
    config = load_config(config_path, overrides=[f"seed={seed}", *settings])
    run = train(config, out=folder / f"{label.replace(' ', '_').replace(',', '')}_seed{seed}")
    trained = load_run(run)
    summary = read_json(float_run.summary_path, file_format=SUMMARY_FORMAT)
    return {
        "network": name,
        "recipe": label,
        "seed": seed,
        "epochs": config.train.epochs,
        "training_images": len(trained.splits.train),
        "test_images": len(trained.splits.test),
        "float": summary["accuracy"]["search"]["float"],
        "uniform": uniform_accuracies(trained),
        "searched": searched_accuracies(trained) if label in RECIPES else {},
    }


def _kept(name: str, label: str, seed: int) -> dict[str, Any] | None:
    """Return what an earlier call measured, None where none did."""
    path = RESULTS / "ablation.json"
    if not path.exists():
        return None
    rows: list[dict[str, Any]] = read_json(path, file_format=RESULTS_FORMAT)["runs"]
    asked = (name, label, seed)
    return next((r for r in rows if (r["network"], r["recipe"], r["seed"]) == asked), None)


def _float_run(one: Network, seed: int, folder: Path) -> RunDir:
    float_config = CONFIGS / f"{one.config}_float.yaml"
    path = float_config if float_config.exists() else CONFIGS / f"{one.config}.yaml"
    config = load_config(path, overrides=[f"seed={seed}", *one.float_changes])
    return train(config, out=folder / f"float_seed{seed}")


def uniform_accuracies(trained: TrainedRun) -> dict[str, float]:
    """Return test accuracies of the uniform policies that a run has, by their bits.

    Of all bits that it was trained at: where some are frozen at last, 2/2 is still 2/2.
    """
    uniform = trained.network.candidates.equal_bits_policies
    policies = {
        str(bits): policy for bits in BITS if (policy := uniform.get(f"{bits}/{bits}")) is not None
    }
    accuracies = trained.accuracy(list(policies.values()), split="test")
    return dict(zip(policies, accuracies, strict=True))


def searched_accuracies(trained: TrainedRun) -> dict[str, float]:
    """Return test accuracies of policies searched at the budgets, by the budget."""
    targets = targets_of(trained.network)
    options = SearchOptions(evaluations=EVALUATIONS, resume=True)
    outcomes = search(trained.run, list(targets.values()), options=options)
    return {
        label: outcome.best.test_accuracy for label, outcome in zip(targets, outcomes, strict=True)
    }


def targets_of(network: NetworkSpec) -> dict[str, str]:
    """Return the budgets that a search is given, those that its candidates have room for."""
    fewest = min(bits for layer in network.candidates.layers for bits in layer.weight)
    return {
        f"{low}/{low} to {high}/{high}": amount_text(halfway(network, low, high))
        for low, high in BETWEEN
        if low >= fewest
    }


if __name__ == "__main__":
    typer.run(main)
