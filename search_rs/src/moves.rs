//! Changes of a policy: one group of sides by one candidate, and what such a change costs.
//!
//! Invariant: the order is fixed (groups by their first side in execution order, in each down, then
//! up), and the costs of a proposal are exact.

use crate::bits::{Bits, Side};
use crate::cost::{self, Costs};
use crate::network::{Network, neighbours};
use crate::policy::{LayerBits, Policy};

/// A change of one side of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Position of the layer in execution order, from 0.
    pub layer_index: usize,
    /// Its weights or its activations.
    pub side: Side,
    /// Bits before.
    pub from: Bits,
    /// Bits after.
    pub to: Bits,
}

/// A change of one group of sides from one candidate to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// Position of the group in the network.
    pub group: usize,
    /// Bits before.
    pub from: Bits,
    /// Bits after.
    pub to: Bits,
}

impl Move {
    /// Return whether the move lowers the bits.
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
    /// Its costs.
    pub costs: Costs,
}

impl Costed {
    /// Account a policy.
    #[must_use]
    pub fn new(network: &Network, policy: Policy) -> Self {
        let costs = cost::of_policy(network, &policy);
        Self { policy, costs }
    }

    /// Return the costs after one of the policy's moves.
    #[must_use]
    pub fn costs_after(&self, network: &Network, change: Move) -> Costs {
        // Nearly every group is one side: no list on the heap for it.
        if let [(index, side)] = *network.groups()[change.group].sides() {
            let changed = [(index, self.policy.layers()[index].with(side, change.to))];
            return cost::after_change(network, &self.policy, self.costs, &changed);
        }
        cost::after_change(network, &self.policy, self.costs, &self.changed(network, change))
    }

    /// Return the policy after one of its moves, its costs updated by difference.
    #[must_use]
    pub fn after(&self, network: &Network, change: Move) -> Self {
        let costs = self.costs_after(network, change);
        Self { policy: self.policy.with_group(&network.groups()[change.group], change.to), costs }
    }

    /// Return the policies one move away with the moves, in the fixed order.
    #[must_use]
    pub fn neighbours(&self, network: &Network) -> Vec<(Move, Self)> {
        let moves = single_moves(network, &self.policy).into_iter();
        moves.map(|change| (change, self.after(network, change))).collect()
    }

    /// Return the layers that a move changes, with their bits after it.
    fn changed(&self, network: &Network, change: Move) -> Vec<(usize, LayerBits)> {
        let mut changed: Vec<(usize, LayerBits)> = Vec::with_capacity(2);
        for &(index, side) in network.groups()[change.group].sides() {
            match changed.last_mut() {
                // Both sides of a layer are neighbours in a group.
                Some((last, bits)) if *last == index => *bits = bits.with(side, change.to),
                _ => changed.push((index, self.policy.layers()[index].with(side, change.to))),
            }
        }
        changed
    }
}

/// Return the single moves of a policy, in the fixed order; a pinned group has none.
#[must_use]
pub fn single_moves(network: &Network, policy: &Policy) -> Vec<Move> {
    let mut moves = Vec::with_capacity(2 * network.groups().len());
    for (index, group) in network.groups().iter().enumerate() {
        let from = policy.group_bits(group);
        moves.extend(neighbours(group, from).map(|to| Move { group: index, from, to }));
    }
    moves
}

/// Return the changes that turn one policy into another of the same network.
#[must_use]
pub fn difference(from: &Policy, to: &Policy) -> Vec<Change> {
    let layers = from.layers().iter().zip(to.layers()).enumerate();
    let sides = layers.flat_map(|(layer_index, (from, to))| {
        [Side::Weight, Side::Act].map(|side| Change {
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
    use crate::cost::Aggregate;
    use crate::network::{Layer, costs_by, plain_network};

    fn layers() -> Vec<Layer> {
        let first = Layer::new("conv1", &[8], &[8], &[vec![vec![6400]]]).unwrap();
        let costs = costs_by(&[2, 3, 6], &[2, 4], |weight, act| 7 * weight * act);
        let second = Layer::new("conv2", &[2, 3, 6], &[2, 4], &[costs]).unwrap();
        vec![first, second.clone(), second]
    }

    #[test]
    fn moves_come_in_the_fixed_order_and_skip_pinned_sides() {
        let network = plain_network(layers()).unwrap();
        let policy = Policy::from_row(&network, &[8, 8, 3, 4, 2, 2]).unwrap();
        let moves = single_moves(&network, &policy);
        let found: Vec<_> =
            moves.iter().map(|change| (change.group, change.from.get(), change.to.get())).collect();
        assert_eq!(found, [(2, 3, 2), (2, 3, 6), (3, 4, 2), (4, 2, 3), (5, 2, 4)]);
    }

    #[test]
    fn move_of_a_group_changes_all_its_sides() {
        let ties = [vec![(1, Side::Weight), (2, Side::Weight)]];
        let network = Network::new(vec![Aggregate::Sum], layers(), &ties).unwrap();
        let start = Costed::new(&network, Policy::smallest(&network));
        let moves = single_moves(&network, &start.policy);
        let next = start.after(&network, moves[0]);
        let changes = difference(&start.policy, &next.policy);
        assert_eq!(changes.iter().map(|change| change.layer_index).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(next, Costed::new(&network, next.policy.clone()));
    }

    #[test]
    fn difference_lists_every_changed_side() {
        let network = plain_network(layers()).unwrap();
        let (low, high) = (Policy::smallest(&network), Policy::largest(&network));
        assert_eq!(difference(&low, &high).len(), 4);
        assert_eq!(difference(&low, &low), []);
    }
}
