//! Limits that no policy keeps together are refused with what pins them.

use std::sync::Arc;

use crate::common;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use search_rs::budget::Budget;
use search_rs::cost;
use search_rs::error::SearchError;
use search_rs::network::Network;
use search_rs::strategy::Problem;

/// Count out, by resource, the least of it among the policies that keep all other limits.
fn least_of_each(network: &Network, budget: &Budget) -> Vec<Option<u64>> {
    let costs: Vec<_> =
        common::all(network).iter().map(|policy| cost::of_policy(network, policy)).collect();
    let least = |resource: usize| {
        budget.limits().iter().find(|&&(limited, _)| limited == resource)?;
        let others = || budget.limits().iter().filter(move |&&(limited, _)| limited != resource);
        let keeps =
            |costs: &&cost::Costs| others().all(|&(other, limit)| costs.get(other) <= limit);
        costs.iter().filter(keeps).map(|costs| costs.get(resource)).min()
    };
    (0..network.num_resources()).map(least).collect()
}

#[test]
fn refusal_carries_the_least_of_each_resource_with_the_others_kept() {
    let mut runner = TestRunner::deterministic();
    let cases = (
        common::tied_networks(4),
        proptest::collection::vec(proptest::option::weighted(0.8, 0..15_u64), 3),
    );
    let (mut num_refused, mut num_pinned, mut num_open) = (0, 0, 0);
    for _ in 0..2000 {
        let (network, percents) = cases.new_tree(&mut runner).unwrap().current();
        let limits: Vec<_> = percents
            .iter()
            .enumerate()
            .map(|(place, percent)| percent.map(|it| common::target(&network, place, it)))
            .collect();
        let Ok(budget) = Budget::new(&network, &limits) else { continue };
        let met = Problem::new(Arc::clone(&network), vec![budget.clone()], vec![], 0);
        let Err(error) = met else { continue };
        let SearchError::BudgetUnreachable { budget: 0, least } = error else { panic!("{error}") };
        assert_eq!(least, least_of_each(&network, &budget));
        num_refused += 1;
        num_pinned += least.iter().flatten().count();
        num_open += usize::from(budget.limits().len() > least.iter().flatten().count());
        for &(resource, limit) in budget.limits() {
            assert!(least[resource].is_none_or(|least| least > limit));
        }
    }
    assert!(num_refused > 20 && num_pinned > 20, "{num_refused} refused, {num_pinned} pinned");
    assert!(num_open > 0, "no case in which the others exclude each other");
}
