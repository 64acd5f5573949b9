//! Bidirectional greedy search (arXiv 2401.01543) for one budget.
//!
//! Stages, in order:
//!
//! 1. anchors: the start, policies from outside and the uniform ones within the budget are scored;
//! 2. climbs: from the best anchors, moves up spend the slack below the budget;
//! 3. descent from the start to the budget;
//! 4. ascent: moves up from where the descent ended, and from a better policy met on the way;
//! 5. exchanges: one move up paid for by one move down.
//!
//! Climbs come before the descent because they are cheap: under a limit of evaluations that no
//! descent fits, they are what a search can do. Weights and activations are searched jointly; the
//! reference searches them one after the other.
//!
//! Invariant: no step that does not fit the limit of evaluations is begun: the descent then
//! finishes by cost alone. Applying the changes of all steps in order to the start leads to where
//! the search is.

mod descent;
mod exchange;
mod upward;
mod walk;

use crate::error::SearchError;
use crate::policy::Policy;
use crate::strategy::{Problem, Scored, Strategy, View};
use crate::trace::TraceStep;

use self::descent::Descent;
use self::exchange::Exchange;
use self::upward::Climb;
use self::walk::Walk;

/// Settings of a greedy search.
#[derive(Debug, Clone, PartialEq)]
pub struct GreedySettings {
    /// Where the search begins; the largest candidates when `None`.
    pub start: Option<Policy>,
    /// Weight of the normalised score against the normalised cost saved (paper: 1.5).
    pub error_weight: f64,
    /// From how many of the anchors, the best first, moves up start too. A descent sees the budget
    /// only at its end, where the steps are few and, under noisy scores, partly chance; a climb
    /// starts from a policy that scored well.
    pub climbs: u64,
    /// Most policies that exchanges may ask for; 0 turns them off.
    pub exchange_limit: u64,
}

impl Default for GreedySettings {
    fn default() -> Self {
        Self { start: None, error_weight: 1.5, climbs: 5, exchange_limit: 200 }
    }
}

/// The stage of a search, with what only that stage needs.
#[derive(Debug, Clone)]
enum Stage {
    Anchors,
    Climb(Climb),
    Descent(Descent),
    /// The policy that the descent ended on gets its score.
    Settle,
    Ascent(Exchange),
    Exchange(Exchange),
    Ended,
}

/// What a stage comes to when it is asked to go on.
enum Outcome {
    /// It needs scores, and is to be asked again when they are there.
    Ask(Vec<Policy>),
    /// The same, and the stage is another by having asked.
    AskAs(Vec<Policy>, Stage),
    /// It took a step.
    Moved(Stage),
    /// It has ended; another follows.
    Next(Stage),
}

/// A running search.
#[derive(Debug, Clone)]
pub struct Greedy {
    settings: GreedySettings,
    walk: Walk,
    anchors: Vec<Policy>,
    stage: Stage,
}

impl Greedy {
    /// Set up a search for one of a problem's budgets.
    ///
    /// # Errors
    /// An `error_weight` that is negative or not finite, or a start that is no policy of the
    /// network.
    pub fn new(
        problem: &Problem,
        budget: usize,
        settings: GreedySettings,
    ) -> Result<Self, SearchError> {
        let value = settings.error_weight;
        if !value.is_finite() || value < 0.0 {
            return Err(SearchError::ErrorWeight { value });
        }
        if let Some(start) = &settings.start {
            start.check(&problem.network)?;
        }
        let start = settings.start.clone();
        let start = start.unwrap_or_else(|| Policy::largest(&problem.network));
        let walk = Walk::new(problem, budget, start);
        let anchors = walk.anchors(problem);
        Ok(Self { settings, walk, anchors, stage: Stage::Anchors })
    }

    fn go_on(&mut self, view: &View<'_>) -> Outcome {
        match self.stage.clone() {
            Stage::Anchors => self.score_anchors(view),
            Stage::Climb(climb) => climb.go_on(&self.anchors, &mut self.walk, view),
            Stage::Descent(descent) => {
                descent.go_on(self.settings.error_weight, &mut self.walk, view)
            }
            Stage::Settle => self.settle(view),
            Stage::Ascent(exchange) => upward::ascend(exchange, &mut self.walk, view),
            Stage::Exchange(exchange) => exchange.go_on(&mut self.walk, view),
            Stage::Ended => Outcome::Next(Stage::Ended),
        }
    }

    fn score_anchors(&self, view: &View<'_>) -> Outcome {
        // One evaluation stays back for the policy the descent ends on.
        let remaining = view.remaining.map(|remaining| remaining.saturating_sub(1));
        let anchors = View { remaining, ..*view }.cut(self.anchors.clone());
        match anchors.filter(|anchors| !view.archive.unknown(anchors).is_empty()) {
            Some(anchors) => Outcome::Ask(anchors),
            None => Outcome::Next(Stage::Climb(Climb::new(self.settings.climbs))),
        }
    }

    /// Make sure that the policy the descent ended on has a score, then begin the ascent there.
    fn settle(&self, view: &View<'_>) -> Outcome {
        let here = [self.walk.base().policy.clone()];
        if view.archive.score(&here[0]).is_some() {
            return Outcome::Next(Stage::Ascent(Exchange::new(self.settings.exchange_limit)));
        }
        if view.affords(&here, 0) {
            return Outcome::Ask(here.to_vec());
        }
        Outcome::Next(Stage::Ended)
    }
}

impl Strategy for Greedy {
    fn phase(&self) -> &'static str {
        match self.stage {
            Stage::Anchors => "anchors",
            Stage::Climb(_) => "climb",
            Stage::Descent(_) | Stage::Settle => "descent",
            Stage::Ascent(_) => "ascent",
            Stage::Exchange(_) => "exchange",
            Stage::Ended => "ended",
        }
    }

    fn propose(&mut self, view: &View<'_>) -> Option<Vec<Policy>> {
        while !matches!(self.stage, Stage::Ended) {
            match self.go_on(view) {
                Outcome::Ask(policies) => return Some(policies),
                Outcome::AskAs(policies, stage) => {
                    self.stage = stage;
                    return Some(policies);
                }
                Outcome::Moved(stage) | Outcome::Next(stage) => self.stage = stage,
            }
        }
        None
    }

    fn observe(&mut self, _view: &View<'_>, _scored: &[Scored<'_>]) {
        // The stages read the archive.
    }

    fn trace(&self) -> &[TraceStep] {
        self.walk.trace()
    }
}
