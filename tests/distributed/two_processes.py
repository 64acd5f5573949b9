"""Run by torchrun in two processes: train, count errors, and print what each rank saw."""

import hashlib
import json
import os
import sys
from pathlib import Path

import torch

from harness.accuracy import count_wrong_by_policy
from harness.data import eval_batches
from harness.run.config import load_config
from harness.run.folder import RunDir
from harness.runtime import exit_rank, leave_process_group
from harness.search.driver import SearchOptions, search
from harness.training.trainer import Trainer, create_accelerator

torch.set_num_threads(1)
OVERRIDES = (
    "data.train_images=320", "data.search_images=100", "data.test_images=100", "train.epochs=2",
    "train.batch_size=40", "train.num_random_passes=2", "train.warmup_epochs=0",
    "train.validate_every_epochs=1", "eval.recalibrate_images=60", "eval.batch_size=30",
)  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1])
    run = RunDir(folder / "run")
    accelerator = create_accelerator(run.path)
    trainer = Trainer(load_config(None, overrides=OVERRIDES), run, accelerator)
    trainer.prepare(None)
    policies = []
    select = trainer.model.set_policy
    trainer.model.set_policy = lambda policy: (policies.append(policy.bits), select(policy))
    trainer.fit()
    trainer.model.set_policy = select
    weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    batches = eval_batches(trainer.splits.search, batch_size=30)
    candidates = trainer.model.network.candidates
    ends = [candidates.largest, candidates.smallest]
    report = {
        "steps": trainer.step,
        "weights": hashlib.sha256(weights.numpy().tobytes()).hexdigest(),
        "policies": policies,
        "errors": count_wrong_by_policy(trainer.ema.module, ends, batches),
    }
    report["found"] = [_search(run, resume=resume) for resume in (False, True)]
    path = folder / f"rank{accelerator.process_index}.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    leave_process_group()
    exit_rank(0)


def _search(run: RunDir, *, resume: bool) -> dict:
    journal = run.path / "search/greedy_30pct/journal.jsonl"
    if resume and int(os.environ["RANK"]) == 0:
        content = journal.read_bytes()
        journal.write_bytes(content[: 2 * len(content) // 3])  # As a kill leaves it.
    torch.distributed.barrier()
    (outcome,) = search(run, ["30%"], options=SearchOptions(evaluations=40, resume=resume))
    return {"bits": outcome.best.policy.bits, "test": outcome.best.test_accuracy}


if __name__ == "__main__":
    main()
