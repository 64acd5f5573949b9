//! Policies: one (weight bits, activation bits) pair per layer.
//!
//! Invariant: every pair of a `Policy` is among the candidates of the network it was made for. The
//! order is that of the pairs from the first layer on, weight bits first.

use crate::bits::{Bits, Side};
use crate::error::SearchError;
use crate::network::{Layer, Network};

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
    /// Read a policy from its row: weight bits and activation bits of each layer in turn.
    ///
    /// # Errors
    /// Another number of layers, or bits that are not candidates.
    pub fn from_row(network: &Network, row: &[u8]) -> Result<Self, SearchError> {
        check_length(network, row.len() / 2)?;
        let pairs = row.chunks_exact(2).zip(network.layers());
        let layers = pairs.map(|(pair, layer)| {
            Ok(LayerBits {
                weight: read_candidate(layer, Side::Weight, pair[0])?,
                act: read_candidate(layer, Side::Act, pair[1])?,
            })
        });
        layers.collect::<Result<_, _>>().map(Self)
    }

    /// Check that this is a policy of a network, which need not be the one it was made for.
    ///
    /// # Errors
    /// Another number of layers, or bits that are not candidates.
    pub fn check(&self, network: &Network) -> Result<(), SearchError> {
        check_length(network, self.0.len())?;
        network.layers().iter().zip(&self.0).try_for_each(|(layer, &bits)| {
            check_candidate(layer, Side::Weight, bits.weight)?;
            check_candidate(layer, Side::Act, bits.act)
        })
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

    /// Return the pairs in execution order.
    #[must_use]
    pub fn layers(&self) -> &[LayerBits] {
        &self.0
    }

    /// Append the policy's row, two bytes per layer, to `rows`.
    pub fn write_row(&self, rows: &mut Vec<u8>) {
        rows.extend(self.0.iter().flat_map(|bits| [bits.weight.get(), bits.act.get()]));
    }

    /// Return a copy with one layer at other bits, which must be among its candidates.
    pub(crate) fn with(&self, layer_index: usize, bits: LayerBits) -> Self {
        let mut copy = self.clone();
        copy.0[layer_index] = bits;
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

fn read_candidate(layer: &Layer, side: Side, bits: u8) -> Result<Bits, SearchError> {
    let bits = read_bits(layer, side, bits.into())?;
    check_candidate(layer, side, bits)?;
    Ok(bits)
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
    use crate::network::costs_by;

    fn layer(name: &str, weight_candidates: &[i128], act_candidates: &[i128]) -> Layer {
        let costs = costs_by(weight_candidates, act_candidates, |weight, act| weight * act);
        Layer::new(name, weight_candidates, act_candidates, &costs).unwrap()
    }

    fn network() -> Network {
        let first = layer("conv1", &[8], &[8]);
        let second = layer("conv2", &[2, 3, 4], &[3, 5]);
        Network::new(vec![first, second]).unwrap()
    }

    fn row(policy: &Policy) -> Vec<u8> {
        let mut row = Vec::new();
        policy.write_row(&mut row);
        row
    }

    #[test]
    fn smallest_and_largest_take_the_ends_of_every_side() {
        let network = network();
        assert_eq!(row(&Policy::smallest(&network)), [8, 8, 2, 3]);
        assert_eq!(row(&Policy::largest(&network)), [8, 8, 4, 5]);
    }

    #[test]
    fn row_reads_back_as_written() {
        let policy = Policy::from_row(&network(), &[8, 8, 3, 5]).unwrap();
        assert_eq!(row(&policy), [8, 8, 3, 5]);
    }

    #[test]
    fn policy_of_another_network_is_refused() {
        let other = layer("conv1", &[8], &[8]);
        let other = Network::new(vec![other]).unwrap();
        assert_eq!(Policy::largest(&network()).check(&network()), Ok(()));
        let found = Policy::largest(&other).check(&network()).unwrap_err();
        assert_eq!(found, SearchError::PolicyLength { found: 1, expected: 2 });
        let narrow = layer("conv1", &[4], &[8]);
        let narrow = Network::new(vec![narrow]).unwrap();
        let message = Policy::largest(&narrow).check(&other).unwrap_err().to_string();
        assert!(message.starts_with("weight bits 4 of layer conv1 are not among its candidates 8"));
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
