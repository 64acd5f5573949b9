//! The way down to the target.
//!
//! Invariant: it ends, also where moves change the bits and not the cost. An up move is proposed only
//! if it stays strictly below the ceiling, the cost of the policy that the latest down move left. So
//! the cost is never above the ceiling, and the ceiling never rises. While it stays the same, first
//! come down moves that all cost the same, at the ceiling, where no move up is proposed: the bits
//! fall. Once below, they rise with every move up, and the next down move lowers the ceiling. Costs
//! and bits are whole numbers, so each of these comes to an end.
//! Policies it was at before are not proposed while anything else is; where nothing else is left, only
//! down moves are, wherever they lead.

use super::{Answer, GreedySearch, Phase, Stage};
use crate::merit::{Outcome, best_by_merit};
use crate::moves::{Costed, Move, single_moves};

impl GreedySearch {
    /// Go back to the start, wherever climbs have led, and begin.
    pub(super) fn begin_descent(&mut self) {
        if self.base.policy != self.start.policy {
            let score = self.archive.score(&self.start.policy);
            self.step_to(Phase::Restart, self.start.clone(), score);
        }
        self.descended.insert(self.start.policy.clone());
        self.stage = Stage::Descent;
    }

    /// Take one step towards the target, or pass on to the next stage when within it.
    pub(super) fn descend(&mut self) {
        if self.budget.admits(self.base.cost) {
            self.stage = Stage::Settle;
            return;
        }
        let proposals = self.descent_proposals();
        let policies: Vec<_> = proposals.iter().map(|(_, next)| next.policy.clone()).collect();
        // One evaluation stays back for the policy the descent ends on.
        let scores = match self.ask(&policies, 1) {
            Answer::Known(scores) => scores,
            Answer::Asked => return,
            Answer::Refused => return self.finish_descent(),
        };
        let outcomes: Vec<_> = proposals
            .iter()
            .zip(scores)
            .map(|((_, next), score)| Outcome { score, cost: next.cost })
            .collect();
        let Some(best) = best_by_merit(&outcomes, self.options.error_weight) else {
            return self.finish_descent();
        };
        let (change, next) = proposals[best].clone();
        if change.is_down() {
            self.ceiling = Some(self.base.cost);
        }
        self.descended.insert(next.policy.clone());
        self.step_to(Phase::Descent, next, Some(outcomes[best].score));
    }

    fn descent_proposals(&self) -> Vec<(Move, Costed)> {
        let all: Vec<_> = single_moves(&self.network, &self.base.policy)
            .into_iter()
            .map(|change| (change, self.base.after(&self.network, change)))
            .collect();
        let is_below = |cost| self.ceiling.is_none_or(|ceiling| cost < ceiling);
        let is_open = |(change, next): &&(Move, Costed)| {
            (change.is_down() || is_below(next.cost)) && !self.descended.contains(&next.policy)
        };
        let open: Vec<_> = all.iter().filter(is_open).cloned().collect();
        if open.is_empty() {
            return all.into_iter().filter(|(change, _)| change.is_down()).collect();
        }
        open
    }

    /// Reach the target without evaluations: by the down move that ends nearest below the target if
    /// one reaches it, else by the one that saves most; ties go to the first. It ends, for each move
    /// lowers bits, be it one that saves nothing.
    fn finish_descent(&mut self) {
        while !self.budget.admits(self.base.cost) {
            let moves = single_moves(&self.network, &self.base.policy).into_iter();
            let downs = moves.filter(Move::is_down);
            let next =
                downs.map(|change| self.base.after(&self.network, change)).min_by_key(|next| {
                    let is_within = self.budget.admits(next.cost);
                    (!is_within, if is_within { u64::MAX - next.cost } else { next.cost })
                });
            // There is always one: above the target some side is above its smallest candidate.
            let Some(next) = next else { break };
            self.step_to(Phase::Finish, next, None);
        }
        self.stage = Stage::Settle;
    }
}
