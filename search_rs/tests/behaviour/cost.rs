//! Properties of the cost: additive, monotone, and the same by difference as by recount.

use crate::common;
use proptest::prelude::*;
use search_rs::cost::Resource;
use search_rs::moves::{Costed, single_moves};
use search_rs::network::Network;
use search_rs::policy::Policy;

const RESOURCES: [Resource; 2] = [Resource::BitOps, Resource::WeightBits];

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
        prop_assert_eq!(costed.bitops, Resource::BitOps.of_policy(&network, &costed.policy));
        for change in single_moves(&network, &costed.policy) {
            let layer = &network.layers()[change.layer_index];
            let from = costed.policy.layers()[change.layer_index];
            let to = from.with(change.side, change.to);
            let after = costed.after(&network, change).policy;
            for resource in RESOURCES {
                let before = resource.of_policy(&network, &costed.policy);
                let updated = resource.after_move(layer, before, from, to);
                prop_assert_eq!(updated, resource.of_policy(&network, &after));
            }
        }
    }

    #[test]
    fn cost_is_additive_over_layers(
        network in common::networks(12), picks in prop::collection::vec(0..1000_usize, 0..60),
    ) {
        let policy = walk(&network, &picks).policy;
        for resource in RESOURCES {
            let layers = network.layers().iter().zip(policy.layers());
            let alone: Vec<u64> = layers
                .map(|(layer, &bits)| resource.of_rows(
                    &Network::new(vec![layer.clone()]).unwrap(),
                    &[bits.weight.get(), bits.act.get()],
                ).unwrap()[0])
                .collect();
            prop_assert_eq!(resource.of_policy(&network, &policy), alone.iter().sum::<u64>());
            prop_assert_eq!(
                resource.of_rows(&network, &common::row(&policy)).unwrap(), [alone.iter().sum::<u64>()]
            );
        }
    }

    #[test]
    fn cost_falls_with_every_down_move_and_rises_with_every_up_move(
        network in common::networks(12), picks in prop::collection::vec(0..1000_usize, 0..60),
    ) {
        let costed = walk(&network, &picks);
        for change in single_moves(&network, &costed.policy) {
            let after = costed.after(&network, change).bitops;
            prop_assert_eq!(after < costed.bitops, change.is_down());
            prop_assert_ne!(after, costed.bitops);
        }
    }
}
