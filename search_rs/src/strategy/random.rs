//! Random policies, each policy within the budget as likely as any other.

use rand_pcg::Pcg64Mcg;

use crate::draw::UniformDraw;
use crate::policy::Policy;
use crate::strategy::{Problem, Scored, Strategy, View};
use crate::trace::TraceStep;

/// Policies per proposal.
const BATCH: usize = 64;

/// Proposals without a new policy before the strategy holds that it has seen all.
const MAX_IDLE: u32 = 20;

/// Scores policies drawn within one budget until the evaluations are spent.
#[derive(Debug, Clone)]
pub struct Random {
    budget: usize,
    /// Made when it is first asked: counting takes a while, and one that spends what others leave
    /// over is mostly never asked.
    uniform: Option<UniformDraw>,
    generator: Pcg64Mcg,
    num_idle: u32,
}

impl Random {
    /// Draw within one of a problem's budgets.
    #[must_use]
    pub fn new(problem: &Problem, budget: usize) -> Self {
        Self { budget, uniform: None, generator: problem.generator(budget), num_idle: 0 }
    }
}

impl Strategy for Random {
    fn phase(&self) -> &'static str {
        "random"
    }

    fn propose(&mut self, view: &View<'_>) -> Option<Vec<Policy>> {
        let count = || UniformDraw::new(view.problem, self.budget);
        let uniform = self.uniform.get_or_insert_with(count);
        while self.num_idle < MAX_IDLE {
            let drawn: Vec<Policy> =
                (0..BATCH).map(|_| uniform.draw(view.problem, &mut self.generator)).collect();
            let unknown = view.archive.unknown(&drawn);
            if unknown.is_empty() {
                self.num_idle += 1;
                continue;
            }
            self.num_idle = 0;
            return Some(unknown);
        }
        None
    }

    fn observe(&mut self, _view: &View<'_>, _scored: &[Scored<'_>]) {}

    fn trace(&self) -> &[TraceStep] {
        &[]
    }
}
