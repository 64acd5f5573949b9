//! Spending the slack below the target.
//!
//! Invariant: every step stays within the target and either lowers the error, or keeps it and raises
//! the BitOPs; both are bounded over the policies there are, so it ends.

use super::{Answer, GreedySearch, Stage};
use crate::moves::{Costed, Move, single_moves};
use crate::score::{Outcome, best_by_error};
use crate::trace::Phase;

impl GreedySearch {
    /// Make sure the error of the policy the descent ended on is known.
    pub(super) fn settle(&mut self) {
        let base = [self.base.policy.clone()];
        match self.ask(&base, 0) {
            Answer::Known(_) => self.stage = Stage::Upward,
            Answer::Asked => {}
            // Cannot be: every earlier request left one evaluation over.
            Answer::Refused => self.stage = Stage::Done,
        }
    }

    /// Take the up move within the target with the lowest error, if it is not above the current one.
    pub(super) fn ascend(&mut self) {
        let is_fit = |next: &Costed| self.budget.admits(next.bitops);
        let ups = single_moves(&self.network, &self.base.policy);
        let ups = ups.into_iter().filter(|change: &Move| !change.is_down());
        let ups: Vec<_> =
            ups.map(|change| self.base.after(&self.network, change)).filter(is_fit).collect();
        let policies: Vec<_> = ups.iter().map(|next| next.policy.clone()).collect();
        let errors = match self.ask(&policies, 0) {
            Answer::Known(errors) => errors,
            Answer::Asked => return,
            Answer::Refused => return self.leave_upward(),
        };
        if !self.step_to_best(Phase::Upward, ups, errors, |error, current| error <= current) {
            self.leave_upward();
        }
    }

    /// Step to the policy with the lowest error if `accept(its error, current error)`.
    pub(super) fn step_to_best(
        &mut self,
        phase: Phase,
        mut nexts: Vec<Costed>,
        errors: Vec<f64>,
        accept: impl Fn(f64, f64) -> bool,
    ) -> bool {
        let pairs = nexts.iter().zip(errors);
        let outcomes: Vec<_> =
            pairs.map(|(next, error)| Outcome { error, bitops: next.bitops }).collect();
        let (Some(best), Some(current)) =
            (best_by_error(&outcomes), self.archive.error(&self.base.policy))
        else {
            return false;
        };
        let error = outcomes[best].error;
        if accept(error, current) {
            self.step_to(phase, nexts.swap_remove(best), Some(error));
            return true;
        }
        false
    }

    /// Go up again from a strictly better policy if the search met one, else on to the exchanges.
    fn leave_upward(&mut self) {
        let current = self.archive.error(&self.base.policy);
        if let Some((best, error)) = self.best_within(self.archive.needed())
            && current.is_some_and(|current| error < current)
        {
            return self.step_to(Phase::Restart, best, Some(error));
        }
        let is_on = self.options.exchange_limit > 0;
        self.stage = if is_on { Stage::Exchange } else { Stage::Done };
    }
}
