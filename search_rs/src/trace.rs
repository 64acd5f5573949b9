//! What a search did and what came out, as plain data.
//!
//! Invariant: applying the changes of all steps in order to the start policy gives the policy the
//! search ended on.

use crate::moves::Move;
use crate::policy::Policy;

/// Why a step was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// On the way to the target, by score.
    Descent,
    /// On the way to the target after the evaluation limit, by BitOPs alone.
    Finish,
    /// Spending the slack below the target.
    Upward,
    /// To where the next climb, the descent or the last upward pass begins.
    Restart,
    /// One move up paid for by one move down.
    Exchange,
}

impl Phase {
    /// Return the name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Descent => "descent",
            Self::Finish => "finish",
            Self::Upward => "upward",
            Self::Restart => "restart",
            Self::Exchange => "exchange",
        }
    }
}

/// One step of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceStep {
    /// Why it was taken.
    pub phase: Phase,
    /// What changed: one move, two in an exchange, any number in a restart.
    pub changes: Vec<Move>,
    /// Error after the step; `None` in the phase `Finish`, which evaluates nothing.
    pub error: Option<f64>,
    /// BitOPs after the step.
    pub bitops: u64,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResult {
    /// The policy with the lowest error on record within the target.
    pub policy: Policy,
    /// Its error.
    pub error: f64,
    /// Its BitOPs, within the target.
    pub bitops: u64,
    /// Different policies whose error the search needed, restored ones included.
    pub num_evaluations: u64,
    /// How many of those were restored and not evaluated again.
    pub num_restored: u64,
    /// The steps, in order.
    pub trace: Vec<TraceStep>,
}
