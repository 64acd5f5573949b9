"""What the documentation points to is there: files it links and make targets it names."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
MAKE_COMMAND = re.compile(r"(?:^|`)make ([a-z][a-z-]*)", re.MULTILINE)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_there_are_documents_and_targets():
    assert DOCUMENTS
    assert {"demo", "test", "lint", "system-packages"} <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_links_and_make_targets_exist(document):
    text = document.read_text(encoding="utf-8")
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
    assert set(MAKE_COMMAND.findall(text)) - TARGETS == set()


def quoted(values: Sequence[float]) -> str:
    return f"{100 * mean(values):.2f} ± {100 * stdev(values):.2f}"


def test_readme_quotes_the_kept_results():
    seeds = json.loads((ROOT / "docs/results/main_job.json").read_text())["seeds"]
    figures = [quoted([seed["float_accuracy"] for seed in seeds])]
    for budget in range(2):
        rows = [seed["budgets"][budget] for seed in seeds]
        keys = ("found", "uniform_within", "equal_within", "uniform_above", "random")
        figures += [quoted([row[key] for row in rows]) for key in keys]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [figure for figure in figures if figure not in readme] == []


def test_changes_touch_at_most_three_files_which_are_there():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.split("## Where a change goes")[1].split("\n## ")[0]
    rows = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 10
    for change, _, touched in rows:
        files = re.findall(r"`([\w/]+\.\w+)`", touched)
        assert 1 <= len(files) <= 3, change
        assert [name for name in files if not (ROOT / name).is_file()] == [], change
