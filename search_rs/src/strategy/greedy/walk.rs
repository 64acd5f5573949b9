//! Where a greedy search is, where it was, and how it got there.

use std::collections::BTreeSet;

use crate::moves::{Costed, difference};
use crate::policy::Policy;
use crate::strategy::{Problem, View};
use crate::trace::TraceStep;

/// The path of a greedy search for one budget.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    pub(super) budget: usize,
    start: Costed,
    base: Costed,
    visited: BTreeSet<Policy>,
    trace: Vec<TraceStep>,
}

impl Walk {
    pub(super) fn new(problem: &Problem, budget: usize, start: Policy) -> Self {
        let start = problem.costed(start);
        let visited = BTreeSet::from([start.policy.clone()]);
        Self { budget, base: start.clone(), start, visited, trace: Vec::new() }
    }

    pub(super) fn start(&self) -> &Costed {
        &self.start
    }

    /// The policy the search is at.
    pub(super) fn base(&self) -> &Costed {
        &self.base
    }

    pub(super) fn trace(&self) -> &[TraceStep] {
        &self.trace
    }

    pub(super) fn has_visited(&self, policy: &Policy) -> bool {
        self.visited.contains(policy)
    }

    /// Return what is scored first, each once: the start, policies from outside that are within the
    /// budget, then the uniform policies within it, the costly first.
    pub(super) fn anchors(&self, problem: &Problem) -> Vec<Policy> {
        let costed = problem.uniform.iter().map(|policy| problem.costed(policy.clone()));
        let cheapest_first: BTreeSet<_> = costed
            .filter(|it| self.admits(problem, it) && it.policy != self.start.policy)
            .map(|it| (it.costs, it.policy))
            .collect();
        let costly_first = cheapest_first.into_iter().rev().map(|(_, policy)| policy);
        let mut seen = BTreeSet::new();
        std::iter::once(self.start.policy.clone())
            .chain(problem.within(self.budget, &problem.starts))
            .chain(costly_first)
            .filter(|policy| seen.insert(policy.clone()))
            .collect()
    }

    pub(super) fn admits(&self, problem: &Problem, costed: &Costed) -> bool {
        problem.budgets[self.budget].admits(&costed.costs)
    }

    pub(super) fn load(&self, problem: &Problem, costed: &Costed) -> f64 {
        problem.budgets[self.budget].load(&costed.costs)
    }

    pub(super) fn step_to(&mut self, phase: &'static str, next: Costed, score: Option<f64>) {
        let changes = difference(&self.base.policy, &next.policy);
        let (budget, costs) = (self.budget, next.costs);
        self.trace.push(TraceStep { budget, phase, changes, score, costs });
        self.visited.insert(next.policy.clone());
        self.base = next;
    }

    /// Return the policy within the budget with the lowest score; ties go to where the search is.
    pub(super) fn best(&self, view: &View<'_>) -> Option<(Costed, f64)> {
        let ranked = view.ranked(self.budget);
        let (first, score) = ranked.first()?;
        let is_here = view.archive.score(&self.base.policy).is_some_and(|here| here <= *score)
            && self.admits(view.problem, &self.base);
        let policy = if is_here { self.base.policy.clone() } else { first.clone() };
        Some((view.problem.costed(policy), *score))
    }

    /// Step to the best policy met if it is better than the current one. Return whether it is one
    /// that the search has not been at; it went up from all others already.
    pub(super) fn restart_from_best(&mut self, view: &View<'_>) -> bool {
        let current = view.archive.score(&self.base.policy);
        let Some((best, score)) = self.best(view) else { return false };
        if current.is_none_or(|current| score >= current) {
            return false;
        }
        let is_new = !self.has_visited(&best.policy);
        self.step_to("restart", best, Some(score));
        is_new
    }
}

/// Return the scores of policies, if all are known.
pub(super) fn scores(view: &View<'_>, policies: &[Policy]) -> Option<Vec<f64>> {
    policies.iter().map(|policy| view.archive.score(policy)).collect()
}
