//! Properties of the cost: additive, monotone, and the same by difference as by recount.

use crate::common;
use proptest::prelude::*;
use search_rs::cost;
use search_rs::moves::{Costed, single_moves};
use search_rs::network::Network;
use search_rs::policy::Policy;

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
        network in common::networks(12), picks in prop::collection::vec(0..1000_usize, 0..60),
    ) {
        let costed = walk(&network, &picks);
        prop_assert_eq!(costed.cost, cost::of_policy(&network, &costed.policy));
        for change in single_moves(&network, &costed.policy) {
            let next = costed.after(&network, change);
            prop_assert_eq!(next.cost, cost::of_policy(&network, &next.policy));
        }
    }

    #[test]
    fn cost_is_additive_over_layers(
        network in common::networks(12), picks in prop::collection::vec(0..1000_usize, 0..60),
    ) {
        let policy = walk(&network, &picks).policy;
        let layers = network.layers().iter().zip(policy.layers());
        let alone = layers.map(|(layer, &bits)| {
            let one = Network::new(vec![layer.clone()]).unwrap();
            cost::of_rows(&one, &[bits.weight.get(), bits.act.get()]).unwrap()[0]
        });
        let total: u64 = alone.sum();
        prop_assert_eq!(cost::of_policy(&network, &policy), total);
        prop_assert_eq!(cost::of_rows(&network, &common::row(&policy)).unwrap(), [total]);
    }

    #[test]
    fn cost_never_rises_with_a_down_move_nor_falls_with_an_up_move(
        network in common::networks(12), picks in prop::collection::vec(0..1000_usize, 0..60),
    ) {
        let costed = walk(&network, &picks);
        for change in single_moves(&network, &costed.policy) {
            let (before, after) = (costed.cost, costed.after(&network, change).cost);
            let (least, most) = if change.is_down() { (after, before) } else { (before, after) };
            prop_assert!(least <= most);
        }
    }
}
