//! The one error type of the crate.
//!
//! Invariant: every message says what is what, which limit it breaks and what to do, in that order,
//! without a full stop, and every variant carries the numbers it prints.

use thiserror::Error;

/// Anything the engine refuses.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SearchError {
    /// A network without layers.
    #[error("network has 0 layers, at least 1 is needed; list its layers in execution order")]
    NoLayers,
    /// A layer that costs nothing.
    #[error(
        "layer {layer} has 0 MACs, at least 1 is needed; give its multiply-accumulates for one input"
    )]
    ZeroMacs {
        /// Name of the layer.
        layer: String,
    },
    /// A layer without a bit-width to take.
    #[error("layer {layer} has 0 {side} candidates, at least 1 is needed; give one to pin it")]
    NoCandidates {
        /// Name of the layer.
        layer: String,
        /// `weight` or `act`.
        side: &'static str,
    },
    /// A candidate that is no bit-width.
    #[error("{side} candidate {bits} of layer {layer} is outside 1..32 bits; remove it")]
    CandidateRange {
        /// Name of the layer.
        layer: String,
        /// `weight` or `act`.
        side: &'static str,
        /// The candidate.
        bits: i128,
    },
    /// A candidate listed twice.
    #[error("{side} candidate {bits} of layer {layer} is listed twice, once is enough; remove one")]
    CandidateTwice {
        /// Name of the layer.
        layer: String,
        /// `weight` or `act`.
        side: &'static str,
        /// The candidate.
        bits: i128,
    },
    /// Counts whose cost at 32 bits would not be exact.
    #[error(
        "network has {total} {what}, above {limit}, the most whose cost at 32 bits fits 64-bit integers; check the counts"
    )]
    TooLarge {
        /// `MACs` or `weights`.
        what: &'static str,
        /// Sum over the layers.
        total: u128,
        /// Largest sum accepted.
        limit: u64,
    },
    /// A policy of another network.
    #[error("policy has {found} layers, the network has {expected}; use a policy of this network")]
    PolicyLength {
        /// Layers of the policy.
        found: usize,
        /// Layers of the network.
        expected: usize,
    },
    /// An array that is no batch of policies.
    #[error(
        "policies have shape {shape}, not (n, {expected}, 2); give each layer its weight bits and act bits"
    )]
    PolicyShape {
        /// Shape or size as found.
        shape: String,
        /// Layers of the network.
        expected: usize,
    },
    /// An array that does not hold integers.
    #[error("policies have dtype {dtype}, not uint8; convert them to whole bits")]
    PolicyType {
        /// Element type as found.
        dtype: String,
    },
    /// A value that is no bit-width.
    #[error("{side} bits {bits} of layer {layer} are outside 1..32; choose a bit-width in between")]
    BitsRange {
        /// Name of the layer.
        layer: String,
        /// `weight` or `act`.
        side: &'static str,
        /// The value.
        bits: i128,
    },
    /// A bit-width that the layer may not take.
    #[error(
        "{side} bits {bits} of layer {layer} are not among its candidates {candidates}; choose one of them"
    )]
    NotCandidate {
        /// Name of the layer.
        layer: String,
        /// `weight` or `act`.
        side: &'static str,
        /// The bit-width.
        bits: u8,
        /// The candidates, ascending, separated by `/`.
        candidates: String,
    },
    /// A budget that no policy meets.
    #[error(
        "target {target_bitops} BitOPs is below {smallest_bitops}, the least the network reaches with every free layer at its smallest candidates; raise the target or unpin a layer"
    )]
    BudgetTooSmall {
        /// Target, in BitOPs.
        target_bitops: u64,
        /// Smallest reachable, in BitOPs.
        smallest_bitops: u64,
    },
    /// A batch of scores of the wrong length.
    #[error("evaluation gave {found} scores for {expected} policies; return one per policy")]
    ScoreCount {
        /// Scores given.
        found: usize,
        /// Policies proposed.
        expected: usize,
    },
    /// A score that cannot be ordered.
    #[error("score {index} is {value}, not a finite number; return an error count or a rate")]
    ScoreNotFinite {
        /// Position in the batch.
        index: usize,
        /// The score.
        value: f64,
    },
    /// Something that is no list of numbers.
    #[error("evaluation gave {found}, not {expected} numbers; return one float per policy")]
    ScoreType {
        /// Name of the type.
        found: String,
        /// Policies proposed.
        expected: usize,
    },
    /// A weight that turns the merit upside down.
    #[error("error_weight is {value}, not a finite number of at least 0; the usual value is 1.5")]
    ErrorWeight {
        /// The weight.
        value: f64,
    },
    /// A search that may not look at anything.
    #[error("evaluations is 0, at least 1 is needed; leave it out for no limit")]
    NoEvaluations,
    /// Scores without a question.
    #[error("{found} scores arrived while 0 policies are proposed; call propose first")]
    NothingProposed {
        /// Scores given.
        found: usize,
    },
    /// A result that is not there yet.
    #[error("search has not ended, it still needs scores; propose and observe until None")]
    NotFinished,
    /// One search used from two places at once.
    #[error(
        "search is busy in another thread, one at a time may use it; make one search per thread"
    )]
    Busy,
}

/// A number that an error carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A count, a limit or a bit-width.
    Whole(i128),
    /// A score or a weight.
    Real(f64),
}

impl SearchError {
    /// Return the numbers of the message, by name.
    #[must_use]
    pub fn numbers(&self) -> Vec<(&'static str, Number)> {
        use Number::{Real, Whole};
        match *self {
            Self::CandidateRange { bits, .. }
            | Self::CandidateTwice { bits, .. }
            | Self::BitsRange { bits, .. } => vec![("bits", Whole(bits))],
            Self::NotCandidate { bits, .. } => vec![("bits", Whole(bits.into()))],
            Self::TooLarge { total, limit, .. } => {
                let total = i128::try_from(total).unwrap_or(i128::MAX);
                vec![("total", Whole(total)), ("limit", Whole(limit.into()))]
            }
            Self::PolicyShape { expected, .. } | Self::ScoreType { expected, .. } => {
                vec![("expected", count(expected))]
            }
            Self::PolicyLength { found, expected } | Self::ScoreCount { found, expected } => {
                vec![("found", count(found)), ("expected", count(expected))]
            }
            Self::BudgetTooSmall { target_bitops, smallest_bitops } => vec![
                ("target_bitops", Whole(target_bitops.into())),
                ("smallest_bitops", Whole(smallest_bitops.into())),
            ],
            Self::ScoreNotFinite { index, value } => {
                vec![("index", count(index)), ("value", Real(value))]
            }
            Self::ErrorWeight { value } => vec![("value", Real(value))],
            Self::NothingProposed { found } => vec![("found", count(found))],
            Self::NoLayers
            | Self::ZeroMacs { .. }
            | Self::NoCandidates { .. }
            | Self::PolicyType { .. }
            | Self::NoEvaluations
            | Self::NotFinished
            | Self::Busy => vec![],
        }
    }
}

fn count(number: usize) -> Number {
    Number::Whole(i128::try_from(number).unwrap_or(i128::MAX))
}
