//! Search engine for mixed-precision policies: exact cost, bidirectional greedy search.
//!
//! Each file uses only the files above it. `python` is the only one that knows `PyO3`; all others
//! build and are tested without an interpreter.

/// Scores of the policies that a search has asked for.
pub mod archive;
/// The hard limit a result must respect.
pub mod budget;
/// BitOPs and weight size, whole and by difference.
pub mod cost;
/// The one error type.
pub mod error;
/// The search as a state machine: propose, observe.
pub mod greedy;
/// Which proposal of a step is taken.
pub mod merit;
/// Single changes of a policy and pairs of them.
pub mod moves;
/// Layers, their cost factors and their bit-width candidates.
pub mod network;
/// One (weight bits, activation bits) pair per layer.
pub mod policy;
/// What a search did, step by step.
pub mod trace;

#[cfg(feature = "python")]
mod python;
