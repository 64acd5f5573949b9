//! Moves and exchanges around the best policy known, in the order that the model predicts.
//!
//! Each round is for one budget, in turn. From the incumbent (at first the model's optimum) moves
//! up that fit, and exchanges of one move up for one down, are measured beside it on the same
//! images, those that the model holds to be the best first. The best of them becomes the incumbent
//! where its score is lower by more than some standard errors of the paired difference, more of
//! them the more neighbours it is the best of.
//!
//! Invariant: incumbents are within their budget, and a policy is measured once.

use crate::archive::Observation;
use crate::convert::count_as_float;
use crate::model::Model;
use crate::moves::{Costed, difference};
use crate::policy::Policy;
use crate::strategy::View;
use crate::trace::TraceStep;

/// Policies per round.
const BATCH: usize = 16;

/// Refinement under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Refinement {
    /// By budget: the policy that neighbours are measured against.
    incumbents: Vec<Option<Policy>>,
    round: usize,
    asked: Vec<Policy>,
    /// Steps taken since they were last collected.
    pub(super) steps: Vec<TraceStep>,
}

impl Refinement {
    /// Return whether scores came since the last proposal.
    pub(super) fn has_news(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Return what to measure next, at most so many policies; none where nothing is left to try.
    pub(super) fn propose(
        &mut self,
        model: &Model,
        view: &View<'_>,
        most: usize,
        significance: f64,
    ) -> Vec<Policy> {
        let problem = view.problem;
        self.incumbents.resize(problem.budgets.len(), None);
        self.judge_asked(model, view, significance);
        for _ in 0..problem.budgets.len() {
            let budget = self.round % problem.budgets.len();
            let optimum = || problem.optimum(&model.values(&problem.network), budget);
            let incumbent = self.incumbents[budget].get_or_insert_with(optimum).clone();
            self.asked = neighbours(&incumbent, model, view, budget, most.min(BATCH));
            if !self.asked.is_empty() {
                return self.asked.clone();
            }
            self.round += 1;
        }
        Vec::new()
    }

    /// Judge what was asked for last, if anything was.
    pub(super) fn judge_asked(&mut self, model: &Model, view: &View<'_>, significance: f64) {
        if self.has_news() {
            let budget = self.round % view.problem.budgets.len();
            self.judge(view, budget, model, significance);
            self.asked.clear();
            self.round += 1;
        }
    }

    /// Make the best of what was measured the incumbent, if it is significantly better.
    fn judge(&mut self, view: &View<'_>, budget: usize, model: &Model, significance: f64) {
        let Some(incumbent) = self.incumbents[budget].clone() else { return };
        let Some(current) = view.archive.get(&incumbent) else { return };
        let scored =
            self.asked.iter().filter_map(|policy| Some((policy, view.archive.get(policy)?)));
        let num_errors = of_the_best(significance, self.asked.len());
        let best = scored.min_by(|a, b| a.1.score().total_cmp(&b.1.score()));
        let Some((policy, observation)) = best else { return };
        let (rise, error) = paired(observation, current, || {
            let network = &view.problem.network;
            let each = [policy, &incumbent].map(|it| model.deviation_of_error(network, it));
            each[0].hypot(each[1])
        });
        if rise < 0.0 && -rise > num_errors * error {
            let next = view.problem.costed(policy.clone());
            self.steps.push(TraceStep {
                budget,
                phase: "refinement",
                changes: difference(&incumbent, policy),
                score: Some(observation.score()),
                costs: next.costs,
            });
            self.incumbents[budget] = Some(next.policy);
        }
    }
}

/// Return how far one score is above another with its standard error: from the folds of the images,
/// or where there are none from what the model cannot say.
fn paired(one: &Observation, other: &Observation, by_model: impl Fn() -> f64) -> (f64, f64) {
    let (rise, error) = one.above(other);
    (rise, error.unwrap_or_else(by_model))
}

/// Return by how many standard errors the best of some policies must be lower, so that by chance it
/// is about as rarely as one policy alone is by `significance` of them: the tail of the normal
/// distribution falls as `exp(-z^2 / 2)`, and there are as many tails as policies.
fn of_the_best(significance: f64, num_policies: usize) -> f64 {
    (significance.powi(2) + 2.0 * count_as_float(num_policies.max(1)).ln()).sqrt()
}

/// Return the incumbent if it is not measured, and neighbours within the budget that are not, the
/// best by the model first.
fn neighbours(
    incumbent: &Policy,
    model: &Model,
    view: &View<'_>,
    budget: usize,
    most: usize,
) -> Vec<Policy> {
    let problem = view.problem;
    let (network, limits) = (&problem.network, &problem.budgets[budget]);
    let base = problem.costed(incumbent.clone());
    let singles = base.neighbours(network);
    let mut found: Vec<Costed> = singles
        .iter()
        .map(|(_, next)| next)
        .filter(|next| limits.admits(&next.costs))
        .cloned()
        .collect();
    for (up, raised) in singles.iter().filter(|(change, _)| !change.is_down()) {
        for (down, _) in singles.iter().filter(|(change, _)| change.is_down()) {
            if up.group != down.group && limits.admits(&raised.costs_after(network, *down)) {
                found.push(raised.after(network, *down));
            }
        }
    }
    let mut ranked: Vec<(f64, Policy)> = found
        .into_iter()
        .filter(|next| view.archive.score(&next.policy).is_none())
        .map(|next| (model.effect_of(network, &next.policy), next.policy))
        .collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    let first = view.archive.score(incumbent).is_none().then(|| incumbent.clone());
    first.into_iter().chain(ranked.into_iter().map(|(_, policy)| policy)).take(most).collect()
}
