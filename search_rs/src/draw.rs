//! Policies drawn at random within a budget.
//!
//! `UniformDraw` draws each policy within the budget with the same probability. It counts, block by
//! block, how many ways of completing a policy are left (dynamic programming as in Dyer,
//! "Approximate counting by dynamic programming", 2003): costs are rounded down to a grid, so that
//! every policy within the budget is among those that are counted, and those that are not within it
//! are drawn again.
//!
//! Invariant: what is drawn is within the budget and depends on the generator alone.

use rand::Rng;
use rand_pcg::Pcg64Mcg;

use crate::bits::{Bits, Candidates};
use crate::blocks::Block;
use crate::budget::Budget;
use crate::convert::{as_place, cost_as_float};
use crate::cost::{Aggregate, Costs};
use crate::moves::{Costed, Move};
use crate::policy::Policy;
use crate::strategy::Problem;

/// Steps of the grid. Rounding adds at most one step per block, so few draws are in vain.
const GRID: u64 = 20_000;

/// Draws in vain before a walk takes their place: several limits can leave hardly any of them.
const MAX_TRIES: u32 = 20_000;

/// Steps of that walk for each block.
const WALK: usize = 200;

/// Draws policies with equal probability among all within a budget.
#[derive(Debug, Clone)]
pub struct UniformDraw {
    budget: usize,
    /// By block and option: the cost on the grid; `None` where a limit on largest costs forbids it.
    steps: Vec<Vec<Option<usize>>>,
    /// By block and steps left: the completions from that block on, each block's divided by its
    /// largest.
    completions: Vec<Vec<f64>>,
}

impl UniformDraw {
    /// Count the policies within one of a problem's budgets.
    #[must_use]
    pub fn new(problem: &Problem, budget: usize) -> Self {
        let limits = &problem.budgets[budget];
        let tightest = tightest(problem, limits);
        let unit = tightest.map_or(1, |(_, limit)| limit.div_ceil(GRID).max(1));
        let capacity = tightest.map_or(0, |(_, limit)| as_place(limit / unit));
        let on_grid = |costs: &Costs| {
            limits
                .admits_part(&problem.network, costs)
                .then(|| tightest.map_or(0, |(resource, _)| as_place(costs.get(resource) / unit)))
        };
        let blocks = problem.knapsack.blocks();
        let steps: Vec<Vec<Option<usize>>> =
            blocks.iter().map(|block| block.costs().iter().map(on_grid).collect()).collect();
        let mut completions = vec![vec![1.0; capacity + 1]; steps.len() + 1];
        for block in (0..steps.len()).rev() {
            completions[block] = extended(&steps[block], &completions[block + 1]);
        }
        Self { budget, steps, completions }
    }

    /// Draw a policy.
    #[must_use]
    pub fn draw(&self, problem: &Problem, random: &mut Pcg64Mcg) -> Policy {
        for _ in 0..MAX_TRIES {
            let policy = self.draw_on_grid(problem, random);
            let costed = problem.costed(policy);
            if problem.budgets[self.budget].admits(&costed.costs) {
                return costed.policy;
            }
        }
        self.walk(problem, random)
    }

    fn draw_on_grid(&self, problem: &Problem, random: &mut Pcg64Mcg) -> Policy {
        let mut left = self.completions[0].len() - 1;
        let mut policy = Policy::smallest(&problem.network);
        for (block, steps) in self.steps.iter().enumerate() {
            let next = &self.completions[block + 1];
            let weight = |step: &Option<usize>| {
                step.and_then(|step| left.checked_sub(step)).map_or(0.0, |left| next[left])
            };
            let total: f64 = steps.iter().map(weight).sum();
            let mut point = random.random::<f64>() * total;
            let mut chosen = None;
            for (option, step) in steps.iter().enumerate().filter(|(_, step)| weight(step) > 0.0) {
                chosen = Some((option, step.unwrap_or_default()));
                point -= weight(step);
                if point < 0.0 {
                    break;
                }
            }
            let Some((option, step)) = chosen else { break };
            problem.knapsack.blocks()[block].write(option, &mut policy);
            left -= step;
        }
        policy
    }

    /// Draw by a walk that changes one block at a time within the budget: in the long run every
    /// policy that it can reach is as likely as any other (Metropolis et al., 1953).
    fn walk(&self, problem: &Problem, random: &mut Pcg64Mcg) -> Policy {
        let blocks = problem.knapsack.blocks();
        let mut policy = problem.cheapest[self.budget].clone();
        for _ in 0..WALK * blocks.len() {
            let block: &Block = &blocks[random.random_range(0..blocks.len())];
            let mut next = policy.clone();
            block.write(random.random_range(0..block.options().len()), &mut next);
            let costed = problem.costed(next);
            if problem.budgets[self.budget].admits(&costed.costs) {
                policy = costed.policy;
            }
        }
        policy
    }
}

/// Share of the groups that a wide draw puts at their largest or smallest candidate: the ends show
/// most of what a group does.
const ENDS: f64 = 0.4;

/// Draw a policy spread over all candidates, the ends more often, and bring it into a budget.
#[must_use]
pub fn wide(problem: &Problem, budget: usize, random: &mut Pcg64Mcg) -> Policy {
    let mut policy = Policy::largest(&problem.network);
    for group in problem.network.groups() {
        let candidates = group.candidates().as_slice();
        let chance = random.random::<f64>();
        let place = if chance >= ENDS {
            random.random_range(0..candidates.len())
        } else if chance >= ENDS / 2.0 {
            0
        } else {
            candidates.len() - 1
        };
        policy = policy.with_group(group, candidates[place]);
    }
    fitted(problem, budget, policy, random)
}

/// Move some random groups of a policy by one candidate, and bring it into a budget again.
#[must_use]
pub fn near(
    problem: &Problem,
    budget: usize,
    policy: &Policy,
    num_moves: usize,
    random: &mut Pcg64Mcg,
) -> Policy {
    let free = free_groups(problem);
    let mut moved = policy.clone();
    for _ in 0..num_moves {
        if free.is_empty() {
            break;
        }
        let group = &problem.network.groups()[free[random.random_range(0..free.len())]];
        let bits = moved.group_bits(group);
        let candidates = group.candidates();
        let next =
            if random.random::<bool>() { candidates.below(bits) } else { candidates.above(bits) };
        moved = moved.with_group(group, next.unwrap_or(bits));
    }
    fitted(problem, budget, moved, random)
}

/// Bring a policy into a budget by random moves down, then spend what is left by random moves up.
#[must_use]
pub fn fitted(problem: &Problem, budget: usize, policy: Policy, random: &mut Pcg64Mcg) -> Policy {
    let limits = &problem.budgets[budget];
    let mut costed = problem.costed(policy);
    let mut open = free_groups(problem);
    while !limits.admits(&costed.costs) {
        let excess = limits.excess(&costed.costs);
        let lowers = |next: &Costed| limits.excess(&next.costs) < excess;
        match random_move(problem, &costed, &mut open, Candidates::below, lowers, random) {
            Some(next) => costed = next,
            // Costs that fall with more bits, or several limits: no move helps by itself.
            None => costed = problem.costed(problem.cheapest[budget].clone()),
        }
    }
    let mut open = free_groups(problem);
    let is_within = |next: &Costed| limits.admits(&next.costs);
    while let Some(next) =
        random_move(problem, &costed, &mut open, Candidates::above, is_within, random)
    {
        costed = next;
    }
    costed.policy
}

fn free_groups(problem: &Problem) -> Vec<usize> {
    let groups = problem.network.groups().iter().enumerate();
    groups.filter(|(_, group)| group.is_free()).map(|(index, _)| index).collect()
}

/// Move a random group of those still open by one candidate. Groups for which that cannot be are
/// closed: what does not help or fit now will not after other moves in the same direction.
fn random_move(
    problem: &Problem,
    from: &Costed,
    open: &mut Vec<usize>,
    next_bits: impl Fn(&Candidates, Bits) -> Option<Bits>,
    is_allowed: impl Fn(&Costed) -> bool,
    random: &mut Pcg64Mcg,
) -> Option<Costed> {
    while !open.is_empty() {
        let place = random.random_range(0..open.len());
        let group = &problem.network.groups()[open[place]];
        let bits = from.policy.group_bits(group);
        let next = next_bits(group.candidates(), bits)
            .map(|to| from.after(&problem.network, Move { group: open[place], from: bits, to }));
        match next.filter(&is_allowed) {
            Some(next) => return Some(next),
            None => {
                open.swap_remove(place);
            }
        }
    }
    None
}

/// Return the limit on a sum that leaves the smallest part of the range of costs.
fn tightest(problem: &Problem, budget: &Budget) -> Option<(usize, u64)> {
    let network = &problem.network;
    let sums = budget.limits_on(network, Aggregate::Sum);
    let room = |resource: usize, limit: u64| {
        let largest: u64 = network.layers().iter().map(|it| it.costs().largest(resource)).sum();
        let least = crate::budget::smallest_cost(network, resource);
        cost_as_float(limit.saturating_sub(least)) / cost_as_float((largest - least).max(1))
    };
    sums.min_by(|a, b| room(a.0, a.1).total_cmp(&room(b.0, b.1)))
}

/// Return how many completions there are with one block more, by steps left.
fn extended(steps: &[Option<usize>], next: &[f64]) -> Vec<f64> {
    let mut counts = vec![0.0; next.len()];
    for step in steps.iter().flatten() {
        for (count, completions) in counts.iter_mut().skip(*step).zip(next) {
            *count += completions;
        }
    }
    // Hundreds of layers have more policies than a float holds; ratios are all that is used.
    let largest = counts.iter().copied().fold(0.0, f64::max);
    if largest > 0.0 {
        for count in &mut counts {
            *count /= largest;
        }
    }
    counts
}
