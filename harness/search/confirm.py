"""An archive's answers measured: the few policies that its model holds to be best for a budget."""

from collections.abc import Sequence
from pathlib import Path

from harness.observer import SILENCE, Observer
from harness.process_group import decided_by_rank_0
from harness.run.checkpoint_folder import existing_checkpoint
from harness.run.folder import RunDir
from harness.search.from_archive import ARCHIVE, provenance_of, read_archive
from harness.search.journal import candidates_mark, journal_header
from harness.search.outcome import SearchFigures, SearchOutcome, outcome_of
from harness.search.preparation import prepared
from harness.search.request import SearchOptions
from harness.search.results import JOURNAL_FILE, write_policy

CONFIRMED = "confirmed"
"""What the names of the folders begin with: an unconfirmed answer stands beside."""


def confirm(
    run: RunDir,
    targets: Sequence[str],
    *,
    most: int,
    out: Path | None = None,
    options: SearchOptions,
    observer: Observer = SILENCE,
) -> list[SearchOutcome]:
    """Answer budgets from a search folder, and measure the answers as results are reported.

    Args:
        run: The run that was searched.
        targets: Amounts of BitOPs, a budget each.
        most: Answers measured for each budget, the best by the model; the uniform policies that
            they are compared with are measured beside them.
        out: The search folder; by default the run's `search/`.
        options: Further limits, tables of costs, a frontier.
        observer: Told, on rank 0, how far it is.

    Raises:
        HarnessError: There is no journal, it is of other weights, or a budget cannot be met.
    """
    journal_header((out or run.path / "search") / JOURNAL_FILE)  # Before anything is loaded.
    with prepared(run, targets, out=out, options=options, name=CONFIRMED) as ready:
        trained, problem = ready.trained, ready.problem
        observer = observer if trained.is_main_process else SILENCE
        mark = candidates_mark(proposes_frozen=ready.proposes_frozen)
        known = decided_by_rank_0(
            lambda: read_archive(
                ready.parent / JOURNAL_FILE, problem, existing_checkpoint(run), mark=mark
            )
        )
        expected, num_known = known.expectations(problem), len(known.archive.scores)
        figures = SearchFigures(
            strategy=ARCHIVE,
            evaluations=num_known,
            seconds=0.0,
            model_error=None,
            effects=expected.effects(),
        )
        outcomes = []
        # The arithmetic of ranks may differ, and they have to measure the same policies.
        shortlists = decided_by_rank_0(lambda: expected.shortlists(most))
        for target, shortlist in zip(ready.targets, shortlists, strict=True):
            outcome = outcome_of(trained, target, shortlist, expected, figures, observer=observer)
            if trained.is_main_process:
                provenance = provenance_of(run, target, num_known=num_known, mark=mark)
                write_policy(target.folder, trained.network, outcome, provenance=provenance)
            outcomes.append(outcome)
        return outcomes
