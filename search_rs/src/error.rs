//! The one error type of the crate.
//!
//! Invariant: every message says what is what, which limit it breaks and what to do, in that order,
//! without a full stop, and every variant carries the numbers it prints.

mod numbers;

use thiserror::Error;

pub use self::numbers::Number;

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
    /// A layer without costs, or with more kinds of them than there is room for.
    #[error("layer {layer} has {found} columns of costs, not 1 to {limit}; give one per resource")]
    ResourceCount {
        /// Name of the layer.
        layer: String,
        /// Columns given.
        found: usize,
        /// Most columns.
        limit: usize,
    },
    /// A layer whose costs are of other resources than the network's.
    #[error(
        "layer {layer} has costs in {found} resources, not {expected}; give every layer the same"
    )]
    LayerResources {
        /// Name of the layer.
        layer: String,
        /// Resources of the layer.
        found: usize,
        /// Resources of the network.
        expected: usize,
    },
    /// A tie of a layer that is not there.
    #[error("tie names layer {index} of a network of {limit} layers; count them from 0")]
    TieLayer {
        /// The position.
        index: usize,
        /// Layers of the network.
        limit: usize,
    },
    /// A side that is tied in two ways.
    #[error("{side} side of layer {layer} stands in two ties; join them into one")]
    TiedTwice {
        /// Name of the layer.
        layer: String,
        /// `weight` or `act`.
        side: &'static str,
    },
    /// Tied sides that may not take the same bits.
    #[error(
        "{side} candidates {candidates} of layer {layer} are not those of layer {other}, {others}, which it is tied to; give both the same"
    )]
    TieCandidates {
        /// Name of the layer.
        layer: String,
        /// `weight` or `act`.
        side: &'static str,
        /// Its candidates.
        candidates: String,
        /// The first layer of the tie.
        other: String,
        /// Its candidates.
        others: String,
    },
    /// A word that stands for nothing.
    #[error("{name} is not among {known}; choose one of them")]
    UnknownWord {
        /// The word.
        name: String,
        /// The words there are, separated by commas.
        known: &'static str,
    },
    /// Ties with too many assignments.
    #[error(
        "ties join {count} layers, {layer} the first, in {options} ways, above {limit}; tie fewer or pin some"
    )]
    TieTooLarge {
        /// Name of the first layer.
        layer: String,
        /// Layers that are joined.
        count: usize,
        /// Assignments of bits to them.
        options: usize,
        /// Most assignments.
        limit: usize,
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
    /// A policy in which tied sides have different bits.
    #[error(
        "{side} bits {bits} of layer {layer} are not the {other_bits} of layer {other}, which it is tied to; give both the same"
    )]
    BrokenTie {
        /// Name of the layer.
        layer: String,
        /// `weight` or `act`.
        side: &'static str,
        /// Its bits.
        bits: u8,
        /// The first layer of the tie.
        other: String,
        /// Its bits.
        other_bits: u8,
    },
    /// A budget without a limit for each resource.
    #[error(
        "budget has {found} limits, the network has {expected} resources; give None for no limit"
    )]
    LimitCount {
        /// Limits given.
        found: usize,
        /// Resources of the network.
        expected: usize,
    },
    /// A budget that limits nothing.
    #[error("budget limits 0 resources, at least 1 is needed; limit one")]
    NoLimit,
    /// A search without a budget.
    #[error("search has 0 budgets, at least 1 is needed; give one")]
    NoBudget,
    /// A budget that the search does not have.
    #[error("budget {budget} is not among the {limit} of the search; count them from 0")]
    UnknownBudget {
        /// The position.
        budget: usize,
        /// Budgets of the search.
        limit: usize,
    },
    /// Limits that no policy meets together.
    #[error(
        "budget {budget} is met by no policy: each of its limits can be met, all together cannot; raise one of them"
    )]
    BudgetUnreachable {
        /// Position of the budget.
        budget: usize,
        /// By resource: where it is limited, the least that it reaches while all the other limits
        /// are kept; `None` where they cannot be kept together either.
        least: Vec<Option<u64>>,
    },
    /// A budget that no policy meets.
    #[error(
        "limit {limit} is below {smallest_cost}, the least the network costs in resource {resource}; raise the limit or unpin a layer"
    )]
    BudgetTooSmall {
        /// Position of the resource.
        resource: usize,
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
    /// Scores that do not have the same folds.
    #[error(
        "score {index} has {found} parts, not {expected}; return a row of equal length for each"
    )]
    ScoreParts {
        /// Position in the batch.
        index: usize,
        /// Parts of the score.
        found: usize,
        /// Parts of the first score.
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
    /// Values that are not one for each pair.
    #[error("values have {found} numbers for {what}, not {expected}; give one per pair of bits")]
    ValueCount {
        /// `the layers`, or the name of the layer.
        what: String,
        /// Numbers given.
        found: usize,
        /// Numbers needed.
        expected: usize,
    },
    /// A value that cannot be added.
    #[error(
        "value of layer {layer} at {bits} bits is {value}, not a finite number; give what it adds to the error"
    )]
    ValueNotFinite {
        /// Name of the layer.
        layer: String,
        /// The pair, `4/3`.
        bits: String,
        /// The value.
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
    /// A setting of the guided search that means nothing.
    #[error(
        "{name} is {value}, not a finite number of at least 0, or for refine_share a share up to 1; leave it out for the default"
    )]
    GuidedSetting {
        /// Name of the setting.
        name: &'static str,
        /// The value.
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
