//! Every policy within the budgets, one after the other: what is left where a network has few.
//!
//! It goes through the options of the blocks as an odometer does, and leaves out a partial policy
//! that no options of the blocks to come bring within a budget.
//!
//! Invariant: it ends, having gone through every policy within its budget at most once. Where there
//! is one limit, or none but on largest costs, every partial policy it enters leads to one within
//! the budget; several limits can leave dead ends, of which it enters `MAX_DEAD_ENDS` at most
//! between two policies.

use crate::cost::{Aggregate, Costs};
use crate::policy::Policy;
use crate::strategy::{Problem, Scored, Strategy, View};
use crate::trace::TraceStep;

/// Policies per proposal.
const BATCH: usize = 64;

/// Partial policies entered without a new policy before it gives up: some seconds.
const MAX_DEAD_ENDS: u64 = 10_000_000;

/// Scores every policy within one budget that is not known yet.
#[derive(Debug, Clone)]
pub struct Enumeration {
    budget: usize,
    /// By block and limit that adds up: the least that the blocks from there on cost.
    least: Vec<Vec<u64>>,
    /// By block entered: the option to be tried next, and what the blocks before it cost.
    open: Vec<(usize, Vec<u64>)>,
    policy: Policy,
}

impl Enumeration {
    /// Begin with the first policy within one of a problem's budgets.
    #[must_use]
    pub fn new(problem: &Problem, budget: usize) -> Self {
        let sums = sums(problem, budget);
        let blocks = problem.knapsack.blocks();
        let mut least = vec![vec![0; sums.len()]; blocks.len() + 1];
        for (place, block) in blocks.iter().enumerate().rev() {
            least[place] = sums
                .iter()
                .zip(&least[place + 1])
                .map(|(&(resource, _), later)| {
                    let costs = block.costs().iter().map(|costs| costs.get(resource));
                    later + costs.min().unwrap_or_default()
                })
                .collect();
        }
        let open = vec![(0, vec![0; sums.len()])];
        Self { budget, least, open, policy: Policy::smallest(&problem.network) }
    }

    /// Return the next policy within the budget; `None` after the last.
    fn next(&mut self, problem: &Problem) -> Option<Policy> {
        let (sums, blocks) = (sums(problem, self.budget), problem.knapsack.blocks());
        let limits = &problem.budgets[self.budget];
        for _ in 0..MAX_DEAD_ENDS {
            let place = self.open.len().checked_sub(1)?;
            let block = &blocks[place];
            let (option, before) = self.open.last_mut()?;
            let Some(costs) = block.costs().get(*option) else {
                self.open.pop();
                continue;
            };
            let after = with(before, &sums, costs);
            let taken = *option;
            *option += 1;
            let may_fit = sums
                .iter()
                .zip(after.iter().zip(&self.least[place + 1]))
                .all(|(&(_, limit), (sum, later))| sum + later <= limit);
            if !may_fit || !limits.admits_part(&problem.network, costs) {
                continue;
            }
            block.write(taken, &mut self.policy);
            if place + 1 == blocks.len() {
                return Some(self.policy.clone());
            }
            self.open.push((0, after));
        }
        None
    }
}

/// Return the limited resources that add up, with their limits.
fn sums(problem: &Problem, budget: usize) -> Vec<(usize, u64)> {
    problem.budgets[budget].limits_on(&problem.network, Aggregate::Sum).collect()
}

fn with(before: &[u64], sums: &[(usize, u64)], costs: &Costs) -> Vec<u64> {
    before.iter().zip(sums).map(|(sum, &(resource, _))| sum + costs.get(resource)).collect()
}

impl Strategy for Enumeration {
    fn phase(&self) -> &'static str {
        "enumeration"
    }

    fn propose(&mut self, view: &View<'_>) -> Option<Vec<Policy>> {
        let mut unknown = Vec::new();
        while unknown.len() < BATCH {
            let Some(policy) = self.next(view.problem) else { break };
            if view.archive.score(&policy).is_none() {
                unknown.push(policy);
            }
        }
        (!unknown.is_empty()).then_some(unknown)
    }

    fn observe(&mut self, _view: &View<'_>, _scored: &[Scored<'_>]) {}

    fn trace(&self) -> &[TraceStep] {
        &[]
    }
}
