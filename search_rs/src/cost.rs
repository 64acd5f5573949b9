//! Additive costs of a policy, whole or by difference, in integers.
//!
//! Invariant: a cost is a sum over layers of a factor that depends on that layer's bits alone, so
//! the cost after a single-layer move is exact in O(1); no sum overflows (`Network` sees to it).

use crate::error::SearchError;
use crate::network::{Bits, Layer, Network, Side};
use crate::policy::{LayerBits, Policy, read_bits};

/// What a policy spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bit operations for one input: weight bits x activation bits x MACs.
    BitOps,
    /// Size of the weights in bits: weight bits x weight parameters.
    WeightBits,
}

impl Resource {
    /// Return what one layer spends at the given bits.
    #[must_use]
    pub fn of_layer(self, layer: &Layer, bits: LayerBits) -> u64 {
        self.factor(layer) * self.multiplier(bits.weight.get(), bits.act.get())
    }

    /// Return what a whole policy spends.
    #[must_use]
    pub fn of_policy(self, network: &Network, policy: &Policy) -> u64 {
        let layers = network.layers().iter().zip(policy.layers());
        layers.map(|(layer, &bits)| self.of_layer(layer, bits)).sum()
    }

    /// Return the total after one layer went from `from` to `to`, given the total before.
    #[must_use]
    pub fn after_move(self, layer: &Layer, total: u64, from: LayerBits, to: LayerBits) -> u64 {
        total - self.of_layer(layer, from) + self.of_layer(layer, to)
    }

    /// Return what each of many policies spends; rows hold weight bits and activation bits of each
    /// layer in turn. Any bits from 1 to 32 are accounted, candidates or not.
    ///
    /// # Errors
    /// Rows of another length, or bits outside 1 to 32.
    pub fn of_rows(self, network: &Network, rows: &[u8]) -> Result<Vec<u64>, SearchError> {
        let width = 2 * network.num_layers();
        if !rows.len().is_multiple_of(width) {
            let expected = network.num_layers();
            let shape = format!("({},)", rows.len());
            return Err(SearchError::PolicyShape { shape, expected });
        }
        check_rows(network, rows)?;
        let factors: Vec<u64> = network.layers().iter().map(|layer| self.factor(layer)).collect();
        let row_cost = |row: &[u8]| {
            let pairs = row.chunks_exact(2).zip(&factors);
            pairs.map(|(pair, factor)| factor * self.multiplier(pair[0], pair[1])).sum()
        };
        Ok(rows.chunks_exact(width).map(row_cost).collect())
    }

    fn factor(self, layer: &Layer) -> u64 {
        match self {
            Self::BitOps => layer.macs(),
            Self::WeightBits => layer.weight_count(),
        }
    }

    fn multiplier(self, weight_bits: u8, act_bits: u8) -> u64 {
        match self {
            Self::BitOps => u64::from(weight_bits) * u64::from(act_bits),
            Self::WeightBits => u64::from(weight_bits),
        }
    }
}

/// Return the bytes that hold so many bits: the total is rounded up once, not per layer.
#[must_use]
pub fn whole_bytes(bits: u64) -> u64 {
    bits.div_ceil(8)
}

fn check_rows(network: &Network, rows: &[u8]) -> Result<(), SearchError> {
    let is_wrong = |&bits: &u8| bits.wrapping_sub(1) >= Bits::LARGEST;
    if !rows.iter().fold(false, |wrong, bits| wrong | is_wrong(bits)) {
        return Ok(());
    }
    let sides = network
        .layers()
        .iter()
        .flat_map(|layer| [Side::Weight, Side::Act].map(|side| (layer, side)));
    for (&bits, (layer, side)) in rows.iter().zip(sides.cycle()) {
        read_bits(layer, side, bits.into())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let first = Layer::new("conv1", 100, 3, &[8], &[8]).unwrap();
        let second = Layer::new("conv2", 7, 5, &[2, 3], &[2, 4]).unwrap();
        Network::new(vec![first, second]).unwrap()
    }

    #[test]
    fn cost_is_the_sum_over_layers() {
        let network = network();
        let policy = Policy::from_row(&network, &[8, 8, 3, 4]).unwrap();
        assert_eq!(Resource::BitOps.of_policy(&network, &policy), 6400 + 84);
        assert_eq!(Resource::WeightBits.of_policy(&network, &policy), 24 + 15);
        assert_eq!(whole_bytes(39), 5);
    }

    #[test]
    fn rows_account_any_bits_and_refuse_none() {
        let network = network();
        let rows = [8, 8, 3, 4, 1, 1, 32, 32];
        assert_eq!(Resource::BitOps.of_rows(&network, &rows), Ok(vec![6484, 100 + 7168]));
        let found = Resource::BitOps.of_rows(&network, &[8, 8, 3, 33]).unwrap_err().to_string();
        assert!(found.starts_with("act bits 33 of layer conv2 are outside 1..32"), "{found}");
        let found = Resource::BitOps.of_rows(&network, &[8, 8]).unwrap_err().to_string();
        assert!(found.starts_with("policies have shape (2,), not (n, 2, 2)"), "{found}");
    }

    #[test]
    fn largest_network_does_not_overflow() {
        let layer = Layer::new("conv1", Network::MAX_MACS, Network::MAX_WEIGHTS, &[32], &[32]);
        let network = Network::new(vec![layer.unwrap()]).unwrap();
        let policy = Policy::largest(&network);
        assert_eq!(Resource::BitOps.of_policy(&network, &policy), u64::MAX - 1023);
        assert_eq!(Resource::WeightBits.of_policy(&network, &policy), u64::MAX - 31);
    }
}
