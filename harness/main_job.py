"""The main job end to end: train, search, compare; `harness demo` runs it on embedded data."""

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import ConfigError
from harness.observer import SILENCE, Observer
from harness.problem.cost import bitops
from harness.problem.network import NetworkSpec
from harness.process_group import decided_by_rank_0
from harness.run.checkpoint_facts import load_candidates
from harness.run.checkpoint_folder import existing_checkpoint
from harness.run.config import Config
from harness.run.folder import RunDir
from harness.search.driver import search
from harness.search.outcome import SearchOutcome
from harness.search.request import SearchOptions
from harness.training.trainer import train

TIGHT = (0.25, 0.5)
"""Budgets as parts of the way from uniform 2/2 to uniform 3/3: where bits are scarce, it matters
most which layer has them."""


def tight_targets(network: NetworkSpec) -> list[str]:
    """Return the budgets `TIGHT` as amounts in M."""
    low, high = (
        bitops(network, network.candidates.uniform(weight_bits=bits, act_bits=bits))
        for bits in (2, 3)
    )
    return [f"{(low + part * (high - low)) / 1e6:.3f}M" for part in TIGHT]


def run_main_job(
    config: Config,
    *,
    out: Path | None = None,
    targets: Callable[[NetworkSpec], Sequence[str]] = tight_targets,
    observer: Observer = SILENCE,
) -> tuple[RunDir, list[SearchOutcome]]:
    """Train a supernet and search it under some budgets; goes on where an earlier call stopped.

    Args:
        config: A supernet configuration with 2 and 3 bits among its candidates.
        out: Run folder.
        targets: Makes the budgets of a network, narrowed to what its layers may take now, as
            `harness search --target-bitops` takes them.
        observer: Told how far it is.

    Raises:
        ConfigError: The configuration is another one; nothing was trained.
    """
    _check(config)
    run = train(config, out=out, observer=observer)
    network = run.load_network()
    present = decided_by_rank_0(lambda: load_candidates(existing_checkpoint(run), network))
    found = targets(network.narrowed(present))
    return run, search(run, found, options=SearchOptions(resume=True), observer=observer)


def _check(config: Config) -> None:
    candidates = {*config.quant.weight_candidates} & {*config.quant.act_candidates}
    if config.train.mode == "float" or not candidates >= {2, 3}:
        raise ConfigError(
            "the main job searches below uniform 3/3; give it train.mode=supernet, and 2 and 3 "
            "among quant.weight_candidates and quant.act_candidates"
        )
