"""The main job end to end: train, search, compare; `harness demo` runs it on embedded data."""

from pathlib import Path

from harness.errors import ConfigError
from harness.observer import SILENCE, Observer
from harness.problem.cost import bitops
from harness.problem.network import NetworkSpec
from harness.run.config import Config
from harness.run.folder import RunDir
from harness.search.driver import search
from harness.search.outcome import SearchOutcome
from harness.search.request import SearchOptions
from harness.training.trainer import train

HIGH_TARGET = "45%"
"""A budget that uniform 4/4 nearly fills."""


def halfway_target(network: NetworkSpec) -> str:
    """Return the budget halfway between uniform 2/2 and uniform 3/3, as an amount in M."""
    costs = [
        bitops(network, network.candidates.uniform(weight_bits=bits, act_bits=bits))
        for bits in (2, 3)
    ]
    return f"{sum(costs) / 2e6:.3f}M"


def run_main_job(
    config: Config, *, out: Path | None = None, observer: Observer = SILENCE
) -> tuple[RunDir, list[SearchOutcome]]:
    """Train a supernet and search it under two budgets; goes on where an earlier call stopped.

    Args:
        config: A supernet configuration with 2 and 3 bits among its candidates.
        out: Run folder.
        observer: Told how far it is.

    Raises:
        ConfigError: The configuration is another one; nothing was trained.
    """
    _check(config)
    run = train(config, out=out, observer=observer)
    targets = [HIGH_TARGET, halfway_target(run.load_network())]
    return run, search(run, targets, options=SearchOptions(resume=True), observer=observer)


def _check(config: Config) -> None:
    candidates = {*config.quant.weight_candidates} & {*config.quant.act_candidates}
    if config.train.mode == "float" or not candidates >= {2, 3}:
        raise ConfigError(
            "the main job searches below uniform 3/3; give it train.mode=supernet, and 2 and 3 "
            "among quant.weight_candidates and quant.act_candidates"
        )
