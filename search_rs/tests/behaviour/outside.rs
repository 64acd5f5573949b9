//! What comes from outside a search, and what it says of itself: starts, an archive, the best so far.

use std::sync::Arc;

use crate::common;
use proptest::prelude::*;
use search_rs::archive::{Archive, Observation};
use search_rs::bits::Side;
use search_rs::cost;
use search_rs::error::SearchError;
use search_rs::model::Model;
use search_rs::network::Network;
use search_rs::policy::Policy;
use search_rs::session::Session;
use search_rs::strategy::{self, Problem, Settings};

const WITH_A_START: [&str; 3] = ["guided", "greedy", "evolution"];

fn network() -> Arc<Network> {
    let free = || vec![2, 3, 4, 5, 6];
    let specs: Vec<_> = (0..6).map(|index| (1000 + 137 * index, free(), free())).collect();
    Arc::new(common::build(&specs))
}

fn problem(percent: u64) -> Problem {
    let network = network();
    common::problem(&network, &[common::target(&network, 0, percent)], 4)
}

/// Errors that add up, some sides far more sensitive than others.
fn additive(policy: &Policy) -> f64 {
    let layers = policy.layers().iter().zip(1_u8..);
    let side = |scale: f64, bits: u8| scale * (-1.3 * f64::from(bits)).exp2();
    layers
        .map(|(bits, place)| {
            let scale = f64::from(place * place);
            side(scale, bits.weight.get()) + side(40.0 / scale, bits.act.get())
        })
        .sum()
}

fn begin(name: &str, problem: Problem, known: Archive, limit: Option<u64>) -> Session {
    let strategy = strategy::create(name, &problem, &Settings::default(), limit).unwrap();
    Session::new(problem, strategy, known, limit).unwrap()
}

fn asked(name: &str, problem: Problem) -> Vec<Policy> {
    let mut session = begin(name, problem, Archive::default(), Some(70));
    let mut journal = Vec::new();
    common::run(&mut session, additive, &mut journal).unwrap();
    journal.into_iter().map(|(policy, _)| policy).collect()
}

/// Return an archive of some policies of a network, spread over all of them.
fn archive(network: &Network, count: usize) -> Archive {
    let row = |seed: usize| -> Vec<u8> {
        let bits = |side: usize| u8::try_from(2 + (seed * 7919 + side * 104_729) / 31 % 5).unwrap();
        (0..2 * network.num_layers()).map(bits).collect()
    };
    let mut archive = Archive::default();
    for seed in 0..count {
        let policy = Policy::from_row(network, &row(seed * (seed + 3))).unwrap();
        archive.record(std::slice::from_ref(&policy), &[vec![additive(&policy)]]).unwrap();
    }
    archive
}

#[test]
fn starts_are_scored_first_by_strategies_that_have_a_start() {
    let start = Policy::from_row(&network(), &[3, 2, 2, 5, 2, 3, 4, 2, 2, 2, 2, 3]).unwrap();
    let given = || problem(30).with_starts(vec![start.clone(), start.clone()]).unwrap();
    assert!(given().budgets[0].admits(&cost::of_policy(&given().network, &start)));
    for name in strategy::names() {
        let (cold, warm) = (asked(name, problem(30)), asked(name, given()));
        if WITH_A_START.contains(&name) {
            // Greedy begins at the largest policy, and then compares where to go up from.
            let place = warm.iter().position(|policy| *policy == start).unwrap();
            assert_eq!(place, usize::from(name == "greedy"), "{name}");
            assert!(!cold[..2].contains(&start), "{name}");
        } else {
            assert_eq!(cold, warm, "{name}");
        }
    }
}

#[test]
fn starts_within_no_budget_are_left_out_and_strange_ones_refused() {
    let large = Policy::from_row(&network(), &[6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 5]).unwrap();
    for name in strategy::names() {
        let given = problem(30).with_starts(vec![large.clone()]).unwrap();
        assert!(given.starts.is_empty());
        assert_eq!(asked(name, given), asked(name, problem(30)), "{name}");
    }
    let other = common::build(&[(1, vec![2], vec![2])]);
    let found = problem(30).with_starts(vec![Policy::largest(&other)]).unwrap_err();
    assert_eq!(found, SearchError::PolicyLength { found: 1, expected: 6 });
}

#[test]
fn many_starts_are_all_scored() {
    let starts: Vec<Policy> = (0..150_u8)
        .map(|index| {
            let row: Vec<u8> =
                (0..12).map(|side| 2 + u8::from(index >> (side % 8) & 1 == 1)).collect();
            Policy::from_row(&network(), &row).unwrap()
        })
        .collect();
    let given = problem(60).with_starts(starts).unwrap();
    let starts = given.starts.clone();
    assert!(starts.len() > 100);
    for name in WITH_A_START {
        let mut session = begin(name, given.clone(), Archive::default(), Some(200));
        let mut journal = Vec::new();
        common::run(&mut session, additive, &mut journal).unwrap();
        let asked: Vec<_> = journal.into_iter().map(|(policy, _)| policy).collect();
        assert_eq!(asked.len(), 200, "{name}");
        // Guided also has the largest, a uniform policy and its probes among them.
        let first = &asked[..starts.len() + 12];
        assert!(starts.iter().all(|start| first.contains(start)), "{name}");
    }
}

#[test]
fn concluded_search_answers_from_what_is_known_and_asks_nothing() {
    let problem = problem(35);
    let known = archive(&problem.network, 300);
    let within =
        |policy: &&Policy| problem.budgets[0].admits(&cost::of_policy(&problem.network, policy));
    let lowest = known.iter().map(|(policy, _)| policy).filter(within).map(additive);
    let lowest = lowest.min_by(f64::total_cmp).unwrap();
    for name in strategy::names() {
        let mut session = begin(name, problem.clone(), known.clone(), Some(50));
        session.conclude();
        assert!(session.is_done() && session.propose().is_none());
        assert_eq!(session.num_evaluations(), 0);
        let result = session.results().unwrap().swap_remove(0);
        assert!(problem.budgets[0].admits(&result.costs));
        if name == "guided" {
            // The model sees beyond the archive: by far better, and predicted as it is.
            assert!(additive(&result.policy) < 0.8 * lowest, "{}", additive(&result.policy));
            let predicted = result.predicted.unwrap();
            assert!((predicted.score - additive(&result.policy)).abs() < 0.2 * lowest);
            assert!(session.status().model_error.is_some());
        } else if name != "uniform" {
            // What uniform policies are worth is not what others are.
            assert_eq!(result.score.unwrap().to_bits(), lowest.to_bits(), "{name}");
        }
        // Concluding once more changes nothing.
        session.conclude();
        assert_eq!(session.results().unwrap()[0].policy, result.policy);
    }
}

#[test]
fn search_concluded_on_its_way_drops_what_it_waits_for() {
    for name in strategy::names() {
        let mut session = begin(name, problem(35), Archive::default(), Some(90));
        let first = session.propose().unwrap();
        session.observe(&first.iter().map(|it| vec![additive(it)]).collect::<Vec<_>>()).unwrap();
        session.propose();
        session.conclude();
        assert_eq!((session.num_proposed(), session.status().phase), (0, "ended"), "{name}");
        assert_eq!(session.num_evaluations(), first.len() as u64);
        let found = session.observe(&[vec![1.0]]).unwrap_err();
        assert_eq!(found, SearchError::NothingProposed { found: 1 });
        let result = session.results().unwrap().swap_remove(0);
        assert!(session.problem().budgets[0].admits(&result.costs), "{name}");
    }
}

#[test]
fn without_any_score_the_answer_is_within_the_budget() {
    for name in strategy::names() {
        let mut session = begin(name, problem(20), Archive::default(), Some(9));
        session.conclude();
        let result = session.results().unwrap().swap_remove(0);
        assert!(session.problem().budgets[0].admits(&result.costs), "{name}");
        assert_eq!((result.score, result.predicted), (None, None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn status_names_the_best_so_far_after_every_batch(
        network in prop_oneof![common::networks(4), common::tied_networks(4)],
        percents in proptest::collection::vec(0..=110_u64, 1..=3), seed: u64, few in 1..40_u64,
    ) {
        let budget = |&percent: &u64| {
            let limits: Vec<_> = (0..network.num_resources())
                .map(|place| Some(common::target(&network, place, percent)))
                .collect();
            search_rs::budget::Budget::new(&network, &limits).unwrap()
        };
        let budgets = percents.iter().map(budget).collect();
        let uniform = common::uniform(&network);
        let Ok(problem) = Problem::new(Arc::clone(&network), budgets, uniform, seed) else {
            return Ok(());
        };
        // Few different scores: many are equal, and costs decide. Parts have a spread.
        let parts = |policy: &Policy| {
            let score = common::random_score(seed, policy) % 4.0;
            vec![score, 0.5 * score, 1.0]
        };
        let known: Vec<Policy> = common::all(&network).into_iter().step_by(7).collect();
        let mut archive = Archive::default();
        archive.record(&known, &known.iter().map(parts).collect::<Vec<_>>()).unwrap();
        let mut journal = known;
        let mut session = begin("evolution", problem.clone(), archive, Some(few));
        loop {
            for (best, limits) in session.status().best.iter().zip(&problem.budgets) {
                let ranked = |policy: &Policy| {
                    (Observation::new(parts(policy)).score(), cost::of_policy(&network, policy))
                };
                let within = journal.iter().filter(|it| limits.admits(&ranked(it).1));
                let expected = within.min_by(|a, b| {
                    let (one, other) = (ranked(a), ranked(b));
                    one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)).then_with(|| a.cmp(b))
                });
                prop_assert_eq!(best.as_ref().map(|best| &best.policy), expected);
                let Some(best) = best else { continue };
                let observation = Observation::new(parts(&best.policy));
                prop_assert_eq!(best.score.to_bits(), observation.score().to_bits());
                prop_assert_eq!(best.standard_error, observation.standard_error());
                prop_assert!(best.standard_error.is_some() && best.predicted.is_none());
            }
            let Some(policies) = session.propose() else { break };
            session.observe(&policies.iter().map(parts).collect::<Vec<_>>()).unwrap();
            journal.extend(policies);
        }
    }
}

#[test]
fn marginals_are_differences_of_predictions() {
    let problem = problem(35);
    let mut session = begin("guided", problem.clone(), archive(&problem.network, 120), Some(50));
    let largest = Policy::largest(&problem.network);
    assert_eq!(session.marginals(&largest), Ok(None));
    session.conclude();
    let policy = session.results().unwrap().swap_remove(0).policy;
    let expected = |policy: &Policy| session.strategy().predict(policy).unwrap().score;
    let found = session.marginals(&policy).unwrap().unwrap();
    // Every side has a candidate below and one above, but at its ends.
    let num_ends = policy.layers().iter().flat_map(|bits| [bits.weight.get(), bits.act.get()]);
    let num_ends = num_ends.filter(|bits| [2, 6].contains(bits)).count();
    assert_eq!(found.len(), 2 * 12 - num_ends);
    assert!(found.is_sorted_by_key(|marginal| marginal.change));
    for marginal in found {
        let change = marginal.change;
        let group = problem.network.group_of(change.layer_index, change.side);
        let moved = policy.with_group(&problem.network.groups()[group], change.to);
        let difference = expected(&moved) - expected(&policy);
        assert!((marginal.difference.score - difference).abs() < 1e-9);
        assert_eq!(marginal.difference.score > 0.0, change.to < change.from);
    }
    assert!(session.marginals(&Policy::largest(&common::build(&[(1, vec![2], vec![2])]))).is_err());
}

#[test]
fn deviations_of_marginals_are_those_of_the_models_sensitivities() {
    let problem = problem(35);
    let known = archive(&problem.network, 60);
    let model = Model::fit(&problem.network, &known, None).unwrap();
    let mut session = begin("guided", problem.clone(), known, Some(50));
    session.conclude();
    let largest = Policy::largest(&problem.network);
    for marginal in session.marginals(&largest).unwrap().unwrap() {
        let change = marginal.change;
        let group = problem.network.group_of(change.layer_index, change.side);
        let expected = model.sensitivities(group)[1];
        assert!((marginal.difference.score - expected.score).abs() < 1e-9);
        let ratio = marginal.difference.deviation / expected.deviation;
        assert!((0.7..1.4).contains(&ratio), "{change:?}: {ratio}");
    }
}

#[test]
fn tied_sides_have_the_marginal_of_all() {
    let costs = || vec![vec![vec![4, 8], vec![8, 16]]];
    let layer = |name| search_rs::network::Layer::new(name, &[2, 4], &[2, 4], &costs()).unwrap();
    let ties = [vec![(0, Side::Act), (1, Side::Act)]];
    let kinds = vec![search_rs::cost::Aggregate::Sum];
    let layers = vec![layer("a"), layer("b")];
    let network = Arc::new(Network::new(kinds, layers, &ties).unwrap());
    let problem = common::problem(&network, &[20], 1);
    let mut session = begin("guided", problem, Archive::default(), Some(8));
    common::run(&mut session, additive, &mut Vec::new()).unwrap();
    let found = session.marginals(&Policy::smallest(&network)).unwrap().unwrap();
    let sides: Vec<_> = found.iter().map(|it| (it.change.layer_index, it.change.side)).collect();
    let expected = [(0, Side::Weight), (0, Side::Act), (1, Side::Weight), (1, Side::Act)];
    assert_eq!(sides, expected);
    assert_eq!(found[1].difference, found[3].difference);
}
