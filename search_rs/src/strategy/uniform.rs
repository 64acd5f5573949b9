//! The uniform policies alone: the yardstick of every other strategy.

use crate::policy::Policy;
use crate::strategy::{Scored, Strategy, View};
use crate::trace::TraceStep;

/// Scores every uniform policy that is within some budget, once.
#[derive(Debug, Clone, Default)]
pub struct Uniform {
    has_asked: bool,
}

impl Strategy for Uniform {
    fn phase(&self) -> &'static str {
        "uniform"
    }

    fn propose(&mut self, view: &View<'_>) -> Option<Vec<Policy>> {
        if self.has_asked {
            return None;
        }
        self.has_asked = true;
        let problem = view.problem;
        let budgets = 0..problem.budgets.len();
        // Under a small limit those that spend a budget are asked for.
        let spending = budgets.clone().flat_map(|budget| problem.spending(budget));
        let within = budgets.flat_map(|budget| problem.within(budget, &problem.uniform));
        Some(spending.chain(within).collect())
    }

    fn observe(&mut self, _view: &View<'_>, _scored: &[Scored<'_>]) {}

    fn shortlist(&self, view: &View<'_>, budget: usize, count: usize) -> Vec<Policy> {
        // Other searches may have left better ones in the archive, which are not uniform.
        let ranked = view.ranked(budget).into_iter().map(|(policy, _)| policy);
        ranked.filter(|policy| view.problem.uniform.contains(policy)).take(count).collect()
    }

    fn trace(&self) -> &[TraceStep] {
        &[]
    }
}
