//! Moves up: climbs from the anchors before the descent, ascents after it.
//!
//! Invariant: every move stays within the target and raises bits, so each climb and each ascent
//! ends. Climbs begin at anchors, ascents where the descent ended and else only at policies the search
//! has not been at, so there are finitely many. Moves are taken while any fits, also where the score
//! gets worse: more bits do not make a quantizer coarser, so a worse score is mostly the noise of the
//! images, and the best policy met on the way is not lost.

use super::{Answer, GreedySearch, Phase, Stage};
use crate::merit::{Outcome, best_by_score};
use crate::moves::{Costed, Move, single_moves};

impl GreedySearch {
    /// Begin a climb at the best anchor that the search has not been at; without one, or after the
    /// last climb, begin the descent.
    pub(super) fn begin_climb(&mut self) {
        let scored = self.anchors.iter().filter_map(|anchor| {
            let is_new = !self.visited.contains(anchor);
            self.archive.score(anchor).filter(|_| is_new).map(|score| (anchor, score))
        });
        match self.best_of(scored) {
            Some((anchor, score)) if self.num_climbs < self.options.climbs => {
                self.num_climbs += 1;
                self.step_to(Phase::Restart, anchor, Some(score));
                self.stage = Stage::Climb;
            }
            _ => self.begin_descent(),
        }
    }

    /// Take one step of a climb, or pass on to the next climb.
    pub(super) fn climb(&mut self) {
        // One evaluation stays back for the policy the descent ends on.
        if !self.move_up(1) {
            self.begin_climb();
        }
    }

    /// Make sure that the policy the descent ended on has a score, then begin the ascent there.
    pub(super) fn settle(&mut self) {
        let base = [self.base.policy.clone()];
        match self.ask(&base, 0) {
            Answer::Known(_) => self.stage = Stage::Ascent,
            Answer::Asked => {}
            // Cannot be: every earlier request left one evaluation over.
            Answer::Refused => self.stage = Stage::Done,
        }
    }

    /// Take one step of an ascent; at its end ascend again from a better policy if the search met
    /// one, else pass on to the exchanges.
    pub(super) fn ascend(&mut self) {
        if !self.move_up(0) && !self.restart_from_best() {
            let has_exchanges = self.options.exchange_limit > 0;
            self.stage = if has_exchanges { Stage::Exchange } else { Stage::Done };
        }
    }

    /// Step to the best policy met if it is better than the current one. Return whether an ascent
    /// begins there; none does where the search has been, which went up from it already.
    pub(super) fn restart_from_best(&mut self) -> bool {
        let current = self.archive.score(&self.base.policy);
        let Some((best, score)) = self.best_of(self.archive.iter()) else { return false };
        if current.is_none_or(|current| score >= current) {
            return false;
        }
        let is_new = !self.visited.contains(&best.policy);
        self.step_to(Phase::Restart, best, Some(score));
        if is_new {
            self.stage = Stage::Ascent;
        }
        is_new
    }

    /// Take the move up within the target with the lowest score, or ask for the scores that it
    /// takes to choose. Return false where no move fits the target or the limit of evaluations.
    fn move_up(&mut self, reserve: u64) -> bool {
        let ups = single_moves(&self.network, &self.base.policy);
        let ups = ups.into_iter().filter(|change: &Move| !change.is_down());
        let nexts: Vec<_> = ups
            .map(|change| self.base.after(&self.network, change))
            .filter(|next| self.budget.admits(next.cost))
            .collect();
        let policies: Vec<_> = nexts.iter().map(|next| next.policy.clone()).collect();
        match self.ask(&policies, reserve) {
            Answer::Known(scores) => match lowest(nexts, &scores) {
                Some((next, score)) => self.step_to(Phase::Upward, next, Some(score)),
                None => return false,
            },
            Answer::Asked => {}
            Answer::Refused => return false,
        }
        true
    }
}

/// Return the policy with the lowest score; ties go to the lower cost, then to the first.
pub(super) fn lowest(mut nexts: Vec<Costed>, scores: &[f64]) -> Option<(Costed, f64)> {
    let pairs = nexts.iter().zip(scores);
    let outcomes: Vec<_> = pairs.map(|(next, &score)| Outcome { score, cost: next.cost }).collect();
    let best = best_by_score(&outcomes)?;
    Some((nexts.swap_remove(best), scores[best]))
}
