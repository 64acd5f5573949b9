//! What a search did and what came out, as plain data.
//!
//! Invariant: applying the changes of all steps in order to the policy a search began at gives the
//! policy it ended at.

use crate::moves::Move;
use crate::policy::Policy;

/// One step of a search, from a policy to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceStep {
    /// Why it was taken, in a word of the strategy.
    pub phase: &'static str,
    /// What changed, each side of a layer at most once.
    pub changes: Vec<Move>,
    /// Score after the step; `None` where the strategy did not ask for it.
    pub score: Option<f64>,
    /// Cost after the step.
    pub cost: u64,
}

/// What came out of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResult {
    /// The policy with the lowest score of those the search asked for within the target.
    pub policy: Policy,
    /// Its score.
    pub score: f64,
    /// Its cost, within the target.
    pub cost: u64,
    /// Different policies whose score the search asked for.
    pub num_evaluations: u64,
    /// The steps, in order.
    pub trace: Vec<TraceStep>,
}
