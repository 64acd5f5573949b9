//! Policies: one (weight bits, activation bits) pair per layer.
//!
//! Invariant: every pair of a `Policy` is among the candidates of the network it was made for. The
//! order is that of the pairs from the first layer on, weight bits first.

use crate::error::SearchError;
use crate::network::{Bits, Layer, LayerIndex, Network, Side};

/// The bit-widths of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayerBits {
    /// Bits of each weight.
    pub weight: Bits,
    /// Bits of each input activation.
    pub act: Bits,
}

impl LayerBits {
    /// Return the bits of one side.
    #[must_use]
    pub fn side(self, side: Side) -> Bits {
        match side {
            Side::Weight => self.weight,
            Side::Act => self.act,
        }
    }

    /// Return the pair with one side replaced.
    #[must_use]
    pub fn with(self, side: Side, bits: Bits) -> Self {
        match side {
            Side::Weight => Self { weight: bits, ..self },
            Side::Act => Self { act: bits, ..self },
        }
    }
}

/// The bit-widths of every layer of a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Policy(Vec<LayerBits>);

impl Policy {
    /// Take one pair per layer.
    ///
    /// # Errors
    /// Another number of layers, or bits that are not candidates.
    pub fn new(network: &Network, layers: Vec<LayerBits>) -> Result<Self, SearchError> {
        check_length(network, layers.len())?;
        for (layer, &bits) in network.layers().iter().zip(&layers) {
            check_candidate(layer, Side::Weight, bits.weight)?;
            check_candidate(layer, Side::Act, bits.act)?;
        }
        Ok(Self(layers))
    }

    /// Read a policy from its row: weight bits and activation bits of each layer in turn.
    ///
    /// # Errors
    /// Another number of layers, or bits that are not candidates.
    pub fn from_row(network: &Network, row: &[u8]) -> Result<Self, SearchError> {
        check_length(network, row.len() / 2)?;
        let pairs = row.chunks_exact(2).zip(network.layers());
        let layers = pairs.map(|(pair, layer)| {
            Ok(LayerBits {
                weight: read_bits(layer, Side::Weight, pair[0].into())?,
                act: read_bits(layer, Side::Act, pair[1].into())?,
            })
        });
        Self::new(network, layers.collect::<Result<_, SearchError>>()?)
    }

    /// Return the policy with every layer at its smallest candidates.
    #[must_use]
    pub fn smallest(network: &Network) -> Self {
        Self::each(network, |layer, side| layer.candidates(side).smallest())
    }

    /// Return the policy with every layer at its largest candidates.
    #[must_use]
    pub fn largest(network: &Network) -> Self {
        Self::each(network, |layer, side| layer.candidates(side).largest())
    }

    /// Return the uniform policy: each layer takes its nearest candidate not below the bits asked
    /// for, else its largest.
    #[must_use]
    pub fn uniform(network: &Network, bits: LayerBits) -> Self {
        Self::each(network, |layer, side| layer.candidates(side).at_least(bits.side(side)))
    }

    /// Return the pairs in execution order.
    #[must_use]
    pub fn layers(&self) -> &[LayerBits] {
        &self.0
    }

    /// Append the policy's row, two bytes per layer, to `rows`.
    pub fn write_row(&self, rows: &mut Vec<u8>) {
        rows.extend(self.0.iter().flat_map(|bits| [bits.weight.get(), bits.act.get()]));
    }

    /// Return a copy with one side of one layer changed to another of its candidates.
    pub(crate) fn with(&self, layer: LayerIndex, side: Side, bits: Bits) -> Self {
        let mut copy = self.clone();
        copy.0[layer.0] = copy.0[layer.0].with(side, bits);
        copy
    }

    fn each(network: &Network, choose: impl Fn(&Layer, Side) -> Bits) -> Self {
        let layers = network.layers().iter().map(|layer| LayerBits {
            weight: choose(layer, Side::Weight),
            act: choose(layer, Side::Act),
        });
        Self(layers.collect())
    }
}

/// Read a number as bits of a layer, whether a candidate or not.
///
/// # Errors
/// Outside 1 to 32.
pub(crate) fn read_bits(layer: &Layer, side: Side, bits: i128) -> Result<Bits, SearchError> {
    let side = side.name();
    let layer = || layer.name().to_owned();
    Bits::new(bits).ok_or_else(|| SearchError::BitsRange { layer: layer(), side, bits })
}

fn check_length(network: &Network, found: usize) -> Result<(), SearchError> {
    let expected = network.num_layers();
    if found == expected { Ok(()) } else { Err(SearchError::PolicyLength { found, expected }) }
}

fn check_candidate(layer: &Layer, side: Side, bits: Bits) -> Result<(), SearchError> {
    let candidates = layer.candidates(side);
    if candidates.contains(bits) {
        return Ok(());
    }
    Err(SearchError::NotCandidate {
        layer: layer.name().to_owned(),
        side: side.name(),
        bits: bits.get(),
        candidates: candidates.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let first = Layer::new("conv1", 10, 1, &[8], &[8]).unwrap();
        let second = Layer::new("conv2", 10, 1, &[2, 3, 4], &[3, 5]).unwrap();
        Network::new(vec![first, second]).unwrap()
    }

    fn row(policy: &Policy) -> Vec<u8> {
        let mut row = Vec::new();
        policy.write_row(&mut row);
        row
    }

    #[test]
    fn uniform_takes_the_nearest_candidate_not_below() {
        let network = network();
        let bits = Bits::new(4).unwrap();
        let policy = Policy::uniform(&network, LayerBits { weight: bits, act: bits });
        assert_eq!(row(&policy), [8, 8, 4, 5]);
        assert_eq!(row(&Policy::smallest(&network)), [8, 8, 2, 3]);
        assert_eq!(row(&Policy::largest(&network)), [8, 8, 4, 5]);
    }

    #[test]
    fn row_reads_back_as_written() {
        let policy = Policy::from_row(&network(), &[8, 8, 3, 5]).unwrap();
        assert_eq!(row(&policy), [8, 8, 3, 5]);
    }

    #[test]
    fn row_of_another_network_is_refused() {
        let network = network();
        let messages = [
            (&[8, 8][..], "policy has 1 layers, the network has 2"),
            (&[8, 8, 0, 3][..], "weight bits 0 of layer conv2 are outside 1..32"),
            (&[8, 8, 2, 4][..], "act bits 4 of layer conv2 are not among its candidates 3/5"),
        ];
        for (row, message) in messages {
            let found = Policy::from_row(&network, row).unwrap_err().to_string();
            assert!(found.starts_with(message), "{found}");
        }
    }
}
