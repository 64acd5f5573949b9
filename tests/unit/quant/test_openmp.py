"""The kernels run on the threads that torch keeps."""

import os
import subprocess
import sys

from harness.quant import openmp

PROGRAM = """
import time
from pathlib import Path
import torch
torch.set_num_threads(2)
torch.randn(1000, 1000) @ torch.randn(1000, 1000)  # Starts torch's threads.
from harness.quant.fake_quantize import fake_quantize

def seconds():
    tasks = Path("/proc/self/task").iterdir()
    stats = {task.name: (task / "stat").read_text().rsplit(")", 1)[1].split() for task in tasks}
    return {name: int(stat[11]) + int(stat[12]) for name, stat in stats.items()}

x, step = torch.randn(2_000_000), torch.tensor(0.1)
fake_quantize(x, step, low=-8, high=7)
before = seconds()
end = time.process_time() + 2
while time.process_time() < end:
    fake_quantize(x, step, low=-8, high=7)
after = seconds()
assert after.keys() == before.keys(), "a thread was started"
spent = sorted(after[name] - before[name] for name in after)
print(spent[-2] / spent[-1])
"""


def test_kernels_share_the_work_among_threads_that_torch_has_started() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Of two threads the other one does about half.
    assert float(done.stdout) > 0.5


def test_where_no_library_is_found_the_calling_thread_does_the_work(tmp_path, monkeypatch) -> None:
    maps = tmp_path / "maps"
    for text in (None, "7f00 r-xp 00000000 08:01 12 /usr/lib/libc.so.6\n"):
        if text is not None:
            maps.write_text(text)
        monkeypatch.setattr(openmp, "MAPPED_FILES", maps)
        assert not openmp.share_torch_threads()


def test_the_library_of_torch_is_taken_among_others() -> None:
    lines = [
        "7f00 r-xp 00000000 08:01 12 /site/scikit_learn.libs/libgomp-a34b3233.so.1.0.0",
        "7f01 r-xp 00000000 08:01 13 /site/torch/lib/libgomp.so.1",
        "7f02 r-xp 00000000 08:01 14 /usr/lib/libomp.so.5",
    ]
    assert openmp.library_in("\n".join(lines)) == "/site/torch/lib/libgomp.so.1"
    assert openmp.library_in(lines[0]) == lines[0].split()[-1]
    assert openmp.library_in("7f00 r-xp 00000000 08:01 12 /usr/lib/libc.so.6") is None
