//! Search engine for mixed-precision policies: exact costs, and searches within budgets.
//!
//! What a cost counts, only the caller knows. `python` is the only file that knows `PyO3`; all
//! others build and are tested without an interpreter.

/// Scores of the policies that a search knows.
pub mod archive;
/// Bit-widths and the candidates of one side of a layer.
pub mod bits;
/// Layers that ties join, with their assignments.
pub mod blocks;
/// The hard limits a result must respect.
pub mod budget;
/// Counts and costs as floats and places.
mod convert;
/// What a policy costs in each resource, whole and by difference.
pub mod cost;
/// Random policies within a budget.
pub mod draw;
/// The one error type.
pub mod error;
/// The quantizer's kernels.
pub mod fake_quantize;
/// The lowest sum of values within a budget, exactly.
pub mod knapsack;
/// Which proposal of a step is taken.
pub mod merit;
/// What scores say of policies that were not evaluated.
pub mod model;
/// Single changes of a policy.
pub mod moves;
/// Layers in execution order with their costs, and which sides take the same bits.
pub mod network;
/// One (weight bits, activation bits) pair per layer.
pub mod policy;
/// A search under way: what is known, what is pending, what is left.
pub mod session;
/// What a strategy is and what it sees; the strategies.
pub mod strategy;
/// What a layer costs at each pair of its candidates.
pub mod table;
/// Work in parts, on torch's threads.
pub mod threads;
/// What a search did, step by step, and what came out.
pub mod trace;

#[cfg(feature = "python")]
mod python;
