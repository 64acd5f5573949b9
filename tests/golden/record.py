"""Record a finished, searched run and a stopped one: `python tests/golden/record.py format3`.

To be run when a format of a run's files has changed, by one thread; the folders of older formats
stay, and the tests go over all of them.
"""

import contextlib
import shutil
import signal
import sys
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
sys.path += [str(FOLDER), str(FOLDER.parent / "journeys")]

from golden_files import is_recording_machine, recorded_overrides  # noqa: E402
from journey_runs import signal_in_step  # noqa: E402

from harness.errors import Stopped  # noqa: E402
from harness.run.config import load_config  # noqa: E402
from harness.run.folder import RunDir  # noqa: E402
from harness.search.driver import SearchOptions, search  # noqa: E402
from harness.training import loop  # noqa: E402
from harness.training.trainer import train  # noqa: E402

STOPPED_AFTER = 13


def main() -> None:
    """Write the runs below the folder that is named, beside the older ones."""
    torch.set_num_threads(1)
    if not is_recording_machine():
        raise SystemExit("the kernels are not those of the older recordings; floats would differ")
    loop.LOG_EVERY_STEPS = 1
    config = load_config(None, overrides=recorded_overrides())
    folder = FOLDER / "runs" / sys.argv[1]
    run = train(config, out=folder / "finished")
    search(run, ["30%"], options=SearchOptions(evaluations=60))
    with signal_in_step(signal.SIGTERM, STOPPED_AFTER), contextlib.suppress(Stopped):
        train(config, out=folder / "stopped")
    for part in ("finished", "stopped"):
        # TensorBoard names its files after the machine.
        shutil.rmtree(RunDir(folder / part).path / "tensorboard")


if __name__ == "__main__":
    main()
