//! The knapsack's answers against counting everything out and against an independent solver.

use std::sync::Arc;

use crate::common;
use microlp::{ComparisonOp, OptimizationDirection, Problem as LinearProgram, SolveOutcome};
use proptest::prelude::*;
use search_rs::bits::Side;
use search_rs::budget::Budget;
use search_rs::cost;
use search_rs::knapsack::{Knapsack, PairValues};
use search_rs::network::{Layer, Network};
use search_rs::policy::{LayerBits, Policy};

/// Values of no order, from -500 to 499 in steps of 1: many are equal.
fn values(network: &Network, seed: u64) -> PairValues {
    PairValues::by(network, |layer, bits| {
        let hash = [layer as u64, bits.weight.get().into(), bits.act.get().into()]
            .into_iter()
            .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, part| {
                (hash ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
            });
        f64::from(i32::try_from(hash % 1000).unwrap() - 500)
    })
}

/// Values that mostly fall with bits, as errors do; no two are alike.
fn falling(network: &Network, seed: u64) -> PairValues {
    let noise = values(network, seed);
    PairValues::by(network, |layer, bits| {
        let scale = (noise.of_layer(network, layer, network_bits(network, layer)) / 200.0).exp();
        let side = |bits: u8| 0.4_f64.powi(bits.into());
        let share = 1.0 + noise.of_layer(network, layer, bits) / 5000.0;
        scale * share * (side(bits.weight.get()) + 2.0 * side(bits.act.get()))
    })
}

fn network_bits(network: &Network, layer: usize) -> LayerBits {
    Policy::smallest(network).layers()[layer]
}

fn brute_force(network: &Network, values: &PairValues, budget: &Budget) -> Option<f64> {
    let policies = common::all(network).into_iter();
    let within = policies.filter(|policy| budget.admits(&cost::of_policy(network, policy)));
    within.map(|policy| values.of_policy(network, &policy)).min_by(f64::total_cmp)
}

fn budgets(network: &Network, percents: [Option<u64>; 3]) -> Budget {
    let limits: Vec<_> = (0..network.num_resources())
        .map(|place| percents[place].map(|percent| common::target(network, place, percent)))
        .collect();
    Budget::new(network, &limits).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn solution_is_the_optimum_counted_out(
        network in prop_oneof![common::networks(3), common::tied_networks(6)],
        (first, second, third) in
            (0..=110_u64, proptest::option::of(0..=110_u64), proptest::option::of(0..=110_u64)),
        seed: u64, falls: bool,
    ) {
        let values = if falls { falling(&network, seed) } else { values(&network, seed) };
        let budget = budgets(&network, [Some(first), second, third]);
        let found = Knapsack::new(&network).unwrap().solve(&network, &values, &budget);
        let expected = brute_force(&network, &values, &budget);
        prop_assert_eq!(found.is_some(), expected.is_some());
        let (Some(found), Some(expected)) = (found, expected) else { return Ok(()) };
        prop_assert!(found.is_proven);
        prop_assert!(found.policy.check(&network).is_ok());
        prop_assert!(budget.admits(&cost::of_policy(&network, &found.policy)));
        prop_assert!((found.value - values.of_policy(&network, &found.policy)).abs() < 1e-9);
        prop_assert!(found.value <= expected + 1e-9, "{} above {expected}", found.value);
    }
}

/// A network of BitOPs and weight bits like `MobileNetV2`'s, some layers pinned.
fn large(num_layers: u64) -> Arc<Network> {
    let layers = (0..num_layers).map(|index| {
        let is_pinned = index == 0 || index + 1 == num_layers;
        let macs = i128::from(1_000_000 + 97_003 * (index * 31 % 53));
        let weights = i128::from(1_000 + 7_001 * (index * 17 % 53));
        let bits: &[i128] = if is_pinned { &[8] } else { &[2, 3, 4, 5, 6] };
        let bitops = bits.iter().map(|w| bits.iter().map(|a| macs * w * a).collect()).collect();
        let size = bits.iter().map(|w| bits.iter().map(|_| weights * w).collect()).collect();
        Layer::new(&format!("layer{index}"), bits, bits, &[bitops, size]).unwrap()
    });
    let kinds = vec![search_rs::cost::Aggregate::Sum; 2];
    Arc::new(Network::new(kinds, layers.collect(), &[]).unwrap())
}

/// The same knapsack as a mixed-integer program, costs in shares of their limits.
#[expect(clippy::cast_precision_loss, reason = "compared with a tolerance")]
fn by_program(network: &Network, values: &PairValues, budget: &Budget) -> f64 {
    let mut program = LinearProgram::new(OptimizationDirection::Minimize);
    let mut shares: Vec<Vec<(microlp::Variable, f64)>> = vec![Vec::new(); budget.limits().len()];
    for (index, layer) in network.layers().iter().enumerate() {
        let mut one = Vec::new();
        for &weight in layer.candidates(Side::Weight).as_slice() {
            for &act in layer.candidates(Side::Act).as_slice() {
                let bits = LayerBits { weight, act };
                let take = program.add_binary_var(values.of_layer(network, index, bits));
                one.push((take, 1.0));
                let costs = cost::of_layer(layer, bits);
                for (share, &(resource, limit)) in shares.iter_mut().zip(budget.limits()) {
                    share.push((take, costs.get(resource) as f64 / limit as f64));
                }
            }
        }
        program.add_constraint(one, ComparisonOp::Eq, 1.0);
    }
    for share in shares {
        program.add_constraint(share, ComparisonOp::Le, 1.0);
    }
    match program.solve().unwrap() {
        SolveOutcome::Solution(solution) => solution.objective(),
        SolveOutcome::Interrupted(_) => f64::NAN,
    }
}

#[test]
fn solution_of_many_layers_is_that_of_an_integer_program() {
    let network = large(14);
    let knapsack = Knapsack::new(&network).unwrap();
    for (seed, percents) in [(1, [Some(20), None, None]), (2, [Some(45), Some(30), None])] {
        let values = falling(&network, seed);
        let budget = budgets(&network, percents);
        let found = knapsack.solve(&network, &values, &budget).unwrap();
        let expected = by_program(&network, &values, &budget);
        assert!(found.is_proven);
        assert!((found.value - expected).abs() < 1e-6, "{} and {expected}", found.value);
    }
}

#[test]
fn knapsack_of_fifty_layers_is_proven_under_one_limit_and_two() {
    let network = large(53);
    let knapsack = Knapsack::new(&network).unwrap();
    for percents in [[Some(12), None, None], [Some(30), None, None], [Some(30), Some(20), None]] {
        for seed in 0..3 {
            let budget = budgets(&network, percents);
            let found = knapsack.solve(&network, &falling(&network, seed), &budget).unwrap();
            assert!(found.is_proven);
            assert!(budget.admits(&cost::of_policy(&network, &found.policy)));
        }
    }
}

#[test]
fn limits_that_no_policy_meets_together_have_no_solution() {
    // One resource rises with bits, the other falls.
    let columns = [vec![vec![1, 5]], vec![vec![5, 1]]];
    let layer = Layer::new("conv1", &[2], &[2, 3], &columns).unwrap();
    let kinds = vec![search_rs::cost::Aggregate::Sum; 2];
    let network = Network::new(kinds, vec![layer], &[]).unwrap();
    let budget = Budget::new(&network, &[Some(4), Some(4)]).unwrap();
    let values = values(&network, 0);
    assert_eq!(Knapsack::new(&network).unwrap().solve(&network, &values, &budget), None);
    let problem = search_rs::strategy::Problem::new(Arc::new(network), vec![budget], vec![], 0);
    let message = problem.unwrap_err().to_string();
    assert!(message.starts_with("budget 0 is met by no policy: each of its limits can be"));
}
