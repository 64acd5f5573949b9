//! What every strategy owes its caller, whatever the scores.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::common;
use proptest::prelude::*;
use search_rs::archive::Archive;
use search_rs::budget::Budget;
use search_rs::cost;
use search_rs::error::SearchError;
use search_rs::policy::Policy;
use search_rs::session::Session;
use search_rs::strategy::{self, Problem, Settings};

fn problem(network: &Arc<search_rs::network::Network>, percents: &[u64]) -> Option<Problem> {
    let budget = |&percent: &u64| {
        let limits: Vec<_> = (0..network.num_resources())
            .map(|place| Some(common::target(network, place, percent)))
            .collect();
        Budget::new(network, &limits).unwrap()
    };
    let budgets = percents.iter().map(budget).collect();
    Problem::new(Arc::clone(network), budgets, common::uniform(network), 3).ok()
}

fn begin(name: &str, problem: &Problem, known: Archive, limit: Option<u64>) -> Session {
    let strategy = strategy::create(name, problem, &Settings::default(), limit).unwrap();
    Session::new(problem.clone(), strategy, known, limit).unwrap()
}

proptest! {
    // Each case runs every strategy, some several times; guided fits its model anew in each.
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn every_strategy_keeps_to_budgets_and_limit_and_asks_nothing_twice(
        network in prop_oneof![common::networks(5), common::tied_networks(5)],
        percents in proptest::collection::vec(0..=110_u64, 1..=3),
        limit in prop_oneof![1..30_u64, 30..200_u64], seed: u64,
    ) {
        let Some(problem) = problem(&network, &percents) else { return Ok(()) };
        for name in strategy::names() {
            let mut session = begin(name, &problem, Archive::default(), Some(limit));
            let mut journal = Vec::new();
            let score = |policy: &Policy| common::random_score(seed, policy);
            let results = common::run(&mut session, score, &mut journal).unwrap();
            prop_assert_eq!(results.len(), percents.len());
            for (result, budget) in results.iter().zip(&problem.budgets) {
                prop_assert!(budget.admits(&result.costs), "{name} is above its budget");
                prop_assert_eq!(result.costs, cost::of_policy(&network, &result.policy));
                prop_assert!(result.policy.check(&network).is_ok());
                prop_assert!(result.score.is_none_or(|found| found.to_bits() == score(&result.policy).to_bits()));
            }
            let asked: BTreeSet<_> = journal.iter().map(|(policy, _)| policy).collect();
            prop_assert_eq!(asked.len(), journal.len(), "{} asked twice", name);
            prop_assert!(journal.len() as u64 <= limit);
            prop_assert!(asked.iter().all(|policy| policy.check(&network).is_ok()));
            prop_assert_eq!(session.num_evaluations(), journal.len() as u64);
        }
    }

    #[test]
    fn search_begun_anew_asks_the_same_and_ends_the_same(
        network in prop_oneof![common::networks(4), common::tied_networks(4)],
        percents in proptest::collection::vec(0..=100_u64, 1..=2), seed: u64,
        stop in 0..150_usize,
    ) {
        let Some(problem) = problem(&network, &percents) else { return Ok(()) };
        for name in strategy::names() {
            let score = |policy: &Policy| common::random_score(seed, policy);
            let whole = || {
                let mut session = begin(name, &problem, Archive::default(), Some(150));
                let mut journal = Vec::new();
                let results = common::run(&mut session, score, &mut journal).unwrap();
                (results, journal, session.trace().to_vec())
            };
            let first = whole();
            prop_assert_eq!(&first, &whole());
            // Killed after some evaluations, and begun anew: answers from a journal are as good.
            let (results, journal, _) = first;
            let known: Vec<_> = journal.iter().take(stop).cloned().collect();
            let mut session = begin(name, &problem, Archive::default(), Some(150));
            let mut num_new = 0;
            while let Some(policies) = session.propose() {
                let rows: Vec<_> = policies
                    .iter()
                    .map(|policy| {
                        let before = known.iter().find(|(other, _)| other == policy);
                        num_new += usize::from(before.is_none());
                        vec![before.map_or_else(|| score(policy), |(_, score)| *score)]
                    })
                    .collect();
                session.observe(&rows).unwrap();
            }
            prop_assert_eq!(session.results().unwrap(), results);
            prop_assert_eq!(num_new, journal.len() - known.len(), "{} evaluated twice", name);
        }
    }

    #[test]
    fn what_is_known_is_not_asked(network in common::networks(4), percent in 0..=100_u64, seed: u64) {
        let Some(problem) = problem(&network, &[percent]) else { return Ok(()) };
        let score = |policy: &Policy| common::random_score(seed, policy);
        let known: Vec<Policy> = common::all(&network).into_iter().step_by(3).collect();
        for name in strategy::names() {
            let mut archive = Archive::default();
            let rows: Vec<_> = known.iter().map(|policy| vec![score(policy)]).collect();
            archive.record(&known, &rows).unwrap();
            let mut session = begin(name, &problem, archive, Some(50));
            let mut journal = Vec::new();
            common::run(&mut session, score, &mut journal).unwrap();
            prop_assert!(journal.iter().all(|(policy, _)| !known.contains(policy)));
        }
    }
}

fn spending(name: &str, limit: u64) -> u64 {
    let free = || vec![2, 3, 4, 5, 6];
    let specs: Vec<_> = (0..12).map(|index| (1000 + 137 * index, free(), free())).collect();
    let network = Arc::new(common::build(&specs));
    let problem = problem(&network, &[25, 60]).unwrap();
    let mut session = begin(name, &problem, Archive::default(), Some(limit));
    let score = |policy: &Policy| {
        let side = |bits: u8| 16.0 / f64::from(bits);
        policy.layers().iter().map(|bits| side(bits.weight.get()) + side(bits.act.get())).sum()
    };
    common::run(&mut session, score, &mut Vec::new()).unwrap();
    session.num_evaluations()
}

#[test]
fn evaluations_that_are_given_are_spent() {
    for name in strategy::names().filter(|&name| name != "uniform") {
        for limit in [1, 7, 60, 700] {
            assert_eq!(spending(name, limit), limit, "{name}");
        }
    }
}

#[test]
fn propose_repeats_until_the_right_scores_arrive() {
    let network = Arc::new(common::build(&[(300, vec![2, 3, 4], vec![2, 3, 4])]));
    let problem = problem(&network, &[50]).unwrap();
    for name in strategy::names() {
        let mut session = begin(name, &problem, Archive::default(), Some(20));
        let first = session.propose().unwrap();
        assert_eq!(session.propose().as_ref(), Some(&first));
        assert_eq!(session.num_proposed(), first.len());
        let few = session.observe(&[]).unwrap_err();
        assert_eq!(few, SearchError::ScoreCount { found: 0, expected: first.len() });
        let infinite = vec![vec![f64::INFINITY]; first.len()];
        let infinite = session.observe(&infinite).unwrap_err().to_string();
        assert!(infinite.starts_with("score 0 is inf, not a finite number"), "{infinite}");
        assert_eq!(session.propose().as_ref(), Some(&first));
        assert_eq!(session.results(), Err(SearchError::NotFinished));
        session.observe(&vec![vec![0.5]; first.len()]).unwrap();
        assert_eq!(session.observe(&[]), Err(SearchError::NothingProposed { found: 0 }));
        common::run(&mut session, |_| 1.0, &mut Vec::new()).unwrap();
        assert!(session.is_done() && session.propose().is_none());
        let found = session.shortlist(1, 1).unwrap_err();
        assert_eq!(found, SearchError::UnknownBudget { budget: 1, limit: 1 }, "{name}");
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let network = Arc::new(common::build(&[(300, vec![2, 3], vec![2, 3])]));
    let problem = problem(&network, &[50]).unwrap();
    let found = strategy::create("luck", &problem, &Settings::default(), None).unwrap_err();
    assert!(found.to_string().starts_with("strategy luck is not among guided, greedy"), "{found}");
    let settings = Settings { error_weight: -1.0, ..Settings::default() };
    let found = strategy::create("greedy", &problem, &settings, None).unwrap_err();
    assert_eq!(found, SearchError::ErrorWeight { value: -1.0 });
    let uniform = strategy::create("uniform", &problem, &Settings::default(), None).unwrap();
    let found = Session::new(problem.clone(), uniform, Archive::default(), Some(0)).unwrap_err();
    assert_eq!(found, SearchError::NoEvaluations);
    let found = Problem::new(network, vec![], vec![], 0).unwrap_err();
    assert_eq!(found, SearchError::NoBudget);
}

#[test]
fn guided_is_the_default_and_the_first_by_name() {
    let expected = ["guided", "greedy", "knapsack", "evolution", "random", "uniform"];
    assert_eq!(strategy::names().collect::<Vec<_>>(), expected);
    assert_eq!(strategy::DEFAULT, "guided");
}

#[test]
fn guided_settings_out_of_range_are_refused() {
    let network = Arc::new(common::build(&[(300, vec![2, 3], vec![2, 3])]));
    let problem = problem(&network, &[50]).unwrap();
    let create = |settings| strategy::create("guided", &problem, &settings, None).map(drop);
    let defaults = Settings::default;
    for value in [-0.1, 1.1, f64::NAN] {
        let found = create(Settings { refine_share: value, ..defaults() }).unwrap_err().to_string();
        assert!(found.starts_with(&format!("refine_share is {value}, not a finite")), "{found}");
    }
    for value in [-1.0, f64::INFINITY] {
        let found = create(Settings { significance: value, ..defaults() }).unwrap_err().to_string();
        assert!(found.starts_with(&format!("significance is {value}, not a finite")), "{found}");
    }
    assert!(create(Settings { refine_share: 1.0, significance: 0.0, ..defaults() }).is_ok());
}
