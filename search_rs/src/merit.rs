//! Which of the proposals of one step is taken.
//!
//! The descent takes the one with the highest merit (the search score of arXiv 2401.01543):
//! `norm(cost saved) - error_weight * norm(score)`. A score is what evaluation returned, lower is
//! better; the paper writes the same with the sign turned and minimises it.
//!
//! Invariant: both norms are true min-max over the proposals of the step, in [0, 1]; the order is
//! total, with a fixed tie-break. The reference normalises the cost from 0 instead.

use std::cmp::Ordering;

/// What one proposal would bring.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Score of the proposal, finite, lower is better.
    pub score: f64,
    /// What it spends of the budget (`Budget::load`). The less the more it saves, from any common
    /// base.
    pub load: f64,
}

/// Return the position of the proposal with the highest merit, `None` of no proposals.
///
/// Ties go to the lower load, then to the first. A range of 0 normalises to 0.
#[must_use]
pub fn best_by_merit(outcomes: &[Outcome], error_weight: f64) -> Option<usize> {
    let halves = || outcomes.iter().map(|outcome| outcome.score / 2.0);
    let low = halves().min_by(f64::total_cmp)?;
    let high = halves().max_by(f64::total_cmp)?;
    let loads = || outcomes.iter().map(|outcome| outcome.load);
    let least = loads().min_by(f64::total_cmp)?;
    let most = loads().max_by(f64::total_cmp)?;
    let merit = |outcome: &Outcome| {
        // Halves, so that the range of two large scores of opposite sign stays finite.
        let score = share(outcome.score / 2.0 - low, high - low);
        let saved = share(most - outcome.load, most - least);
        saved - error_weight * score
    };
    first(outcomes, |a, b| merit(b).total_cmp(&merit(a)).then(a.load.total_cmp(&b.load)))
}

/// Return the position of the proposal with the lowest score, `None` of no proposals.
///
/// Ties go to the lower load, then to the first.
#[must_use]
pub fn best_by_score(outcomes: &[Outcome]) -> Option<usize> {
    first(outcomes, |a, b| a.score.total_cmp(&b.score).then(a.load.total_cmp(&b.load)))
}

/// Return the position of the outcome that comes first in an order; of equal ones, the first given.
fn first(outcomes: &[Outcome], order: impl Fn(&Outcome, &Outcome) -> Ordering) -> Option<usize> {
    let indexed = outcomes.iter().enumerate();
    indexed.min_by(|(_, a), (_, b)| order(a, b)).map(|(index, _)| index)
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(pairs: &[(f64, u32)]) -> Vec<Outcome> {
        pairs.iter().map(|&(score, load)| Outcome { score, load: load.into() }).collect()
    }

    #[test]
    fn merit_weighs_the_score_against_the_cost_saved() {
        // Merits at 1.5: 0 - 0, 0.5 - 0.75, 1 - 1.5; at 0.4: 0, 0.5 - 0.2, 1 - 0.4.
        let three = outcomes(&[(10.0, 100), (15.0, 90), (20.0, 80)]);
        assert_eq!(best_by_merit(&three, 1.5), Some(0));
        assert_eq!(best_by_merit(&three, 0.4), Some(2));
    }

    #[test]
    fn both_norms_start_from_their_minimum() {
        // From 0 the second would win (0.8 of the cost); min-max makes its saving the least.
        let three = outcomes(&[(11.0, 20), (10.0, 40), (20.0, 10)]);
        assert_eq!(best_by_merit(&three, 1.5), Some(0));
    }

    #[test]
    fn ties_go_to_lower_load_then_to_the_first() {
        assert_eq!(best_by_merit(&outcomes(&[(1.0, 9), (1.0, 8), (1.0, 8)]), 1.5), Some(1));
        assert_eq!(best_by_score(&outcomes(&[(1.0, 9), (1.0, 8), (1.0, 8)])), Some(1));
        assert_eq!(best_by_merit(&[], 1.5), None);
    }

    #[test]
    fn extreme_scores_stay_ordered() {
        let two = outcomes(&[(f64::MAX, 1), (f64::MIN, 1)]);
        assert_eq!(best_by_merit(&two, 1.5), Some(1));
    }
}
