//! Random policies are within the budget, and each as likely as any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use search_rs::budget::Budget;
use search_rs::cost;
use search_rs::draw::{UniformDraw, fitted};
use search_rs::moves::{Costed, single_moves};
use search_rs::policy::Policy;
use search_rs::strategy::Problem;

/// Return the chi-square statistic of draws, with its degrees of freedom.
fn chi_square(problem: &Problem, num_draws: u32) -> (f64, f64) {
    let network = &problem.network;
    let within: Vec<Policy> = common::all(network)
        .into_iter()
        .filter(|policy| problem.budgets[0].admits(&cost::of_policy(network, policy)))
        .collect();
    let draw = UniformDraw::new(problem, 0);
    let mut random = Pcg64Mcg::seed_from_u64(7);
    let mut counts: BTreeMap<Policy, u32> = within.iter().map(|it| (it.clone(), 0)).collect();
    for _ in 0..num_draws {
        let policy = draw.draw(problem, &mut random);
        *counts.get_mut(&policy).unwrap() += 1;
    }
    let num_cells = f64::from(u32::try_from(counts.len()).unwrap());
    let expected = f64::from(num_draws) / num_cells;
    assert!(expected >= 5.0, "too few draws for the test");
    let squares = counts.values().map(|&count| (f64::from(count) - expected).powi(2) / expected);
    (squares.sum(), num_cells - 1.0)
}

#[test]
fn draws_are_uniform_within_the_budget() {
    let free = || vec![2, 3, 4];
    let specs = [(1_000_003, free(), free()), (37, free(), free()), (700_001, free(), vec![2, 6])];
    let network = Arc::new(common::build(&specs));
    for percent in [10, 35, 60, 110] {
        let limit = common::target(&network, 0, percent);
        let problem = common::problem(&network, &[limit], 0);
        let (statistic, freedom) = chi_square(&problem, 60_000);
        // Four deviations above the mean of the chi-square distribution.
        let most = freedom + 4.0 * (2.0 * freedom).sqrt();
        assert!(statistic < most, "{percent} %: {statistic} of {freedom} degrees of freedom");
    }
}

#[test]
fn draws_are_uniform_under_ties_and_several_limits() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..6 {
        let tree = common::tied_networks(4).new_tree(&mut runner).unwrap();
        let network = proptest::strategy::ValueTree::current(&tree);
        let limits: Vec<_> =
            (0..3).map(|place| Some(common::target(&network, place, 60))).collect();
        let budget = Budget::new(&network, &limits).unwrap();
        let Ok(problem) = Problem::new(network, vec![budget], vec![], 0) else { continue };
        let (statistic, freedom) = chi_square(&problem, 60_000);
        let most = freedom + 4.0 * (2.0 * freedom).sqrt() + 1e-9;
        assert!(statistic < most, "{statistic} of {freedom} degrees of freedom");
    }
}

proptest! {
    #[test]
    fn fitted_policy_is_within_the_budget_and_spends_it(
        network in common::networks(8), percent in 0..=110_u64, seed: u64,
    ) {
        let limit = common::target(&network, 0, percent);
        let problem = common::problem(&network, &[limit], 0);
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let found = Costed::new(&network, fitted(&problem, 0, Policy::largest(&network), &mut random));
        prop_assert!(found.costs.get(0) <= limit);
        let ups = single_moves(&network, &found.policy).into_iter().filter(|it| !it.is_down());
        for up in ups {
            prop_assert!(found.after(&network, up).costs.get(0) > limit);
        }
    }
}
