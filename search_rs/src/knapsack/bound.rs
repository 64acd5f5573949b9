//! How good a whole policy can become from a partial one: a Lagrangian bound.
//!
//! For any multipliers `m >= 0` of the limits, the blocks still open add at least the sum of their
//! smallest `value + m * cost`, less `m` times what is left of the limits (Everett, "Generalized
//! Lagrange multiplier method", 1963). Several multipliers around the best ones are kept, and the
//! highest of their bounds counts. The policies met on the way to the multipliers give the first
//! whole policy to compare with.
//!
//! Invariant: a partial policy that leads to a better whole one than that is never refused.

use super::choice::Choice;
use crate::convert::cost_as_float;

/// Steps of the search for multipliers.
const STEPS: u32 = 200;

/// Steps of that search under several limits.
const ASCENT_STEPS: u32 = 1_500;

/// Steps without a higher bound after which the pace is halved.
const MAX_IDLE: u32 = 25;

/// Factors around the best multipliers at which bounds are taken as well.
const FACTORS: [f64; 7] = [0.6, 0.8, 0.93, 1.0, 1.07, 1.25, 1.7];

/// Share of the value by which rounding may let a bound appear too high.
const ROUNDING: f64 = 1e-10;

/// Bounds for every step of one knapsack.
#[derive(Debug)]
pub(super) struct Bound {
    limits: Vec<u64>,
    /// Least cost of the blocks from a step on, by step and limit.
    least_costs: Vec<Vec<u64>>,
    /// Multipliers with the sum of the smallest `value + m * cost` from each step on.
    multipliers: Vec<(Vec<f64>, Vec<f64>)>,
    picks: Vec<usize>,
    value: f64,
    /// The lowest value of a policy within the limits before it was filled up.
    unfilled: f64,
    slack: f64,
}

impl Bound {
    /// Prepare the bounds; `None` where no choice of each block meets all limits together.
    pub(super) fn new(steps: &[Vec<Choice>], limits: &[u64]) -> Option<Self> {
        let least_costs = least_costs(steps, limits.len());
        let is_reachable = least_costs[0].iter().zip(limits).all(|(least, limit)| least <= limit);
        if !is_reachable {
            return None;
        }
        let scale: f64 = steps
            .iter()
            .map(|choices| choices.iter().map(|choice| choice.value.abs()).fold(0.0, f64::max))
            .sum();
        let mut bound = Self {
            limits: limits.to_vec(),
            least_costs,
            multipliers: Vec::new(),
            picks: Vec::new(),
            value: f64::INFINITY,
            unfilled: f64::INFINITY,
            slack: scale * ROUNDING,
        };
        let best = bound.climb(steps);
        let scaled = |factor: f64| best.iter().map(|m| m * factor).collect::<Vec<f64>>();
        for multipliers in FACTORS.map(scaled) {
            let sums = suffix_sums(steps, &multipliers);
            bound.multipliers.push((multipliers, sums));
        }
        Some(bound)
    }

    /// Return which choices of a step may stand in a policy that is no worse than the best known:
    /// the bound over all blocks with that choice in place of the block's smallest.
    pub(super) fn may_be_taken(&self, choices: &[Choice]) -> Vec<bool> {
        let may = |choice: &Choice| {
            self.multipliers.iter().all(|(multipliers, sums)| {
                let least = choices.iter().map(|other| priced(other, multipliers));
                let rise = priced(choice, multipliers) - least.fold(f64::INFINITY, f64::min);
                let worth = multipliers
                    .iter()
                    .zip(&self.limits)
                    .map(|(m, limit)| m * cost_as_float(*limit));
                sums[0] - worth.sum::<f64>() + rise <= self.value + self.slack
            })
        };
        choices.iter().map(may).collect()
    }

    /// Take a better whole policy.
    pub(super) fn improve(&mut self, picks: Vec<usize>, value: f64) {
        if value < self.value {
            (self.picks, self.value) = (picks, value);
        }
    }

    /// Return the best whole policy known: a choice for each block; none if no step met one.
    pub(super) fn picks(&self) -> &[usize] {
        &self.picks
    }

    /// Return its value, infinite if there is none.
    pub(super) fn value(&self) -> f64 {
        self.value
    }

    /// Return whether a partial policy, whole up to a step, may lead to one within the limits that
    /// is no worse than the best known.
    pub(super) fn may_lead_to_best(&self, step: usize, costs: &[u64], value: f64) -> bool {
        let fits = costs.iter().zip(&self.least_costs[step]).zip(&self.limits).all(
            |((cost, least), limit)| limit.checked_sub(*cost).is_some_and(|left| *least <= left),
        );
        fits && self.least(step, costs, value) <= self.value + self.slack
    }

    /// Return the least value that a partial policy can lead to.
    pub(super) fn least(&self, step: usize, costs: &[u64], value: f64) -> f64 {
        let each = self.multipliers.iter().map(|(multipliers, sums)| {
            let left = multipliers.iter().zip(costs).zip(&self.limits);
            let worth: f64 =
                left.map(|((m, cost), limit)| m * cost_as_float(limit.saturating_sub(*cost))).sum();
            value + sums[step] - worth
        });
        each.fold(f64::NEG_INFINITY, f64::max)
    }

    /// Return multipliers near those with the highest bound, and keep the best policy met.
    fn climb(&mut self, steps: &[Vec<Choice>]) -> Vec<f64> {
        match self.limits.len() {
            0 => {
                self.meet(steps, &[]);
                Vec::new()
            }
            1 => self.bisect(steps),
            _ => self.ascend(steps),
        }
    }

    /// One limit: the cost falls as the multiplier rises, so halving finds where it meets the
    /// limit.
    fn bisect(&mut self, steps: &[Vec<Choice>]) -> Vec<f64> {
        let (mut low, mut high) = (0.0, first_multiplier(steps, 0));
        if self.meet(steps, &[0.0]).1 {
            return vec![0.0];
        }
        let mut tries = 0;
        while !self.meet(steps, &[high]).1 && tries < STEPS {
            (low, high, tries) = (high, high * 4.0, tries + 1);
        }
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.meet(steps, &[middle]).1 {
                high = middle;
            } else {
                low = middle;
            }
        }
        vec![high]
    }

    /// Several limits: a subgradient ascent with Polyak's steps, costs in shares of their limits.
    fn ascend(&mut self, steps: &[Vec<Choice>]) -> Vec<f64> {
        let limits: Vec<f64> =
            self.limits.iter().map(|&limit| cost_as_float(limit).max(1.0)).collect();
        let mut multipliers = vec![0.0; limits.len()];
        let (mut best, mut highest) = (multipliers.clone(), f64::NEG_INFINITY);
        let (mut pace, mut num_idle) = (1.0, 0);
        for _ in 0..ASCENT_STEPS {
            let (costs, _, value) = self.meet(steps, &multipliers);
            let over: Vec<f64> = costs
                .iter()
                .zip(&limits)
                .map(|(cost, limit)| cost_as_float(*cost) / limit - 1.0)
                .collect();
            let worth = multipliers.iter().zip(&limits).zip(&over);
            let height = value + worth.map(|((m, limit), over)| m * limit * over).sum::<f64>();
            num_idle += 1;
            if height > highest {
                (highest, num_idle) = (height, 0);
                best.clone_from(&multipliers);
            }
            if num_idle > MAX_IDLE {
                (pace, num_idle) = (0.5 * pace, 0);
                multipliers.clone_from(&best);
                continue;
            }
            let goal =
                if self.value.is_finite() { self.value } else { height + 0.1 * height.abs() };
            let square: f64 = over.iter().map(|over| over * over).sum();
            let length = pace * (goal - height).max(self.slack) / square.max(f64::MIN_POSITIVE);
            for ((m, limit), over) in multipliers.iter_mut().zip(&limits).zip(over) {
                *m = (*m + length * over / limit).max(0.0);
            }
        }
        best
    }

    /// Take each block's smallest `value + m * cost`; return the costs, whether they are within the
    /// limits, and the value. A policy within the limits is filled up and kept if it is the best.
    fn meet(&mut self, steps: &[Vec<Choice>], multipliers: &[f64]) -> (Vec<u64>, bool, f64) {
        let mut picks: Vec<usize> =
            steps.iter().map(|choices| smallest(choices, multipliers)).collect();
        let mut costs = vec![0_u64; self.limits.len()];
        let mut value = 0.0;
        for (choices, &pick) in steps.iter().zip(&picks) {
            value += choices[pick].value;
            for (sum, cost) in costs.iter_mut().zip(&choices[pick].costs) {
                *sum += cost;
            }
        }
        let is_within = costs.iter().zip(&self.limits).all(|(cost, limit)| cost <= limit);
        if is_within && value < self.unfilled {
            self.unfilled = value;
            let filled = self.fill(steps, &mut picks, costs.clone(), value);
            if filled < self.value {
                (self.picks, self.value) = (picks, filled);
            }
        }
        (costs, is_within, value)
    }

    /// Spend what is left of the limits on the change of one block that gains most, while any fits.
    fn fill(
        &self,
        steps: &[Vec<Choice>],
        picks: &mut [usize],
        mut costs: Vec<u64>,
        mut value: f64,
    ) -> f64 {
        loop {
            let mut best: Option<(f64, usize, usize)> = None;
            for (step, choices) in steps.iter().enumerate() {
                let now = &choices[picks[step]];
                for (pick, other) in choices.iter().enumerate() {
                    let fits = costs
                        .iter()
                        .zip(&now.costs)
                        .zip(&other.costs)
                        .zip(&self.limits)
                        .all(|(((sum, from), to), limit)| sum - from + to <= *limit);
                    let change = other.value - now.value;
                    if fits && change < best.map_or(0.0, |(change, _, _)| change) {
                        best = Some((change, step, pick));
                    }
                }
            }
            let Some((change, step, pick)) = best else { return value };
            let (from, to) = (&steps[step][picks[step]], &steps[step][pick]);
            for ((sum, from), to) in costs.iter_mut().zip(&from.costs).zip(&to.costs) {
                *sum = *sum - from + to;
            }
            picks[step] = pick;
            value += change;
        }
    }
}

fn smallest(choices: &[Choice], multipliers: &[f64]) -> usize {
    let worth = |choice: &Choice| priced(choice, multipliers);
    let places = choices.iter().enumerate();
    places.min_by(|(_, a), (_, b)| worth(a).total_cmp(&worth(b))).map_or(0, |(place, _)| place)
}

fn priced(choice: &Choice, multipliers: &[f64]) -> f64 {
    let costs = choice.costs.iter().zip(multipliers);
    choice.value + costs.map(|(cost, m)| m * cost_as_float(*cost)).sum::<f64>()
}

/// Return for each step the sum over the steps from it on of the smallest `value + m * cost`.
fn suffix_sums(steps: &[Vec<Choice>], multipliers: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; steps.len() + 1];
    for (step, choices) in steps.iter().enumerate().rev() {
        let least = choices.iter().map(|choice| priced(choice, multipliers));
        sums[step] = sums[step + 1] + least.fold(f64::INFINITY, f64::min);
    }
    sums
}

fn least_costs(steps: &[Vec<Choice>], num_limits: usize) -> Vec<Vec<u64>> {
    let mut least = vec![vec![0; num_limits]; steps.len() + 1];
    for (step, choices) in steps.iter().enumerate().rev() {
        let own = |place: usize| choices.iter().map(|choice| choice.costs[place]).min();
        least[step] = (0..num_limits)
            .map(|place| least[step + 1][place] + own(place).unwrap_or_default())
            .collect();
    }
    least
}

/// A first guess of a multiplier: the range of values over the range of costs.
fn first_multiplier(steps: &[Vec<Choice>], place: usize) -> f64 {
    let range = |of: &dyn Fn(&Choice) -> f64| -> f64 {
        steps
            .iter()
            .map(|choices| {
                let all = choices.iter().map(of);
                all.clone().fold(f64::NEG_INFINITY, f64::max) - all.fold(f64::INFINITY, f64::min)
            })
            .sum()
    };
    let values = range(&|choice| choice.value);
    let costs = range(&|choice| cost_as_float(choice.costs[place]));
    if values > 0.0 && costs > 0.0 { values / costs } else { 1.0 }
}
