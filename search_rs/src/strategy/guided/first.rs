//! What a guided search measures before it has a model.

use super::GuidedSettings;
use crate::convert::as_place;
use crate::policy::Policy;
use crate::strategy::{Problem, singles};

/// Share of the evaluations before refinement that the survey takes.
const SURVEY_SHARE: f64 = 0.7;

/// Least policies of the survey, where there are so many evaluations.
const LEAST_SURVEY: u64 = 20;

/// Evaluations from which the noise is measured first.
const PROBED_FROM: u64 = 100;

pub(super) fn survey_size(settings: &GuidedSettings) -> u64 {
    let survey = share(settings.evaluations, (1.0 - settings.refine_share) * SURVEY_SHARE);
    survey.max(settings.evaluations.min(LEAST_SURVEY))
}

/// Return the starts, the first uniform policy that spends a budget and the largest policy; beside
/// them what tells the noise where there are evaluations enough, else the other uniform policies.
pub(super) fn first_policies(problem: &Problem, settings: &GuidedSettings) -> Vec<Policy> {
    let evaluations = settings.evaluations;
    let is_probed = evaluations >= PROBED_FROM;
    let num_uniform = if is_probed { 1 } else { survey_size(settings).div_ceil(2).max(2) - 1 };
    let mut uniform = uniform_policies(problem, num_uniform);
    let others = uniform.split_off(uniform.len().min(1));
    // The largest is no answer, so it is not the only one that a limit of 1 lets be measured.
    let largest = Policy::largest(&problem.network);
    let probes = if is_probed { singles::probes(problem) } else { others };
    // Starts may be of another budget, far below this one: few evaluations go to others as well.
    let (starts, more) =
        problem.starts.split_at(as_place(evaluations.div_ceil(2)).min(problem.starts.len()));
    let starts = starts.iter().cloned();
    starts.chain(uniform).chain([largest]).chain(probes).chain(more.iter().cloned()).collect()
}

/// Return the uniform policies that spend a budget, at most so many: they tell the level, random
/// ones the layers.
pub(super) fn uniform_policies(problem: &Problem, count: u64) -> Vec<Policy> {
    let budgets = 0..problem.budgets.len();
    let uniform = budgets.flat_map(|budget| problem.spending(budget));
    uniform.take(as_place(count).max(1)).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a count is a count"
)]
pub(super) fn share(count: u64, share: f64) -> u64 {
    (count as f64 * share).round() as u64
}
