//! What a policy costs in each resource, whole or by difference, in integers.
//!
//! What a resource counts is the caller's affair: each is a column of the layers' tables, and its total
//! is the sum over the layers, or the largest of them. Invariant: no sum overflows (`Network` sees to
//! it), and the costs after a move equal a recount.

use std::fmt;

use crate::error::SearchError;
use crate::network::{Layer, Network};
use crate::policy::{LayerBits, Policy};

/// Most resources of a network. A fixed number keeps costs out of the heap.
pub const MAX_RESOURCES: usize = 8;

/// How the costs of layers come to the cost of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// The sum over the layers: `BitOPs`, bytes of weights, time.
    Sum,
    /// The largest of the layers: peak memory.
    Max,
}

/// One number for each resource, in the order of the network; unused places are 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Costs([u64; MAX_RESOURCES]);

impl Costs {
    /// Take one number for each resource.
    ///
    /// # Panics
    /// Of more than `MAX_RESOURCES` numbers; `Network` refuses them first.
    #[must_use]
    pub fn new(values: &[u64]) -> Self {
        let mut costs = Self::default();
        costs.0[..values.len()].copy_from_slice(values);
        costs
    }

    /// Return the cost in one resource.
    #[must_use]
    pub fn get(&self, resource: usize) -> u64 {
        self.0[resource]
    }

    /// Return the costs in the first `count` resources.
    #[must_use]
    pub fn first(&self, count: usize) -> &[u64] {
        &self.0[..count]
    }

    /// Take in another layer's costs.
    fn add(&mut self, network: &Network, layer: &Self) {
        for (place, kind) in network.aggregates().iter().enumerate() {
            let (sum, one) = (self.0[place], layer.0[place]);
            self.0[place] = match kind {
                Aggregate::Sum => sum + one,
                Aggregate::Max => sum.max(one),
            };
        }
    }
}

impl fmt::Debug for Costs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Return what one layer costs at bits that are among its candidates.
///
/// # Panics
/// Of bits that are not: they come from a policy of another network.
#[must_use]
pub fn of_layer(layer: &Layer, bits: LayerBits) -> Costs {
    layer.costs().at(bits.weight, bits.act)
}

/// Return what a policy of the network costs.
///
/// # Panics
/// Of a policy of another network.
#[must_use]
pub fn of_policy(network: &Network, policy: &Policy) -> Costs {
    let layers = network.layers().iter().zip(policy.layers());
    total(network, layers.map(|(layer, &bits)| of_layer(layer, bits)))
}

/// Return what layers cost together.
pub(crate) fn total(network: &Network, layers: impl Iterator<Item = Costs>) -> Costs {
    let mut sum = Costs::default();
    layers.for_each(|costs| sum.add(network, &costs));
    sum
}

/// Return the costs after some layers of a policy took other bits, given the costs before.
///
/// # Panics
/// Of bits that are not among the candidates of a layer.
#[must_use]
pub fn after_change(
    network: &Network,
    policy: &Policy,
    before: Costs,
    changed: &[(usize, LayerBits)],
) -> Costs {
    let mut costs = before;
    for &(index, bits) in changed {
        let layer = &network.layers()[index];
        let (from, to) = (of_layer(layer, policy.layers()[index]), of_layer(layer, bits));
        for (place, kind) in network.aggregates().iter().enumerate() {
            if *kind == Aggregate::Sum {
                costs.0[place] = costs.0[place] - from.0[place] + to.0[place];
            }
        }
    }
    for (place, kind) in network.aggregates().iter().enumerate() {
        if *kind == Aggregate::Max {
            costs.0[place] = largest_after(network, policy, before.0[place], changed, place);
        }
    }
    costs
}

/// Return the largest cost of a layer after a change, given the largest before.
fn largest_after(
    network: &Network,
    policy: &Policy,
    before: u64,
    changed: &[(usize, LayerBits)],
    place: usize,
) -> u64 {
    let cost = |index: usize, bits| of_layer(&network.layers()[index], bits).0[place];
    let risen = changed.iter().map(|&(index, bits)| cost(index, bits)).max().unwrap_or_default();
    let was_largest = |&(index, _): &(usize, _)| cost(index, policy.layers()[index]) == before;
    if risen >= before || !changed.iter().any(was_largest) {
        return risen.max(before);
    }
    // The layer that was the largest falls: only now do all others matter.
    let others = policy.layers().iter().enumerate();
    let others = others.filter(|(index, _)| changed.iter().all(|(other, _)| other != index));
    others.map(|(index, &bits)| cost(index, bits)).fold(risen, u64::max)
}

/// Return what each of many policies costs; rows hold weight bits and activation bits of each layer
/// in turn. Ties are not checked: a policy that breaks one still costs something.
///
/// # Errors
/// Rows of another length, or bits that are not candidates.
pub fn of_rows(network: &Network, rows: &[u8]) -> Result<Vec<Costs>, SearchError> {
    let width = 2 * network.num_layers();
    if !rows.len().is_multiple_of(width) {
        let expected = network.num_layers();
        let shape = format!("({},)", rows.len());
        return Err(SearchError::PolicyShape { shape, expected });
    }
    rows.chunks_exact(width).map(|row| of_row(network, row)).collect()
}

fn of_row(network: &Network, row: &[u8]) -> Result<Costs, SearchError> {
    let mut sum = Costs::default();
    for (layer, pair) in network.layers().iter().zip(row.chunks_exact(2)) {
        let Some(costs) = layer.costs().get(pair[0], pair[1]) else {
            // Read as a policy, the row names its first mistake.
            return Policy::from_row_untied(network, row).map(|it| of_policy(network, &it));
        };
        sum.add(network, &costs);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{costs_by, plain_network};

    fn network() -> Network {
        let costs = costs_by(&[2, 3], &[2, 4], |weight, act| 7 * weight * act);
        let peak = costs_by(&[2, 3], &[2, 4], |_, act| act);
        let first = Layer::new("conv1", &[8], &[8], &[vec![vec![6400]], vec![vec![3]]]).unwrap();
        let second = Layer::new("conv2", &[2, 3], &[2, 4], &[costs, peak]).unwrap();
        Network::new(vec![Aggregate::Sum, Aggregate::Max], vec![first, second], &[]).unwrap()
    }

    #[test]
    fn cost_is_the_sum_or_the_largest_over_layers() {
        let network = network();
        let policy = Policy::from_row(&network, &[8, 8, 3, 4]).unwrap();
        let costs = of_policy(&network, &policy);
        assert_eq!(costs.first(2), [6400 + 84, 4]);
        let to = Policy::smallest(&network).layers()[1];
        let after = after_change(&network, &policy, costs, &[(1, to)]);
        assert_eq!(after.first(2), [6400 + 28, 3]);
    }

    #[test]
    fn rows_cost_what_their_policies_do_and_are_refused_like_them() {
        let network = network();
        let found = of_rows(&network, &[8, 8, 3, 4, 8, 8, 2, 2]).unwrap();
        assert_eq!(found, [Costs::new(&[6484, 4]), Costs::new(&[6428, 3])]);
        let found = of_rows(&network, &[8, 8, 3, 33]).unwrap_err().to_string();
        assert!(found.starts_with("act bits 33 of layer conv2 are outside 1..32"), "{found}");
        let found = of_rows(&network, &[8, 8, 3, 3]).unwrap_err().to_string();
        assert!(found.starts_with("act bits 3 of layer conv2 are not among its candidates 2/4"));
        let found = of_rows(&network, &[8, 8]).unwrap_err().to_string();
        assert!(found.starts_with("policies have shape (2,), not (n, 2, 2)"), "{found}");
    }

    #[test]
    fn largest_costs_do_not_overflow() {
        let layer = |cost: u64| Layer::new("conv", &[2], &[2], &[vec![vec![cost.into()]]]).unwrap();
        let network = plain_network(vec![layer(u64::MAX - 3), layer(3)]).unwrap();
        assert_eq!(of_policy(&network, &Policy::largest(&network)).get(0), u64::MAX);
        assert_eq!(of_rows(&network, &[2, 2, 2, 2]), Ok(vec![Costs::new(&[u64::MAX])]));
    }
}
