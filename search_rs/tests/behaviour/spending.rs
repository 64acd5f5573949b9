//! Evaluations that are given are spent, or every policy within the budgets is known.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::common;
use proptest::prelude::*;
use search_rs::archive::Archive;
use search_rs::budget::Budget;
use search_rs::cost;
use search_rs::network::Network;
use search_rs::policy::Policy;
use search_rs::session::Session;
use search_rs::strategy::{self, Problem, Settings};

fn begin(name: &str, problem: &Problem, limit: u64) -> Session {
    let strategy = strategy::create(name, problem, &Settings::default(), Some(limit)).unwrap();
    Session::new(problem.clone(), strategy, Archive::default(), Some(limit)).unwrap()
}

fn asked(name: &str, problem: &Problem, limit: u64, seed: u64) -> BTreeSet<Policy> {
    let mut session = begin(name, problem, limit);
    let mut journal = Vec::new();
    let score = |policy: &Policy| common::random_score(seed, policy);
    common::run(&mut session, score, &mut journal).unwrap();
    assert!(journal.len() as u64 <= limit, "{name}");
    journal.into_iter().map(|(policy, _)| policy).collect()
}

fn within(network: &Network, budgets: &[Budget]) -> BTreeSet<Policy> {
    let admits = |policy: &Policy| {
        let costs = cost::of_policy(network, policy);
        budgets.iter().any(|budget| budget.admits(&costs))
    };
    common::all(network).into_iter().filter(admits).collect()
}

/// The strategies that search; `uniform` is a yardstick, which has an end of its own.
fn searching() -> impl Iterator<Item = &'static str> {
    strategy::names().filter(|&name| name != "uniform")
}

#[test]
fn two_free_layers_are_enough_to_spend_a_hundred() {
    let free = || vec![2, 3, 4, 5, 6];
    let network = Arc::new(common::build(&[
        (1000, free(), free()),
        (7, vec![8], vec![8]),
        (1300, free(), free()),
    ]));
    for percent in [25, 60] {
        let problem = common::problem(&network, &[common::target(&network, 0, percent)], 5);
        let all = within(&network, &problem.budgets);
        assert!(all.len() > 99, "{} policies", all.len());
        for name in searching() {
            assert_eq!(asked(name, &problem, 100, 1).len(), 100, "{name}");
            // With more than there are, every one is known at the end.
            assert!(asked(name, &problem, 2000, 1).is_superset(&all), "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn every_policy_within_some_budget_is_known_where_there_are_few(
        network in prop_oneof![common::networks(2), common::tied_networks(3)],
        percents in proptest::collection::vec(0..=110_u64, 1..=2), seed: u64,
    ) {
        let budget = |&percent: &u64| {
            let limits: Vec<_> = (0..network.num_resources())
                .map(|place| Some(common::target(&network, place, percent)))
                .collect();
            Budget::new(&network, &limits).unwrap()
        };
        let budgets: Vec<Budget> = percents.iter().map(budget).collect();
        let uniform = common::uniform(&network);
        let Ok(problem) = Problem::new(Arc::clone(&network), budgets, uniform, seed) else {
            return Ok(());
        };
        let all = within(&network, &problem.budgets);
        prop_assume!(all.len() < 1000);
        for name in searching() {
            let found = asked(name, &problem, 2000, seed);
            prop_assert!(found.is_superset(&all), "{}: {} of {}", name, found.len(), all.len());
        }
    }
}
