"""The trained supernets that benchmarks measure, and how anyone gets the same.

By default one of a few epochs on the embedded digits; `full` is a residual and a depthwise network
on Fashion-MNIST, both of some twenty layers: configs/train with the changes below, which bring the
two trainings of a network to less than an hour of one core.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.run.config import load_config
from harness.run.folder import RunDir
from harness.trained_run import TrainedRun
from harness.training.trainer import train

CONFIGS = Path("configs/train")

DIGITS_CHANGES = ("train.epochs=10",)

NETWORKS = {"fashion_mnist": ("model.name=resnet20",), "fashion_mnist_mobilenet": ()}
"""Changes by configuration."""

FLOAT_CHANGES = ("train.epochs=4", "data.train_images=25000", "train.validate_every_epochs=100")
SUPERNET_CHANGES = (
    "train.epochs=3",
    "data.train_images=12800",
    # 300 steps: a slower average would still hold their start.
    "train.ema_decay=0.99",
    "train.validate_every_epochs=100",
    "eval.recalibrate_images=500",
)


def supernets(chosen: Sequence[Path] | None, runs: Path, *, full: bool) -> list[RunDir]:
    """Return the runs to measure.

    Args:
        chosen: Runs that are there; the others are trained where there are none.
        runs: Where runs are trained, or gone on with where an earlier call stopped.
        full: Those on Fashion-MNIST, else the digits.
    """
    return [RunDir(path) for path in chosen or ()] or list(_trained(runs, full=full))


def run_name(trained: TrainedRun) -> str:
    """Return what results of a run are called by."""
    return f"{trained.config.model.name} on {trained.config.data.name}"


def _trained(runs: Path, *, full: bool) -> Iterator[RunDir]:
    if not full:
        config = load_config(CONFIGS / "digits.yaml", overrides=DIGITS_CHANGES)
        yield train(config, out=runs / "supernet_digits")
        return
    for name, changes in NETWORKS.items():
        out = runs / f"supernet_{name}"
        start = load_config(CONFIGS / f"{name}_float.yaml", overrides=[*changes, *FLOAT_CHANGES])
        train(start, out=out / "float")
        weights = f"model.weights={out / 'float'}"
        changed = [*changes, *SUPERNET_CHANGES, weights]
        supernet = load_config(CONFIGS / f"{name}.yaml", overrides=changed)
        yield train(supernet, out=out / "supernet")
