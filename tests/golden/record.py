"""Record a finished, searched run and a stopped one: `python tests/golden/record.py format4`.

With `exact_clip_ends` the losses and weights of these runs, where the method itself was mended.

To be run when a format of a run's files has changed, by one thread; a folder is named after the
format of the configuration. Those of older formats stay, and the tests go over all of them. Their
tensors are the same bytes since format 3, so a repository keeps them once: where kernels are others
than those of the first recording, the program brings the newest recorded runs up to its format
instead of training them. A stopped run with all terms and the bit-width scheduler is recorded too.
"""

import contextlib
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
sys.path += [str(FOLDER), str(FOLDER.parent / "journeys")]

from golden_files import (  # noqa: E402
    LAST_WITHOUT_EXACT_CLIP_ENDS,
    RUNS,
    TERMS_AND_SCHEDULER,
    is_recording_machine,
    recorded_overrides,
    weights_digest,
)
from journey_runs import signal_in_step  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from harness.errors import Stopped  # noqa: E402
from harness.run.checkpoint_folder import newest_checkpoint  # noqa: E402
from harness.run.config import Config, load_config  # noqa: E402
from harness.run.folder import RunDir  # noqa: E402
from harness.runtime import create_accelerator  # noqa: E402
from harness.search.driver import search  # noqa: E402
from harness.search.request import SearchOptions  # noqa: E402
from harness.training import loop  # noqa: E402
from harness.training.assemble import assemble  # noqa: E402
from harness.training.resume import decide_start  # noqa: E402
from harness.training.trainer import train  # noqa: E402

STOPPED_AFTER = 13
TERMS = ("max_pass_ce", "random_ce", "random_kl")


def main() -> None:
    """Write the runs below the folder that is named, beside the older ones."""
    torch.set_num_threads(1)
    loop.LOG_EVERY_STEPS = 1
    config = load_config(None, overrides=recorded_overrides())
    if sys.argv[1] == "exact_clip_ends":
        if not is_recording_machine():
            raise SystemExit("the kernels are not those of the older recordings: losses differ")
        record_losses(config)
        return
    folder = FOLDER / "runs" / sys.argv[1]
    if is_recording_machine():
        run = train(config, out=folder / "finished")
        search(run, ["30%"], options=SearchOptions(strategy="greedy", evaluations=60))
        record_stopped(config, folder / "stopped")
    else:
        bring_up_to_date(config, folder)
    with_terms = load_config(None, overrides=[*recorded_overrides(), *TERMS_AND_SCHEDULER])
    record_stopped(with_terms, folder / "with_terms")
    for path in folder.glob("*/tensorboard"):  # Its files are named after the machine.
        shutil.rmtree(path)


def record_stopped(config: Config, folder: Path) -> None:
    """Train a run and stop it in mid-epoch."""
    with signal_in_step(signal.SIGTERM, STOPPED_AFTER), contextlib.suppress(Stopped):
        train(config, out=folder)


def bring_up_to_date(config: Config, folder: Path) -> None:
    """Have the program write its own formats over a copy of the newest recorded runs."""
    newest = RUNS[max(version for version in RUNS if RUNS[version] != folder)]
    for part in ("finished", "stopped"):
        run = RunDir(shutil.copytree(newest / part, folder / part))
        start = decide_start(run, config, "auto")
        if run.is_finished:
            train(config, out=run.path)
            shutil.rmtree(run.path / "search")
            search(run, ["30%"], options=SearchOptions(strategy="greedy", evaluations=60))
        else:  # As far as training comes before its first step.
            assemble(start.config, run, create_accelerator(), checkpoint=start.checkpoint)


def record_losses(config: Config) -> None:
    """Write the losses of a supernet, and digests of its weights when it went through or on."""
    with tempfile.TemporaryDirectory() as folder:
        through = train(config, out=Path(folder) / "through")
        stopped = shutil.copytree(
            RUNS[LAST_WITHOUT_EXACT_CLIP_ENDS] / "stopped", Path(folder) / "stopped"
        )
        resumed = train(config, out=stopped)
        rows = [json.loads(line) for line in through.metrics_path.read_text().splitlines()]
        values = {
            "supernet": [
                {name: row[name] for name in ("step", *TERMS)} for row in rows if TERMS[0] in row
            ],
            "weights": {
                name: weights_digest(load_file(newest_checkpoint(run) / "ema.safetensors"))
                for name, run in (("through", through), ("resumed", resumed))
            },
        }
    text = json.dumps(values, indent=1) + "\n"
    (FOLDER / "exact_clip_ends.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
