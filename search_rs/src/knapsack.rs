//! The cheapest values within a budget: an exact multiple-choice knapsack.
//!
//! Given a value for each pair of bits of each layer, finds the policy with the lowest sum of values
//! among those that every limit admits. It is dynamic programming over lists (Nemhauser and Ullmann,
//! 1969; for multiple choice Pisinger, "A minimal algorithm for the multiple-choice knapsack problem",
//! 1995): block by block, the partial policies that no other beats in value and all costs are kept.
//! Those whose Lagrangian bound is above the best whole policy known are dropped, which leaves few.
//!
//! Invariant: no policy within the budget has a lower value than a solution that is `is_proven`.

mod bound;
mod choice;

use crate::blocks::{self, Block};
use crate::budget::Budget;
use crate::cost::Aggregate;
use crate::error::SearchError;
use crate::network::Network;
use crate::policy::{LayerBits, Policy};

use self::bound::Bound;
use self::choice::{Choice, choices};

/// Most partial policies kept. Layer tables need some hundred; beyond, the best are kept and the
/// solution is no longer proven.
const MAX_STATES: usize = 200_000;

/// Above that many states, those beaten by another are looked for only under one limit.
const MAX_PAIRWISE: usize = 4_000;

/// A value for each pair of candidates of each layer, lower is better.
#[derive(Debug, Clone)]
pub struct PairValues(Vec<Vec<f64>>);

impl PairValues {
    /// Value every pair of every layer by a function of layer index and bits.
    #[must_use]
    pub fn by(network: &Network, value: impl Fn(usize, LayerBits) -> f64) -> Self {
        use crate::bits::Side::{Act, Weight};
        let layers = network.layers().iter().enumerate().map(|(index, layer)| {
            let weights = layer.candidates(Weight).as_slice().iter();
            let value = &value;
            weights
                .flat_map(|&weight| {
                    let acts = layer.candidates(Act).as_slice().iter();
                    acts.map(move |&act| value(index, LayerBits { weight, act }))
                })
                .collect()
        });
        Self(layers.collect())
    }

    /// Return the value of a layer at a pair of its candidates.
    #[must_use]
    pub fn of_layer(&self, network: &Network, layer: usize, bits: LayerBits) -> f64 {
        use crate::bits::Side::{Act, Weight};
        let candidates = |side| network.layers()[layer].candidates(side);
        let position = |side| candidates(side).position(bits.side(side).get()).unwrap_or_default();
        self.0[layer][position(Weight) * candidates(Act).as_slice().len() + position(Act)]
    }

    /// Return the sum over the layers of a policy.
    #[must_use]
    pub fn of_policy(&self, network: &Network, policy: &Policy) -> f64 {
        let layers = policy.layers().iter().enumerate();
        layers.map(|(layer, &bits)| self.of_layer(network, layer, bits)).sum()
    }
}

/// The answer to a knapsack.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// The policy with the lowest sum of values within the budget.
    pub policy: Policy,
    /// That sum.
    pub value: f64,
    /// Whether it is certain that no policy is better.
    pub is_proven: bool,
}

/// A partial policy: options of the blocks up to one.
#[derive(Debug, Clone)]
struct State {
    /// In each resource that adds up and is limited.
    costs: Vec<u64>,
    value: f64,
    /// Place of what it extends among the states before, and the choice that it adds.
    from: (usize, usize),
}

/// Solves knapsacks over one network.
#[derive(Debug, Clone)]
pub struct Knapsack {
    blocks: Vec<Block>,
}

impl Knapsack {
    /// Prepare the blocks of a network.
    ///
    /// # Errors
    /// Ties that join too many layers.
    pub fn new(network: &Network) -> Result<Self, SearchError> {
        Ok(Self { blocks: blocks::of_network(network)? })
    }

    /// Return the blocks.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Return the policy with the lowest sum of values within a budget; of equal ones, one.
    ///
    /// `None` where no policy meets all limits together.
    #[must_use]
    pub fn solve(
        &self,
        network: &Network,
        values: &PairValues,
        budget: &Budget,
    ) -> Option<Solution> {
        let sums: Vec<(usize, u64)> = limits_of(network, budget, Aggregate::Sum);
        let mut steps = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let choices = choices(network, block, values, budget, &sums);
            if choices.is_empty() {
                return None; // One block alone is above a limit.
            }
            steps.push(choices);
        }
        let limits: Vec<u64> = sums.iter().map(|&(_, limit)| limit).collect();
        let bound = Bound::new(&steps, &limits)?;
        let (picks, value, is_proven) = run(&steps, &limits, &bound)?;
        let mut policy = Policy::smallest(network);
        for ((block, choices), pick) in self.blocks.iter().zip(&steps).zip(picks) {
            block.write(choices[pick].option, &mut policy);
        }
        Some(Solution { policy, value, is_proven })
    }
}

/// Return the limited resources that aggregate in one way, with their limits.
fn limits_of(network: &Network, budget: &Budget, kind: Aggregate) -> Vec<(usize, u64)> {
    let limits = budget.limits().iter().copied();
    limits.filter(|&(resource, _)| network.aggregates()[resource] == kind).collect()
}

/// Return the choice for each block, their value, and whether it is proven to be the lowest.
fn run(steps: &[Vec<Choice>], limits: &[u64], bound: &Bound) -> Option<(Vec<usize>, f64, bool)> {
    let start = State { costs: vec![0; limits.len()], value: 0.0, from: (0, 0) };
    let mut layers: Vec<Vec<State>> = vec![vec![start]];
    let mut is_proven = true;
    for (step, choices) in steps.iter().enumerate() {
        let mut next = Vec::new();
        for (place, state) in layers[step].iter().enumerate() {
            for (pick, choice) in choices.iter().enumerate() {
                let costs: Vec<u64> =
                    state.costs.iter().zip(&choice.costs).map(|(sum, one)| sum + one).collect();
                let value = state.value + choice.value;
                if bound.may_lead_to_best(step + 1, &costs, value) {
                    next.push(State { costs, value, from: (place, pick) });
                }
            }
        }
        let mut kept = without_beaten(next);
        if kept.len() > MAX_STATES {
            is_proven = false;
            kept.sort_by(|a, b| {
                bound
                    .least(step + 1, &a.costs, a.value)
                    .total_cmp(&bound.least(step + 1, &b.costs, b.value))
            });
            kept.truncate(MAX_STATES);
        }
        layers.push(kept);
    }
    let ends = layers[steps.len()].iter().enumerate();
    let best = ends.min_by(|(_, a), (_, b)| {
        a.value.total_cmp(&b.value).then_with(|| a.costs.cmp(&b.costs))
    });
    let Some((place, end)) = best else {
        return known(bound, is_proven);
    };
    if end.value > bound.value() {
        return known(bound, is_proven);
    }
    let (mut place, value) = (place, end.value);
    let mut picks = vec![0; steps.len()];
    for step in (0..steps.len()).rev() {
        let (before, pick) = layers[step + 1][place].from;
        picks[step] = pick;
        place = before;
    }
    Some((picks, value, is_proven))
}

/// Return the policy that the bound began with, where there is one.
fn known(bound: &Bound, is_proven: bool) -> Option<(Vec<usize>, f64, bool)> {
    let picks = bound.picks();
    (!picks.is_empty()).then(|| (picks.to_vec(), bound.value(), is_proven))
}

/// Drop states that another is no worse than in value and in every cost.
fn without_beaten(mut states: Vec<State>) -> Vec<State> {
    states.sort_by(|a, b| a.costs.cmp(&b.costs).then_with(|| a.value.total_cmp(&b.value)));
    let num_costs = states.first().map_or(0, |state| state.costs.len());
    if num_costs <= 1 {
        let mut least = f64::INFINITY;
        states.retain(|state| {
            let is_better = state.value < least;
            least = least.min(state.value);
            is_better
        });
        return states;
    }
    if states.len() > MAX_PAIRWISE {
        return states;
    }
    let mut kept: Vec<State> = Vec::new();
    for state in states {
        let beats = |other: &State| {
            other.value <= state.value && other.costs.iter().zip(&state.costs).all(|(a, b)| a <= b)
        };
        if !kept.iter().any(beats) {
            kept.push(state);
        }
    }
    kept
}
