"""Launch shim for `accelerate launch harness/train.py`: the command `harness train`, any rank."""

import sys
from pathlib import Path

if not __package__:
    # Started as a file, Python puts this folder first, where data.py or models.py would hide
    # packages of those names; what belongs there is the folder that holds `harness`.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from harness.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
