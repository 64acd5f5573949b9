"""A supernet's task on a few embedded digits, for tests that take single steps."""

from accelerate import Accelerator

from harness.data import load_splits
from harness.problem.candidates import Candidates, LayerCandidates
from harness.run.config import TrainConfig, load_config
from harness.training.assemble import create_task
from harness.training.engine import Engine
from harness.training.optim import create_optimizer
from harness.training.supernet_task import SupernetTask


def task_of(num_random_passes, *overrides):
    config = load_config(
        None,
        overrides=[
            "seed=3",
            "train.label_smoothing=0.1",
            f"train.num_random_passes={num_random_passes}",
            "data.search_images=20",
            "data.train_images=30",
            "eval.recalibrate_images=10",
            *overrides,
        ],
    )
    splits = load_splits(config.data, seed=config.seed)
    task = create_task(config, splits, Accelerator(cpu=True))
    assert isinstance(task, SupernetTask)
    task.model.train()
    return task


def engine_of(task):
    optimizer = create_optimizer(task.model, TrainConfig())
    return Engine(Accelerator(cpu=True), task.model, optimizer)


def gradients(task):
    return [p.grad.clone() for p in task.model.parameters()]


def floats(losses):
    return {name: float(value) for name, value in losses.items()}


def narrowed(candidates):
    """Return the candidates without the smallest of every layer that is not pinned."""
    return Candidates(
        tuple(
            layer
            if layer.is_pinned
            else LayerCandidates(name=layer.name, weight=layer.weight[:-1], act=layer.act[:-1])
            for layer in candidates.layers
        )
    )
