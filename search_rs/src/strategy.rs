//! What a search strategy is, and what the session shows it.
//!
//! Invariant: a strategy is a pure function of the problem, the seed and the scores. So a search
//! that is begun anew and given the same scores takes the same steps, and a caller that keeps the
//! scores resumes a search by asking again.

/// The strategies by name.
pub mod by_name;
/// Every policy within the budgets, one after the other.
pub mod enumeration;
/// Evolution: mutations and crossings of the best policies.
pub mod evolution;
/// The paper's bidirectional greedy rule.
pub mod greedy;
/// Policies chosen by a model of the scores.
pub mod guided;
/// One-at-a-time sensitivities, their optimum, and exchanges.
pub mod knapsack;
/// Strategies one after the other, each with its share of the evaluations.
pub mod parts;
/// Policies drawn uniformly within the budget.
pub mod random;
/// Policies that differ from the largest in one group.
mod singles;
/// The uniform policies alone.
pub mod uniform;

pub use by_name::{DEFAULT, DEFAULT_EVALUATIONS, Settings, create, names};

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use crate::archive::{Archive, Observation};
use crate::budget::Budget;
use crate::convert::as_place;
use crate::cost;
use crate::error::SearchError;
use crate::knapsack::{Knapsack, PairValues};
use crate::model::hints::Hints;
use crate::moves::Costed;
use crate::network::Network;
use crate::policy::Policy;
use crate::trace::{Marginal, Prediction, TraceStep};

/// What is searched for: fixed while a search runs.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The layers, their candidates and costs.
    pub network: Arc<Network>,
    /// The budgets, each of which gets a policy; at least one, and each can be met.
    pub budgets: Vec<Budget>,
    /// Uniform policies in any order: starts and yardsticks.
    pub uniform: Vec<Policy>,
    /// Policies from outside, each within some budget: measured first by strategies that have a
    /// start.
    pub starts: Vec<Policy>,
    /// What is known of the layers before anything was measured.
    pub hints: Option<Hints>,
    /// Decides every draw.
    pub seed: u64,
    /// Solves knapsacks over the network.
    pub knapsack: Arc<Knapsack>,
    /// By budget: the policy with the least load.
    pub cheapest: Vec<Policy>,
}

impl Problem {
    /// State a problem.
    ///
    /// # Errors
    /// No budget, or one whose limits no policy meets together; a uniform policy that is none of
    /// the network; ties that join too many layers.
    pub fn new(
        network: Arc<Network>,
        budgets: Vec<Budget>,
        uniform: Vec<Policy>,
        seed: u64,
    ) -> Result<Self, SearchError> {
        if budgets.is_empty() {
            return Err(SearchError::NoBudget);
        }
        uniform.iter().try_for_each(|policy| policy.check(&network))?;
        let knapsack = Arc::new(Knapsack::new(&network)?);
        let cheapest = budgets.iter().enumerate().map(|(budget, limits)| {
            let load = PairValues::by(&network, |layer, bits| {
                limits.load(&cost::of_layer(&network.layers()[layer], bits))
            });
            let solution = knapsack.solve(&network, &load, limits);
            solution.map(|it| it.policy).ok_or_else(|| {
                let least = crate::budget::least_of_each(&network, &knapsack, limits);
                SearchError::BudgetUnreachable { budget, least }
            })
        });
        let cheapest = cheapest.collect::<Result<_, _>>()?;
        let (starts, hints) = (Vec::new(), None);
        Ok(Self { network, budgets, uniform, starts, hints, seed, knapsack, cheapest })
    }

    /// Take what each pair of each layer should add to the score, up to a common factor and slope.
    #[must_use]
    pub fn with_hints(self, values: &PairValues) -> Self {
        Self { hints: Some(Hints::new(&self.network, values)), ..self }
    }

    /// Take policies from outside; those within no budget are left out.
    ///
    /// # Errors
    /// One that is none of the network.
    pub fn with_starts(mut self, starts: Vec<Policy>) -> Result<Self, SearchError> {
        starts.iter().try_for_each(|policy| policy.check(&self.network))?;
        let mut seen = BTreeSet::new();
        let is_new_and_within = |policy: &Policy| {
            let costs = cost::of_policy(&self.network, policy);
            let is_within = self.budgets.iter().any(|budget| budget.admits(&costs));
            is_within && seen.insert(policy.clone())
        };
        self.starts = starts.into_iter().filter(is_new_and_within).collect();
        Ok(self)
    }

    /// Return the policies that are within a budget, in their order.
    #[must_use]
    pub fn within(&self, budget: usize, policies: &[Policy]) -> Vec<Policy> {
        let limits = &self.budgets[budget];
        let is_within = |policy: &&Policy| limits.admits(&cost::of_policy(&self.network, policy));
        policies.iter().filter(is_within).cloned().collect()
    }

    /// Return the uniform policies within a budget of which no other has more bits everywhere.
    #[must_use]
    pub fn spending(&self, budget: usize) -> Vec<Policy> {
        let within = self.within(budget, &self.uniform);
        let is_below = |one: &Policy, other: &Policy| {
            one != other
                && one
                    .layers()
                    .iter()
                    .zip(other.layers())
                    .all(|(mine, its)| mine.weight <= its.weight && mine.act <= its.act)
        };
        let is_maximal = |policy: &&Policy| !within.iter().any(|other| is_below(policy, other));
        within.iter().filter(is_maximal).cloned().collect()
    }

    /// Return the policy with the lowest sum of values within a budget.
    #[must_use]
    pub fn optimum(&self, values: &PairValues, budget: usize) -> Policy {
        let solution = self.knapsack.solve(&self.network, values, &self.budgets[budget]);
        solution.map_or_else(|| self.cheapest[budget].clone(), |solution| solution.policy)
    }

    /// Return what draws for a budget; a search over all of them uses that of the first.
    #[must_use]
    pub fn generator(&self, budget: usize) -> Pcg64Mcg {
        Pcg64Mcg::seed_from_u64(self.seed.wrapping_add(budget as u64))
    }

    /// Return a policy with its costs.
    #[must_use]
    pub fn costed(&self, policy: Policy) -> Costed {
        Costed::new(&self.network, policy)
    }
}

/// What a strategy sees when it is asked.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The problem.
    pub problem: &'a Problem,
    /// All scores that are known, from this search and from before.
    pub archive: &'a Archive,
    /// Policies that may still be evaluated; `None` is no limit.
    pub remaining: Option<u64>,
}

impl View<'_> {
    /// Return whether policies can be evaluated with `reserve` evaluations left over.
    #[must_use]
    pub fn affords(&self, policies: &[Policy], reserve: u64) -> bool {
        let unknown = self.archive.unknown(policies).len() as u64;
        self.remaining.is_none_or(|remaining| unknown + reserve <= remaining)
    }

    /// Return what can be evaluated of a proposal: all of it, or what is known and the first
    /// unknown policies up to the limit; `None` where something is unknown and nothing can be
    /// evaluated.
    #[must_use]
    pub fn cut(&self, mut proposed: Vec<Policy>) -> Option<Vec<Policy>> {
        let mut unknown = self.archive.unknown(&proposed);
        let most = as_place(self.remaining.unwrap_or(u64::MAX));
        if unknown.len() <= most {
            return Some(proposed);
        }
        if most == 0 {
            return None;
        }
        let dropped: BTreeSet<Policy> = unknown.split_off(most).into_iter().collect();
        proposed.retain(|policy| !dropped.contains(policy));
        Some(proposed)
    }

    /// Return the evaluated policies within a budget with their scores, the lowest score first;
    /// ties go to the lower costs, then to the order of policies.
    #[must_use]
    pub fn ranked(&self, budget: usize) -> Vec<(Policy, f64)> {
        let (network, budget) = (&self.problem.network, &self.problem.budgets[budget]);
        let costed = self.archive.iter().map(|(policy, observation)| {
            (policy, observation.score(), cost::of_policy(network, policy))
        });
        let mut within: Vec<_> = costed.filter(|(_, _, costs)| budget.admits(costs)).collect();
        within.sort_by(|a, b| {
            a.1.total_cmp(&b.1).then_with(|| a.2.cmp(&b.2)).then_with(|| a.0.cmp(b.0))
        });
        within.into_iter().map(|(policy, score, _)| (policy.clone(), score)).collect()
    }

    /// Return the policies with the lowest scores within a budget, as `ranked` orders them.
    #[must_use]
    pub fn lowest(&self, budget: usize, count: usize) -> Vec<Policy> {
        let ranked = self.ranked(budget).into_iter().take(count);
        ranked.map(|(policy, _)| policy).collect()
    }
}

/// A policy with what evaluation said of it.
pub type Scored<'a> = (&'a Policy, &'a Observation);

/// A way to search. The session asks it for policies until it has none, or no evaluation is left.
pub trait Strategy: Debug + Send + Sync {
    /// Return what the strategy is doing, in a word.
    fn phase(&self) -> &'static str;

    /// Return policies whose scores are needed next; `None` when the strategy has ended. Those that
    /// are known are answered from the archive, those beyond the limit of evaluations are left out.
    fn propose(&mut self, view: &View<'_>) -> Option<Vec<Policy>>;

    /// Take note that policies proposed last now stand in the archive: those that were evaluated or
    /// known.
    fn observe(&mut self, view: &View<'_>, scored: &[Scored<'_>]);

    /// Make ready to answer from all that is known: nothing more is asked. By default there is
    /// nothing to do.
    fn conclude(&mut self, _view: &View<'_>) {}

    /// Return the policies that the strategy holds to be best within a budget, the best first; by
    /// default the lowest scores.
    fn shortlist(&self, view: &View<'_>, budget: usize, count: usize) -> Vec<Policy> {
        view.lowest(budget, count)
    }

    /// Return what a model of the scores says of a policy, where the strategy has one.
    fn predict(&self, _policy: &Policy) -> Option<Prediction> {
        None
    }

    /// Return what a model expects each single move of a policy to change, where the strategy has
    /// one.
    fn marginals(&self, _problem: &Problem, _policy: &Policy) -> Option<Vec<Marginal>> {
        None
    }

    /// Return the typical error of the model where it predicts a score that it was not shown.
    fn model_error(&self) -> Option<f64> {
        None
    }

    /// Return the steps so far.
    fn trace(&self) -> &[TraceStep];
}
