"""Run by torchrun in two processes: sensitivities of a supernet, as each rank got them."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from harness.data import eval_batches
from harness.data.images import MemorySplit
from harness.models import create_model
from harness.process_group import exit_rank, leave_process_group
from harness.quant.calibrate import fit_step_sizes
from harness.quant.convert import convert, describe_network
from harness.run.config import ModelConfig, QuantConfig
from harness.runtime import create_accelerator
from harness.sensitivity import gradient_sensitivities


def results() -> list[str]:
    """Return the sensitivities as hexadecimal floats."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = create_model(ModelConfig(), num_classes=10, in_channels=1)
    network = describe_network(
        model, name="resnet8", input_size=(1, 8, 8), num_classes=10, config=QuantConfig()
    )
    supernet = convert(model, network).eval()
    split = MemorySplit(
        torch.randint(0, 256, (71, 1, 8, 8), dtype=torch.uint8),
        labels=torch.randint(0, 10, (71,)),
        mean=[0.5], std=[0.5], crop_padding=0, horizontal_flip=False,
    )  # fmt: skip
    with torch.no_grad():
        fit_step_sizes(supernet, split.read(range(50))[0])
    # Five batches, the last one short: the ranks' shares differ.
    found = gradient_sensitivities(
        supernet, eval_batches(split, batch_size=16), candidates=network.candidates
    )
    return [value.hex() for value in found.ravel().tolist()]


def main() -> None:
    folder = Path(sys.argv[1])
    accelerator = create_accelerator(folder / "run")
    report: dict[str, Any] = {"ranks": accelerator.num_processes, "sensitivities": results()}
    path = folder / f"rank{accelerator.process_index}.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    leave_process_group()
    exit_rank(0)


if __name__ == "__main__":
    main()
