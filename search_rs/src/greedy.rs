//! Bidirectional greedy search (arXiv 2401.01543) as a state machine: `propose`, `observe`.
//!
//! Stages: anchors (uniform policies within the target, and the start), climbs (upward passes from the
//! best of them that spend the slack), descent from the start to the target, an upward pass from
//! there and from a better policy met on the way, exchanges. Climbs come first because they are cheap:
//! under a limit of evaluations that no descent fits, they are what a search can do.
//! Weights and activations are searched jointly; the reference searches them one after the other.
//!
//! Invariant: the steps are a pure function of the network, the target, the options and the errors.
//! What was restored changes what is asked, never what is done, so a resumed search repeats its trace.

mod descent;
mod exchange;
mod upward;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::archive::Archive;
use crate::budget::Budget;
use crate::error::SearchError;
use crate::moves::{Costed, difference};
use crate::network::{Bits, Network, Side};
use crate::policy::{LayerBits, Policy};
use crate::trace::{Phase, SearchResult, TraceStep};

/// Settings of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Where the descent begins; the largest candidates when `None`.
    pub start: Option<Policy>,
    /// Weight of the error against the BitOPs saved (paper: 1.5).
    pub error_weight: f64,
    /// Most policies whose error the search may need, restored ones included; `None` is no limit.
    /// A step that does not fit is not begun: the descent then finishes by BitOPs alone.
    pub evaluations: Option<u64>,
    /// Whether the uniform policies within the target, and the start, are evaluated first.
    pub anchors: bool,
    /// From how many of the uniform policies within the target that were evaluated, the best first,
    /// an upward pass starts too. A descent sees the target only at its end, where the steps are few
    /// and, under noisy errors, partly chance; a climb starts from what is known to be good.
    pub climbs: u64,
    /// Most policies that exchanges may need on top of the other stages; 0 turns them off.
    pub exchange_limit: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            start: None,
            error_weight: 1.5,
            evaluations: None,
            anchors: true,
            climbs: 0,
            exchange_limit: 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Anchors,
    Descent,
    Settle,
    Upward,
    Exchange,
    Done,
}

/// The answer to a request for errors.
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
    base: Costed,
    ceiling: Option<u64>,
    /// Every policy the search was in.
    visited: BTreeSet<Policy>,
    /// Those of the descent, which must not turn in a circle but may cross a climb.
    descended: BTreeSet<Policy>,
    pending: Vec<Policy>,
    is_begun: bool,
    num_climbs: u64,
    num_exchange: u64,
    trace: Vec<TraceStep>,
}

impl GreedySearch {
    /// Set up a search for the policy with the lowest error within `target_bitops`.
    ///
    /// # Errors
    /// A target below the smallest reachable, a start that is not a policy of the network, an
    /// `error_weight` that is negative or not finite, or `evaluations` of 0.
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
        let start = match &options.start {
            Some(start) => Policy::new(&network, start.layers().to_vec())?,
            None => Policy::largest(&network),
        };
        Ok(Self {
            budget,
            archive: Archive::default(),
            stage: Stage::Anchors,
            visited: BTreeSet::from([start.clone()]),
            descended: BTreeSet::new(),
            base: Costed::new(&network, start.clone()),
            start: Costed::new(&network, start),
            ceiling: None,
            pending: Vec::new(),
            is_begun: false,
            num_climbs: 0,
            num_exchange: 0,
            trace: Vec::new(),
            network,
            options,
        })
    }

    /// Preload known errors, of this search before it stopped or of another on the same images.
    ///
    /// # Errors
    /// After the first `propose`; another number of errors than policies; an error that is not
    /// finite or contradicts another.
    pub fn restore(&mut self, policies: &[Policy], errors: &[f64]) -> Result<(), SearchError> {
        if self.is_begun {
            return Err(SearchError::RestoreTooLate);
        }
        self.archive.record(policies, errors)
    }

    /// Return policies whose errors are needed and not on record, never none of them; `None` when
    /// the search has ended. Until `observe` the same policies are returned again.
    pub fn propose(&mut self) -> Option<Vec<Policy>> {
        self.is_begun = true;
        while self.pending.is_empty() {
            match self.stage {
                Stage::Anchors => self.score_anchors(),
                Stage::Descent => self.descend(),
                Stage::Settle => self.settle(),
                Stage::Upward => self.ascend(),
                Stage::Exchange => self.exchange(),
                Stage::Done => return None,
            }
        }
        Some(self.pending.clone())
    }

    /// Take the errors of the policies last proposed, in their order; lower is better.
    ///
    /// # Errors
    /// Nothing proposed, another number of errors, or one that is not finite. The search is then as
    /// it was, and the right errors may follow.
    pub fn observe(&mut self, errors: &[f64]) -> Result<(), SearchError> {
        if self.pending.is_empty() {
            return Err(SearchError::NothingProposed { found: errors.len() });
        }
        self.archive.record(&self.pending, errors)?;
        self.pending.clear();
        Ok(())
    }

    /// Return the policy with the lowest error on record within the target, once the search has ended.
    ///
    /// Ties go to the policy the steps ended on, then to fewer BitOPs, then to the order of policies.
    ///
    /// # Errors
    /// The search has not ended.
    pub fn result(&self) -> Result<SearchResult, SearchError> {
        let best = self.best_within(self.archive.all());
        let (Stage::Done, Some((best, error))) = (self.stage, best) else {
            return Err(SearchError::NotFinished);
        };
        Ok(SearchResult {
            policy: best.policy,
            error,
            bitops: best.bitops,
            num_evaluations: self.archive.num_needed(),
            num_restored: self.archive.num_restored(),
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

    /// Return how many policies are proposed and wait for their errors.
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
        if !self.options.anchors {
            return self.leave_upward();
        }
        let start = &self.base.policy;
        let uniform = self.uniform_within().into_iter().filter(|policy| policy != start);
        let mut policies: Vec<_> = std::iter::once(start.clone()).chain(uniform).collect();
        if let Some(limit) = self.options.evaluations {
            // One evaluation stays back for the policy the descent ends on.
            policies.truncate(usize::try_from(limit - 1).unwrap_or(usize::MAX));
        }
        if !matches!(self.ask(&policies, 1), Answer::Asked) {
            self.leave_upward();
        }
    }

    /// Return the uniform policies within the target, the costly first.
    fn uniform_within(&self) -> Vec<Policy> {
        let mut uniform = BTreeSet::new();
        for weight in self.union_of_candidates(Side::Weight) {
            for act in self.union_of_candidates(Side::Act) {
                let policy = Policy::uniform(&self.network, LayerBits { weight, act });
                let costed = Costed::new(&self.network, policy);
                if self.budget.admits(costed.bitops) {
                    uniform.insert((costed.bitops, costed.policy));
                }
            }
        }
        uniform.into_iter().rev().map(|(_, policy)| policy).collect()
    }

    fn union_of_candidates(&self, side: Side) -> BTreeSet<Bits> {
        let layers = self.network.layers().iter();
        layers.flat_map(|layer| layer.candidates(side).as_slice()).copied().collect()
    }

    /// Ask for errors; `reserve` evaluations must remain under the limit.
    fn ask(&mut self, policies: &[Policy], reserve: u64) -> Answer {
        let total = self.archive.num_needed() + self.archive.count_new(policies) + reserve;
        if self.options.evaluations.is_some_and(|limit| total > limit) {
            return Answer::Refused;
        }
        self.pending = self.archive.need(policies);
        let errors: Option<Vec<f64>> =
            policies.iter().map(|policy| self.archive.error(policy)).collect();
        errors.map_or(Answer::Asked, Answer::Known)
    }

    fn step_to(&mut self, phase: Phase, next: Costed, error: Option<f64>) {
        let changes = difference(&self.base.policy, &next.policy);
        self.trace.push(TraceStep { phase, changes, error, bitops: next.bitops });
        self.visited.insert(next.policy.clone());
        self.base = next;
    }

    /// Return the policy with the lowest error within the target; ties as in `result`.
    fn best_within<'a>(
        &self,
        known: impl Iterator<Item = (&'a Policy, f64)>,
    ) -> Option<(Costed, f64)> {
        let costed =
            known.map(|(policy, error)| (Costed::new(&self.network, policy.clone()), error));
        let within = costed.filter(|(costed, _)| self.budget.admits(costed.bitops));
        within.min_by(|(a, a_error), (b, b_error)| {
            let is_other = |costed: &Costed| costed.policy != self.base.policy;
            let by_end = || is_other(a).cmp(&is_other(b));
            let by_cost = || (a.bitops, &a.policy).cmp(&(b.bitops, &b.policy));
            a_error.total_cmp(b_error).then_with(by_end).then_with(by_cost)
        })
    }
}
