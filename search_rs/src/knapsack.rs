//! The cheapest values within a budget: an exact multiple-choice knapsack.
//!
//! Given a value for each pair of bits of each layer, finds the policy with the lowest sum of
//! values among those that every limit admits. It is dynamic programming over lists (Nemhauser and
//! Ullmann, 1969; for multiple choice Pisinger, "A minimal algorithm for the multiple-choice
//! knapsack problem", 1995): block by block, the partial policies that no other beats in value and
//! all costs are kept. Those whose Lagrangian bound is above the best whole policy known are
//! dropped, which leaves few.
//!
//! Invariant: no policy within the budget has a lower value than a solution that is `is_proven`.

mod bound;
mod choice;

use crate::blocks::{self, Block};
use crate::budget::Budget;
use crate::cost::Aggregate;
use crate::error::SearchError;
use crate::network::{Layer, Network};
use crate::policy::{LayerBits, Policy};

use self::bound::Bound;
use self::choice::{Choice, choices};

/// Most partial policies kept, pass by pass: a narrow pass finds a policy near the best, with which
/// the bounds leave fewer for the next. One limit needs some hundred. Where the last is too narrow,
/// the solution is not proven.
const BEAMS: [usize; 3] = [300, 5_000, 100_000];

/// Above that many states, those beaten by another are looked for only under one limit.
const MAX_PAIRWISE: usize = 4_000;

/// A value for each pair of candidates of each layer, lower is better.
#[derive(Debug, Clone)]
pub struct PairValues(Vec<Vec<f64>>);

impl PairValues {
    /// Value every pair of every layer by a function of layer index and bits.
    #[must_use]
    pub fn by(network: &Network, value: impl Fn(usize, LayerBits) -> f64) -> Self {
        let layers = network.layers().iter().enumerate();
        let of_layer = |(index, layer): (usize, &Layer)| {
            pairs_of(layer).into_iter().map(|bits| value(index, bits)).collect()
        };
        Self(layers.map(of_layer).collect())
    }

    /// Take a number for each pair of each layer: weight candidates ascending, for each of them the
    /// act candidates ascending.
    ///
    /// # Errors
    /// Another number of layers or pairs, or a value that is not finite.
    pub fn new(network: &Network, values: Vec<Vec<f64>>) -> Result<Self, SearchError> {
        let count = |what: &str, found, expected| {
            let what = what.to_owned();
            if found == expected {
                Ok(())
            } else {
                Err(SearchError::ValueCount { what, found, expected })
            }
        };
        count("the layers", values.len(), network.num_layers())?;
        for (layer, values) in network.layers().iter().zip(&values) {
            let pairs = pairs_of(layer);
            count(layer.name(), values.len(), pairs.len())?;
            let found = pairs.iter().zip(values).find(|(_, value)| !value.is_finite());
            if let Some((bits, &value)) = found {
                let bits = format!("{}/{}", bits.weight, bits.act);
                let layer = layer.name().to_owned();
                return Err(SearchError::ValueNotFinite { layer, bits, value });
            }
        }
        Ok(Self(values))
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

/// Return the pairs of a layer's candidates, both ascending, the act bits faster.
fn pairs_of(layer: &Layer) -> Vec<LayerBits> {
    use crate::bits::Side::{Act, Weight};
    let acts = layer.candidates(Act).as_slice();
    let weights = layer.candidates(Weight).as_slice().iter();
    weights.flat_map(|&weight| acts.iter().map(move |&act| LayerBits { weight, act })).collect()
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
        let sums: Vec<(usize, u64)> = budget.limits_on(network, Aggregate::Sum).collect();
        let mut steps = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let choices = choices(network, block, values, budget, &sums);
            if choices.is_empty() {
                return None; // One block alone is above a limit.
            }
            steps.push(choices);
        }
        let limits: Vec<u64> = sums.iter().map(|&(_, limit)| limit).collect();
        let mut bound = Bound::new(&steps, &limits)?;
        let mut is_proven = false;
        for max_states in BEAMS {
            let end = run(&steps, &limits, &bound, max_states);
            is_proven = end.is_whole;
            if let Some((picks, value)) = end.best {
                bound.improve(picks, value);
            }
            if is_proven {
                break;
            }
        }
        let (picks, value) = (bound.picks(), bound.value());
        if picks.is_empty() {
            return None;
        }
        let mut policy = Policy::smallest(network);
        for ((block, choices), &pick) in self.blocks.iter().zip(&steps).zip(picks) {
            block.write(choices[pick].option, &mut policy);
        }
        Some(Solution { policy, value, is_proven })
    }
}

/// What came out of one pass over the blocks.
struct End {
    /// The best policy met that is better than the best known, as choices with their value.
    best: Option<(Vec<usize>, f64)>,
    /// Whether no partial policy was dropped without proof.
    is_whole: bool,
}

/// Extend partial policies block by block, at most so many of them: those with the lowest bounds.
fn run(steps: &[Vec<Choice>], limits: &[u64], bound: &Bound, max_states: usize) -> End {
    let start = State { costs: vec![0; limits.len()], value: 0.0, from: (0, 0) };
    let mut layers: Vec<Vec<State>> = vec![vec![start]];
    let mut is_whole = true;
    for (step, choices) in steps.iter().enumerate() {
        let mut kept = without_beaten(extended(&layers[step], step, choices, bound));
        if kept.len() > max_states {
            is_whole = false;
            let least = |state: &State| bound.least(step + 1, &state.costs, state.value);
            kept.sort_by(|a, b| least(a).total_cmp(&least(b)));
            kept.truncate(max_states);
        }
        layers.push(kept);
    }
    let ends = layers[steps.len()].iter().enumerate();
    let best = ends
        .min_by(|(_, a), (_, b)| a.value.total_cmp(&b.value).then_with(|| a.costs.cmp(&b.costs)));
    let best = best.filter(|(_, end)| end.value < bound.value() || bound.picks().is_empty());
    let Some((mut place, end)) = best else { return End { best: None, is_whole } };
    let mut picks = vec![0; steps.len()];
    for step in (0..steps.len()).rev() {
        let (before, pick) = layers[step + 1][place].from;
        picks[step] = pick;
        place = before;
    }
    End { best: Some((picks, end.value)), is_whole }
}

/// Extend partial policies by the choices of a step, where that may lead to the best whole one.
fn extended(states: &[State], step: usize, choices: &[Choice], bound: &Bound) -> Vec<State> {
    let may_be_taken = bound.may_be_taken(choices);
    let open: Vec<(usize, &Choice)> = choices
        .iter()
        .enumerate()
        .zip(may_be_taken)
        .filter_map(|(choice, may)| may.then_some(choice))
        .collect();
    let mut next = Vec::new();
    for (place, state) in states.iter().enumerate() {
        for &(pick, choice) in &open {
            let costs: Vec<u64> =
                state.costs.iter().zip(&choice.costs).map(|(sum, one)| sum + one).collect();
            let value = state.value + choice.value;
            if bound.may_lead_to_best(step + 1, &costs, value) {
                next.push(State { costs, value, from: (place, pick) });
            }
        }
    }
    next
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
