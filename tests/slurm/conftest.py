"""A real SLURM for the session, where it can be had."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, why_not


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    # Sockets lie in it, whose paths must be short.
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
