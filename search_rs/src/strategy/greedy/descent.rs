//! The way down to the budget.
//!
//! An up move is proposed only if its load stays strictly below the ceiling, the load of the policy
//! that the latest down move left; policies it was at before are not proposed while anything else
//! is. Where costs rise with bits and there is one limit, that alone makes it end: the ceiling
//! never rises; while it stays the same, first come down moves that all cost the same, at the
//! ceiling, where no move up is proposed: the bits fall. Once below, they rise with every move up,
//! and the next down move lowers the ceiling.
//!
//! Invariant: it ends whatever the costs. Measured ones may fall with more bits, and several limits
//! may pull in different directions; so the steps are counted, and beyond `MAX_ROUNDS` times the
//! number of candidates it finishes by cost alone.

use std::collections::BTreeSet;

use super::walk::{Walk, scores};
use super::{Outcome, Stage};
use crate::merit::{self, Outcome as Scored};
use crate::moves::{Costed, Move};
use crate::policy::Policy;
use crate::strategy::View;

/// Steps of a descent per candidate of the network. One limit with rising costs needs fewer than
/// two.
const MAX_ROUNDS: usize = 8;

/// A descent under way.
#[derive(Debug, Clone)]
pub(super) struct Descent {
    ceiling: f64,
    visited: BTreeSet<Policy>,
    steps_left: usize,
}

impl Descent {
    /// Go back to the start, wherever climbs have led, and begin.
    pub(super) fn begin(walk: &mut Walk, view: &View<'_>) -> Self {
        let start = walk.start().clone();
        if walk.base().policy != start.policy {
            let score = view.archive.score(&start.policy);
            walk.step_to("restart", start.clone(), score);
        }
        let groups = view.problem.network.groups().iter();
        let num_candidates: usize = groups.map(|group| group.candidates().as_slice().len()).sum();
        Self {
            ceiling: f64::INFINITY,
            visited: BTreeSet::from([start.policy]),
            steps_left: MAX_ROUNDS * num_candidates,
        }
    }

    /// Take one step towards the budget, or pass on to the next stage when within it.
    pub(super) fn go_on(mut self, error_weight: f64, walk: &mut Walk, view: &View<'_>) -> Outcome {
        if walk.admits(view.problem, walk.base()) {
            return Outcome::Next(Stage::Settle);
        }
        let proposals = self.proposals(walk, view);
        let policies: Vec<_> = proposals.iter().map(|(_, next)| next.policy.clone()).collect();
        let known = scores(view, &policies);
        // One evaluation stays back for the policy the descent ends on.
        if known.is_none() && self.steps_left > 0 && view.affords(&policies, 1) {
            return Outcome::Ask(policies);
        }
        let best = known.filter(|_| self.steps_left > 0).and_then(|scores| {
            let outcomes: Vec<_> = proposals
                .iter()
                .zip(&scores)
                .map(|((_, next), &score)| Scored { score, load: pressing(walk, view, next) })
                .collect();
            merit::best_by_merit(&outcomes, error_weight).map(|best| (best, scores[best]))
        });
        let Some((best, score)) = best else {
            finish(walk, view);
            return Outcome::Next(Stage::Settle);
        };
        let (change, next) = proposals[best].clone();
        if change.is_down() {
            self.ceiling = walk.load(view.problem, walk.base());
        }
        self.steps_left -= 1;
        self.visited.insert(next.policy.clone());
        walk.step_to("descent", next, Some(score));
        Outcome::Moved(Stage::Descent(self))
    }

    fn proposals(&self, walk: &Walk, view: &View<'_>) -> Vec<(Move, Costed)> {
        let all = walk.base().neighbours(&view.problem.network);
        let is_open = |(change, next): &&(Move, Costed)| {
            let is_below = walk.load(view.problem, next) < self.ceiling;
            (change.is_down() || is_below) && !self.visited.contains(&next.policy)
        };
        let open: Vec<_> = all.iter().filter(is_open).cloned().collect();
        if open.is_empty() {
            return all.into_iter().filter(|(change, _)| change.is_down()).collect();
        }
        open
    }
}

/// Return the load in the limits that the present policy exceeds: what a step is to save.
fn pressing(walk: &Walk, view: &View<'_>, next: &Costed) -> f64 {
    view.problem.budgets[walk.budget].load_where_exceeded(&walk.base().costs, &next.costs)
}

/// Reach the budget without evaluations: by the down move that ends nearest below it if one reaches
/// it, else by the one that exceeds it least; ties go to the first. It ends, for each move lowers
/// bits. Where the smallest bits are not within the budget, as with costs that fall with more bits,
/// it goes to the policy with the least load.
fn finish(walk: &mut Walk, view: &View<'_>) {
    let problem = view.problem;
    while !walk.admits(problem, walk.base()) {
        let downs = walk
            .base()
            .neighbours(&problem.network)
            .into_iter()
            .filter(|(change, _)| change.is_down());
        let limits = &problem.budgets[walk.budget];
        let rank = |next: &Costed| {
            let is_within = limits.admits(&next.costs);
            let load = limits.load(&next.costs);
            (!is_within, if is_within { -load } else { limits.excess(&next.costs) })
        };
        let next = downs.map(|(_, next)| next).min_by(|a, b| {
            let (a, b) = (rank(a), rank(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        let cheapest = || problem.costed(problem.cheapest[walk.budget].clone());
        let next = next.unwrap_or_else(cheapest);
        walk.step_to("finish", next, None);
    }
}
