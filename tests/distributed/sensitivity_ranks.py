"""Run by torchrun in two processes: sensitivities of a supernet, as each rank got them."""

from typing import Any

from rank_supernet import report, supernet_and_split

from harness.data import eval_batches
from harness.sensitivity import gradient_sensitivities


def results() -> dict[str, Any]:
    """Return the sensitivities as hexadecimal floats."""
    supernet, split = supernet_and_split(71)
    # Five batches, the last one short: the ranks' shares differ.
    found = gradient_sensitivities(
        supernet, eval_batches(split, batch_size=16), candidates=supernet.network.candidates
    )
    return {"sensitivities": [value.hex() for value in found.ravel().tolist()]}


if __name__ == "__main__":
    report(results)
