//! Changes of a policy: one side of one layer by one candidate, and pairs of such changes.
//!
//! Invariant: the order is fixed (layers in execution order, in each weight down, weight up,
//! activations down, activations up), and the cost of a proposal is exact.

use crate::bits::{Bits, Side};
use crate::cost;
use crate::network::Network;
use crate::policy::Policy;

/// A change of one side of one layer from one candidate to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// Position of the layer in execution order, from 0.
    pub layer_index: usize,
    /// Its weights or its activations.
    pub side: Side,
    /// Bits before.
    pub from: Bits,
    /// Bits after.
    pub to: Bits,
}

impl Move {
    /// Return whether the move lowers the bits, and so never raises the cost.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.to < self.from
    }
}

/// A policy and what it costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Costed {
    /// The policy.
    pub policy: Policy,
    /// Its cost.
    pub cost: u64,
}

impl Costed {
    /// Account a policy.
    #[must_use]
    pub fn new(network: &Network, policy: Policy) -> Self {
        let cost = cost::of_policy(network, &policy);
        Self { policy, cost }
    }

    /// Return the policy after one of its moves, its cost updated in O(1).
    #[must_use]
    pub fn after(&self, network: &Network, change: Move) -> Self {
        let from = self.policy.layers()[change.layer_index];
        let to = from.with(change.side, change.to);
        let layer = &network.layers()[change.layer_index];
        Self {
            policy: self.policy.with(change.layer_index, to),
            cost: cost::after_move(layer, self.cost, from, to),
        }
    }
}

/// Return the single moves of a policy, in the fixed order; a pinned side has none.
#[must_use]
pub fn single_moves(network: &Network, policy: &Policy) -> Vec<Move> {
    let mut moves = Vec::with_capacity(4 * network.num_layers());
    for (layer_index, (layer, bits)) in network.layers().iter().zip(policy.layers()).enumerate() {
        for side in [Side::Weight, Side::Act] {
            let from = bits.side(side);
            let candidates = layer.candidates(side);
            let next = [candidates.below(from), candidates.above(from)];
            moves.extend(next.into_iter().flatten().map(|to| Move { layer_index, side, from, to }));
        }
    }
    moves
}

/// Return the moves that turn one policy into another of the same network.
#[must_use]
pub fn difference(from: &Policy, to: &Policy) -> Vec<Move> {
    let layers = from.layers().iter().zip(to.layers()).enumerate();
    let sides = layers.flat_map(|(layer_index, (from, to))| {
        [Side::Weight, Side::Act].map(|side| Move {
            layer_index,
            side,
            from: from.side(side),
            to: to.side(side),
        })
    });
    sides.filter(|change| change.from != change.to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Layer, costs_by};

    fn network() -> Network {
        let first = Layer::new("conv1", &[8], &[8], &[vec![6400]]).unwrap();
        let costs = costs_by(&[2, 3, 6], &[2, 4], |weight, act| 7 * weight * act);
        let second = Layer::new("conv2", &[2, 3, 6], &[2, 4], &costs).unwrap();
        Network::new(vec![first, second]).unwrap()
    }

    #[test]
    fn moves_come_in_the_fixed_order_and_skip_pinned_sides() {
        let network = network();
        let policy = Policy::from_row(&network, &[8, 8, 3, 4]).unwrap();
        let moves = single_moves(&network, &policy);
        let found: Vec<_> = moves
            .iter()
            .map(|change| (change.layer_index, change.side.name(), change.to.get()))
            .collect();
        assert_eq!(found, [(1, "weight", 2), (1, "weight", 6), (1, "act", 2)]);
    }

    #[test]
    fn difference_lists_every_changed_side() {
        let network = network();
        let (low, high) = (Policy::smallest(&network), Policy::largest(&network));
        let changes = difference(&low, &high);
        assert_eq!(changes.len(), 2);
        let start = Costed::new(&network, low);
        let end = changes.iter().fold(start, |costed, &change| costed.after(&network, change));
        assert_eq!(end, Costed::new(&network, high));
    }
}
