//! What a search did and what came out, as plain data.
//!
//! Invariant: applying the changes of all steps in order to the start policy gives the policy the
//! search ended on.

use crate::moves::Move;
use crate::policy::Policy;

/// Why a search went from one policy to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// On the way to the target, by merit.
    Descent,
    /// On the way to the target after the evaluation limit, by BitOPs alone.
    Finish,
    /// Spending the slack below the target: in a climb, or in an ascent after the descent.
    Upward,
    /// To where the next climb, the descent or the last ascent begins.
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

/// One step of a search, from a policy to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceStep {
    /// Why it was taken.
    pub phase: Phase,
    /// What changed: one move, two in an exchange, any number in a restart.
    pub changes: Vec<Move>,
    /// Score after the step; `None` in the phase `Finish`, which evaluates nothing.
    pub score: Option<f64>,
    /// BitOPs after the step.
    pub bitops: u64,
}

/// What came out of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResult {
    /// The policy with the lowest score of those the search asked for within the target.
    pub policy: Policy,
    /// Its score.
    pub score: f64,
    /// Its BitOPs, within the target.
    pub bitops: u64,
    /// Different policies whose score the search asked for.
    pub num_evaluations: u64,
    /// The steps, in order.
    pub trace: Vec<TraceStep>,
}
