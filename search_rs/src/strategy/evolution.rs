//! Evolution within one budget: children of the policies that scored best, crossed and mutated.
//!
//! The scheme of the one-shot literature (Guo et al., "Single path one-shot neural architecture
//! search with uniform sampling", 2020, section 3.4): a population of the best, half of the
//! children by mutation, half by crossing; each is brought into the budget.

use rand::Rng;
use rand_pcg::Pcg64Mcg;

use crate::draw::fitted;
use crate::policy::Policy;
use crate::strategy::{Problem, Scored, Strategy, View};
use crate::trace::TraceStep;

/// Policies that have children.
const PARENTS: usize = 10;

/// Children per generation.
const CHILDREN: usize = 20;

/// Probability that a mutation changes a group of sides (Guo et al.: 0.1).
const MUTATION: f64 = 0.1;

/// Generations without a better policy, or tries without a new child, after which it ends.
const MAX_IDLE: u32 = 30;

/// A population under way.
#[derive(Debug, Clone)]
pub struct Evolution {
    budget: usize,
    random: Pcg64Mcg,
    has_begun: bool,
    best: f64,
    num_idle: u32,
}

impl Evolution {
    /// Begin with the starts and what is known within one of a problem's budgets, where that is
    /// little with the uniform policies too, and mutations of them.
    #[must_use]
    pub fn new(problem: &Problem, budget: usize) -> Self {
        let random = problem.generator(budget);
        Self { budget, random, has_begun: false, best: f64::INFINITY, num_idle: 0 }
    }

    fn child(&mut self, problem: &Problem, parents: &[Policy]) -> Policy {
        let mut pick = || parents[self.random.random_range(0..parents.len())].clone();
        let (mut child, other) = (pick(), pick());
        let crosses = self.random.random::<bool>();
        for group in problem.network.groups().iter().filter(|group| group.is_free()) {
            if crosses && self.random.random::<bool>() {
                child = child.with_group(group, other.group_bits(group));
            }
            if !crosses && self.random.random_bool(MUTATION) {
                let candidates = group.candidates().as_slice();
                let bits = candidates[self.random.random_range(0..candidates.len())];
                child = child.with_group(group, bits);
            }
        }
        fitted(problem, self.budget, child, &mut self.random)
    }
}

impl Strategy for Evolution {
    fn phase(&self) -> &'static str {
        "evolution"
    }

    fn propose(&mut self, view: &View<'_>) -> Option<Vec<Policy>> {
        let problem = view.problem;
        let mut parents = view.lowest(self.budget, PARENTS);
        let mut children: Vec<Policy> = Vec::new();
        if !self.has_begun && parents.len() < PARENTS {
            children = problem.within(self.budget, &problem.uniform);
        }
        if !self.has_begun {
            let starts = problem.within(self.budget, &problem.starts);
            children.splice(0..0, starts);
        }
        self.has_begun = true;
        if parents.is_empty() {
            parents.clone_from(&children);
            parents.push(problem.cheapest[self.budget].clone());
        }
        while self.num_idle < MAX_IDLE {
            let born: Vec<Policy> = (0..CHILDREN).map(|_| self.child(problem, &parents)).collect();
            children.extend(born);
            let unknown = view.archive.unknown(&children);
            if !unknown.is_empty() {
                return Some(unknown);
            }
            self.num_idle += 1;
        }
        None
    }

    fn observe(&mut self, view: &View<'_>, _scored: &[Scored<'_>]) {
        let best = view.ranked(self.budget).first().map_or(f64::INFINITY, |best| best.1);
        if best < self.best {
            (self.best, self.num_idle) = (best, 0);
        } else if view.remaining.is_none() {
            // Under a limit it goes on: evaluations that are given are spent.
            self.num_idle += 1;
        }
    }

    fn trace(&self) -> &[TraceStep] {
        &[]
    }
}
