"""The run folder, where training, search, evaluation and export meet in files."""

import os
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RunError
from harness.problem.network import NetworkSpec
from harness.run.config import Config, load_run_config
from harness.run.files import FileFormat, write_bytes, write_text
from harness.run.network_file import load_network
from harness.run.yaml_values import read_mapping

RUNS = Path("runs")
"""Where runs lie, below the working directory."""

SUMMARY_FORMAT = FileFormat(name="summary")
ENVIRONMENT_FORMAT = FileFormat(name="environment")


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths of one run; `summary.json` is written last and marks the run finished."""

    path: Path

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def first_config_path(self) -> Path:
        """The configuration as a run of format 1 began; absent in later runs.

        Kept when config.yaml is rewritten: checkpoints of that time hold a digest of it alone.
        """
        return self.path / "config.format1.yaml"

    @property
    def network_path(self) -> Path:
        """The quantized layers, their MACs and candidates; absent in float runs."""
        return self.path / "network.json"

    @property
    def data_file_path(self) -> Path:
        """Which images the run was given; absent in runs of format 2."""
        return self.path / "data.json"

    @property
    def environment_path(self) -> Path:
        """Versions and hardware of the last process that trained here."""
        return self.path / "environment.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON object per line: losses per step, validation per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def tracking_path(self) -> Path:
        """What a tracking service knows the run by; absent where none was asked for."""
        return self.path / "tracking.json"

    @property
    def summary_path(self) -> Path:
        """Final validation."""
        return self.path / "summary.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of `step_00000123/` folders."""
        return self.path / "checkpoints"

    @property
    def is_finished(self) -> bool:
        """Whether training reached its last epoch."""
        return self.summary_path.is_file()

    def load_config(self) -> Config:
        """Return the run's resolved configuration.

        Raises:
            RunError: The folder is no run, or its configuration is not whole.
        """
        if not self.config_path.is_file():
            raise RunError(
                f"{self.path} is not a run, it has no {self.config_path.name}; "
                "give --run the folder that harness train printed"
            )
        config = load_run_config(self.config_path)
        unset = config.unset_keys()
        if unset:
            # A default in its place would be another run's value.
            raise RunError(
                f"{self.config_path} lacks {unset[0]}, a run's configuration is written whole; "
                "restore the file"
            )
        return config

    def load_network(self) -> NetworkSpec:
        """Return the network the run trains.

        Raises:
            RunError: The folder is no run, or the run is no supernet one.
        """
        mode = self.load_config().train.mode
        if mode != "supernet":
            raise RunError(
                f"{self.path} is a {mode} run without bit-widths; give --run a supernet run"
            )
        return load_network(self.network_path)

    def check_writable(self) -> None:
        """Check, without writing, that the folder is one or can be made.

        Raises:
            RunError: It cannot.
        """
        standing = next(
            path for path in (self.path, *self.path.absolute().parents) if path.exists()
        )
        if not standing.is_dir():
            raise RunError(f"{self.path} cannot be a run folder, {standing} is a file; give --out")
        if not os.access(standing, os.W_OK):
            raise RunError(f"{self.path} cannot be written, {standing} is read-only; give --out")

    def save_config(self, config: Config) -> None:
        """Write the resolved configuration in the present format."""
        if self.config_path.is_file() and "format" not in read_mapping(self.config_path):
            write_bytes(self.first_config_path, self.config_path.read_bytes())
        write_text(self.config_path, config.to_yaml())


def newest_finished_run(runs: Path = RUNS) -> RunDir:
    """Return the supernet run under `runs` that finished last.

    Raises:
        RunError: There is none.
    """
    folders = [RunDir(path) for path in sorted(runs.iterdir())] if runs.is_dir() else []
    finished = [run for run in folders if run.is_finished and run.network_path.is_file()]
    if not finished:
        raise RunError(f"no finished run lies under {runs}/; train one or give --run")
    return max(finished, key=lambda run: run.summary_path.stat().st_mtime)
