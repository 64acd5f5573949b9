//! Spending the slack below the target.
//!
//! Invariant: every up move stays within the target and raises the BitOPs, and no policy is gone up from
//! twice, so it ends. Moves are taken while any fits, also where the error rises: more bits do not make
//! a quantizer coarser, so a rise is mostly the noise of the images, and the best policy met on the
//! way is not lost.

use super::{Answer, GreedySearch, Stage};
use crate::moves::{Costed, Move, single_moves};
use crate::policy::Policy;
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

    /// Take the up move within the target with the lowest error.
    pub(super) fn ascend(&mut self) {
        let is_fit = |next: &Costed| self.budget.admits(next.bitops);
        let ups = single_moves(&self.network, &self.base.policy);
        let ups = ups.into_iter().filter(|change: &Move| !change.is_down());
        let ups: Vec<_> =
            ups.map(|change| self.base.after(&self.network, change)).filter(is_fit).collect();
        let policies: Vec<_> = ups.iter().map(|next| next.policy.clone()).collect();
        match self.ask(&policies, 0) {
            Answer::Known(errors) => match least(ups, &errors) {
                Some((next, error)) => self.step_to(Phase::Upward, next, Some(error)),
                None => self.leave_upward(),
            },
            Answer::Asked => {}
            Answer::Refused => self.leave_upward(),
        }
    }

    /// Go up again from the next uniform policy, then from a better policy if the search met one that
    /// it has not been in, else on to the exchanges, from the best.
    fn leave_upward(&mut self) {
        if let Some((uniform, error)) = self.next_climb() {
            return self.step_to(Phase::Restart, uniform, Some(error));
        }
        let current = self.archive.error(&self.base.policy);
        if let Some((best, error)) = self.best_within(self.archive.needed())
            && current.is_some_and(|current| error < current)
        {
            let is_new = !self.visited.contains(&best.policy);
            self.step_to(Phase::Restart, best, Some(error));
            if is_new {
                return;
            }
        }
        let is_on = self.options.exchange_limit > 0;
        self.stage = if is_on { Stage::Exchange } else { Stage::Done };
    }

    /// Return the best uniform policy that the search has evaluated and not been in.
    fn next_climb(&mut self) -> Option<(Costed, f64)> {
        if self.num_climbs >= self.options.climbs {
            return None;
        }
        self.num_climbs += 1;
        let uniform = self.uniform_within();
        let is_open = |policy: &Policy| uniform.contains(policy) && !self.visited.contains(policy);
        self.best_within(self.archive.needed().filter(|(policy, _)| is_open(policy)))
    }
}

/// Return the policy with the lowest error; ties go to the fewer BitOPs, then to the first.
pub(super) fn least(mut nexts: Vec<Costed>, errors: &[f64]) -> Option<(Costed, f64)> {
    let pairs = nexts.iter().zip(errors);
    let outcomes: Vec<_> =
        pairs.map(|(next, &error)| Outcome { error, bitops: next.bitops }).collect();
    let best = best_by_error(&outcomes)?;
    Some((nexts.swap_remove(best), errors[best]))
}
