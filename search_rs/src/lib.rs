//! Search engine for mixed-precision policies: exact costs, and searches within a limit.
//!
//! What a cost counts, only the caller knows. `python` is the only file that knows `PyO3`; all others
//! build and are tested without an interpreter.

/// Scores of the policies that a search has asked for.
pub mod archive;
/// Bit-widths and the candidates of one side of a layer.
pub mod bits;
/// The hard limit a result must respect.
pub mod budget;
/// What a policy costs, whole and by difference.
pub mod cost;
/// The one error type.
pub mod error;
/// The bidirectional greedy search.
pub mod greedy;
/// Which proposal of a step is taken.
pub mod merit;
/// Single changes of a policy and pairs of them.
pub mod moves;
/// Layers in execution order with their tables of costs.
pub mod network;
/// One (weight bits, activation bits) pair per layer.
pub mod policy;
/// What a search is to its callers, its options, and the strategies by name.
pub mod strategy;
/// What a layer costs at each pair of its candidates.
pub mod table;
/// What a search did, step by step.
pub mod trace;

#[cfg(feature = "python")]
mod python;
