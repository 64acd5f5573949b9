//! What a search did and what came out, as plain data.

use crate::cost::Costs;
use crate::moves::Change;
use crate::policy::Policy;

/// One step of a search, from a policy to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceStep {
    /// Which of the search's budgets it serves, by position.
    pub budget: usize,
    /// Why it was taken, in a word of the strategy.
    pub phase: &'static str,
    /// What changed, each side of a layer at most once; against the largest candidates in the first
    /// step for a budget.
    pub changes: Vec<Change>,
    /// Score after the step; `None` where the strategy did not ask for it.
    pub score: Option<f64>,
    /// Costs after the step.
    pub costs: Costs,
}

/// What a model of the scores says of a policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Expected score.
    pub score: f64,
    /// Standard deviation of what is not known about the policy's expected score.
    pub deviation: f64,
}

/// What a model expects of one side's next candidate. Tied sides change together, so each of them
/// has the difference of all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Marginal {
    /// The side and its bits before and after.
    pub change: Change,
    /// By how much the score is expected to rise; its deviation is of what the scores leave open.
    pub difference: Prediction,
}

/// What came out of a search for one budget.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResult {
    /// The policy within the budget that the strategy holds to be the best.
    pub policy: Policy,
    /// Its costs, within the budget.
    pub costs: Costs,
    /// Its score; `None` where it was not evaluated.
    pub score: Option<f64>,
    /// What the strategy's model says of it, where it has one.
    pub predicted: Option<Prediction>,
}
