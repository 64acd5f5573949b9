"""A small trained run that the journeys share, and the command line as a user meets it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journey_runs import quick_config

from harness.cli import main
from harness.run.folder import RunDir
from harness.training.trainer import train


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return train(quick_config(), out=tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture
def run(trained_run: RunDir, tmp_path: Path) -> Path:
    """A copy, so that each test has its own search folder."""
    shutil.copytree(trained_run.path, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def harness(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process; return exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def harness_json(harness: Callable[..., tuple[int, str, str]]) -> Callable[..., dict[str, Any]]:
    def run(*arguments: object) -> dict[str, Any]:
        code, out, err = harness(*arguments, "--json")
        assert code == 0, err
        values: dict[str, Any] = json.loads(out)
        return values

    return run


@pytest.fixture
def refused(harness: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """Run a command that must be refused: exit code 2 and one line; return the line."""

    def run(*arguments: object) -> str:
        code, out, err = harness(*arguments)
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert code == 2, (out, err)
        assert len(lines) == 1, err
        assert "Traceback" not in err
        return lines[0].removeprefix("error: ")

    return run
