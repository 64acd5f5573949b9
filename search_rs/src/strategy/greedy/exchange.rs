//! Exchanges: one move up paid for by one move down.
//!
//! Invariant: an exchange stays within the budget and lowers the score strictly, so exchanges end;
//! they never ask for more policies than their limit. Each round asks for the single moves of the
//! current policy, predicts every pair from them as if scores were additive, and asks for the most
//! promising.

use super::upward::lowest;
use super::walk::{Walk, scores};
use super::{Outcome, Stage};
use crate::moves::{Costed, Move};
use crate::policy::Policy;
use crate::strategy::View;

/// Pairs evaluated per round.
const BATCH: usize = 16;

/// Exchanges under way.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    /// Policies that may still be asked for.
    left: u64,
}

impl Exchange {
    pub(super) fn new(limit: u64) -> Self {
        Self { left: limit }
    }

    /// Take the best exchange if it lowers the score, and ascend from there; else end the search,
    /// unless one of the policies just scored is a better one to ascend from.
    pub(super) fn go_on(self, walk: &mut Walk, view: &View<'_>) -> Outcome {
        if self.left == 0 {
            // What the last ones were spent on may hold a better policy to ascend from.
            return self.leave(walk, view);
        }
        let singles = walk.base().neighbours(&view.problem.network);
        let policies: Vec<_> = singles.iter().map(|(_, next)| next.policy.clone()).collect();
        let Some(single_scores) = scores(view, &policies) else {
            return self.ask(policies, walk, view);
        };
        let pairs = promising_pairs(walk, view, &singles, &single_scores);
        let policies: Vec<_> = pairs.iter().map(|pair| pair.policy.clone()).collect();
        let Some(pair_scores) = scores(view, &policies) else {
            return self.ask(policies, walk, view);
        };
        let current = view.archive.score(&walk.base().policy);
        match lowest(walk, view, pairs, &pair_scores) {
            Some((next, score)) if current.is_some_and(|current| score < current) => {
                walk.step_to("exchange", next, Some(score));
                Outcome::Moved(Stage::Ascent(self))
            }
            _ => self.leave(walk, view),
        }
    }

    fn ask(mut self, policies: Vec<Policy>, walk: &mut Walk, view: &View<'_>) -> Outcome {
        let num_new = view.archive.unknown(&policies).len() as u64;
        if num_new > self.left || !view.affords(&policies, 0) {
            return self.leave(walk, view);
        }
        self.left -= num_new;
        Outcome::AskAs(policies, Stage::Exchange(self))
    }

    fn leave(self, walk: &mut Walk, view: &View<'_>) -> Outcome {
        let is_better = walk.restart_from_best(view);
        Outcome::Next(if is_better { Stage::Ascent(self) } else { Stage::Ended })
    }
}

/// Return the pairs within the budget whose predicted score is below the current one, the lowest
/// first; ties go to lower costs, then to the order of the up and the down move.
fn promising_pairs(
    walk: &Walk,
    view: &View<'_>,
    singles: &[(Move, Costed)],
    scores: &[f64],
) -> Vec<Costed> {
    let network = &view.problem.network;
    let Some(current) = view.archive.score(&walk.base().policy) else { return Vec::new() };
    let outcomes = || singles.iter().zip(scores);
    let mut pairs = Vec::new();
    for ((up, raised), up_score) in outcomes().filter(|((change, _), _)| !change.is_down()) {
        for ((down, _), down_score) in outcomes().filter(|((change, _), _)| change.is_down()) {
            let predicted = up_score + (down_score - current);
            if up.group == down.group || predicted >= current {
                continue;
            }
            let next = raised.after(network, *down);
            if walk.admits(view.problem, &next) {
                pairs.push((predicted, next));
            }
        }
    }
    pairs.sort_by(|(a, a_next), (b, b_next)| a.total_cmp(b).then(a_next.costs.cmp(&b_next.costs)));
    pairs.truncate(BATCH);
    pairs.into_iter().map(|(_, next)| next).collect()
}
