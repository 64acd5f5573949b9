"""What every search of a run begins with: its weights, its budgets, a folder of its own."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.process_group import decided_by_rank_0
from harness.run.files import remove_torn_writes
from harness.run.folder import RunDir
from harness.run.lock import locked
from harness.search.engine import EngineOptions, EngineSearch
from harness.search.engine_form import SearchProblem
from harness.search.request import (
    SearchOptions,
    Target,
    check_free,
    naming_frozen_bits,
    proposed_candidates,
    targets_of,
)
from harness.trained_run import TrainedRun, load_run, load_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run that is ready to be searched."""

    trained: TrainedRun
    problem: SearchProblem
    targets: list[Target]
    """The budgets of the problem, each with its folder, which exists."""
    parent: Path
    """The search's folder, which this process holds."""
    proposes_frozen: bool
    """Whether its candidates are more than what the layers may take now."""


@contextmanager
def prepared(
    run: RunDir,
    targets: Sequence[str],
    *,
    out: Path | None,
    options: SearchOptions,
    name: str | None = None,
) -> Iterator[Prepared]:
    """Load a run and hold the folder of its search until the end of the `with` block.

    Args:
        run: A supernet run.
        targets: Amounts of BitOPs as the user typed them, a budget each.
        out: The search's folder; by default the run's `search/`.
        options: Further limits, tables of costs, where the images lie, whether to go on.
        name: What the names of the budgets' folders begin with; by default the strategy.

    Raises:
        HarnessError: The input cannot be used; nothing was written over.
    """
    weights = load_weights(run)
    network = weights.supernet.network
    proposed = proposed_candidates(weights.candidates, network, options)
    proposes_frozen = proposed != weights.candidates
    weights = replace(weights, candidates=proposed)
    # A target is within reach of what the layers may take now, not of all they ever could.
    present = network.narrowed(weights.candidates)
    parent = out or run.path / "search"
    with naming_frozen_bits(weights.candidates, network):
        found = targets_of(targets, present, parent, options, name=name)
    problem = SearchProblem(
        network=network,
        candidates=weights.candidates,
        budgets=[target.budget for target in found],
    )
    # Refuses limits that no policy keeps together before anything is loaded or written.
    EngineSearch(problem, EngineOptions(seed=options.seed, evaluations=options.evaluations))
    check_free(found, options)
    trained = load_run(run, weights=weights, data_path=options.data_path)
    with ExitStack() as stack:

        def begin() -> None:
            stack.enter_context(locked(parent))
            check_free(found, options)  # Again: another search may have ended meanwhile.
            remove_torn_writes(parent)
            for target in found:
                target.folder.mkdir(exist_ok=True)
                remove_torn_writes(target.folder)

        decided_by_rank_0(begin)
        yield Prepared(
            trained=trained,
            problem=problem,
            targets=found,
            parent=parent,
            proposes_frozen=proposes_frozen,
        )
