//! Layers in execution order, their cost factors and the bit-widths each may take.
//!
//! Invariant: a `Network` has at least one layer, each layer at least one MAC and one candidate per
//! side, candidates are distinct and ascending, and no policy's cost overflows 64 bits.

use std::fmt;

use crate::error::SearchError;

/// A bit-width, 1 to 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bits(u8);

impl Bits {
    /// The largest bit-width that is accounted.
    pub const LARGEST: u8 = 32;

    /// Return the bit-width, or `None` outside 1 to 32.
    #[must_use]
    pub fn new(bits: i128) -> Option<Self> {
        let bits = u8::try_from(bits).ok()?;
        (1..=Self::LARGEST).contains(&bits).then_some(Self(bits))
    }

    /// Return the number of bits.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Which tensor of a layer a bit-width belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The weights.
    Weight,
    /// The input activations.
    Act,
}

impl Side {
    /// Return `weight` or `act`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Act => "act",
        }
    }
}

/// The bit-widths one side of a layer may take: distinct, ascending, never empty; one pins it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates(Vec<Bits>);

impl Candidates {
    fn new(layer: &str, side: Side, candidates: &[i128]) -> Result<Self, SearchError> {
        let (layer, side) = (layer.to_owned(), side.name());
        let mut ascending = Vec::with_capacity(candidates.len());
        for &bits in candidates {
            let Some(valid) = Bits::new(bits) else {
                return Err(SearchError::CandidateRange { layer, side, bits });
            };
            if ascending.contains(&valid) {
                return Err(SearchError::CandidateTwice { layer, side, bits });
            }
            ascending.push(valid);
        }
        if ascending.is_empty() {
            return Err(SearchError::NoCandidates { layer, side });
        }
        ascending.sort_unstable();
        Ok(Self(ascending))
    }

    /// Return the smallest candidate.
    #[must_use]
    pub fn smallest(&self) -> Bits {
        self.0[0]
    }

    /// Return the largest candidate.
    #[must_use]
    pub fn largest(&self) -> Bits {
        self.0[self.0.len() - 1]
    }

    /// Return whether `bits` is a candidate.
    #[must_use]
    pub fn contains(&self, bits: Bits) -> bool {
        self.0.binary_search(&bits).is_ok()
    }

    /// Return the next candidate below `bits`, if any.
    #[must_use]
    pub fn below(&self, bits: Bits) -> Option<Bits> {
        self.0.iter().rev().copied().find(|&other| other < bits)
    }

    /// Return the next candidate above `bits`, if any.
    #[must_use]
    pub fn above(&self, bits: Bits) -> Option<Bits> {
        self.0.iter().copied().find(|&other| other > bits)
    }

    /// Return the nearest candidate that is not below `bits`, else the largest.
    #[must_use]
    pub fn at_least(&self, bits: Bits) -> Bits {
        let found = self.0.iter().copied().find(|&other| other >= bits);
        found.unwrap_or_else(|| self.largest())
    }

    /// Return the candidates, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[Bits] {
        &self.0
    }
}

impl fmt::Display for Candidates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(Bits::to_string).collect();
        formatter.write_str(&names.join("/"))
    }
}

/// One quantized layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    name: String,
    macs: u64,
    weight_count: u64,
    weight_candidates: Candidates,
    act_candidates: Candidates,
}

impl Layer {
    /// Describe a layer: multiply-accumulates for one input, weight parameters, candidates of each
    /// side in any order.
    ///
    /// # Errors
    /// No MACs, no candidate, a candidate outside 1 to 32 or one listed twice.
    pub fn new(
        name: &str,
        macs: u64,
        weight_count: u64,
        weight_candidates: &[i128],
        act_candidates: &[i128],
    ) -> Result<Self, SearchError> {
        if macs == 0 {
            return Err(SearchError::ZeroMacs { layer: name.to_owned() });
        }
        Ok(Self {
            name: name.to_owned(),
            macs,
            weight_count,
            weight_candidates: Candidates::new(name, Side::Weight, weight_candidates)?,
            act_candidates: Candidates::new(name, Side::Act, act_candidates)?,
        })
    }

    /// Return the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Return the multiply-accumulates for one input, at least 1.
    #[must_use]
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// Return the number of weight parameters.
    #[must_use]
    pub fn weight_count(&self) -> u64 {
        self.weight_count
    }

    /// Return the candidates of one side.
    #[must_use]
    pub fn candidates(&self, side: Side) -> &Candidates {
        match side {
            Side::Weight => &self.weight_candidates,
            Side::Act => &self.act_candidates,
        }
    }
}

/// The quantized layers of a network, in execution order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    layers: Vec<Layer>,
}

impl Network {
    /// Largest sum of MACs: at 32/32 bits its BitOPs still fit 64 bits.
    pub const MAX_MACS: u64 = u64::MAX / (32 * 32);
    /// Largest sum of weight parameters: at 32 bits its size in bits still fits 64 bits.
    pub const MAX_WEIGHTS: u64 = u64::MAX / 32;

    /// Take layers in execution order.
    ///
    /// # Errors
    /// No layer, or counts so large that a cost would overflow.
    pub fn new(layers: Vec<Layer>) -> Result<Self, SearchError> {
        if layers.is_empty() {
            return Err(SearchError::NoLayers);
        }
        let macs = layers.iter().map(|layer| u128::from(layer.macs)).sum();
        let weights = layers.iter().map(|layer| u128::from(layer.weight_count)).sum();
        for (what, total, limit) in
            [("MACs", macs, Self::MAX_MACS), ("weights", weights, Self::MAX_WEIGHTS)]
        {
            if total > u128::from(limit) {
                return Err(SearchError::TooLarge { what, total, limit });
            }
        }
        Ok(Self { layers })
    }

    /// Return the layers in execution order.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Return the number of layers, at least 1.
    #[must_use]
    pub fn num_layers(&self) -> usize {
        self.layers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(macs: u64, candidates: &[i128]) -> Result<Layer, SearchError> {
        Layer::new("conv1", macs, 9, candidates, &[8])
    }

    #[test]
    fn candidates_are_ascending_whatever_the_order_given() {
        let layer = layer(1, &[6, 2, 4]).unwrap();
        let candidates = layer.candidates(Side::Weight);
        assert_eq!(candidates.to_string(), "2/4/6");
        let four = Bits::new(4).unwrap();
        assert_eq!(candidates.below(four), Bits::new(2));
        assert_eq!(candidates.above(four), Bits::new(6));
        assert_eq!(candidates.below(Bits(2)), None);
    }

    #[test]
    fn layer_refuses_what_breaks_its_invariant() {
        let messages = [
            (layer(0, &[2]), "layer conv1 has 0 MACs, at least 1 is needed"),
            (layer(1, &[]), "layer conv1 has 0 weight candidates"),
            (layer(1, &[33]), "weight candidate 33 of layer conv1 is outside 1..32 bits"),
            (layer(1, &[2, 2]), "weight candidate 2 of layer conv1 is listed twice"),
        ];
        for (result, message) in messages {
            let found = result.unwrap_err().to_string();
            assert!(found.starts_with(message), "{found}");
        }
    }

    #[test]
    fn network_refuses_counts_that_overflow() {
        assert_eq!(Network::new(vec![]), Err(SearchError::NoLayers));
        assert!(Network::new(vec![layer(Network::MAX_MACS, &[32]).unwrap()]).is_ok());
        let two = vec![layer(Network::MAX_MACS, &[2]).unwrap(), layer(1, &[2]).unwrap()];
        let found = Network::new(two).unwrap_err().to_string();
        assert!(found.starts_with("network has 18014398509481984 MACs, above 18014398509481983"));
    }
}
