//! The knapsack search: one-at-a-time sensitivities, their exact optimum, then exchanges.
//!
//! Stages, in order:
//!
//! 1. sensitivities: from the largest candidates, one group of sides at a time is lowered and
//!    measured; under a limit that does not fit all of them, half of it, the lowest candidates and
//!    those groups that save most first;
//! 2. exchanges, each budget in turn: the exact knapsack over what is known is measured, with the
//!    uniform policies that spend the budget beside it, and around the lowest score moves up that
//!    fit and exchanges of one move up for one down, those that are predicted to be the best first.
//!    What they show corrects the values, and the knapsack is solved again.
//!
//! Where errors are exact and add up, the first optimum is the optimum. Of noise it knows only that
//! rises are not negative without it. One set of sensitivities serves every budget.
//!
//! Invariant: what is proposed after the sensitivities is within a budget.

mod sensitivity;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::convert::as_place;
use crate::moves::{Costed, difference};
use crate::policy::Policy;
use crate::strategy::{Problem, Scored, Strategy, View, singles};
use crate::trace::TraceStep;

use self::sensitivity::Rises;

/// Most policies of one proposal of sensitivities.
const MOST: usize = 64;

/// Policies per round of exchanges: few, for each round corrects the values.
const BATCH: usize = 8;

/// Policies that exchanges may ask for without a limit.
const EXCHANGES: u64 = 200;

/// The stage of a search, with what only that stage needs.
#[derive(Debug, Clone)]
enum Stage {
    Start,
    /// Policies still to be measured.
    Sensitivities(Vec<Policy>),
    Exchange(Exchanges),
    Ended,
}

/// Exchanges under way.
#[derive(Debug, Clone)]
struct Exchanges {
    rises: Rises,
    /// By budget: the lowest score.
    incumbents: Vec<Option<Policy>>,
    round: usize,
    asked: Vec<Policy>,
    /// Policies that may still be asked for.
    left: u64,
}

/// A running search for all of a problem's budgets.
#[derive(Debug, Clone)]
pub struct KnapsackSearch {
    /// Most policies that it may still ask for.
    limit: Option<u64>,
    /// Whether exchanges go on where none promises anything, for as long as there is a limit.
    spends_all: bool,
    stage: Stage,
    trace: Vec<TraceStep>,
}

impl KnapsackSearch {
    /// Set up a search; `limit` is the most that it may evaluate.
    #[must_use]
    pub fn new(limit: Option<u64>) -> Self {
        Self { limit, spends_all: limit.is_some(), stage: Stage::Start, trace: Vec::new() }
    }

    /// Set up a search that ends where exchanges promise nothing; `limit` is the most that it may
    /// evaluate.
    #[must_use]
    pub(super) fn while_promising(limit: u64) -> Self {
        Self { spends_all: false, ..Self::new(Some(limit)) }
    }

    /// Return whether all sensitivities are measured.
    pub(super) fn has_measured_sensitivities(&self) -> bool {
        matches!(self.stage, Stage::Exchange(_) | Stage::Ended)
    }

    fn go_on(&mut self, view: &View<'_>) -> Option<Vec<Policy>> {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Start => {
                self.stage = Stage::Sensitivities(self.to_measure(view));
                None
            }
            Stage::Sensitivities(mut left) => {
                if left.is_empty() {
                    self.stage = Stage::Exchange(Exchanges {
                        rises: Rises::measured(view),
                        incumbents: vec![None; view.problem.budgets.len()],
                        round: view.problem.budgets.len() - 1,
                        asked: Vec::new(),
                        left: self.limit.unwrap_or(EXCHANGES),
                    });
                    return None;
                }
                let rest = left.split_off(left.len().min(MOST));
                self.stage = Stage::Sensitivities(rest);
                Some(left)
            }
            Stage::Exchange(mut exchanges) => {
                exchanges.judge(view, &mut self.trace);
                let asked = exchanges.propose(view, self.spends_all);
                self.stage = Stage::Exchange(exchanges);
                if asked.is_none() {
                    self.stage = Stage::Ended;
                }
                asked
            }
            Stage::Ended => None,
        }
    }

    /// Return what is measured for the sensitivities: all, or what half of the limit pays for.
    fn to_measure(&self, view: &View<'_>) -> Vec<Policy> {
        let problem = view.problem;
        let mut unknown = view.archive.unknown(&singles::design(problem));
        let each_optimum = problem.budgets.len() as u64;
        if let Some(limit) = view.remaining.or(self.limit)
            && limit < unknown.len() as u64 + each_optimum
        {
            unknown.truncate(as_place(limit / 2));
        }
        unknown
    }
}

impl Exchanges {
    /// Correct the values by what was measured, and step to the lowest score.
    fn judge(&mut self, view: &View<'_>, trace: &mut Vec<TraceStep>) {
        let budget = self.round % view.problem.budgets.len();
        let before = self.incumbents[budget].clone();
        if self.asked.is_empty() {
            return;
        }
        for policy in std::mem::take(&mut self.asked) {
            if let Some(incumbent) = &before {
                self.rises.correct(view, incumbent, &policy);
            }
        }
        self.step(view, budget, trace);
    }

    /// Step to the lowest score of a budget, if it is lower than where it stands.
    fn step(&mut self, view: &View<'_>, budget: usize, trace: &mut Vec<TraceStep>) {
        let problem = view.problem;
        let before = self.incumbents[budget].clone();
        let Some((best, score)) = view.ranked(budget).into_iter().next() else { return };
        let known = before.as_ref().and_then(|policy| view.archive.score(policy));
        if known.is_some_and(|known| score >= known) {
            return;
        }
        let phase = if before.is_none() { "knapsack" } else { "exchange" };
        let from = before.unwrap_or_else(|| Policy::largest(&problem.network));
        let changes = difference(&from, &best);
        let costs = problem.costed(best.clone()).costs;
        if !changes.is_empty() {
            trace.push(TraceStep { budget, phase, changes, score: Some(score), costs });
        }
        self.incumbents[budget] = Some(best);
    }

    /// Return what to measure next for the next budget that has something; `None` where none has.
    fn propose(&mut self, view: &View<'_>, goes_on: bool) -> Option<Vec<Policy>> {
        for _ in 0..view.problem.budgets.len() {
            self.round += 1;
            let budget = self.round % view.problem.budgets.len();
            let mut asked = self.candidates(view, budget, goes_on);
            asked.truncate(as_place(self.left));
            if !asked.is_empty() {
                self.left -= asked.len() as u64;
                self.asked.clone_from(&asked);
                return Some(asked);
            }
        }
        None
    }

    /// Return what is first measured for a budget; then the optimum by the values and the best
    /// exchanges around the incumbent, as far as they are not measured; unless the search goes on
    /// for as long as it may, only those that promise something.
    fn candidates(&self, view: &View<'_>, budget: usize, goes_on: bool) -> Vec<Policy> {
        let problem = view.problem;
        let is_first = self.incumbents[budget].is_none();
        let mut first = vec![self.rises.optimum(problem, budget)];
        if is_first {
            // The yardstick: noise can lead the optimum astray.
            first.extend(problem.spending(budget));
        }
        let mut found = view.archive.unknown(&first);
        if is_first && !found.is_empty() {
            return found;
        }
        let known = view.ranked(budget).into_iter().next().map(|(policy, _)| policy);
        let Some(incumbent) = self.incumbents[budget].clone().or(known) else { return found };
        let here = self.rises.of_policy(problem, &incumbent);
        let mut ranked: Vec<(f64, Policy)> = around(problem, budget, &incumbent)
            .into_iter()
            .filter(|policy| view.archive.score(policy).is_none() && !found.contains(policy))
            .map(|policy| (self.rises.of_policy(problem, &policy) - here, policy))
            .filter(|(rise, _)| goes_on || *rise < 0.0)
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        found.extend(ranked.into_iter().map(|(_, policy)| policy));
        found.truncate(BATCH);
        found
    }
}

/// Return the policies within a budget that are a move up, or a move up and one down, away.
fn around(problem: &Problem, budget: usize, incumbent: &Policy) -> BTreeSet<Policy> {
    let (network, limits) = (&problem.network, &problem.budgets[budget]);
    let base: Costed = problem.costed(incumbent.clone());
    let singles = base.neighbours(network);
    let (downs, ups): (Vec<_>, Vec<_>) = singles.iter().partition(|(change, _)| change.is_down());
    let mut found = BTreeSet::new();
    for (up, raised) in ups {
        if limits.admits(&raised.costs) {
            found.insert(raised.policy.clone());
        }
        for (down, _) in downs.iter().filter(|(down, _)| down.group != up.group) {
            if limits.admits(&raised.costs_after(network, *down)) {
                found.insert(raised.after(network, *down).policy);
            }
        }
    }
    // A move down alone pays where costs fall with more bits.
    let lowered = downs.into_iter().filter(|(_, next)| limits.admits(&next.costs));
    found.extend(lowered.map(|(_, next)| next.policy.clone()));
    found
}

impl Strategy for KnapsackSearch {
    fn phase(&self) -> &'static str {
        match self.stage {
            Stage::Start | Stage::Sensitivities(_) => "sensitivities",
            Stage::Exchange(_) => "exchange",
            Stage::Ended => "ended",
        }
    }

    fn propose(&mut self, view: &View<'_>) -> Option<Vec<Policy>> {
        while !matches!(self.stage, Stage::Ended) {
            if let Some(proposed) = self.go_on(view) {
                return Some(proposed);
            }
        }
        None
    }

    fn observe(&mut self, _view: &View<'_>, _scored: &[Scored<'_>]) {
        // The stages read the archive.
    }

    fn conclude(&mut self, view: &View<'_>) {
        if let Stage::Exchange(exchanges) = &mut self.stage {
            exchanges.judge(view, &mut self.trace);
            // What was measured for one budget may be the best of another.
            for budget in 0..view.problem.budgets.len() {
                exchanges.step(view, budget, &mut self.trace);
            }
        }
        self.stage = Stage::Ended;
    }

    fn shortlist(&self, view: &View<'_>, budget: usize, count: usize) -> Vec<Policy> {
        let lowest = view.lowest(budget, count);
        if lowest.is_empty() && view.archive.num_policies() > 0 {
            return vec![Rises::measured(view).optimum(view.problem, budget)];
        }
        lowest
    }

    fn trace(&self) -> &[TraceStep] {
        &self.trace
    }
}
