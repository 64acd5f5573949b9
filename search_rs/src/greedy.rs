//! Bidirectional greedy search (arXiv 2401.01543) as a state machine: `propose`, `observe`.
//!
//! Stages, in order:
//!
//! 1. anchors: the start and the anchors within the target, usually uniform policies, are scored;
//! 2. climbs: from the best anchors, moves up spend the slack below the target;
//! 3. descent from the start to the target;
//! 4. ascent: moves up from where the descent ended, and from a better policy met on the way;
//! 5. exchanges: one move up paid for by one move down.
//!
//! Climbs come before the descent because they are cheap: under a limit of evaluations that no
//! descent fits, they are what a search can do. Weights and activations are searched jointly; the
//! reference searches them one after the other.
//!
//! The target is the limit on the cost. Invariant: applying the changes of all steps in order to the
//! start leads to the policy the search is at, and no step that does not fit the limit of evaluations
//! is begun: the descent then finishes by cost alone.

mod descent;
mod exchange;
mod upward;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::archive::Archive;
use crate::budget::Budget;
use crate::cost;
use crate::error::SearchError;
use crate::moves::{Costed, difference};
use crate::network::Network;
use crate::policy::Policy;
use crate::strategy::{Options, Strategy};
use crate::trace::{SearchResult, TraceStep};

/// Why the search went from one policy to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// On the way to the target, by merit.
    Descent,
    /// On the way to the target after the evaluation limit, by cost alone, without a score.
    Finish,
    /// Spending the slack below the target: in a climb, or in an ascent after the descent.
    Upward,
    /// To where the next climb, the descent or the last ascent begins.
    Restart,
    /// One move up paid for by one move down: two changes.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Anchors,
    /// Moves up from an anchor, before the descent.
    Climb,
    Descent,
    /// The policy that the descent ended on gets its score.
    Settle,
    /// Moves up after the descent.
    Ascent,
    Exchange,
    Done,
}

/// The answer to a request for scores.
enum Answer {
    /// All are on record.
    Known(Vec<f64>),
    /// Some are being asked for; come back after `observe`.
    Asked,
    /// They do not fit the limit.
    Refused,
}

/// A running search.
#[derive(Debug, Clone)]
pub struct GreedySearch {
    network: Arc<Network>,
    budget: Budget,
    options: Options,
    archive: Archive,
    stage: Stage,
    start: Costed,
    /// The start and, the costly first, the anchors within the target; empty without anchors.
    anchors: Vec<Policy>,
    /// The policy the search is at.
    base: Costed,
    ceiling: Option<u64>,
    /// Every policy the search was at.
    visited: BTreeSet<Policy>,
    /// Those of the descent, which must not turn in a circle but may cross a climb.
    descended: BTreeSet<Policy>,
    pending: Vec<Policy>,
    num_climbs: u64,
    num_exchange: u64,
    trace: Vec<TraceStep>,
}

impl GreedySearch {
    /// Set up a search for the policy with the lowest score within `limit`.
    ///
    /// # Errors
    /// A target below the smallest reachable, a start or an anchor that is not a policy of the
    /// network, an `error_weight` that is negative or not finite, or `evaluations` of 0.
    pub fn new(network: Arc<Network>, limit: u64, options: Options) -> Result<Self, SearchError> {
        let budget = Budget::new(&network, limit)?;
        let value = options.error_weight;
        if !value.is_finite() || value < 0.0 {
            return Err(SearchError::ErrorWeight { value });
        }
        if options.evaluations == Some(0) {
            return Err(SearchError::NoEvaluations);
        }
        options
            .start
            .iter()
            .chain(&options.anchors)
            .try_for_each(|policy| policy.check(&network))?;
        let start = options.start.clone().unwrap_or_else(|| Policy::largest(&network));
        let start = Costed::new(&network, start);
        Ok(Self {
            anchors: first_batch(&network, budget, &start.policy, &options.anchors),
            budget,
            archive: Archive::default(),
            stage: Stage::Anchors,
            visited: BTreeSet::from([start.policy.clone()]),
            descended: BTreeSet::new(),
            base: start.clone(),
            start,
            ceiling: None,
            pending: Vec::new(),
            num_climbs: 0,
            num_exchange: 0,
            trace: Vec::new(),
            network,
            options,
        })
    }

    fn score_anchors(&mut self) {
        let mut policies = self.anchors.clone();
        if let Some(limit) = self.options.evaluations {
            // One evaluation stays back for the policy the descent ends on.
            policies.truncate(usize::try_from(limit - 1).unwrap_or(usize::MAX));
        }
        if !matches!(self.ask(&policies, 1), Answer::Asked) {
            self.begin_climb();
        }
    }

    /// Ask for scores; `reserve` evaluations must remain under the limit.
    fn ask(&mut self, policies: &[Policy], reserve: u64) -> Answer {
        let unknown = self.archive.unknown(policies);
        let total = self.archive.num_policies() + unknown.len() as u64 + reserve;
        if self.options.evaluations.is_some_and(|limit| total > limit) {
            return Answer::Refused;
        }
        self.pending = unknown;
        let scores: Option<Vec<f64>> =
            policies.iter().map(|policy| self.archive.score(policy)).collect();
        scores.map_or(Answer::Asked, Answer::Known)
    }

    fn step_to(&mut self, phase: Phase, next: Costed, score: Option<f64>) {
        let changes = difference(&self.base.policy, &next.policy);
        self.trace.push(TraceStep { phase: phase.name(), changes, score, cost: next.cost });
        self.visited.insert(next.policy.clone());
        self.base = next;
    }

    /// Return the policy with the lowest score within the target. Ties go to the policy that the steps
    /// are at, then to lower cost, then to the order of policies.
    fn best_of<'a>(
        &self,
        scored: impl Iterator<Item = (&'a Policy, f64)>,
    ) -> Option<(Costed, f64)> {
        let costed = scored.map(|(policy, score)| {
            (score, policy != &self.base.policy, cost::of_policy(&self.network, policy), policy)
        });
        let best = costed
            .filter(|&(_, _, cost, _)| self.budget.admits(cost))
            .min_by(|a, b| a.0.total_cmp(&b.0).then_with(|| (a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
        best.map(|(score, _, cost, policy)| (Costed { policy: policy.clone(), cost }, score))
    }
}

impl Strategy for GreedySearch {
    fn propose(&mut self) -> Option<Vec<Policy>> {
        while self.pending.is_empty() {
            match self.stage {
                Stage::Anchors => self.score_anchors(),
                Stage::Climb => self.climb(),
                Stage::Descent => self.descend(),
                Stage::Settle => self.settle(),
                Stage::Ascent => self.ascend(),
                Stage::Exchange => self.exchange(),
                Stage::Done => return None,
            }
        }
        Some(self.pending.clone())
    }

    fn observe(&mut self, scores: &[f64]) -> Result<(), SearchError> {
        if self.pending.is_empty() {
            return Err(SearchError::NothingProposed { found: scores.len() });
        }
        self.archive.record(&self.pending, scores)?;
        self.pending.clear();
        Ok(())
    }

    fn result(&self) -> Result<SearchResult, SearchError> {
        let best = self.best_of(self.archive.iter());
        let (Stage::Done, Some((best, score))) = (self.stage, best) else {
            return Err(SearchError::NotFinished);
        };
        Ok(SearchResult {
            policy: best.policy,
            score,
            cost: best.cost,
            num_evaluations: self.archive.num_policies(),
            trace: self.trace.clone(),
        })
    }

    fn network(&self) -> &Network {
        &self.network
    }

    fn limit(&self) -> u64 {
        self.budget.limit()
    }

    fn num_proposed(&self) -> usize {
        self.pending.len()
    }

    fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    fn trace(&self) -> &[TraceStep] {
        &self.trace
    }
}

/// Return what is scored first: the start, then the other anchors within the target, each once and
/// the costly first; nothing when there are no anchors.
fn first_batch(
    network: &Network,
    budget: Budget,
    start: &Policy,
    anchors: &[Policy],
) -> Vec<Policy> {
    if anchors.is_empty() {
        return Vec::new();
    }
    let costed = anchors.iter().map(|anchor| Costed::new(network, anchor.clone()));
    let cheapest_first: BTreeSet<_> = costed
        .filter(|anchor| budget.admits(anchor.cost) && anchor.policy != *start)
        .map(|anchor| (anchor.cost, anchor.policy))
        .collect();
    let costly_first = cheapest_first.into_iter().rev().map(|(_, policy)| policy);
    std::iter::once(start.clone()).chain(costly_first).collect()
}
