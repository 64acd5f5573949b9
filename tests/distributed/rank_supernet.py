"""The made-up supernet that ranks are compared on, and how each reports what it got."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness.data.images import MemorySplit
from harness.models import create_model
from harness.process_group import exit_rank, leave_process_group
from harness.quant.calibrate import fit_step_sizes
from harness.quant.convert import convert, describe_network
from harness.quant.supernet import Supernet
from harness.run.config import ModelConfig, QuantConfig
from harness.runtime import create_accelerator


def supernet_and_split(num_images: int) -> tuple[Supernet, MemorySplit]:
    """Return an untrained resnet8 with its step sizes set, and random images, always alike."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = create_model(ModelConfig(), num_classes=10, in_channels=1)
    network = describe_network(
        model, name="resnet8", input_size=(1, 8, 8), num_classes=10, config=QuantConfig()
    )
    supernet = convert(model, network).eval()
    split = MemorySplit(
        torch.randint(0, 256, (num_images, 1, 8, 8), dtype=torch.uint8),
        labels=torch.randint(0, 10, (num_images,)),
        mean=[0.5], std=[0.5],
    )  # fmt: skip
    with torch.no_grad():
        fit_step_sizes(supernet, split.read(range(50))[0])
    return supernet, split


def report(results: Callable[[], dict[str, Any]]) -> None:
    """Write what this rank gets into the folder that the first argument names, and end."""
    folder = Path(sys.argv[1])
    accelerator = create_accelerator(folder / "run")
    values = {"ranks": accelerator.num_processes, **results()}
    path = folder / f"rank{accelerator.process_index}.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    leave_process_group()
    exit_rank(0)
