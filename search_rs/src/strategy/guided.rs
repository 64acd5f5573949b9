//! The guided search: a model of the scores says which policies to measure, and which are best.
//!
//! Stages, in order:
//!
//! 1. start: policies from outside, and single changes that tell how large noise is
//!    (strategy/singles.rs). Where it is small, one-at-a-time sensitivities and exchanges are the
//!    better design, and the knapsack search goes on from here. Else:
//! 2. survey: the uniform policies that spend a budget, and random policies spread over all
//!    candidates and brought into a budget, each budget in turn;
//! 3. draws: increments are drawn from the model's posterior, and the exact knapsack over each draw
//!    is measured (Thompson, "On the likelihood that one unknown probability exceeds another",
//!    1933): near the optimum where the model is sure, wide where it is not. The model is fitted
//!    again after each batch;
//! 4. refinement: moves and exchanges around the best policy known, up and down, in the order that
//!    the model predicts, measured on the same images; one is taken only where the difference is
//!    significant.
//!
//! The answer is the best by the model: its optimum by the exact knapsack, or a measured policy
//! whose score counts as far as it is not noise. The lowest of hundreds of noisy scores alone is
//! mostly lucky. Where noise is small the lowest score is the answer. One set of evaluations serves
//! every budget.
//!
//! Invariant: what is proposed is within a budget, but for the largest policy and single changes of
//! it.

mod first;
mod marginals;
mod refine;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use rand_pcg::Pcg64Mcg;

use crate::convert::as_place;
use crate::draw;
use crate::model::Model;
use crate::policy::Policy;
use crate::strategy::knapsack::KnapsackSearch;
use crate::strategy::{Problem, Scored, Strategy, View, singles};
use crate::trace::{Marginal, Prediction, TraceStep};

use self::first::{first_policies, share, survey_size, uniform_policies};
use self::refine::Refinement;

/// Settings of a guided search.
#[derive(Debug, Clone, PartialEq)]
pub struct GuidedSettings {
    /// Policies to measure; what the shares below are of.
    pub evaluations: u64,
    /// Share of them that refinement may spend.
    pub refine_share: f64,
    /// Standard errors by which a refinement must lower the score.
    pub significance: f64,
}

/// Batches of draws.
const BATCHES: u64 = 3;

/// Most policies of one proposal: progress is shown and journals are written between two.
const MOST: usize = 64;

/// Groups moved before a policy that is not known is given up.
const MOST_MOVES: usize = 40;

/// The stage of a search, with what only that stage needs.
#[derive(Debug, Clone)]
enum Stage {
    /// Policies from outside, and what tells how large noise is.
    Start {
        left: Vec<Policy>,
    },
    /// Policies that are measured before any is drawn.
    Survey {
        first: Vec<Policy>,
    },
    /// Noise is small.
    Exact(KnapsackSearch),
    Draws {
        batches_left: u64,
        batch: Vec<Policy>,
    },
    Refine(Refinement),
    Ended,
}

/// A running search.
#[derive(Debug, Clone)]
pub struct Guided {
    settings: GuidedSettings,
    random: Pcg64Mcg,
    stage: Stage,
    model: Option<Model>,
    /// How many policies the model was fitted to.
    num_fitted: u64,
    /// Policies proposed that have scores now; what is spent where there is no limit.
    num_asked: u64,
    /// Whether the probes found noise to be small, so that scores are taken as they are.
    is_exact: bool,
    network: std::sync::Arc<crate::network::Network>,
    trace: Vec<TraceStep>,
}

impl Guided {
    /// Set up a search for all of a problem's budgets.
    #[must_use]
    pub fn new(problem: &Problem, settings: GuidedSettings) -> Self {
        let network = std::sync::Arc::clone(&problem.network);
        Self {
            stage: Stage::Start { left: first_policies(problem, &settings) },
            settings,
            random: problem.generator(0),
            model: None,
            num_fitted: 0,
            num_asked: 0,
            is_exact: false,
            network,
            trace: Vec::new(),
        }
    }

    /// Return how many policies have been measured: what was known at the start costs nothing.
    fn spent(&self, view: &View<'_>) -> u64 {
        view.remaining.map_or(self.num_asked, |left| self.settings.evaluations.saturating_sub(left))
    }

    fn before_refinement(&self) -> u64 {
        let refined = share(self.settings.evaluations, self.settings.refine_share);
        self.settings.evaluations - refined.min(self.settings.evaluations)
    }

    /// Fit the model to all that is known.
    fn fit(&mut self, view: &View<'_>) {
        let from = self.model.take();
        let problem = view.problem;
        let hints = problem.hints.as_ref();
        self.model = Model::fit_hinted(&problem.network, hints, view.archive, from.as_ref());
        self.num_fitted = view.archive.num_policies();
    }

    /// Draw policies from the model's posterior, each budget in turn. One that is known, as most
    /// are once the posterior is narrow, is moved further and further.
    fn drawn(&mut self, view: &View<'_>, count: usize) -> Vec<Policy> {
        let problem = view.problem;
        let mut drawn: Vec<Policy> = Vec::new();
        let mut seen = BTreeSet::new();
        while drawn.len() < count {
            let budget = drawn.len() % problem.budgets.len();
            let mut policy = match &self.model {
                Some(model) => {
                    let values = model.draw(&problem.network, &mut self.random);
                    problem.optimum(&values, budget)
                }
                None => draw::wide(problem, budget, &mut self.random),
            };
            let is_known = |policy: &Policy| view.archive.score(policy).is_some();
            for num_moves in 1..MOST_MOVES {
                if !is_known(&policy) && !seen.contains(&policy) {
                    break;
                }
                policy = draw::near(problem, budget, &policy, num_moves, &mut self.random);
            }
            if is_known(&policy) || !seen.insert(policy.clone()) {
                break; // A small network: hardly anything is left.
            }
            drawn.push(policy);
        }
        drawn
    }

    /// Choose how policies are measured, by the noise that the probes found.
    fn design(&mut self, view: &View<'_>) -> Stage {
        self.is_exact = singles::is_noise_small(view.problem, view.archive);
        if self.is_exact {
            let left = self.settings.evaluations.saturating_sub(self.spent(view));
            return Stage::Exact(KnapsackSearch::while_promising(left));
        }
        let uniform = uniform_policies(view.problem, survey_size(&self.settings).div_ceil(2));
        Stage::Survey { first: uniform }
    }

    fn go_on(&mut self, view: &View<'_>) -> Option<Vec<Policy>> {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Start { left } => {
                let mut batch = view.archive.unknown(&left);
                if batch.is_empty() {
                    self.stage = self.design(view);
                    return None;
                }
                let left = batch.split_off(batch.len().min(MOST));
                self.stage = Stage::Start { left };
                Some(batch)
            }
            Stage::Survey { first } => self.survey(&first, view),
            Stage::Exact(search) => self.exact(search, view),
            Stage::Draws { batches_left, batch } => self.draws(batches_left, batch, view),
            Stage::Refine(refinement) => self.refine(refinement, view),
            Stage::Ended => None,
        }
    }

    /// Go on with sensitivities and exchanges; where these promise nothing any more, what is left
    /// goes to draws from the model.
    fn exact(&mut self, mut search: KnapsackSearch, view: &View<'_>) -> Option<Vec<Policy>> {
        let proposed = search.propose(view);
        if proposed.is_none() {
            self.fit(view);
            self.trace = search.trace().to_vec();
            self.stage = Stage::Draws { batches_left: BATCHES, batch: Vec::new() };
            return None;
        }
        if self.model.is_none() && search.has_measured_sensitivities() {
            self.fit(view);
        }
        self.stage = Stage::Exact(search);
        proposed
    }

    /// End, and take the steps that the last scores tell of.
    fn finish(&mut self, view: &View<'_>) {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Exact(mut search) => {
                search.conclude(view);
                self.trace = search.trace().to_vec();
            }
            Stage::Refine(mut refinement) => {
                if let Some(model) = &self.model {
                    refinement.judge_asked(model, view, self.settings.significance);
                    self.trace.append(&mut refinement.steps);
                }
            }
            _ => {}
        }
    }

    fn survey(&mut self, first: &[Policy], view: &View<'_>) -> Option<Vec<Policy>> {
        let left = survey_size(&self.settings).saturating_sub(self.spent(view));
        let mut batch = view.archive.unknown(first);
        let rest = batch.split_off(batch.len().min(MOST));
        if batch.is_empty() {
            batch = self.drawn(view, as_place(left).min(MOST));
        }
        if batch.is_empty() {
            self.fit(view);
            self.stage = Stage::Draws { batches_left: BATCHES, batch };
            return None;
        }
        self.stage = Stage::Survey { first: rest };
        Some(batch)
    }

    fn draws(
        &mut self,
        mut batches_left: u64,
        mut batch: Vec<Policy>,
        view: &View<'_>,
    ) -> Option<Vec<Policy>> {
        if batch.is_empty() {
            if batches_left < BATCHES {
                self.fit(view);
            }
            let left = self.before_refinement().saturating_sub(self.spent(view));
            if batches_left > 0 && left > 0 {
                batch = self.drawn(view, as_place(left.div_ceil(batches_left)));
                batches_left -= 1;
            }
            if batch.is_empty() {
                self.stage = Stage::Refine(Refinement::default());
                return None;
            }
        }
        let rest = batch.split_off(batch.len().min(MOST));
        self.stage = Stage::Draws { batches_left, batch: rest };
        Some(batch)
    }

    fn refine(&mut self, mut refinement: Refinement, view: &View<'_>) -> Option<Vec<Policy>> {
        let left = self.settings.evaluations.saturating_sub(self.spent(view));
        if refinement.has_news() {
            self.fit(view);
        }
        let model = self.model.as_ref()?;
        let proposed = refinement.propose(model, view, as_place(left), self.settings.significance);
        self.trace.append(&mut refinement.steps);
        if proposed.is_empty() {
            // Small networks run out of policies; else draws spend what is left.
            let drawn = self.drawn(view, as_place(left).min(MOST));
            self.stage = if drawn.is_empty() { Stage::Ended } else { Stage::Refine(refinement) };
            return (!drawn.is_empty()).then_some(drawn);
        }
        self.stage = Stage::Refine(refinement);
        Some(proposed)
    }
}

impl Strategy for Guided {
    fn phase(&self) -> &'static str {
        match self.stage {
            Stage::Start { .. } => "start",
            Stage::Survey { .. } => "survey",
            Stage::Exact(ref search) => search.phase(),
            Stage::Draws { .. } => "draws",
            Stage::Refine(_) => "refinement",
            Stage::Ended => "ended",
        }
    }

    fn propose(&mut self, view: &View<'_>) -> Option<Vec<Policy>> {
        while !matches!(self.stage, Stage::Ended) {
            let is_spent = self.spent(view) >= self.settings.evaluations;
            if is_spent || view.remaining == Some(0) {
                self.finish(view);
                break;
            }
            if let Some(proposed) = self.go_on(view) {
                return Some(proposed);
            }
        }
        None
    }

    fn observe(&mut self, _view: &View<'_>, scored: &[Scored<'_>]) {
        self.num_asked += scored.len() as u64;
    }

    fn conclude(&mut self, view: &View<'_>) {
        self.finish(view);
        let num_known = view.archive.num_policies();
        if self.num_fitted != num_known {
            self.fit(view);
        }
    }

    fn shortlist(&self, view: &View<'_>, budget: usize, count: usize) -> Vec<Policy> {
        let Some(model) = self.model.as_ref().filter(|_| !self.is_exact) else {
            return view.lowest(budget, count);
        };
        let problem = view.problem;
        let network = &problem.network;
        let measured = view.ranked(budget).into_iter();
        let mut ranked: Vec<(f64, Policy)> = measured
            .map(|(policy, score)| (model.estimate(network, &policy, score), policy))
            .collect();
        let optimum = problem.optimum(&model.values(network), budget);
        if view.archive.score(&optimum).is_none() {
            ranked.push((model.predict(network, &optimum).score, optimum));
        }
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        ranked.into_iter().map(|(_, policy)| policy).take(count).collect()
    }

    fn predict(&self, policy: &Policy) -> Option<Prediction> {
        self.model.as_ref().map(|model| model.predict(&self.network, policy))
    }

    fn marginals(&self, problem: &Problem, policy: &Policy) -> Option<Vec<Marginal>> {
        let model = self.model.as_ref()?;
        Some(marginals::of(model, problem, policy))
    }

    fn model_error(&self) -> Option<f64> {
        self.model.as_ref().map(Model::error)
    }

    fn trace(&self) -> &[TraceStep] {
        match &self.stage {
            Stage::Exact(search) => search.trace(),
            _ => &self.trace,
        }
    }
}
