"""Run by torchrun in two processes: score policies of a supernet, print what each rank got."""

import json
import sys
from pathlib import Path
from typing import Any, get_args

import torch

from harness.accuracy import PolicyScorer, right_by_policy
from harness.data import eval_batches
from harness.data.images import MemorySplit
from harness.models import create_model
from harness.process_group import exit_rank, leave_process_group
from harness.quant.calibrate import fit_step_sizes
from harness.quant.convert import convert, describe_network
from harness.run.config import ModelConfig, QuantConfig, Score
from harness.runtime import create_accelerator
from harness.training.policy_sampler import sample_policy


def results() -> dict[str, Any]:
    """Return scores by folds as hexadecimal floats, and right images, of five policies."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = create_model(ModelConfig(), num_classes=10, in_channels=1)
    network = describe_network(
        model, name="resnet8", input_size=(1, 8, 8), num_classes=10, config=QuantConfig()
    )
    supernet = convert(model, network).eval()
    split = MemorySplit(
        torch.randint(0, 256, (150, 1, 8, 8), dtype=torch.uint8),
        labels=torch.randint(0, 10, (150,)),
        mean=[0.5], std=[0.5], crop_padding=0, horizontal_flip=False,
    )  # fmt: skip
    with torch.no_grad():
        fit_step_sizes(supernet, split.read(range(50))[0])
    policies = [
        sample_policy(network.candidates, seed=0, step=0, pass_index=index) for index in range(5)
    ]
    # Seven batches, the last one short: the ranks' shares differ.
    batches, training = eval_batches(split, batch_size=23), eval_batches(split, batch_size=50)
    found: dict[str, Any] = {}
    for score in get_args(Score):
        scorer = PolicyScorer(supernet, batches, score=score, recalibration=training)
        scored = [scorer.score(some) for some in (policies[:1], policies[1:])]
        rows = [row for one in scored for row in one.parts.tolist()]
        found[score] = [[value.hex() for value in row] for row in rows]
        found[f"{score}_wrong"] = [count for one in scored for count in one.num_wrong.tolist()]
    right = right_by_policy(supernet, policies, batches, recalibration=training)
    found["right"] = right.astype(int).tolist()
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    accelerator = create_accelerator(folder / "run")
    report = {"ranks": accelerator.num_processes, **results()}
    path = folder / f"rank{accelerator.process_index}.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    leave_process_group()
    exit_rank(0)


if __name__ == "__main__":
    main()
