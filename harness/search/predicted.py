"""What models of the evaluated policies expect of any other: its score, its accuracy, and why.

The engine's model of scores is additive, so it also says what each side of a layer contributes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist

from harness.problem.candidates import Candidates
from harness.problem.policy import Policy
from harness.problem.significance import LEVEL
from harness.problem.ties import SIDES, Side, group_of_side
from harness.search.engine import EngineOptions, EngineSearch, Found, Marginal
from harness.search.engine_form import LayerValues, SearchProblem

MODELLED = "guided"
"""The strategy whose model it is."""

SideEffects = list[tuple[float, float]]
"""By layer: mean score that its weights, and its input, at their fewest bits add to the largest
policy, tied sides together; 0 where there is no choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedAccuracy:
    """What is expected of a policy that may never have been measured."""

    accuracy: float
    """0 to 1."""
    interval: tuple[float, float]
    """At 95 %: of the model, and of how few the images are."""


class Expectations:
    """Models of what a search folder knows: one of the scores, one of the wrong images."""

    def __init__(
        self,
        problem: SearchProblem,
        scores: Mapping[Policy, Sequence[float]],
        wrong: Mapping[Policy, int],
        *,
        num_images: int,
        hints: LayerValues | None = None,
    ) -> None:
        """Hold what the models are made of; they are fitted when they are asked.

        Args:
            problem: What was searched.
            scores: Of evaluated policies, by folds of the images.
            wrong: How many images evaluated policies have wrong, where that was noted.
            num_images: How many images score a policy.
            hints: What the models begin with, as the search did.
        """
        self.num_images = num_images
        self._problem = problem
        self._known = scores
        self._wrong = wrong
        self._options = EngineOptions(strategy=MODELLED, hints=hints)

    def shortlists(self, count: int) -> list[list[Found]]:
        """Return for each budget the policies that the model holds to be best, the best first."""
        return self._scores.conclude(shortlist=count).shortlists

    def score(self, policy: Policy) -> tuple[float, float] | None:
        """Return the mean score expected of a policy with its standard deviation."""
        found = self._scores.predict([policy])
        if found is None:
            return None
        ((mean, deviation),) = found
        return mean / self.num_images, deviation / self.num_images

    def accuracy(self, policy: Policy) -> PredictedAccuracy | None:
        """Return the accuracy expected of a policy on the images that score proposals."""
        found = None if self._counts is None else self._counts.predict([policy])
        if found is None:
            return None
        ((mean, deviation),) = found
        accuracy = 1 - min(max(mean / self.num_images, 0.0), 1.0)
        # The images are a sample as well: others of the same kind would give another share.
        sampled = accuracy * (1 - accuracy) / self.num_images
        error = ((deviation / self.num_images) ** 2 + sampled) ** 0.5
        half = NormalDist().inv_cdf(1 - LEVEL / 2) * error
        interval = max(accuracy - half, 0.0), min(accuracy + half, 1.0)
        return PredictedAccuracy(accuracy=accuracy, interval=interval)

    def effects(self) -> SideEffects | None:
        """Return what the fewest bits of each side cost, by the model of the scores."""
        candidates = self._problem.candidates
        largest = candidates.largest
        changed = [
            _at_fewest(candidates, index, side)
            for index in range(len(candidates.layers))
            for side in SIDES
        ]
        found = self._scores.predict([largest, *changed])
        if found is None:
            return None
        start, *others = (mean for mean, _ in found)
        added = [(mean - start) / self.num_images for mean in others]
        return list(zip(added[::2], added[1::2], strict=True))

    def marginals(self, policy: Policy) -> list[Marginal] | None:
        """Return what each side's next candidates should change in the mean score of a policy."""
        found = self._scores.marginals(policy)
        if found is None:
            return None
        return [
            replace(
                one,
                difference=one.difference / self.num_images,
                deviation=one.deviation / self.num_images,
            )
            for one in found
        ]

    @cached_property
    def _scores(self) -> EngineSearch:
        return self._model(self._known)

    @cached_property
    def _counts(self) -> EngineSearch | None:
        """A model of the counts of wrong images; None where none were noted."""
        if not self._wrong:
            return None
        return self._model({policy: [float(count)] for policy, count in self._wrong.items()})

    def _model(self, known: Mapping[Policy, Sequence[float]]) -> EngineSearch:
        search = EngineSearch(self._problem, self._options, known=known)
        search.conclude()
        return search


def _at_fewest(candidates: Candidates, index: int, side: Side) -> Policy:
    """Return the largest policy with one side at its fewest bits, and what is tied to it."""
    members = group_of_side(candidates.ties).get((index, side))
    changed = [list(pair) for pair in candidates.largest]
    for place, own in [(index, side)] if members is None else candidates.ties[members]:
        changed[place][SIDES.index(own)] = candidates.layers[place].of(own)[-1]
    return Policy(changed)
