//! What a policy costs, whole or by difference, in integers.
//!
//! Invariant: a cost is a sum over layers of an entry of that layer's table, so the cost after a
//! single-layer move is exact in O(1); no sum overflows (`Network` sees to it).

use crate::error::SearchError;
use crate::network::{Layer, Network};
use crate::policy::{LayerBits, Policy};

/// Return what one layer costs at bits that are among its candidates.
///
/// # Panics
/// Of bits that are not: they come from a policy of another network.
#[must_use]
pub fn of_layer(layer: &Layer, bits: LayerBits) -> u64 {
    layer.costs().at(bits.weight, bits.act)
}

/// Return what a policy of the network costs.
///
/// # Panics
/// Of a policy of another network.
#[must_use]
pub fn of_policy(network: &Network, policy: &Policy) -> u64 {
    let layers = network.layers().iter().zip(policy.layers());
    layers.map(|(layer, &bits)| of_layer(layer, bits)).sum()
}

/// Return the total after one layer went from `from` to `to`, given the total before.
///
/// # Panics
/// Of bits that are not among the candidates of the layer.
#[must_use]
pub fn after_move(layer: &Layer, total: u64, from: LayerBits, to: LayerBits) -> u64 {
    total - of_layer(layer, from) + of_layer(layer, to)
}

/// Return what each of many policies costs; rows hold weight bits and activation bits of each layer
/// in turn.
///
/// # Errors
/// Rows of another length, or bits that are not candidates.
pub fn of_rows(network: &Network, rows: &[u8]) -> Result<Vec<u64>, SearchError> {
    let width = 2 * network.num_layers();
    if !rows.len().is_multiple_of(width) {
        let expected = network.num_layers();
        let shape = format!("({},)", rows.len());
        return Err(SearchError::PolicyShape { shape, expected });
    }
    rows.chunks_exact(width).map(|row| of_row(network, row)).collect()
}

fn of_row(network: &Network, row: &[u8]) -> Result<u64, SearchError> {
    let layers = network.layers().iter().zip(row.chunks_exact(2));
    let total: Option<u64> = layers.map(|(layer, pair)| layer.costs().get(pair[0], pair[1])).sum();
    // Read as a policy, the row names its first mistake.
    total.map_or_else(|| Policy::from_row(network, row).map(|it| of_policy(network, &it)), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::costs_by;

    fn network() -> Network {
        let first = Layer::new("conv1", &[8], &[8], &[vec![6400]]).unwrap();
        let costs = costs_by(&[2, 3], &[2, 4], |weight, act| 7 * weight * act);
        let second = Layer::new("conv2", &[2, 3], &[2, 4], &costs).unwrap();
        Network::new(vec![first, second]).unwrap()
    }

    #[test]
    fn cost_is_the_sum_over_layers() {
        let network = network();
        let policy = Policy::from_row(&network, &[8, 8, 3, 4]).unwrap();
        assert_eq!(of_policy(&network, &policy), 6400 + 84);
        let (from, to) = (policy.layers()[1], Policy::smallest(&network).layers()[1]);
        assert_eq!(after_move(&network.layers()[1], 6484, from, to), 6400 + 28);
    }

    #[test]
    fn rows_cost_what_their_policies_do_and_are_refused_like_them() {
        let network = network();
        assert_eq!(of_rows(&network, &[8, 8, 3, 4, 8, 8, 2, 2]), Ok(vec![6484, 6428]));
        let found = of_rows(&network, &[8, 8, 3, 33]).unwrap_err().to_string();
        assert!(found.starts_with("act bits 33 of layer conv2 are outside 1..32"), "{found}");
        let found = of_rows(&network, &[8, 8, 3, 3]).unwrap_err().to_string();
        assert!(found.starts_with("act bits 3 of layer conv2 are not among its candidates 2/4"));
        let found = of_rows(&network, &[8, 8]).unwrap_err().to_string();
        assert!(found.starts_with("policies have shape (2,), not (n, 2, 2)"), "{found}");
    }

    #[test]
    fn largest_costs_do_not_overflow() {
        let layer = |cost: u64| Layer::new("conv", &[2], &[2], &[vec![cost.into()]]).unwrap();
        let network = Network::new(vec![layer(u64::MAX - 3), layer(3)]).unwrap();
        assert_eq!(of_policy(&network, &Policy::largest(&network)), u64::MAX);
        assert_eq!(of_rows(&network, &[2, 2, 2, 2]), Ok(vec![u64::MAX]));
    }
}
