//! Strategies one after the other, in tiers: those that search, and those that spend what they
//! leave over.
//!
//! Invariant: when a part begins, it and the parts of its tier that are still to come share equally
//! what is left of the evaluations; what a tier leaves over is the next ones'. The first tier
//! answers.

use crate::policy::Policy;
use crate::strategy::{Problem, Scored, Strategy, View};
use crate::trace::{Marginal, Prediction, TraceStep};

/// A strategy and the budget that it serves; `None` serves all.
#[derive(Debug)]
pub struct Part {
    /// The strategy.
    pub strategy: Box<dyn Strategy>,
    /// Its budget.
    pub budget: Option<usize>,
    /// 0 for what searches; a later tier spends what the earlier ones leave over. Parts come by
    /// tier.
    pub tier: usize,
}

/// Parts under way.
#[derive(Debug)]
pub struct Parts {
    members: Vec<Part>,
    current: usize,
    /// Evaluations that the present part leaves to those after it; set when it begins.
    reserved: Option<u64>,
    /// Steps of all parts so far.
    trace: Vec<TraceStep>,
    /// How many of them are the present part's.
    num_own: usize,
}

impl Parts {
    /// Begin with the first of some parts.
    #[must_use]
    pub fn new(parts: Vec<Part>) -> Self {
        Self { members: parts, current: 0, reserved: None, trace: Vec::new(), num_own: 0 }
    }

    fn share<'a>(&mut self, view: &View<'a>) -> View<'a> {
        let Some(remaining) = view.remaining else { return *view };
        let reserved = *self.reserved.get_or_insert_with(|| {
            let tier = self.members[self.current].tier;
            let later = self.members[self.current + 1..].iter();
            let num_later = later.filter(|part| part.tier == tier).count() as u64;
            remaining - remaining.div_ceil(num_later + 1)
        });
        View { remaining: Some(remaining.saturating_sub(reserved)), ..*view }
    }

    /// Take over the steps that the present part took since the last time.
    fn collect_steps(&mut self) {
        let steps = &self.members[self.current].strategy.trace()[self.num_own..];
        self.num_own += steps.len();
        self.trace.extend_from_slice(steps);
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
            self.collect_steps();
            if let Some(proposed) = proposed.and_then(|proposed| own.cut(proposed)) {
                return Some(proposed);
            }
            self.current += 1;
            (self.reserved, self.num_own) = (None, 0);
        }
        None
    }

    fn observe(&mut self, view: &View<'_>, scored: &[Scored<'_>]) {
        let own = self.share(view);
        if let Some(part) = self.members.get_mut(self.current) {
            part.strategy.observe(&own, scored);
            self.collect_steps();
        }
    }

    fn conclude(&mut self, view: &View<'_>) {
        self.members.iter_mut().for_each(|part| part.strategy.conclude(view));
    }

    fn shortlist(&self, view: &View<'_>, budget: usize, count: usize) -> Vec<Policy> {
        let serves = |part: &&Part| part.budget.is_none_or(|own| own == budget);
        let first = self.members.iter().find(serves);
        first.map_or_else(Vec::new, |part| part.strategy.shortlist(view, budget, count))
    }

    fn predict(&self, policy: &Policy) -> Option<Prediction> {
        self.members.iter().find_map(|part| part.strategy.predict(policy))
    }

    fn marginals(&self, problem: &Problem, policy: &Policy) -> Option<Vec<Marginal>> {
        self.members.iter().find_map(|part| part.strategy.marginals(problem, policy))
    }

    fn model_error(&self) -> Option<f64> {
        self.members.iter().rev().find_map(|part| part.strategy.model_error())
    }

    fn trace(&self) -> &[TraceStep] {
        &self.trace
    }
}
