//! A search under way: the problem, the scores known, the limit of evaluations, what is pending,
//! and the strategy that decides what is asked next.
//!
//! Invariant: no policy is asked for twice, none that is known is asked for, and never more than
//! the limit allows; results are within their budgets. What a strategy asks depends on scores
//! alone, so a session made anew and given the same scores asks the same.

use crate::archive::Archive;
use crate::cost;
use crate::error::SearchError;
use crate::policy::Policy;
use crate::strategy::{Problem, Strategy, View};
use crate::trace::{Marginal, Prediction, SearchResult, TraceStep};

/// A running search.
#[derive(Debug)]
pub struct Session {
    problem: Problem,
    strategy: Box<dyn Strategy>,
    archive: Archive,
    limit: Option<u64>,
    num_evaluations: u64,
    /// By budget: the policy that `View::ranked` holds to be the first. Kept from batch to batch,
    /// for ranking ten thousand policies takes longer than a display may.
    best: Vec<Option<Policy>>,
    state: State,
}

/// Where a session stands.
#[derive(Debug)]
enum State {
    /// The strategy is to be asked.
    Idle,
    /// Scores of `unknown` are awaited; the strategy proposed `proposed`.
    Waiting { proposed: Vec<Policy>, unknown: Vec<Policy> },
    /// Nothing more will be asked.
    Ended,
}

/// How far a search is.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// What the strategy is doing.
    pub phase: &'static str,
    /// Policies evaluated for this search.
    pub num_evaluations: u64,
    /// Most policies that may be.
    pub limit: Option<u64>,
    /// The policy with the lowest score within each budget so far.
    pub best: Vec<Option<Best>>,
    /// Typical error of the model's predictions.
    pub model_error: Option<f64>,
}

/// The policy with the lowest score so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// The policy.
    pub policy: Policy,
    /// Its score.
    pub score: f64,
    /// Standard error of the score over images drawn anew; `None` where it came without parts.
    pub standard_error: Option<f64>,
    /// What the strategy's model says of it, where it has one.
    pub predicted: Option<Prediction>,
}

impl Session {
    /// Begin a search.
    ///
    /// # Arguments
    /// * `known` - scores from before; they are answers, and cost no evaluation.
    /// * `limit` - most policies that may be evaluated; `None` is no limit.
    ///
    /// # Errors
    /// A limit of 0.
    pub fn new(
        problem: Problem,
        strategy: Box<dyn Strategy>,
        known: Archive,
        limit: Option<u64>,
    ) -> Result<Self, SearchError> {
        if limit == Some(0) {
            return Err(SearchError::NoEvaluations);
        }
        let best = vec![None; problem.budgets.len()];
        let (num_evaluations, state) = (0, State::Idle);
        let policies: Vec<Policy> = known.iter().map(|(policy, _)| policy.clone()).collect();
        let archive = known;
        let mut session = Self { problem, strategy, archive, limit, num_evaluations, best, state };
        session.update_best(&policies);
        Ok(session)
    }

    /// Return policies whose scores are needed, never none and none twice; `None` when the search
    /// has ended. Until `observe` the same policies are returned again.
    pub fn propose(&mut self) -> Option<Vec<Policy>> {
        loop {
            match &self.state {
                State::Waiting { unknown, .. } => return Some(unknown.clone()),
                State::Ended => return None,
                State::Idle => self.ask(),
            }
        }
    }

    /// Take the scores of the policies last proposed, in their order, a row of parts for each;
    /// lower is better.
    ///
    /// # Errors
    /// Nothing proposed, another number of rows, rows of different lengths, or a score that is not
    /// finite. The session is then as it was, and the right scores may follow.
    pub fn observe(&mut self, rows: &[Vec<f64>]) -> Result<(), SearchError> {
        let State::Waiting { proposed, unknown } = &self.state else {
            return Err(SearchError::NothingProposed { found: rows.len() });
        };
        self.archive.record(unknown, rows)?;
        self.num_evaluations += unknown.len() as u64;
        let (proposed, unknown) = (proposed.clone(), unknown.clone());
        self.update_best(&unknown);
        self.tell(&proposed);
        Ok(())
    }

    /// End the search with what is known; scores that are awaited are no longer.
    pub fn conclude(&mut self) {
        if !self.is_done() {
            self.end();
        }
    }

    /// Return what the strategy's model expects each single move of a policy to change, side by
    /// side in execution order; `None` where it has no model.
    ///
    /// # Errors
    /// A policy that is none of the network.
    pub fn marginals(&self, policy: &Policy) -> Result<Option<Vec<Marginal>>, SearchError> {
        policy.check(&self.problem.network)?;
        Ok(self.strategy.marginals(&self.problem, policy))
    }

    /// Return the policy chosen for each budget, once the search has ended.
    ///
    /// # Errors
    /// The search has not ended.
    pub fn results(&self) -> Result<Vec<SearchResult>, SearchError> {
        let budgets = 0..self.problem.budgets.len();
        budgets.map(|budget| Ok(self.shortlist(budget, 1)?.swap_remove(0))).collect()
    }

    /// Return the policies that the strategy holds to be best within a budget, the best first, at
    /// least one.
    ///
    /// # Errors
    /// The search has not ended, or has no such budget.
    pub fn shortlist(&self, budget: usize, count: usize) -> Result<Vec<SearchResult>, SearchError> {
        if !self.is_done() {
            return Err(SearchError::NotFinished);
        }
        let limit = self.problem.budgets.len();
        if budget >= limit {
            return Err(SearchError::UnknownBudget { budget, limit });
        }
        let mut policies = self.strategy.shortlist(&self.view(), budget, count.max(1));
        if policies.is_empty() {
            // So few evaluations that none was within the budget: the cheapest is.
            policies.push(self.problem.cheapest[budget].clone());
        }
        let result = |policy: Policy| SearchResult {
            costs: cost::of_policy(&self.problem.network, &policy),
            score: self.archive.score(&policy),
            predicted: self.strategy.predict(&policy),
            policy,
        };
        Ok(policies.into_iter().map(result).collect())
    }

    /// Return how far the search is.
    #[must_use]
    pub fn status(&self) -> Status {
        let best = |policy: &Option<Policy>| {
            let policy = policy.clone()?;
            let observation = self.archive.get(&policy)?;
            Some(Best {
                score: observation.score(),
                standard_error: observation.standard_error(),
                predicted: self.strategy.predict(&policy),
                policy,
            })
        };
        Status {
            phase: if self.is_done() { "ended" } else { self.strategy.phase() },
            num_evaluations: self.num_evaluations,
            limit: self.limit,
            best: self.best.iter().map(best).collect(),
            model_error: self.strategy.model_error(),
        }
    }

    /// Return the problem.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Return the strategy.
    #[must_use]
    pub fn strategy(&self) -> &dyn Strategy {
        self.strategy.as_ref()
    }

    /// Return how many policies are proposed and wait for their scores.
    #[must_use]
    pub fn num_proposed(&self) -> usize {
        match &self.state {
            State::Waiting { unknown, .. } => unknown.len(),
            State::Idle | State::Ended => 0,
        }
    }

    /// Return how many policies were evaluated for this search.
    #[must_use]
    pub fn num_evaluations(&self) -> u64 {
        self.num_evaluations
    }

    /// Return whether the search has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Return the steps so far.
    #[must_use]
    pub fn trace(&self) -> &[TraceStep] {
        self.strategy.trace()
    }

    fn remaining(&self) -> Option<u64> {
        self.limit.map(|limit| limit - self.num_evaluations)
    }

    fn view(&self) -> View<'_> {
        View { problem: &self.problem, archive: &self.archive, remaining: self.remaining() }
    }

    fn ask(&mut self) {
        let remaining = self.remaining();
        let view = View { problem: &self.problem, archive: &self.archive, remaining };
        let proposed = self.strategy.propose(&view).and_then(|proposed| view.cut(proposed));
        let Some(proposed) = proposed else {
            self.end();
            return;
        };
        let unknown = self.archive.unknown(&proposed);
        if unknown.is_empty() {
            self.tell(&proposed);
        } else {
            self.state = State::Waiting { proposed, unknown };
        }
    }

    fn end(&mut self) {
        let remaining = self.remaining();
        let view = View { problem: &self.problem, archive: &self.archive, remaining };
        self.strategy.conclude(&view);
        self.state = State::Ended;
    }

    /// Compare policies that have scores now with the best so far, in the order of `View::ranked`.
    fn update_best(&mut self, policies: &[Policy]) {
        let Self { problem, archive, best, .. } = self;
        let rank = |policy: &Policy| {
            let costs = cost::of_policy(&problem.network, policy);
            archive.score(policy).map(|score| (score, costs))
        };
        for policy in policies {
            let Some((score, costs)) = rank(policy) else { continue };
            for (limits, best) in problem.budgets.iter().zip(best.iter_mut()) {
                let is_better = |other: &Policy| {
                    rank(other).is_none_or(|(other_score, other_costs)| {
                        let order = score.total_cmp(&other_score).then(costs.cmp(&other_costs));
                        order.then_with(|| policy.cmp(other)).is_lt()
                    })
                };
                if limits.admits(&costs) && best.as_ref().is_none_or(is_better) {
                    *best = Some(policy.clone());
                }
            }
        }
    }

    fn tell(&mut self, proposed: &[Policy]) {
        let remaining = self.remaining();
        let view = View { problem: &self.problem, archive: &self.archive, remaining };
        let scored: Vec<_> = proposed
            .iter()
            .filter_map(|policy| view.archive.get(policy).map(|observation| (policy, observation)))
            .collect();
        self.strategy.observe(&view, &scored);
        self.state = State::Idle;
    }
}
