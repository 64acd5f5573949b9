"""Run by torchrun in two processes: train, count errors, and print what each rank saw."""

import hashlib
import json
import os
import sys
from pathlib import Path

import torch

from harness.accuracy import count_wrong_by_policy
from harness.data import eval_batches, load_splits
from harness.process_group import exit_rank, leave_process_group
from harness.run.config import load_config
from harness.run.folder import RunDir
from harness.runtime import create_accelerator
from harness.search.driver import search
from harness.search.request import SearchOptions
from harness.training import supernet_task
from harness.training.assemble import assemble

torch.set_num_threads(1)
OVERRIDES = (
    "data.train_images=320", "data.search_images=100", "data.test_images=100", "train.epochs=2",
    "train.batch_size=40", "train.num_random_passes=2", "train.warmup_epochs=0",
    "train.validate_every_epochs=1", "eval.recalibrate_images=60", "eval.batch_size=30",
    "train.bit_scheduler=true",
)  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1])
    run = RunDir(folder / "run")
    accelerator = create_accelerator(run.path)
    config = load_config(None, overrides=OVERRIDES)
    loop = assemble(config, run, accelerator, checkpoint=None)
    supernet = loop.state.task.model
    policies = []
    encode = supernet.encode
    supernet.encode = lambda policy: (policies.append(policy.bits), encode(policy))[1]
    if not accelerator.is_main_process:
        supernet_task.freeze = _not_asked
    loop.fit()
    supernet.encode = encode
    weights = torch.cat([p.detach().flatten() for p in supernet.parameters()])
    batches = eval_batches(load_splits(config.data, seed=config.seed).search, batch_size=30)
    candidates = supernet.network.candidates
    chosen = [candidates.largest, candidates.smallest]
    report = {
        "steps": loop.state.step,
        "weights": hashlib.sha256(weights.numpy().tobytes()).hexdigest(),
        "policies": policies,
        "candidates": loop.state.task.state_dict()["candidates"],
        "errors": count_wrong_by_policy(loop.state.ema.module, chosen, batches),
    }
    report["found"] = [_search(run, resume=resume) for resume in (False, True)]
    path = folder / f"rank{accelerator.process_index}.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    leave_process_group()
    exit_rank(0)


def _not_asked(*_: object, **__: object) -> None:
    raise AssertionError("what is frozen is for rank 0 to decide")


def _search(run: RunDir, *, resume: bool) -> dict:
    journal = run.path / "search/journal.jsonl"
    if resume and int(os.environ["RANK"]) == 0:
        content = journal.read_bytes()
        journal.write_bytes(content[: 2 * len(content) // 3])  # As a kill leaves it.
    torch.distributed.barrier()
    (outcome,) = search(run, ["30%"], options=SearchOptions(evaluations=40, resume=resume))
    return {"bits": outcome.best.policy.bits, "test": outcome.best.test_accuracy}


if __name__ == "__main__":
    main()
