"""What a limit of evaluations costs the greedy search, on real networks with made-up scores.

`python -m benchmarks.search_limits` prints the table of docs/results/engine.md. Scores are additive
over layers and sides, drawn once, and cost nothing, so that only the search is compared.
"""

from functools import partial

import numpy as np
import numpy.typing as npt
import typer

from harness.models import create_model
from harness.problem.budget import parse_target
from harness.problem.cost import bitops
from harness.problem.network import NetworkSpec
from harness.quant.convert import describe_network
from harness.run.config import Config, ModelConfig
from harness.search.engine import EngineOptions, PolicyArray, run_search

MODELS = ("resnet18", "mobilenetv2_100")
LIMITS = (200, 1000, 5000, None)
TARGET = "45%"


def main() -> None:
    """Print one row per network and limit."""
    typer.echo("| network | limit | evaluations | score, best uniform = 1 | share of the target |")
    typer.echo("|---|---|---|---|---|")
    for name in MODELS:
        network = _network(name)
        target = parse_target(TARGET, network)
        scales = np.random.default_rng(0).random((len(network.layers), 2))
        candidates = network.candidates
        policies = candidates.uniform_policies.values()
        uniform = [policy.bits for policy in policies if bitops(network, policy) <= target]
        best = min(_scores(scales, np.array(uniform, np.uint8)))
        for limit in LIMITS:
            result = run_search(
                network,
                target,
                partial(_scores, scales),
                candidates=candidates,
                options=EngineOptions(error_weight=Config().search.error_weight, evaluations=limit),
            )
            shown = "none" if limit is None else limit
            share = bitops(network, result.policy) / target
            typer.echo(
                f"| {name} | {shown} | {result.num_evaluations} | {result.score / best:.3f} | "
                f"{100 * share:.1f} % |"
            )


def _scores(scales: npt.NDArray[np.float64], policies: PolicyArray) -> list[float]:
    """Return a score per policy that falls with the square of each bit-width."""
    scores: list[float] = (scales / policies.astype(float) ** 2).sum(axis=(1, 2)).tolist()
    return scores


def _network(name: str) -> NetworkSpec:
    return describe_network(
        create_model(ModelConfig(name=name), num_classes=1000, in_channels=3, device="meta"),
        name=name,
        input_size=(3, 224, 224),
        num_classes=1000,
        config=Config().quant,
    )


if __name__ == "__main__":
    typer.run(main)
