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
    /// A table of costs that does not fit the candidates.
    #[error(
        "layer {layer} has costs for {found} {side} candidates, not {expected}; give a row per weight candidate, an entry per act candidate"
    )]
    CostCount {
        /// Name of the layer.
        layer: String,
        /// `weight` for the rows, `act` for the entries of one.
        side: &'static str,
        /// Rows or entries given.
        found: usize,
        /// Candidates of the side.
        expected: usize,
    },
    /// A cost that is no count.
    #[error(
        "layer {layer} costs {cost} at {bits} bits, outside 0..18446744073709551615; choose another unit"
    )]
    CostRange {
        /// Name of the layer.
        layer: String,
        /// The pair, `4/3`.
        bits: String,
        /// The cost.
        cost: i128,
    },
    /// A cost that more bits would save.
    #[error(
        "layer {layer} costs {cost} at {bits} bits, below {least} at {fewer_bits}; let no cost fall with more bits"
    )]
    CostFalls {
        /// Name of the layer.
        layer: String,
        /// The pair, `4/3`.
        bits: String,
        /// Its cost.
        cost: u64,
        /// The pair with one side a candidate smaller.
        fewer_bits: String,
        /// Its cost.
        least: u64,
    },
    /// Costs whose sum would not be exact.
    #[error(
        "network costs {total} at its largest candidates, above {limit}, the most that 64 bits hold; choose a coarser unit"
    )]
    CostSum {
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
        "limit {limit} is below {smallest_cost}, the cost of the network with every layer at its smallest candidates; raise the limit or unpin a layer"
    )]
    BudgetTooSmall {
        /// The limit.
        limit: u64,
        /// Smallest reachable cost.
        smallest_cost: u64,
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
    /// A strategy that does not exist.
    #[error("strategy {name} is not among {known}; choose one of them")]
    UnknownStrategy {
        /// The name.
        name: String,
        /// The names there are, separated by commas.
        known: String,
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
            Self::CostRange { cost, .. } => vec![("cost", Whole(cost))],
            Self::CostFalls { cost, least, .. } => {
                vec![("cost", Whole(cost.into())), ("least", Whole(least.into()))]
            }
            Self::CostSum { total, limit } => {
                let total = i128::try_from(total).unwrap_or(i128::MAX);
                vec![("total", Whole(total)), ("limit", Whole(limit.into()))]
            }
            Self::PolicyShape { expected, .. } | Self::ScoreType { expected, .. } => {
                vec![("expected", count(expected))]
            }
            Self::CostCount { found, expected, .. }
            | Self::PolicyLength { found, expected }
            | Self::ScoreCount { found, expected } => {
                vec![("found", count(found)), ("expected", count(expected))]
            }
            Self::BudgetTooSmall { limit, smallest_cost } => {
                vec![("limit", Whole(limit.into())), ("smallest_cost", Whole(smallest_cost.into()))]
            }
            Self::ScoreNotFinite { index, value } => {
                vec![("index", count(index)), ("value", Real(value))]
            }
            Self::ErrorWeight { value } => vec![("value", Real(value))],
            Self::NothingProposed { found } => vec![("found", count(found))],
            Self::NoLayers
            | Self::NoCandidates { .. }
            | Self::PolicyType { .. }
            | Self::UnknownStrategy { .. }
            | Self::NoEvaluations
            | Self::NotFinished
            | Self::Busy => vec![],
        }
    }
}

fn count(number: usize) -> Number {
    Number::Whole(i128::try_from(number).unwrap_or(i128::MAX))
}
