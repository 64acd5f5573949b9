"""What an engine refuses before it begins."""

import pytest
import torch
from accelerate import Accelerator

from harness.errors import ConfigError
from harness.run.config import TrainConfig
from harness.training.engine import prepare
from harness.training.optim import create_optimizer


def test_a_launcher_that_accumulates_gradients_is_refused(monkeypatch):
    """Accelerate would divide every loss by the number, and say nothing."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    layer = torch.nn.Linear(2, 2)
    message = r"^ACCELERATE_GRADIENT_ACCUMULATION_STEPS is 4, a step has one batch per process"
    with pytest.raises(ConfigError, match=message):
        prepare(Accelerator(cpu=True), layer, None, create_optimizer(layer, TrainConfig()))
