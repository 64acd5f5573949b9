//! Policies: one (weight bits, activation bits) pair per layer.
//!
//! Invariant: every pair of a `Policy` is among the candidates of the network it was made for, and
//! tied sides have the same bits. The order is that of the pairs from the first layer on, weight
//! bits first.

use crate::bits::{Bits, Side};
use crate::error::SearchError;
use crate::network::{Group, Layer, Network};

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
    /// Another number of layers, bits that are not candidates, or tied sides at different bits.
    pub fn from_row(network: &Network, row: &[u8]) -> Result<Self, SearchError> {
        let policy = Self::from_row_untied(network, row)?;
        check_ties(network, &policy)?;
        Ok(policy)
    }

    /// Read a policy that may break ties: it has costs all the same.
    pub(crate) fn from_row_untied(network: &Network, row: &[u8]) -> Result<Self, SearchError> {
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
    /// Another number of layers, bits that are not candidates, or tied sides at different bits.
    pub fn check(&self, network: &Network) -> Result<(), SearchError> {
        check_length(network, self.0.len())?;
        network.layers().iter().zip(&self.0).try_for_each(|(layer, &bits)| {
            check_candidate(layer, Side::Weight, bits.weight)?;
            check_candidate(layer, Side::Act, bits.act)
        })?;
        check_ties(network, self)
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

    /// Return the bits of a group of sides.
    #[must_use]
    pub fn group_bits(&self, group: &Group) -> Bits {
        let (layer_index, side) = group.sides()[0];
        self.0[layer_index].side(side)
    }

    /// Return a copy with a group of sides at other bits, which must be among its candidates.
    #[must_use]
    pub fn with_group(&self, group: &Group, bits: Bits) -> Self {
        let mut copy = self.clone();
        for &(layer_index, side) in group.sides() {
            copy.0[layer_index] = copy.0[layer_index].with(side, bits);
        }
        copy
    }

    /// Return a copy with one layer at other bits; ties are the caller's care.
    pub(crate) fn set_layer(&mut self, layer_index: usize, bits: LayerBits) {
        self.0[layer_index] = bits;
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

fn check_ties(network: &Network, policy: &Policy) -> Result<(), SearchError> {
    for group in network.groups() {
        let bits = policy.group_bits(group);
        let differs = |&&(index, side): &&(usize, Side)| policy.0[index].side(side) != bits;
        if let Some(&(index, side)) = group.sides().iter().find(differs) {
            return Err(SearchError::BrokenTie {
                layer: network.layers()[index].name().to_owned(),
                side: side.name(),
                bits: policy.0[index].side(side).get(),
                other: network.layers()[group.sides()[0].0].name().to_owned(),
                other_bits: bits.get(),
            });
        }
    }
    Ok(())
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
    use crate::cost::Aggregate;
    use crate::network::{costs_by, plain_network};

    fn layer(name: &str, weight_candidates: &[i128], act_candidates: &[i128]) -> Layer {
        let costs = costs_by(weight_candidates, act_candidates, |weight, act| weight * act);
        Layer::new(name, weight_candidates, act_candidates, &[costs]).unwrap()
    }

    fn network() -> Network {
        let first = layer("conv1", &[8], &[8]);
        let second = layer("conv2", &[2, 3, 4], &[3, 5]);
        plain_network(vec![first, second]).unwrap()
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
        let other = plain_network(vec![other]).unwrap();
        assert_eq!(Policy::largest(&network()).check(&network()), Ok(()));
        let found = Policy::largest(&other).check(&network()).unwrap_err();
        assert_eq!(found, SearchError::PolicyLength { found: 1, expected: 2 });
        let narrow = layer("conv1", &[4], &[8]);
        let narrow = plain_network(vec![narrow]).unwrap();
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

    #[test]
    fn tied_sides_change_together_and_must_agree() {
        let layers = vec![layer("a", &[2, 3], &[4, 6]), layer("b", &[3], &[4, 6])];
        let ties = [vec![(0, Side::Act), (1, Side::Act)]];
        let network = Network::new(vec![Aggregate::Sum], layers, &ties).unwrap();
        let group = &network.groups()[network.group_of(1, Side::Act)];
        let policy = Policy::smallest(&network).with_group(group, Bits::new(6).unwrap());
        assert_eq!(row(&policy), [2, 6, 3, 6]);
        assert_eq!(policy.group_bits(group).get(), 6);
        let message = Policy::from_row(&network, &[2, 4, 3, 6]).unwrap_err().to_string();
        assert!(
            message
                .starts_with("act bits 6 of layer b are not the 4 of layer a, which it is tied to"),
            "{message}"
        );
    }
}
