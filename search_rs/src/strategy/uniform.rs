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
        let budgets = 0..view.problem.budgets.len();
        Some(
            budgets.flat_map(|budget| view.problem.within(budget, &view.problem.uniform)).collect(),
        )
    }

    fn observe(&mut self, _view: &View<'_>, _scored: &[Scored<'_>]) {}

    fn trace(&self) -> &[TraceStep] {
        &[]
    }
}
