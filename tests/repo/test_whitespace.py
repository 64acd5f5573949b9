"""Text files end with one newline and have no trailing space."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = {".cfg", ".json", ".lock", ".md", ".py", ".pyi", ".rs", ".sh", ".toml", ".yaml", ".yml"}
TEXT_NAMES = {"Makefile", "LICENSE", ".gitignore", ".editorconfig", "run"}


def text_files():
    if not (ROOT / ".git").exists():
        return []
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    return [f for f in files if f.is_file() and (f.suffix in TEXT or f.name in TEXT_NAMES)]


def test_text_files_have_clean_line_ends():
    files = text_files()
    if not files:
        pytest.skip("not a git checkout; clone the repository")
    faults = []
    for file in files:
        lines = file.read_text(encoding="utf-8").split("\n")
        numbers = [number for number, line in enumerate(lines, 1) if line != line.rstrip()]
        faults += [f"{file.relative_to(ROOT)}:{number}" for number in numbers]
        if lines != [""] and (lines[-1] or (len(lines) > 1 and not lines[-2])):
            faults.append(f"{file.relative_to(ROOT)}: end of file")
    assert faults == []
