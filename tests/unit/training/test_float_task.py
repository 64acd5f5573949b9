"""A float network's step has one pass and one term."""

import torch
import torch.nn.functional as F
from accelerate import Accelerator

from harness.data import load_splits
from harness.run.config import load_config
from harness.run.folder import RunDir
from harness.training.assemble import create_task
from harness.training.engine import Engine
from harness.training.optim import create_optimizer


def test_float_task_reports_its_cross_entropy_and_keeps_no_state(tmp_path):
    config = load_config(None, overrides=["train.mode=float", "data.train_images=30"])
    splits = load_splits(config.data, seed=0)
    task = create_task(config, splits, Accelerator(cpu=True))
    task.model.train()
    images, labels = torch.randn(6, 1, 8, 8), torch.arange(6)
    optimizer = create_optimizer(task.model, config.train)
    engine = Engine(Accelerator(cpu=True), task.model, optimizer)
    losses = task.run_passes(engine, images, labels, step=0).terms
    assert list(losses) == ["ce"]
    torch.testing.assert_close(losses["ce"], F.cross_entropy(task.model(images), labels).detach())
    assert all(parameter.grad is not None for parameter in task.model.parameters())
    assert task.validate(task.model).keys() == {"float"}
    assert (task.state_dict(), task.end_epoch(1)) == ({}, {})
    task.load_state_dict({})
    task.calibrate()
    task.write_description(RunDir(tmp_path))
    assert list(tmp_path.iterdir()) == []
