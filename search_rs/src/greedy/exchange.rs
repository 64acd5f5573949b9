//! Exchanges: one move up paid for by one move down.
//!
//! Invariant: an exchange stays within the target and lowers the score strictly, so exchanges end; they
//! never ask for more than `exchange_limit` policies. Each round asks for the single moves of the
//! current policy, predicts every pair from them as if scores were additive, and asks for the most
//! promising.

use super::upward::lowest;
use super::{Answer, GreedySearch, Phase, Stage};
use crate::moves::{Costed, Move, single_moves};
use crate::policy::Policy;

/// Pairs evaluated per round.
const BATCH: usize = 16;

impl GreedySearch {
    /// Take the best exchange if it lowers the score, and ascend from there; else end the search,
    /// unless one of the policies just scored is a better one to ascend from.
    pub(super) fn exchange(&mut self) {
        let moves = single_moves(&self.network, &self.base.policy);
        let singles: Vec<_> =
            moves.iter().map(|&change| self.base.after(&self.network, change).policy).collect();
        let scores = match self.ask_exchange(&singles) {
            Answer::Known(scores) => scores,
            Answer::Asked => return,
            Answer::Refused => return self.leave_exchange(),
        };
        let pairs = self.promising_pairs(&moves, &scores);
        let policies: Vec<_> = pairs.iter().map(|pair| pair.policy.clone()).collect();
        let scores = match self.ask_exchange(&policies) {
            Answer::Known(scores) => scores,
            Answer::Asked => return,
            Answer::Refused => return self.leave_exchange(),
        };
        let current = self.archive.score(&self.base.policy);
        match lowest(pairs, &scores) {
            Some((next, score)) if current.is_some_and(|current| score < current) => {
                self.step_to(Phase::Exchange, next, Some(score));
                self.stage = Stage::Ascent;
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
        let num_new = self.archive.unknown(policies).len() as u64;
        if self.num_exchange + num_new > self.options.exchange_limit {
            return Answer::Refused;
        }
        let answer = self.ask(policies, 0);
        if !matches!(answer, Answer::Refused) {
            self.num_exchange += num_new;
        }
        answer
    }

    /// Return the pairs within the target whose predicted score is below the current one, the
    /// lowest first; ties go to lower cost, then to the order of the up and the down move.
    fn promising_pairs(&self, moves: &[Move], scores: &[f64]) -> Vec<Costed> {
        let Some(current) = self.archive.score(&self.base.policy) else { return Vec::new() };
        let outcomes = || moves.iter().zip(scores);
        let mut pairs = Vec::new();
        for (up, up_score) in outcomes().filter(|(change, _)| !change.is_down()) {
            let raised = self.base.after(&self.network, *up);
            for (down, down_score) in outcomes().filter(|(change, _)| change.is_down()) {
                let predicted = up_score + (down_score - current);
                if (up.layer_index, up.side) == (down.layer_index, down.side)
                    || predicted >= current
                {
                    continue;
                }
                let next = raised.after(&self.network, *down);
                if self.budget.admits(next.cost) {
                    pairs.push((predicted, next));
                }
            }
        }
        pairs
            .sort_by(|(a, a_next), (b, b_next)| a.total_cmp(b).then(a_next.cost.cmp(&b_next.cost)));
        pairs.truncate(BATCH);
        pairs.into_iter().map(|(_, next)| next).collect()
    }
}
