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
//! Invariant: the steps are a pure function of the network, the target, the options and the scores.
//! So a search that is begun anew and given the same scores repeats its trace, and a caller that
//! keeps the scores resumes a search by asking again.

mod descent;
mod exchange;
mod upward;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::archive::Archive;
use crate::budget::Budget;
use crate::cost::Resource;
use crate::error::SearchError;
use crate::moves::{Costed, difference};
use crate::network::Network;
use crate::policy::Policy;
use crate::trace::{Phase, SearchResult, TraceStep};

/// Settings of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Where the descent begins; the largest candidates when `None`.
    pub start: Option<Policy>,
    /// Weight of the normalised score against the normalised BitOPs saved (paper: 1.5).
    pub error_weight: f64,
    /// Most policies whose score the search may ask for; `None` is no limit.
    /// A step that does not fit is not begun: the descent then finishes by BitOPs alone.
    pub evaluations: Option<u64>,
    /// Policies that are scored first, those within the target, together with the start; with none
    /// the start is not scored either.
    pub anchors: Vec<Policy>,
    /// From how many of the anchors, the best first, moves up start too. A descent sees the target
    /// only at its end, where the steps are few and, under noisy scores, partly chance; a climb
    /// starts from a policy that scored well.
    pub climbs: u64,
    /// Most policies that exchanges may ask for on top of the other stages; 0 turns them off.
    pub exchange_limit: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            start: None,
            error_weight: 1.5,
            evaluations: None,
            anchors: Vec::new(),
            climbs: 0,
            exchange_limit: 0,
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
    /// Set up a search for the policy with the lowest score within `target_bitops`.
    ///
    /// # Errors
    /// A target below the smallest reachable, a start or an anchor that is not a policy of the
    /// network, an `error_weight` that is negative or not finite, or `evaluations` of 0.
    pub fn new(
        network: Arc<Network>,
        target_bitops: u64,
        options: Options,
    ) -> Result<Self, SearchError> {
        let budget = Budget::new(&network, target_bitops)?;
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

    /// Return policies whose scores are needed, never none and none twice; `None` when the search
    /// has ended. Until `observe` the same policies are returned again.
    pub fn propose(&mut self) -> Option<Vec<Policy>> {
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

    /// Take the scores of the policies last proposed, in their order; lower is better.
    ///
    /// # Errors
    /// Nothing proposed, another number of scores, or one that is not finite. The search is then as
    /// it was, and the right scores may follow.
    pub fn observe(&mut self, scores: &[f64]) -> Result<(), SearchError> {
        if self.pending.is_empty() {
            return Err(SearchError::NothingProposed { found: scores.len() });
        }
        self.archive.record(&self.pending, scores)?;
        self.pending.clear();
        Ok(())
    }

    /// Return the policy with the lowest score within the target, once the search has ended.
    ///
    /// Ties go to the policy the steps ended on, then to fewer BitOPs, then to the order of policies.
    ///
    /// # Errors
    /// The search has not ended.
    pub fn result(&self) -> Result<SearchResult, SearchError> {
        let best = self.best_of(self.archive.iter());
        let (Stage::Done, Some((best, score))) = (self.stage, best) else {
            return Err(SearchError::NotFinished);
        };
        Ok(SearchResult {
            policy: best.policy,
            score,
            bitops: best.bitops,
            num_evaluations: self.archive.num_policies(),
            trace: self.trace.clone(),
        })
    }

    /// Return the network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Return the target, in BitOPs.
    #[must_use]
    pub fn target_bitops(&self) -> u64 {
        self.budget.target_bitops()
    }

    /// Return how many policies are proposed and wait for their scores.
    #[must_use]
    pub fn num_proposed(&self) -> usize {
        self.pending.len()
    }

    /// Return whether the search has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Return the steps so far.
    #[must_use]
    pub fn trace(&self) -> &[TraceStep] {
        &self.trace
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
        self.trace.push(TraceStep { phase, changes, score, bitops: next.bitops });
        self.visited.insert(next.policy.clone());
        self.base = next;
    }

    /// Return the policy with the lowest score within the target; ties as in `result`.
    fn best_of<'a>(
        &self,
        scored: impl Iterator<Item = (&'a Policy, f64)>,
    ) -> Option<(Costed, f64)> {
        let costed = scored.map(|(policy, score)| {
            (score, policy != &self.base.policy, self.bitops(policy), policy)
        });
        let best = costed
            .filter(|&(_, _, bitops, _)| self.budget.admits(bitops))
            .min_by(|a, b| a.0.total_cmp(&b.0).then_with(|| (a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
        best.map(|(score, _, bitops, policy)| (Costed { policy: policy.clone(), bitops }, score))
    }

    fn bitops(&self, policy: &Policy) -> u64 {
        Resource::BitOps.of_policy(&self.network, policy)
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
        .filter(|anchor| budget.admits(anchor.bitops) && anchor.policy != *start)
        .map(|anchor| (anchor.bitops, anchor.policy))
        .collect();
    let costly_first = cheapest_first.into_iter().rev().map(|(_, policy)| policy);
    std::iter::once(start.clone()).chain(costly_first).collect()
}
