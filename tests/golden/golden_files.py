"""What the golden files were recorded with, so that a test can repeat it.

They were written by commit d939c65, one thread, before any wall of the program was moved:
`loss_curves.json` (20 steps of a supernet and of a float network), `runs/format1/finished` (that
supernet, searched under 30 % within 60 evaluations), `runs/format1/stopped` (the same, stopped
after step 13 of 20), `evaluation.json` (accuracy of the finished run), `search_traces.json` (the
greedy engine, made-up errors: the same steps still, but under a limit evolution now spends what
they leave over). `record.py` adds the runs again whenever a format changes.

`exact_clip_ends.json` has the supernet's losses and weights since gradients stop exactly at the
ends of the clip range. Before, they passed up to 2^-16 step sizes beyond: 3 of the 30 million
values that are quantized in those 20 steps, the first in step 7. `record.py exact_clip_ends` writes
it. Runs up to format 2 were stopped before that, so they end at weights of their own.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

FOLDER = Path(__file__).parent
RUNS = {int(path.name.removeprefix("format")): path for path in (FOLDER / "runs").iterdir()}
"""Folders of the same two runs, `finished` and `stopped`, by the format of their configuration."""
FINISHED = RUNS[1] / "finished"

LAST_CHECKPOINT_FORMAT = 3
"""Checkpoints had the format of the configuration up to this one, and have kept it since."""

LAST_OF_COUNTS = 3
"""Last format whose searches noted errors alone, each in a journal of its own."""

LAST_WITHOUT_EXACT_CLIP_ENDS = 2
"""Last format whose runs were recorded before."""

LAST_WITHOUT_TERMS = 4
"""Last format without the bit-width scheduler and the loss terms of `TERMS_AND_SCHEDULER`."""

TERMS_AND_SCHEDULER = (
    "train.bit_scheduler=true",
    "train.distortion_weight=0.01",
    "train.dampening_weight=0.1",
    "train.two_bit_weight_decay=0.0001",
)
"""What `with_terms`, a stopped run beside the other two, has on top of their settings."""

RECORDED_KERNELS = "153a81de54f2d7d7"
"""`kernels()` of the machine that recorded: there, floats must be equal to the last bit."""

CE_TOLERANCE, KL_TOLERANCE = 0.1, 0.5
"""Relative, on other kernels: rounding to a grid magnifies the last bit. With two threads, AVX2 or
no vector instructions, 20 steps moved the cross entropy by up to 4 %, the KL term by up to 20 %."""


def golden(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def recorded_overrides() -> list[str]:
    """Return the settings of the golden runs, with those that came later as they were then."""
    return [*golden("loss_curves.json")["overrides"], "data.split_by=position"]


def kernels() -> str:
    """Return a digest of three optimizer steps of a float network: equal where the kernels are."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 1), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images, labels = torch.randn(50, 1, 8, 8), torch.arange(50) % 10
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return hashlib.sha256(weights.numpy().tobytes()).hexdigest()[:16]


def is_recording_machine() -> bool:
    return kernels() == RECORDED_KERNELS


def weights_digest(tensors: dict[str, torch.Tensor]) -> str:
    """Return a digest of tensors, by name and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def made_up_errors(rows: Any) -> list[float]:
    """Whole numbers, exact everywhere: (9 - bits)^2 by layer, a hash of the policy as noise."""
    errors = []
    for policy in np.asarray(rows).astype(int).tolist():
        total, mixed = 0, 7
        for index, (weight, act) in enumerate(policy):
            total += (1 + index * 5 % 7) * (9 - weight) ** 2 + (1 + index * 3 % 5) * (9 - act) ** 2
            mixed = (mixed * 31 + 64 * weight + act) % 1009
        errors.append(float(total * 4 + mixed % 97))
    return errors
