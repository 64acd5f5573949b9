//! The guided search where it is known what is there to find.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_distr::StandardNormal;
use rand_pcg::Pcg64Mcg;

use super::*;
use crate::archive::Archive;
use crate::budget::Budget;
use crate::cost;
use crate::network::{Layer, costs_by, plain_network};
use crate::session::Session;

const NUM_FOLDS: u32 = 16;

/// Eight layers of 2 to 6 bits, budgets of some per cent of the largest cost.
fn problem(percents: &[u64], seed: u64) -> Problem {
    let free = [2, 3, 4, 5, 6];
    let layer = |index: i128| {
        let costs = costs_by(&free, &free, |weight, act| (100 + 37 * index) * weight * act);
        Layer::new(&format!("conv{index}"), &free, &free, &[costs]).unwrap()
    };
    let network = plain_network((0..8).map(layer).collect()).unwrap();
    let largest = cost::of_policy(&network, &Policy::largest(&network)).get(0);
    let budget = |percent| Budget::new(&network, &[Some(largest * percent / 100)]).unwrap();
    let budgets = percents.iter().map(|&percent| budget(percent)).collect();
    Problem::new(Arc::new(network), budgets, vec![], seed).unwrap()
}

fn side(bits: crate::bits::Bits) -> f64 {
    0.5_f64.powi(bits.get().into())
}

/// Errors of layers that add up, some layers ten times as sensitive as others.
fn additive(policy: &Policy) -> f64 {
    let layers = policy.layers().iter().zip([1.0, 10.0, 3.0].into_iter().cycle());
    layers.map(|(bits, weight)| weight * (side(bits.weight) + 0.5 * side(bits.act))).sum()
}

/// And errors that neighbours share, which no additive model can say.
fn interacting(policy: &Policy) -> f64 {
    let pairs = policy.layers().windows(2);
    let shared = pairs.map(|pair| (side(pair[0].weight) * side(pair[1].act)).sqrt() * 4.0);
    additive(policy) + shared.sum::<f64>()
}

/// The parts of a score: equal shares of it, each with noise of its own that seed and policy
/// decide.
fn parts(policy: &Policy, score: f64, noise: f64, seed: u64) -> Vec<f64> {
    let mut row = Vec::new();
    policy.write_row(&mut row);
    let seed = row.iter().fold(seed, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    });
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut part =
        || score / f64::from(NUM_FOLDS) + noise * random.sample::<f64, _>(StandardNormal);
    (0..NUM_FOLDS).map(|_| part()).collect()
}

/// Search to the end; return the session with what was proposed, batch by batch with its phase.
fn run(
    problem: &Problem,
    settings: &GuidedSettings,
    evaluate: impl Fn(&Policy) -> Vec<f64>,
) -> (Session, Vec<(&'static str, Vec<Policy>)>) {
    let strategy = Box::new(Guided::new(problem, settings.clone()));
    let limit = Some(settings.evaluations);
    let mut session = Session::new(problem.clone(), strategy, Archive::default(), limit).unwrap();
    let mut proposed = Vec::new();
    while let Some(policies) = session.propose() {
        proposed.push((session.status().phase, policies.clone()));
        session.observe(&policies.iter().map(&evaluate).collect::<Vec<_>>()).unwrap();
    }
    (session, proposed)
}

fn settings(evaluations: u64, refine_share: f64) -> GuidedSettings {
    GuidedSettings { evaluations, refine_share, significance: 2.0 }
}

#[test]
fn what_is_proposed_is_within_a_budget_and_stages_come_in_order() {
    let problem = problem(&[20, 45], 1);
    let noisy = ["start", "survey", "draws", "refinement"];
    let exact = ["start", "sensitivities", "exchange", "draws", "refinement"];
    for (noise, expected) in [(0.5, &noisy[..]), (0.0, &exact)] {
        for evaluations in [1, 5, 100, 150] {
            let evaluate = |policy: &Policy| parts(policy, additive(policy), noise, 1);
            let (session, proposed) = run(&problem, &settings(evaluations, 0.3), evaluate);
            assert_eq!(session.num_evaluations(), evaluations);
            let all = proposed.iter().flat_map(|(_, policies)| policies);
            let is_above = |policy: &&Policy| {
                let costs = cost::of_policy(&problem.network, policy);
                !problem.budgets.iter().any(|budget| budget.admits(&costs))
            };
            assert!(all.filter(is_above).all(|policy| is_single(&problem, policy)));
            let mut phases: Vec<_> = proposed.iter().map(|(phase, _)| *phase).collect();
            phases.dedup();
            // Few evaluations do not pay for telling the noise.
            let expected = if evaluations < 100 { &noisy } else { expected };
            assert_eq!(phases, expected[..phases.len()], "{evaluations} evaluations");
            let least = if noise > 0.0 { 4 } else { 3 };
            assert!(evaluations < 100 || phases.len() >= least, "{phases:?}");
        }
    }
}

/// Whether a policy is the largest but for one group at most.
fn is_single(problem: &Problem, policy: &Policy) -> bool {
    let largest = Policy::largest(&problem.network);
    crate::moves::difference(&largest, policy).len() <= 1
}

#[test]
fn under_noise_the_answer_is_near_the_models_optimum_not_the_lowest_score() {
    let problem = problem(&[30], 2);
    let noise = 0.5;
    let (session, _) =
        run(&problem, &settings(120, 0.1), |policy| parts(policy, additive(policy), noise, 1));
    let predicted = |policy: &Policy| session.strategy().predict(policy).unwrap().score;
    let answer = session.shortlist(0, 1).unwrap().swap_remove(0);
    for policy in (0..300).map(|seed| draw::wide(&problem, 0, &mut Pcg64Mcg::seed_from_u64(seed))) {
        assert!(predicted(&answer.policy) <= predicted(&policy) + 0.2 * noise);
    }
}

#[test]
fn without_noise_the_answer_is_no_worse_than_the_lowest_score() {
    for seed in 0..4 {
        let problem = problem(&[30], seed);
        let mut lowest = f64::INFINITY;
        let (session, proposed) =
            run(&problem, &settings(100, 0.1), |policy| vec![interacting(policy)]);
        let all = proposed.iter().flat_map(|(_, policies)| policies);
        for policy in
            all.filter(|it| problem.budgets[0].admits(&problem.costed((*it).clone()).costs))
        {
            lowest = lowest.min(interacting(policy));
        }
        let answer = session.shortlist(0, 1).unwrap().swap_remove(0);
        assert!(interacting(&answer.policy) <= lowest + 0.01 * lowest.abs(), "seed {seed}");
    }
}

#[test]
fn refinement_of_few_exact_scores_improves_and_every_step_lowers_the_score() {
    let mut num_steps = 0;
    for seed in 0..8 {
        let problem = problem(&[30], seed);
        let evaluate = |policy: &Policy| parts(policy, interacting(policy), 0.0, 0);
        let (session, _) = run(&problem, &settings(39, 0.6), evaluate);
        let scores: Vec<f64> = session.trace().iter().map(|step| step.score.unwrap()).collect();
        assert!(scores.windows(2).all(|pair| pair[1] < pair[0]), "{scores:?}");
        num_steps += scores.len();
        for step in session.trace() {
            assert_eq!(step.phase, "refinement");
            assert!(problem.budgets[0].admits(&step.costs) && !step.changes.is_empty());
        }
    }
    assert!(num_steps >= 4, "{num_steps} steps");
}

#[test]
fn the_trace_ends_at_the_result_where_the_last_scores_were_the_best() {
    for evaluations in 100..130 {
        let problem = problem(&[20, 45], 5);
        let evaluate = |policy: &Policy| vec![interacting(policy)];
        let (session, proposed) = run(&problem, &settings(evaluations, 0.1), evaluate);
        if proposed.last().unwrap().0 != "exchange" {
            continue; // Draws take no steps.
        }
        for (budget, result) in session.results().unwrap().into_iter().enumerate() {
            let steps = session.trace().iter().filter(|step| step.budget == budget);
            let last = steps.filter_map(|step| step.score).next_back().unwrap();
            assert!(last <= result.score.unwrap() + 1e-9, "{evaluations} evaluations");
        }
    }
}

#[test]
fn scores_without_noise_end_where_sensitivities_and_exchanges_do() {
    for seed in 0..4 {
        let problem = problem(&[30], seed);
        let evaluate = |policy: &Policy| vec![interacting(policy)];
        let (session, _) = run(&problem, &settings(200, 0.1), evaluate);
        let answer = session.shortlist(0, 1).unwrap().swap_remove(0);
        let search = Box::new(KnapsackSearch::new(Some(200)));
        let mut other =
            Session::new(problem.clone(), search, Archive::default(), Some(200)).unwrap();
        while let Some(policies) = other.propose() {
            other.observe(&policies.iter().map(evaluate).collect::<Vec<_>>()).unwrap();
        }
        let expected = other.shortlist(0, 1).unwrap().swap_remove(0);
        assert!(interacting(&answer.policy) <= interacting(&expected.policy), "seed {seed}");
    }
}

#[test]
fn refinement_of_scores_that_are_noise_alone_takes_hardly_any_step() {
    let (mut num_steps, mut num_rounds) = (0, 0);
    for seed in 0..20 {
        let problem = problem(&[30], seed);
        let evaluate = |policy: &Policy| parts(policy, 1.0, 10.0, seed);
        let (session, proposed) = run(&problem, &settings(100, 0.6), evaluate);
        num_steps += session.trace().len();
        num_rounds += proposed.iter().filter(|(phase, _)| *phase == "refinement").count();
    }
    assert!(num_rounds >= 60, "{num_rounds} rounds");
    // One neighbour alone seems better by two standard errors in 2 % of the rounds; of the best of
    // 16 that holds in 20 %, which is what is not to happen.
    assert!(num_steps * 12 <= num_rounds, "{num_steps} steps in {num_rounds} rounds");
}

#[test]
fn network_of_which_all_is_measured_ends_early() {
    let costs = costs_by(&[2, 3], &[2, 3], |weight, act| weight * act);
    let layer = Layer::new("conv", &[2, 3], &[2, 3], &[costs]).unwrap();
    let network = plain_network(vec![layer]).unwrap();
    let budget = Budget::new(&network, &[Some(6)]).unwrap();
    let problem = Problem::new(Arc::new(network), vec![budget], vec![], 0).unwrap();
    let (session, _) = run(&problem, &settings(50, 0.1), |policy| vec![additive(policy)]);
    assert_eq!(session.num_evaluations(), 4);
    let expected = Policy::from_row(&problem.network, &[3, 2]).unwrap();
    assert_eq!(session.results().unwrap()[0].policy, expected);
}
