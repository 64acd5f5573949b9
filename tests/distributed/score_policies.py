"""Run by torchrun in two processes: score policies of a supernet, print what each rank got."""

from typing import Any, get_args

from rank_supernet import report, supernet_and_split

from harness.accuracy import PolicyScorer, right_by_policy
from harness.data import eval_batches
from harness.run.config import Score
from harness.training.policy_sampler import sample_policy


def results() -> dict[str, Any]:
    """Return scores by folds as hexadecimal floats, and right images, of five policies."""
    supernet, split = supernet_and_split(150)
    policies = [
        sample_policy(supernet.network.candidates, seed=0, step=0, pass_index=index)
        for index in range(5)
    ]
    # Seven batches, the last one short: the ranks' shares differ.
    batches, training = eval_batches(split, batch_size=23), eval_batches(split, batch_size=50)
    found: dict[str, Any] = {}
    for score in get_args(Score):
        scorer = PolicyScorer(supernet, batches, score=score, recalibration=training)
        scored = [scorer.score(some) for some in (policies[:1], policies[1:])]
        rows = [row for one in scored for row in one.parts.tolist()]
        found[score] = [[value.hex() for value in row] for row in rows]
        found[f"{score}_wrong"] = [count for one in scored for count in one.num_wrong.tolist()]
    right = right_by_policy(supernet, policies, batches, recalibration=training)
    found["right"] = right.astype(int).tolist()
    return found


if __name__ == "__main__":
    report(results)
