//! Bit-widths and the candidates that one side of a layer may take.
//!
//! Invariant: candidates are distinct, ascending and never none.

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

    /// Return 0 for the weights, 1 for the activations.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self == Self::Act)
    }
}

/// The bit-widths one side of a layer may take: distinct, ascending, never empty; one pins it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    ascending: Vec<Bits>,
    /// By bit-width: how many candidates are below, `NONE` where it is no candidate.
    positions: [u8; Bits::LARGEST as usize + 1],
}

const NONE: u8 = u8::MAX;

impl Candidates {
    /// Take the candidates of one side of a layer, in any order.
    ///
    /// # Errors
    /// None, one outside 1 to 32 or one listed twice.
    pub fn new(layer: &str, side: Side, candidates: &[i128]) -> Result<Self, SearchError> {
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
        let mut positions = [NONE; Bits::LARGEST as usize + 1];
        for (position, bits) in (0..).zip(&ascending) {
            positions[usize::from(bits.get())] = position;
        }
        Ok(Self { ascending, positions })
    }

    /// Return the smallest candidate.
    #[must_use]
    pub fn smallest(&self) -> Bits {
        self.ascending[0]
    }

    /// Return the largest candidate.
    #[must_use]
    pub fn largest(&self) -> Bits {
        self.ascending[self.ascending.len() - 1]
    }

    /// Return whether `bits` is a candidate.
    #[must_use]
    pub fn contains(&self, bits: Bits) -> bool {
        self.position(bits.get()).is_some()
    }

    /// Return the position of a bit-width among the candidates, ascending from 0.
    #[must_use]
    pub fn position(&self, bits: u8) -> Option<usize> {
        let position = *self.positions.get(usize::from(bits))?;
        (position != NONE).then_some(usize::from(position))
    }

    /// Return the next candidate below `bits`, if any.
    #[must_use]
    pub fn below(&self, bits: Bits) -> Option<Bits> {
        self.ascending.iter().rev().copied().find(|&other| other < bits)
    }

    /// Return the next candidate above `bits`, if any.
    #[must_use]
    pub fn above(&self, bits: Bits) -> Option<Bits> {
        self.ascending.iter().copied().find(|&other| other > bits)
    }

    /// Return the candidates, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[Bits] {
        &self.ascending
    }
}

impl fmt::Display for Candidates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.ascending.iter().map(Bits::to_string).collect();
        formatter.write_str(&names.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_ascending_whatever_the_order_given() {
        let candidates = Candidates::new("conv1", Side::Weight, &[6, 2, 4]).unwrap();
        assert_eq!(candidates.to_string(), "2/4/6");
        let four = Bits::new(4).unwrap();
        assert_eq!(candidates.below(four), Bits::new(2));
        assert_eq!(candidates.above(four), Bits::new(6));
        assert_eq!(candidates.below(Bits(2)), None);
        assert_eq!([2, 3, 6].map(|bits| candidates.position(bits)), [Some(0), None, Some(2)]);
    }

    #[test]
    fn candidates_refuse_what_breaks_their_invariant() {
        let messages = [
            (&[][..], "layer conv1 has 0 act candidates, at least 1 is needed"),
            (&[33][..], "act candidate 33 of layer conv1 is outside 1..32 bits"),
            (&[2, 2][..], "act candidate 2 of layer conv1 is listed twice"),
        ];
        for (candidates, message) in messages {
            let found = Candidates::new("conv1", Side::Act, candidates).unwrap_err().to_string();
            assert!(found.starts_with(message), "{found}");
        }
    }
}
