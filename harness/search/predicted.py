"""What models of the evaluated policies expect of any other: its score, its accuracy, and why.

The engine's model of scores is additive, so it also says what each side of a layer contributes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import hypot
from statistics import median

from harness.problem.candidates import Candidates
from harness.problem.cost import policy_cost
from harness.problem.policy import Policy
from harness.problem.significance import NORMAL_HALF_WIDTH
from harness.problem.ties import SIDES, Side, group_of_side
from harness.search.engine import EngineOptions, EngineSearch, Found, Marginal
from harness.search.engine_form import LayerValues, SearchProblem

MODELLED = "guided"
"""The strategy whose model it is."""

SUPPORT = 5
"""Policies that must cost about as much as one, or less, and as many that cost as much, or more."""

NEAR = 0.05
"""Share of a cost by which another is about as much."""

LEAST_KNOWN = 20
"""Policies below which a model mostly says what it began with."""

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
        """Return the mean score expected of a policy with its standard deviation.

        None where there is no model, or nothing is known of policies like it.
        """
        found = self._expected(self._bent_scores, policy)
        if found is None:
            return None
        mean, deviation = found
        return mean / self.num_images, deviation / self.num_images

    def accuracy(self, policy: Policy) -> PredictedAccuracy | None:
        """Return the accuracy expected of a policy on the images that score proposals.

        None where there is no model, or nothing is known of policies like it.
        """
        model = self._bent_counts
        found = None if model is None else self._expected(model, policy)
        if found is None:
            return None
        mean, deviation = found
        accuracy = 1 - min(max(mean / self.num_images, 0.0), 1.0)
        # The images are a sample as well: others of the same kind would give another share.
        sampled = accuracy * (1 - accuracy) / self.num_images
        error = ((deviation / self.num_images) ** 2 + sampled) ** 0.5
        half = NORMAL_HALF_WIDTH * error
        interval = max(accuracy - half, 0.0), min(accuracy + half, 1.0)
        return PredictedAccuracy(accuracy=accuracy, interval=interval)

    def _expected(self, model: "_BentModel", policy: Policy) -> tuple[float, float] | None:
        if model.gap is None and not self._is_among_known(policy):
            return None
        return model.expected(policy)

    def _is_among_known(self, policy: Policy) -> bool:
        """Return whether some policies cost about as much or less, and some as much or more."""
        for resource in self._problem.resources:
            own = policy_cost(self._problem.network, policy, resource)
            costs = [policy_cost(self._problem.network, one, resource) for one in self._known]
            num_below = sum(cost <= (1 + NEAR) * own for cost in costs)
            num_above = sum(cost >= (1 - NEAR) * own for cost in costs)
            if min(num_below, num_above) < SUPPORT:
                return False
        return True

    def effects(self) -> SideEffects | None:
        """Return what the fewest bits of each side cost, by the model of the scores.

        None without a model, and where so little is known that it would say what it began with.
        """
        if len(self._known) < LEAST_KNOWN:
            return None
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
    def _bent_scores(self) -> "_BentModel":
        sums = {one: sum(parts) for one, parts in self._known.items()}
        return _BentModel(self._scores, sums, self._problem.candidates.largest)

    @cached_property
    def _bent_counts(self) -> "_BentModel | None":
        """A model of the counts of wrong images; None where none were noted."""
        if not self._wrong:
            return None
        model = self._model({policy: [float(count)] for policy, count in self._wrong.items()})
        return _BentModel(model, self._wrong, self._problem.candidates.largest)

    def _model(self, known: Mapping[Policy, Sequence[float]]) -> EngineSearch:
        search = EngineSearch(self._problem, self._options, known=known)
        search.conclude()
        return search


class _BentModel:
    """A model, bent to what the largest policy was measured at.

    Rises of scores add up only nearly, so a model of policies near a tight budget is off where
    policies are much larger: at the largest by `gap`, which is known. Of that gap a policy gets
    the more, the smaller its rise over the largest is beside those that were evaluated; and as
    nobody knows how the gap opens, the correction counts as uncertain by its own size.

    Attributes:
        gap: None where the largest policy was not measured, so that nothing is bent.
    """

    def __init__(self, model: EngineSearch, known: Mapping[Policy, float], largest: Policy) -> None:
        """Compare the model with what is known, once for all that is asked of it."""
        self.gap: float | None = None
        self._model = model
        self._at_largest = self._typical = 0.0
        found = model.predict([largest, *known])
        if found is None or largest not in known:
            return
        (self._at_largest, _), *others = found
        self.gap = known[largest] - self._at_largest
        pairs = zip(others, known, strict=True)
        rises = [mean - self._at_largest for (mean, _), one in pairs if one != largest]
        self._typical = median(rises) if rises else 0.0

    def expected(self, policy: Policy) -> tuple[float, float] | None:
        """Return the sum expected of a policy with its deviation; None without a model."""
        found = self._model.predict([policy])
        if found is None:
            return None
        ((mean, deviation),) = found
        if self.gap is None:
            return mean, deviation
        rise, typical = mean - self._at_largest, self._typical
        share = min(max(1 - rise / typical, 0.0), 1.0) if typical > 0 else 1.0
        correction = share * self.gap
        return mean + correction, hypot(deviation, correction)


def _at_fewest(candidates: Candidates, index: int, side: Side) -> Policy:
    """Return the largest policy with one side at its fewest bits, and what is tied to it."""
    members = group_of_side(candidates.ties).get((index, side))
    changed = [list(pair) for pair in candidates.largest]
    for place, own in [(index, side)] if members is None else candidates.ties[members]:
        changed[place][SIDES.index(own)] = candidates.layers[place].of(own)[-1]
    return Policy(changed)
