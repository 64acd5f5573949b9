//! Exchanges: one move up paid for by one move down.
//!
//! Invariant: an exchange stays within the target and lowers the error strictly, so exchanges end; they
//! never need more than `exchange_limit` policies. Each round evaluates the single moves of the current
//! policy, predicts every pair from them as if errors were additive, and evaluates the most promising.

use super::upward::least;
use super::{Answer, GreedySearch, Stage};
use crate::moves::{Costed, Move, single_moves};
use crate::policy::Policy;
use crate::trace::Phase;

/// Pairs evaluated per round.
const BATCH: usize = 16;

impl GreedySearch {
    /// Take the best exchange if it lowers the error, then go up again; else end, unless the single
    /// moves met a better policy to go up from.
    pub(super) fn exchange(&mut self) {
        let moves = single_moves(&self.network, &self.base.policy);
        let singles: Vec<_> =
            moves.iter().map(|&change| self.base.after(&self.network, change).policy).collect();
        let errors = match self.ask_exchange(&singles) {
            Answer::Known(errors) => errors,
            Answer::Asked => return,
            Answer::Refused => return self.leave_exchange(),
        };
        let pairs = self.promising_pairs(&moves, &errors);
        let policies: Vec<_> = pairs.iter().map(|pair| pair.policy.clone()).collect();
        let errors = match self.ask_exchange(&policies) {
            Answer::Known(errors) => errors,
            Answer::Asked => return,
            Answer::Refused => return self.leave_exchange(),
        };
        let current = self.archive.error(&self.base.policy);
        match least(pairs, &errors) {
            Some((next, error)) if current.is_some_and(|current| error < current) => {
                self.step_to(Phase::Exchange, next, Some(error));
                self.stage = Stage::Upward;
            }
            _ => self.leave_exchange(),
        }
    }

    fn leave_exchange(&mut self) {
        if !self.restart_from_best() {
            self.stage = Stage::Done;
        }
    }

    fn ask_exchange(&mut self, policies: &[Policy]) -> Answer {
        let num_new = self.archive.count_new(policies);
        if self.num_exchange + num_new > self.options.exchange_limit {
            return Answer::Refused;
        }
        let answer = self.ask(policies, 0);
        if !matches!(answer, Answer::Refused) {
            self.num_exchange += num_new;
        }
        answer
    }

    /// Return the pairs within the target whose predicted error is below the current one, the
    /// lowest first; ties go to fewer BitOPs, then to the order of the up and the down move.
    fn promising_pairs(&self, moves: &[Move], errors: &[f64]) -> Vec<Costed> {
        let Some(current) = self.archive.error(&self.base.policy) else { return Vec::new() };
        let known = || moves.iter().zip(errors);
        let mut pairs = Vec::new();
        for (up, up_error) in known().filter(|(change, _)| !change.is_down()) {
            let raised = self.base.after(&self.network, *up);
            for (down, down_error) in known().filter(|(change, _)| change.is_down()) {
                let predicted = up_error + (down_error - current);
                if (up.layer, up.side) == (down.layer, down.side) || predicted >= current {
                    continue;
                }
                let next = raised.after(&self.network, *down);
                if self.budget.admits(next.bitops) {
                    pairs.push((predicted, next));
                }
            }
        }
        pairs.sort_by(|(a, a_next), (b, b_next)| {
            a.total_cmp(b).then(a_next.bitops.cmp(&b_next.bitops))
        });
        pairs.truncate(BATCH);
        pairs.into_iter().map(|(_, next)| next).collect()
    }
}
