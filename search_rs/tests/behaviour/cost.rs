//! Properties of the cost: additive, monotone, and the same by difference as by recount.

use crate::common;
use proptest::prelude::*;
use search_rs::budget::smallest_cost;
use search_rs::cost::{self, Aggregate};
use search_rs::moves::{Costed, single_moves};
use search_rs::network::Network;
use search_rs::policy::Policy;

fn either(max_layers: usize) -> impl Strategy<Value = std::sync::Arc<Network>> {
    prop_oneof![common::networks(max_layers), common::tied_networks(max_layers)]
}

/// Walk from the largest policy by the moves that `picks` selects.
fn walk(network: &Network, picks: &[usize]) -> Costed {
    let mut costed = Costed::new(network, Policy::largest(network));
    for pick in picks {
        let moves = single_moves(network, &costed.policy);
        if !moves.is_empty() {
            costed = costed.after(network, moves[pick % moves.len()]);
        }
    }
    costed
}

proptest! {
    #[test]
    fn cost_after_moves_equals_a_full_recount(
        network in either(12), picks in prop::collection::vec(0..1000_usize, 0..60),
    ) {
        let costed = walk(&network, &picks);
        prop_assert_eq!(costed.costs, cost::of_policy(&network, &costed.policy));
        for change in single_moves(&network, &costed.policy) {
            let next = costed.after(&network, change);
            prop_assert_eq!(next.costs, cost::of_policy(&network, &next.policy));
        }
    }

    #[test]
    fn cost_is_the_sum_or_the_largest_over_layers(
        network in either(12), picks in prop::collection::vec(0..1000_usize, 0..60),
    ) {
        let policy = walk(&network, &picks).policy;
        let layers = network.layers().iter().zip(policy.layers());
        let alone: Vec<_> = layers.map(|(layer, &bits)| cost::of_layer(layer, bits)).collect();
        let total = cost::of_policy(&network, &policy);
        for (resource, kind) in network.aggregates().iter().enumerate() {
            let each = alone.iter().map(|costs| costs.get(resource));
            let expected = match kind {
                Aggregate::Sum => each.sum::<u64>(),
                Aggregate::Max => each.max().unwrap(),
            };
            prop_assert_eq!(total.get(resource), expected);
        }
        prop_assert_eq!(cost::of_rows(&network, &common::row(&policy)).unwrap(), total.first(network.num_resources()));
    }

    #[test]
    fn no_policy_costs_less_than_the_smallest_cost(
        network in either(12), picks in prop::collection::vec(0..1000_usize, 0..60),
    ) {
        let costs = walk(&network, &picks).costs;
        for resource in 0..network.num_resources() {
            prop_assert!(smallest_cost(&network, resource) <= costs.get(resource));
        }
    }
}
