//! Strategies one after the other: one for each budget, or one that spends what another leaves over.
//!
//! Invariant: the parts that are still to come share equally what is left of the evaluations when a
//! part begins; what a part leaves over is the next ones'.

use crate::policy::Policy;
use crate::strategy::{Scored, Strategy, View};
use crate::trace::{Prediction, TraceStep};

/// A strategy and the budget that it serves; `None` serves all.
#[derive(Debug)]
pub struct Part {
    /// The strategy.
    pub strategy: Box<dyn Strategy>,
    /// Its budget.
    pub budget: Option<usize>,
    /// Whether it only spends what the others leave over, and so gets no share before.
    pub is_filler: bool,
}

/// Parts under way.
#[derive(Debug)]
pub struct Parts {
    members: Vec<Part>,
    current: usize,
    /// Evaluations that the present part leaves to those after it; set when it begins.
    reserved: Option<u64>,
    trace: Vec<TraceStep>,
}

impl Parts {
    /// Begin with the first of some parts.
    #[must_use]
    pub fn new(parts: Vec<Part>) -> Self {
        Self { members: parts, current: 0, reserved: None, trace: Vec::new() }
    }

    fn share<'a>(&mut self, view: &View<'a>) -> View<'a> {
        let Some(remaining) = view.remaining else { return *view };
        let reserved = *self.reserved.get_or_insert_with(|| {
            let is_filler = self.members[self.current].is_filler;
            let later = self.members[self.current + 1..].iter();
            let num_later = later.filter(|part| part.is_filler == is_filler).count() as u64;
            remaining - remaining.div_ceil(num_later + 1)
        });
        View { remaining: Some(remaining.saturating_sub(reserved)), ..*view }
    }
}

impl Strategy for Parts {
    fn phase(&self) -> &'static str {
        self.members.get(self.current).map_or("ended", |part| part.strategy.phase())
    }

    fn propose(&mut self, view: &View<'_>) -> Option<Vec<Policy>> {
        while self.current < self.members.len() {
            let own = self.share(view);
            let proposed = self.members[self.current].strategy.propose(&own);
            if let Some(proposed) = proposed.and_then(|proposed| own.cut(proposed)) {
                return Some(proposed);
            }
            self.trace.extend_from_slice(self.members[self.current].strategy.trace());
            self.current += 1;
            self.reserved = None;
        }
        None
    }

    fn observe(&mut self, view: &View<'_>, scored: &[Scored<'_>]) {
        let own = self.share(view);
        if let Some(part) = self.members.get_mut(self.current) {
            part.strategy.observe(&own, scored);
        }
    }

    fn shortlist(&self, view: &View<'_>, budget: usize, count: usize) -> Vec<Policy> {
        let serves = |part: &&Part| part.budget.is_none_or(|own| own == budget);
        let first = self.members.iter().find(|part| serves(part) && !part.is_filler);
        first.map_or_else(Vec::new, |part| part.strategy.shortlist(view, budget, count))
    }

    fn predict(&self, policy: &Policy) -> Option<Prediction> {
        self.members.iter().find_map(|part| part.strategy.predict(policy))
    }

    fn model_error(&self) -> Option<f64> {
        self.members.iter().rev().find_map(|part| part.strategy.model_error())
    }

    fn trace(&self) -> &[TraceStep] {
        &self.trace
    }
}
