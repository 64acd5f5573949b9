"""Time the present tree against an older commit, in turns, through commands that both have.

`python -m benchmarks.against COMMIT` checks the commit out beside the present tree, builds its
engine, and lets both train and search one after the other, several rounds each. The ratio of each
round is taken by itself, so that it keeps its meaning while the machine's speed drifts.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

ROOT = Path(__file__).resolve().parents[1]

PROBE = """
import json, sys, time
import torch
from harness.cli import main

torch.set_num_threads(1)
times, step = [], torch.optim.SGD.step

def timed(self, *args, **kwargs):
    result = step(self, *args, **kwargs)
    times.append(time.perf_counter())
    return result

torch.optim.SGD.step = timed
try:
    main(sys.argv[1:])
except SystemExit:
    pass
if times:
    gaps = sorted(after - before for before, after in zip(times[4:], times[5:]))
    print(json.dumps({"step_seconds": gaps[len(gaps) // 2]}))
"""
"""Runs a command of `harness`; a training's optimizer steps are the same call in every version."""

TRAIN = (
    "model.name=resnet20", "data.image_size=32", "data.train_images=640", "data.search_images=200",
    "data.test_images=50", "train.epochs=2", "train.batch_size=32", "train.warmup_epochs=0.5",
    "train.validate_every_epochs=9", "eval.recalibrate_images=50", "eval.batch_size=100",
    "search.recalibrate_images=100", "search.finalists=1",
)  # fmt: skip
EVALUATIONS = 40


def main(
    commit: Annotated[str, typer.Argument(help="The older commit.")],
    *,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Print the ratio, present to older, of an optimizer step and of an evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        older = _check_out(commit, Path(folder) / "older")
        try:
            pairs = [(_measure(ROOT, folder), _measure(older, folder)) for _ in range(rounds)]
        finally:
            _git("worktree", "remove", "--force", str(older))
    names = pairs[0][0].keys()
    ratios = {name: [new[name] / old[name] for new, old in pairs] for name in names}
    for name, values in ratios.items():
        seconds = median(new[name] for new, _ in pairs)
        typer.echo(
            f"{name}: {seconds:.4f}, ratio to {commit} {median(values):.3f} "
            f"(from {min(values):.3f} to {max(values):.3f})"
        )
    if as_json:
        medians = {name: median(values) for name, values in ratios.items()}
        typer.echo(json.dumps({"commit": commit, "ratios": medians, "all": ratios}))


def _check_out(commit: str, folder: Path) -> Path:
    _git("worktree", "add", "--detach", str(folder), commit)
    environment = {**os.environ, "PYO3_PYTHON": sys.executable}
    build = ["cargo", "build", "--release", "--features", "python", "--quiet"]
    subprocess.run(build, cwd=folder, env=environment, check=True)
    extension = next((ROOT / "harness").glob("_search_rs*.so")).name
    shutil.copy(folder / "target/release/libsearch_rs.so", folder / "harness" / extension)
    return folder


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True)


def _measure(tree: Path, scratch: str) -> dict[str, float]:
    """Return seconds of one supernet step, and of one evaluated policy in a search."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        run = f"{folder}/run"
        settings = [part for setting in TRAIN for part in ("--set", setting)]
        trained = _probe(tree, "train", *settings, "--out", run)
        found = _probe(
            tree, "search", "--run", run, "--target-bitops", "30%",
            "--evaluations", str(EVALUATIONS), "--json",
        )  # fmt: skip
    evaluation = found["seconds"] / found["evaluations"]
    return {"step_seconds": trained["step_seconds"], "evaluation_seconds": evaluation}


def _probe(tree: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return values


if __name__ == "__main__":
    typer.run(main)
