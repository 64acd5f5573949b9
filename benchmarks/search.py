"""What a search costs by the paper's rule evaluated plainly, and by ours, for policies as accurate.

`python -m benchmarks.search` trains a small supernet on the embedded digits; `--full` the resnet20
of configs/train on Fashion-MNIST. `--run PATH`, repeated, takes trained runs in their place. Either
keeps its results in docs/results/search.json and .md, beside those of other runs, after every seed.

Plain: the two-phase rule of the paper's authors (benchmarks/paper_rule.py) on top-1 errors, one
policy at a time through the network's own forward pass, BN statistics re-estimated for each on the
same images as ours. It asks for thousands of policies; so its seconds are measured on some of them,
and the others are scored by the executor, which counts the same images bit for bit. Ours: the
default strategy on the default score. A seed is one set of search images and the seed of our draws.
Seconds are those of the processor, on one thread.
"""

import json
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.budgets import amount_text, halfway
from benchmarks.kept_rows import KeptRows
from benchmarks.kept_runs import keep_runs
from benchmarks.paper_rule import paper_search
from benchmarks.search_tables import RULE_LIMIT, markdown, summary
from benchmarks.supernets import CONFIGS
from harness import search_policy
from harness.accuracy import PolicyScorer
from harness.data import Batch, EvalBatches
from harness.problem.budget import Budget, target_budget
from harness.problem.cost import bitops
from harness.problem.policy import Policy
from harness.quant.recalibrate import with_reestimated_statistics
from harness.run.config import load_config
from harness.run.files import FileFormat
from harness.run.folder import RunDir
from harness.runtime import setup_logging
from harness.search.engine import DEFAULT_EVALUATIONS, PolicyArray
from harness.terminal import console
from harness.trained_run import TrainedRun, load_run
from harness.training.trainer import train

RUN_KEY = ("model", "data", "images")
"""What tells runs apart."""

RESULTS_FORMAT = FileFormat(name="results of the searches' speed")
EVALUATIONS = (DEFAULT_EVALUATIONS, 100, 60)
"""Of our search; the first is the default, by which the speed is told."""
TIMED_POLICIES = 20
NUM_SEEDS = 5
MOST_IMAGES = 2000


def main(  # noqa: PLR0913 - each is an option
    *,
    run: Annotated[list[Path] | None, typer.Option(help="A trained run; repeatable.")] = None,
    images: Annotated[int | None, typer.Option(help="Images that score a policy.")] = None,
    recalibrate_images: Annotated[int | None, typer.Option(help="For BN statistics.")] = None,
    seeds: Annotated[int, typer.Option(help="Sets of images and seeds of our search.")] = NUM_SEEDS,
    full: Annotated[bool, typer.Option(help="Train resnet20 on Fashion-MNIST.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
    runs: Annotated[Path, typer.Option(help="Where runs are trained.")] = Path("runs/benchmark"),
) -> None:
    """Measure every run and print the tables."""
    setup_logging()
    torch.set_num_threads(1)
    results = []
    for one in [RunDir(path) for path in run or ()] or [_trained(runs, full=full)]:
        comparison = Comparison(load_run(one), images=images, recalibrate_images=recalibrate_images)
        result: dict[str, Any] = {}
        for result in comparison.results(seeds):
            typer.echo(json.dumps(result["seeds"][-1]), err=True)
            if full or run:
                keep_runs(
                    "search", [result], file_format=RESULTS_FORMAT, markdown=markdown, key=RUN_KEY
                )
        results.append(result)
    console().print(markdown(results))
    if as_json:
        typer.echo(json.dumps({**results[0]["summary"], "runs": results}))


def _trained(runs: Path, *, full: bool) -> RunDir:
    """Train what is searched, or go on where an earlier call stopped."""
    if not full:
        config = load_config(CONFIGS / "digits.yaml", overrides=["train.epochs=10"])
        return train(config, out=runs / "search_digits")
    out = runs / "search_fashion_mnist"
    residual = ["model.name=resnet20"]
    start = load_config(CONFIGS / "fashion_mnist_float.yaml", overrides=residual)
    train(start, out=out / "float")
    weights = f"model.weights={out / 'float'}"
    supernet = load_config(CONFIGS / "fashion_mnist.yaml", overrides=[*residual, weights])
    return train(supernet, out=out / "supernet")


class Comparison:
    """Both searches of one run under one budget, halfway between uniform 2/2 and 3/3."""

    def __init__(
        self, trained: TrainedRun, *, images: int | None, recalibrate_images: int | None
    ) -> None:
        """Read the images into memory, which either search is given.

        Args:
            trained: The run.
            images: How many score a policy; None is at most two thirds of the search split.
            recalibrate_images: How many training images re-estimate statistics; None is what the
                run's configuration says for a search.
        """
        self._trained = trained
        self._network = trained.network.narrowed(trained.candidates)
        middle = amount_text(halfway(trained.network, 2, 3))
        self._budget: Budget = target_budget(middle, self._network)
        self._search_split = list(trained.batches("search"))
        self._num_images = images or min(MOST_IMAGES, 2 * len(trained.splits.search) // 3)
        limit = recalibrate_images or trained.config.search.recalibrate_images
        self._training = _Held(list(trained.batches("train", limit=limit)))

    def results(self, num_seeds: int) -> Iterator[dict[str, Any]]:
        """Yield everything that is reported, after each seed."""
        trained = self._trained
        labels = ("2/2", "3/3")
        uniform = [trained.candidates.equal_bits_policies[label] for label in labels]
        accuracies = dict(zip(labels, trained.accuracy(uniform, split="test"), strict=True))
        seeds: list[dict[str, Any]] = []
        for seed in range(num_seeds):
            seeds.append(self._seed(seed, num_seeds))
            yield {
                "model": trained.network.model_name,
                "data": trained.config.data.name,
                "layers": len(trained.network.layers),
                "budget_bitops": self._budget.limits[0].amount,
                "images": self._num_images,
                "recalibrate_images": self._training.num_images,
                "test_images": len(trained.splits.test),
                "uniform_test_accuracy": accuracies,
                "seeds": seeds,
                "summary": summary(seeds),
            }

    def _seed(self, seed: int, num_seeds: int) -> dict[str, Any]:
        scored = self._subset(seed, num_seeds)
        paper, plain = self._paper(scored, seed, num_seeds)
        found = {count: self._ours(scored, seed, count) for count in EVALUATIONS}
        policies = [paper, *(policy for policy, _, _ in found.values())]
        accuracies = self._trained.accuracy(policies, split="test")
        ours = zip(found.items(), accuracies[1:], strict=True)
        return {
            "seed": seed,
            "paper": {**plain, "test_accuracy": accuracies[0]},
            "ours": [
                {
                    "limit": count,
                    "evaluations": evaluations,
                    "seconds": seconds,
                    "test_accuracy": accuracy,
                }
                for (count, (_, evaluations, seconds)), accuracy in ours
            ],
        }

    def _subset(self, seed: int, num_seeds: int) -> "_Held":
        """Return the search images of a seed; no two seeds share one where there are enough."""
        images, labels = (torch.cat(part) for part in zip(*self._search_split, strict=True))
        count = self._num_images
        if num_seeds * count <= len(labels):
            rows = np.random.default_rng(0).permutation(len(labels))[seed * count :][:count]
        else:
            rows = np.random.default_rng(seed).permutation(len(labels))[:count]
        chosen = torch.from_numpy(np.sort(rows))
        size = self._trained.config.eval.batch_size
        return _Held([(images[one], labels[one]) for one in torch.split(chosen, size)])

    def _paper(self, scored: "_Held", seed: int, num_seeds: int) -> tuple[Policy, dict[str, Any]]:
        """Return where the rule ends, how many policies it scores, and what one costs plainly.

        Its thousands of counts are kept in the run's folder, so that a benchmark that was stopped
        goes on; what is timed is measured anew.
        """
        supernet = self._trained.supernet
        scorer = PolicyScorer(supernet, scored, score="errors", recalibration=self._training)
        kept = KeptRows(
            self._trained.run.path / "benchmark",
            "paper_rule",
            {
                "weights": self._trained.weights_digest,
                "data": self._trained.splits.identity.to_json(),
                "images": [seed, num_seeds, scored.num_images],
                "recalibrate_images": self._training.num_images,
            },
        )
        every: dict[Policy, None] = {}

        def evaluate(policies: PolicyArray) -> list[int]:
            asked = [Policy(policy) for policy in policies.tolist()]
            missing = [policy for policy in asked if policy not in kept]
            kept.add(dict(zip(missing, scorer.score(missing).num_wrong.tolist(), strict=True)))
            every.update(dict.fromkeys(asked))
            return [kept[policy] for policy in asked]

        end, evaluations = paper_search(
            self._network.candidates,
            self._budget.limits[0].amount,
            partial(bitops, self._network),
            evaluate,
            evaluations=RULE_LIMIT,
        )
        timed = list(every)[:: max(1, len(every) // TIMED_POLICIES)][:TIMED_POLICIES]
        began = time.process_time()
        counts = [self._wrong_plainly(policy, scored) for policy in timed]
        seconds = (time.process_time() - began) / len(timed)
        assert counts == [kept[policy] for policy in timed], "the executor counts otherwise"
        is_ended = evaluations <= RULE_LIMIT - 2 * len(self._network.layers)
        return end, {
            "evaluations": evaluations,
            "is_ended": is_ended,
            "seconds_per_policy": seconds,
            "seconds": evaluations * seconds,
        }

    @torch.no_grad()
    def _wrong_plainly(self, policy: Policy, scored: "_Held") -> int:
        """Return the wrong images of one policy: nothing is shared, nothing kept."""
        supernet = self._trained.supernet.eval()
        training = (images for images, _ in self._training)
        (inputs,) = with_reestimated_statistics(supernet, [supernet.encode(policy)], training)
        wrong = [(supernet(images, inputs).argmax(1) != labels).sum() for images, labels in scored]
        return int(sum(wrong))

    def _ours(self, scored: "_Held", seed: int, evaluations: int) -> tuple[Policy, int, float]:
        """Return the policy of our search, its evaluations and its seconds, the fits among them."""
        trained = self._trained
        began = time.process_time()
        scorer = PolicyScorer(
            trained.supernet,
            scored,
            score=trained.config.search.score,
            recalibration=self._training,
        )

        def evaluate(policies: PolicyArray) -> NDArray[np.float64]:
            return scorer.score([Policy(policy) for policy in policies.tolist()]).parts

        found = search_policy(
            self._network, self._budget, evaluate, evaluations=evaluations, seed=seed
        )
        return found.policy, found.num_evaluations, time.process_time() - began


class _Held(EvalBatches):
    """Batches that are in memory."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._held = list(batches)
        self.num_images = sum(len(labels) for _, labels in batches)

    def __len__(self) -> int:
        return len(self._held)

    def share(self, *, rank: int, world_size: int) -> Iterator[Batch]:
        return iter(self._held[rank::world_size])


if __name__ == "__main__":
    typer.run(main)
