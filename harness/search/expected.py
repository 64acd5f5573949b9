"""What a number of evaluations buys, said before a search begins."""

from harness._search_rs import SearchStatus
from harness.problem.significance import NORMAL_HALF_WIDTH

MINUTE, HOUR = 60, 3600

NETWORKS = ("resnet18", "mobilenetv2_100")

BUYS: dict[str, dict[int, tuple[float, float]]] = {
    "guided": {100: (0.43, 0.66), 300: (0.39, 0.57), 1000: (0.37, 0.50)},
    "greedy": {100: (0.81, 1.00), 300: (0.85, 1.00), 1000: (0.74, 0.99)},
    "knapsack": {100: (0.69, 1.04), 300: (0.78, 1.04), 1000: (0.74, 0.92)},
    "evolution": {100: (0.70, 0.95), 300: (0.59, 0.90), 1000: (0.54, 0.87)},
    "random": {100: (0.87, 1.26), 300: (0.86, 1.30), 1000: (0.79, 1.07)},
}
"""By strategy and evaluations: what is left of the error that the best uniform policy adds to
float, on each of the networks; simulated errors with interactions and noise
(docs/results/strategies.md, which a test holds this equal to)."""


def what_it_buys(strategy: str) -> str | None:
    """Return in one line what numbers of evaluations left of the excess error in simulations.

    None for a strategy that was not measured.

    >>> what_it_buys("guided")[48:84]
    'guided leaves 0.43 to 0.66 with 100,'
    """
    if strategy not in BUYS:
        return None
    left = BUYS[strategy].items()
    parts = [f"{low:.2f} to {high:.2f} with {count}" for count, (low, high) in left]
    return (
        f"of the error that the best uniform policy adds, {strategy} leaves {', '.join(parts)} "
        f"evaluations of a budget (simulated {' and '.join(NETWORKS)} under noise, "
        "docs/results/strategies.md)"
    )


def duration(seconds: float) -> str:
    """Return a time for people, two digits of it.

    >>> duration(0.0423), duration(4.2), duration(99), duration(4000), duration(90_000)
    ('0.042 s', '4.2 s', '99 s', '67 min', '25 h')
    """
    for size, unit in ((HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s" if seconds < MINUTE else f"{seconds:.0f} s"


def how_it_stands(status: SearchStatus, num_images: int) -> str:
    """Return in a few words what a search is doing and how good its best policies are.

    Args:
        status: Of the engine's search.
        num_images: How many images score a policy; scores are shown as means over them.
    """
    pairs = zip(status.best_scores, status.best_errors, strict=True)
    best = [
        _with_half_width(score / num_images, error and error / num_images)
        for score, error in pairs
        if score is not None
    ]
    words = [status.phase]
    words += [f"best {', '.join(best)}"] if best else []
    if status.model_error is not None:
        words.append(f"model off by {status.model_error / num_images:.2g}")
    return "; ".join(words)


def _with_half_width(score: float, error: float | None) -> str:
    """Return a score with half of its 95 % interval, where its standard error is known."""
    return f"{score:.4g}" if error is None else f"{score:.4g} ± {NORMAL_HALF_WIDTH * error:.1g}"
