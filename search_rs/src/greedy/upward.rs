//! Spending the slack below the target.
//!
//! Invariant: every up move stays within the target and raises the BitOPs, so a pass ends. Passes begin
//! at some uniform policies, where the descent ended, and else only where the search has not been, so
//! there are finitely many. Moves are taken while any fits, also where the error rises: more bits do
//! not make a quantizer coarser, so a rise is mostly the noise of the images, and the best policy met
//! on the way is not lost.

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
        // Before the descent, one evaluation stays back for the policy it ends on.
        let reserve = u64::from(self.descended.is_empty());
        match self.ask(&policies, reserve) {
            Answer::Known(errors) => match least(ups, &errors) {
                Some((next, error)) => self.step_to(Phase::Upward, next, Some(error)),
                None => self.leave_upward(),
            },
            Answer::Asked => {}
            Answer::Refused => self.leave_upward(),
        }
    }

    /// Go up from the next uniform policy; after those, down from the start; after that, up again from a
    /// better policy if the search met one that it has not been in; at last to the exchanges.
    pub(super) fn leave_upward(&mut self) {
        if let Some((uniform, error)) = self.next_climb() {
            self.step_to(Phase::Restart, uniform, Some(error));
            self.stage = Stage::Upward;
        } else if self.descended.is_empty() {
            self.begin_descent();
        } else if !self.restart_from_best() {
            let is_on = self.options.exchange_limit > 0;
            self.stage = if is_on { Stage::Exchange } else { Stage::Done };
        }
    }

    /// Step to the best policy met if it is better than the current one; return whether there is
    /// anything to go up from, as it is not where the search has been.
    pub(super) fn restart_from_best(&mut self) -> bool {
        let current = self.archive.error(&self.base.policy);
        let Some((best, error)) = self.best_within(self.archive.needed()) else { return false };
        if current.is_none_or(|current| error >= current) {
            return false;
        }
        let is_new = !self.visited.contains(&best.policy);
        self.step_to(Phase::Restart, best, Some(error));
        if is_new {
            self.stage = Stage::Upward;
        }
        is_new
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
