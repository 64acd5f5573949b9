use std::sync::Arc;

use super::sensitivity::Rises;
use super::*;
use crate::archive::Archive;
use crate::budget::Budget;
use crate::cost::{self, Aggregate};
use crate::network::{Layer, Network, costs_by};
use crate::session::Session;
use crate::strategy::singles::design;

const FREE: [i128; 5] = [2, 3, 4, 5, 6];

fn network(factors: &[i128]) -> Arc<Network> {
    let layers = factors.iter().map(|factor| {
        let costs = costs_by(&FREE, &FREE, |weight, act| factor * weight * act);
        Layer::new("conv", &FREE, &FREE, &[costs]).unwrap()
    });
    Arc::new(Network::new(vec![Aggregate::Sum], layers.collect(), &[]).unwrap())
}

fn problem(factors: &[i128], limits: &[u64]) -> Problem {
    let network = network(factors);
    let budgets = limits.iter().map(|&limit| Budget::new(&network, &[Some(limit)]).unwrap());
    let budgets = budgets.collect();
    Problem::new(network, budgets, Vec::new(), 0).unwrap()
}

/// Errors that add up and follow the law, each side with its own exponent.
fn error(policy: &Policy, exponent: impl Fn(usize) -> f64) -> f64 {
    let sides = policy.layers().iter().flat_map(|bits| [bits.weight.get(), bits.act.get()]);
    let of = |(place, bits): (usize, u8)| {
        let scale = [3.0, 0.4, 1.0, 9.0, 0.2, 2.0][place];
        scale * (-exponent(place) * f64::from(bits)).exp2()
    };
    sides.enumerate().map(of).sum()
}

fn archive(policies: &[Policy], score: impl Fn(&Policy) -> f64) -> Archive {
    let mut archive = Archive::default();
    let rows: Vec<_> = policies.iter().map(|policy| vec![score(policy)]).collect();
    archive.record(policies, &rows).unwrap();
    archive
}

fn rises(problem: &Problem, archive: &Archive) -> Rises {
    Rises::measured(&View { problem, archive, remaining: None })
}

/// Check that some rises order policies as the true errors do, to rounding.
fn assert_true(problem: &Problem, rises: &Rises, score: impl Fn(&Policy) -> f64) {
    let largest = Policy::largest(&problem.network);
    for group in problem.network.groups() {
        for &bits in group.candidates().as_slice() {
            let policy = largest.with_group(group, bits);
            let found = rises.of_policy(problem, &policy);
            let expected = score(&policy) - score(&largest);
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }
}

#[test]
fn design_lowers_one_group_at_a_time_the_lowest_and_costly_first() {
    let problem = problem(&[1, 5, 2], &[200]);
    let design = design(&problem);
    assert_eq!(design.len(), 1 + 6 * 4);
    let largest = Policy::largest(&problem.network);
    assert_eq!(design[0], largest);
    let changes: Vec<_> = design[1..].iter().map(|policy| difference(&largest, policy)).collect();
    assert!(changes.iter().all(|changes| changes.len() == 1));
    let to: Vec<_> = changes.iter().map(|changes| changes[0].to.get()).collect();
    assert_eq!(to, [[2; 6], [3; 6], [4; 6], [5; 6]].concat());
    let layers: Vec<_> = changes[..6].iter().map(|changes| changes[0].layer_index).collect();
    assert_eq!(layers, [1, 1, 2, 2, 0, 0]);
}

#[test]
fn what_is_measured_is_kept_and_the_law_fills_the_rest() {
    let problem = problem(&[1, 5, 2], &[200]);
    let design = design(&problem);
    let alike = |policy: &Policy| error(policy, |_| 1.5);
    let each = |policy: &Policy| error(policy, |place| [0.9, 2.1, 1.2, 1.7, 1.0, 2.0][place]);
    // The largest alone, all lowest, the second too, all: the law needs as much of it.
    assert_true(&problem, &rises(&problem, &archive(&design[..7], alike)), alike);
    assert_true(&problem, &rises(&problem, &archive(&design[..13], each)), each);
    assert_true(&problem, &rises(&problem, &archive(&design, each)), each);
    // One that follows no law, wholly measured, is as it is.
    let stairs = |policy: &Policy| error(policy, |_| 0.0) - policy_stairs(policy);
    assert_true(&problem, &rises(&problem, &archive(&design, stairs)), stairs);
}

/// Something that only steps at 4 bits, and rises with fewer.
fn policy_stairs(policy: &Policy) -> f64 {
    let sides = policy.layers().iter().flat_map(|bits| [bits.weight.get(), bits.act.get()]);
    sides.map(|bits| f64::from(u8::from(bits >= 4))).sum()
}

#[test]
fn groups_without_a_measurement_take_the_mean() {
    let problem = problem(&[1, 5, 2], &[200]);
    let design = design(&problem);
    let alike = |policy: &Policy| error(policy, |_| 1.5);
    // Both sides of the layers 1 and 2.
    let found = rises(&problem, &archive(&design[..5], alike));
    let largest = Policy::largest(&problem.network);
    let rise = |place: usize| {
        let group = &problem.network.groups()[place];
        found.of_policy(&problem, &largest.with_group(group, group.candidates().smallest()))
    };
    let mean = (rise(2) + rise(3) + rise(4) + rise(5)) / 4.0;
    assert!((rise(0) - mean).abs() < 1e-12 && (rise(1) - mean).abs() < 1e-12);
    // Nothing at all: fewer bits are still worse.
    let nothing = rises(&problem, &Archive::default());
    assert!(nothing.of_policy(&problem, &Policy::smallest(&problem.network)) > 1.0);
}

#[test]
fn correction_makes_a_difference_what_was_measured() {
    let problem = problem(&[1, 5, 2], &[200]);
    let policy = |row: &[u8]| Policy::from_row(&problem.network, row).unwrap();
    let (from, to) = (policy(&[4, 4, 4, 4, 4, 4]), policy(&[5, 4, 4, 3, 4, 4]));
    let mut known = archive(&design(&problem), |policy| error(policy, |_| 1.5));
    known.record(&[from.clone(), to.clone()], &[vec![7.0], vec![7.5]]).unwrap();
    let view = View { problem: &problem, archive: &known, remaining: None };
    let mut found = Rises::measured(&view);
    let beyond = policy(&[6, 4, 4, 2, 4, 4]);
    let before = found.of_policy(&problem, &beyond) - found.of_policy(&problem, &to);
    found.correct(&view, &from, &to);
    let rise = found.of_policy(&problem, &to) - found.of_policy(&problem, &from);
    assert!((rise - 0.5).abs() < 1e-9);
    // Steps further on stay what they were.
    let after = found.of_policy(&problem, &beyond) - found.of_policy(&problem, &to);
    assert!((after - before).abs() < 1e-9);
}

#[test]
fn falls_are_noise_and_draw_rises_to_their_mean() {
    let problem = problem(&[1, 5, 2], &[200]);
    let design = design(&problem);
    // Noise alone around one rise for all: what is drawn is nearer to it.
    let noise = |policy: &Policy| {
        let sides = policy.layers().iter().flat_map(|bits| [bits.weight.get(), bits.act.get()]);
        let hash = sides.fold(17_u64, |hash, bits| {
            (hash ^ u64::from(bits)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
        });
        f64::from(u32::try_from(hash % 1001).unwrap()) / 1000.0 - 0.5
    };
    let flat = |policy: &Policy| error(policy, |_| 1.5) / 100.0;
    let found = rises(&problem, &archive(&design, |policy| flat(policy) + noise(policy)));
    let largest = Policy::largest(&problem.network);
    let (mut raw, mut drawn) = (0.0, 0.0);
    for policy in &design[1..] {
        let truth = flat(policy) - flat(&largest);
        raw += (flat(policy) + noise(policy) - flat(&largest) - noise(&largest) - truth).powi(2);
        drawn += (found.of_policy(&problem, policy) - truth).powi(2);
    }
    assert!(drawn < 0.6 * raw, "{drawn} is not far below {raw}");
}

/// Run a search to its end; return the session and how many policies each batch had.
fn run(
    problem: &Problem,
    limit: Option<u64>,
    score: impl Fn(&Policy) -> f64,
) -> (Session, Vec<usize>) {
    let strategy = Box::new(KnapsackSearch::new(limit));
    let mut session = Session::new(problem.clone(), strategy, Archive::default(), limit).unwrap();
    let mut batches = Vec::new();
    while let Some(policies) = session.propose() {
        batches.push(policies.len());
        let rows: Vec<_> = policies.iter().map(|policy| vec![score(policy)]).collect();
        session.observe(&rows).unwrap();
    }
    (session, batches)
}

#[test]
fn exact_additive_errors_are_searched_to_the_optimum_of_each_budget() {
    let problem = problem(&[3, 5, 2], &[90, 160, 230]);
    let score = |policy: &Policy| error(policy, |place| [0.9, 2.1, 1.2, 1.7, 1.0, 2.0][place]);
    let (session, batches) = run(&problem, None, score);
    // One set of sensitivities, one optimum for each budget, which no exchange promises to beat.
    assert_eq!(batches, [25, 1, 1, 1]);
    let mut all = vec![Policy::smallest(&problem.network)];
    for group in problem.network.groups() {
        let bits = group.candidates().as_slice();
        let each = |policy: &Policy| -> Vec<Policy> {
            bits.iter().map(|&bits| policy.with_group(group, bits)).collect()
        };
        all = all.iter().flat_map(each).collect();
    }
    for (result, limits) in session.results().unwrap().iter().zip(&problem.budgets) {
        let within = |policy: &&Policy| limits.admits(&cost::of_policy(&problem.network, policy));
        let best = all.iter().filter(within).map(score).min_by(f64::total_cmp).unwrap();
        assert!(result.score.unwrap() <= best + 1e-9, "{:?} above {best}", result.score);
    }
    let phases: Vec<_> = session.trace().iter().map(|step| (step.budget, step.phase)).collect();
    assert_eq!(phases, [(0, "knapsack"), (1, "knapsack"), (2, "knapsack")]);
}

#[test]
fn sensitivities_take_half_of_a_limit_that_does_not_fit_them() {
    let problem = problem(&[3, 5, 2], &[160]);
    let score = |policy: &Policy| error(policy, |_| 1.2);
    for (limit, first) in [(25, 12), (26, 25), (200, 25), (3, 1)] {
        assert_eq!(run(&problem, Some(limit), score).1[0], first, "{limit}");
    }
    // One evaluation is for a policy within the budget.
    let (session, batches) = run(&problem, Some(1), score);
    assert_eq!(batches, [1]);
    assert!(session.results().unwrap()[0].score.is_some());
}

#[test]
fn exchanges_find_what_sensitivities_cannot_know() {
    let problem = problem(&[3, 5, 2], &[160]);
    // Two layers forgive each other: no sum over sides tells of it.
    let score = |policy: &Policy| {
        let bits = policy.layers();
        let equal = (0..3).filter(|&place| bits[place].weight == bits[place].act).count();
        error(policy, |_| 1.2) - 0.3 * f64::from(u8::try_from(equal).unwrap())
    };
    let (session, _) = run(&problem, Some(150), score);
    let steps = session.trace();
    assert!(steps.iter().any(|step| step.phase == "exchange"));
    let scores: Vec<f64> = steps.iter().filter_map(|step| step.score).collect();
    assert!(scores.is_sorted_by(|before, after| after <= before), "{scores:?}");
    let result = &session.results().unwrap()[0];
    assert_eq!(result.score, scores.last().copied());
    assert!(result.score.unwrap() < scores[0] - 0.01);
}
