"""What happens to a process that decodes training images is one line, whatever happens to it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from harness.data.sample_keys import uniform_draws

SETTINGS = (
    "data.name=imagefolder", "data.image_size=24", "data.search_images=6", "data.num_workers=2",
    "train.batch_size=4", "train.mode=float", "train.epochs=400",
)  # fmt: skip


@pytest.fixture
def images(tmp_path):
    """Photographs of several sizes, so that they are decoded as they are used."""
    from skimage import data

    photograph = Image.fromarray(data.chelsea())
    for number in range(24):
        name = ("ant", "bee")[number % 2]
        file = tmp_path / "images" / "train" / name / f"{number:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        photograph.crop((number, 0, number + 40 + number, 60)).save(file)
    return tmp_path / "images"


def command(images, out):
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    return [
        sys.executable, "-m", "harness", "train", *options, "--data-path", str(images),
        "--out", str(out),
    ]  # fmt: skip


def one_line(text):
    """Return the error, which must be the only one, with no traceback around it."""
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    return line


def test_a_broken_training_image_is_one_line(images, tmp_path):
    # One that is neither a search nor a test image, and none of those that loading looks at first.
    names = [path.relative_to(images / "train") for path in sorted(images.rglob("*.jpg"))]
    order = uniform_draws((str(name).encode() for name in names), purpose=1, seed=0)
    last = images / "train" / names[int(order.argmax())]
    last.write_bytes(last.read_bytes()[:400])
    done = subprocess.run(
        command(images, tmp_path / "run"), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 2, done.stderr
    line = one_line(done.stderr)
    assert f"({last}) cannot be decoded: it is not a whole image file; replace or remove it" in line


def test_a_killed_worker_is_one_line(images, tmp_path):
    process = subprocess.Popen(
        command(images, tmp_path / "run"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    try:
        worker = first_worker(process.pid)
        os.kill(worker, signal.SIGKILL)
        _, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 2, err
    assert "a process that decodes images was ended from outside; free memory" in one_line(err)


def first_worker(parent):
    """Return a process that `parent` has forked to decode images, once training is under way."""
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        if len(children) >= 2:
            time.sleep(1)
            return int(children[0])
        time.sleep(0.1)
    raise AssertionError("no worker process was started")
